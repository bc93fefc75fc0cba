//! Integration tests of the agent: one binary, a file per part.

mod api;
mod hooks;
mod identity;
mod matrix;
mod net_peers;
mod net_seal;
mod net_tls;
mod support;
