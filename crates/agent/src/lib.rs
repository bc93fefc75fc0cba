//! The event loop: transport, heartbeat thread, API, metrics.
//!
//! [`node`] is the agent proper; [`identity`], [`net`] and [`api`] are what it speaks with.

pub mod api;
#[doc(hidden)]
pub mod fuzzing;
pub mod identity;
pub mod net;
pub mod node;
