//! The agent proper: threads and event loop around the kernel.
//!
//! - [`core`]: one thread owns the kernel; everything reaches it as an input.
//! - [`pulse_thread`]: one OS thread with its own sockets beats and hears, under the pulse's lock.
//! - [`launcher_link`]: what the launcher says and is asked; [`reconnecting`]: how often.
//! - [`checks`]: health checks of the instances here.
//! - [`backend`]: answers the API, [`refusals`] its no. [`hooks`]: tells the outside.
//! - [`files`], [`found`], [`start`]: data directory, first start, assembly; [`sole`]: one agent
//!   on a directory.
//! - [`issuing`]: tokens, joins, renewals, the authority. [`trust`], [`renewal`]: this node's own
//!   certificate and whom it believes.
//! - [`generation`], [`stopped`], [`state_file`]: export, import, recovery of a lost quorum.
//! - [`vault_run`]: keeps a `vault run` alive beside the agent.
//! - [`measure`]: how well this machine keeps time, and how links carry datagrams.

pub mod backend;
pub mod checks;
pub mod core;
pub mod figures;
pub mod files;
pub mod found;
pub mod generation;
pub mod hooks;
pub mod issuing;
pub mod join;
pub mod launcher_link;
pub mod measure;
mod open;
pub mod peers;
mod proof;
pub mod pulse_thread;
mod reconnecting;
mod refusals;
pub mod renewal;
pub mod shared;
mod sole;
pub mod start;
mod state_calls;
pub mod state_file;
pub mod stopped;
mod superseded;
pub mod trust;
mod vault_calls;
pub mod vault_run;

pub use start::{AgentError, AgentOptions, run};

/// API addresses that the node in a data directory knows of, its own first; empty where it knows
/// none.
#[must_use]
pub fn known_endpoints(data: &files::DataDir) -> Vec<std::net::SocketAddr> {
    data.node().map(|node| node.endpoints).unwrap_or_default()
}
