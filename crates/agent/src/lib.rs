//! The event loop: transport, heartbeat thread, API, metrics.
