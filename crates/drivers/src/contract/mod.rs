//! The suite that every driver passes, and the bench it runs on: a real launcher and a real
//! guard in a directory of their own, with the caller as their agent.
//!
//! A driver says through [`Subject`] how resources of its kind with certain habits are specified;
//! [`cases`] then holds it to what the rest of Backstay relies on. Tests of planted faults use
//! the [`Bench`] directly.

mod bench;
mod cases;
mod habit;

pub use bench::{Bench, BenchOptions, NUMBER, WAIT, epoch, name};
pub use cases::{Case, cases};
pub use habit::{Ability, Habit, Subject, process_resource};
