//! The event loop: transport, heartbeat thread, API, metrics.

pub mod api;
pub mod identity;
pub mod net;
