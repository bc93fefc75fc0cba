//! The HTTP API: who may call what, how a request becomes a [`Call`], how an answer goes back, and
//! the client for it.
//!
//! HTTP/1.1 over TLS. What a call does, the [`Backend`] knows; this module decides nothing about
//! the cluster.

pub mod access;
pub mod call;
pub mod client;
pub mod metrics;
pub mod openapi;
mod router;
pub mod routes;
pub mod server;
pub mod vault_metrics;

pub use access::{Denial, Route, Rule};
pub use call::{Backend, BoxFuture, Call, Problem, Refusal, Reply};
pub use client::{ApiClient, ClientError};
pub use metrics::Metrics;
pub use server::{ApiServer, Limits};
pub use vault_metrics::VaultMetrics;
