//! Everything that touches a resource: processes, health, launcher, guard.
//!
//! - [`launcher`]: the small privileged process that starts, stops and promotes instances;
//! - [`guard`]: the process that stops what the lease no longer covers;
//! - [`lease`]: what both read, and the agent writes, in shared memory;
//! - [`protocol`] and [`client`]: how the agent speaks to the launcher;
//! - [`process`]: the driver for programs; [`address`]: for addresses; [`health`]: health checks;
//! - [`contract`]: the suite that every driver passes;
//! - [`sys`]: the only `unsafe` of the project.
//!
//! It decides nothing about the cluster: what runs where, under which epoch and until when comes
//! from outside, and whatever is not covered by that is stopped.

pub mod address;
pub mod client;
pub mod contract;
#[doc(hidden)]
pub mod fuzzing;
pub mod guard;
pub mod health;
pub mod launcher;
pub mod lease;
mod packet;
pub mod plant;
mod poll;
pub mod process;
pub mod protocol;
pub mod run_dir;
pub mod sys;
