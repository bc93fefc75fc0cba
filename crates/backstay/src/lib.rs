//! The parts of the binary that its commands and its tests share: the order-taking example, the
//! demo that fails it over, and the output. Commands themselves are in `main.rs` and `commands/`.

pub mod demo;
pub mod orders;
pub mod stdout;
