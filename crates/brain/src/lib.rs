//! Decides, never does.
//!
//! [`pulse`] keeps promises, authority, leases and grants (DESIGN.md, rules 1 to 5, 7 and 8);
//! [`coordinator`] judges nodes and places resources; [`cluster`] applies log entries, the same
//! on every node; [`member`] says what a node should be running; [`duty`] where tasks of the vault
//! run; [`explain`] says why.
//!
//! **Architecture invariant:** nothing here does I/O, reads a clock, draws a random number or
//! iterates a hash map. The crate is `no_std`, so the compiler holds us to it; time is an
//! argument.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod authority;
pub mod cluster;
pub mod coordinator;
pub mod duty;
pub mod explain;
#[cfg(test)]
mod fixtures;
pub mod invariants;
pub mod member;
pub mod placement;
pub mod plant;
pub mod pulse;
mod token;

pub use coordinator::Coordinator;
pub use member::Member;
pub use plant::{Plant, Plants};
pub use pulse::Pulse;
