//! Health checks: what an instance is asked, how often, and when its answers make it unhealthy.
//!
//! The agent runs a [`Checker`] per instance. Sockets are asked from here; commands are asked of
//! the launcher, which runs them as the resource's user.

mod checker;
mod exec;
mod http;
mod tcp;

pub use checker::{Change, Checker, Watched};
pub use exec::{ExecAsker, ExecProbes};
pub use http::probe_http;
pub use tcp::probe_tcp;
