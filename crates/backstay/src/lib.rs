//! The parts of the binary that its commands and its tests share: the order-taking example and
//! the demo that fails it over. Commands themselves are in `main.rs` and `commands/`.

pub mod demo;
pub mod orders;
