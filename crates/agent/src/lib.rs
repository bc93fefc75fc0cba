//! The event loop: transport, heartbeat thread, API, metrics.
//!
//! [`node`] is the agent proper; [`identity`], [`net`] and [`api`] are what it speaks with.

pub mod api;
pub mod identity;
pub mod net;
pub mod node;
