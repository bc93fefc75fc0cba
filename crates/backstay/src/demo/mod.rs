//! The demo: a real cluster of three nodes on loopback, a service, a client, and one fault after
//! another, each judged from the records that all parts wrote.
//!
//! It uses the binary as a person does: it starts `backstay agent`, `launcher` and `guard`, asks
//! by `backstay status`, and knows nothing from inside. It needs no privileges, and leaves no
//! process and no file behind.

mod calls;
mod children;
mod cluster;
pub mod command;
mod config;
mod error;
mod faults;
mod interrupt;
pub mod judge;
mod options;
mod phases;
mod premises;
mod progress;
pub mod relay;
mod run;
mod service;
mod stage;
mod summary;
mod table;
mod tail;
mod view;
mod wait;

pub use error::DemoError;
pub use options::{DemoOptions, Fault, Plant};
pub use run::run;
