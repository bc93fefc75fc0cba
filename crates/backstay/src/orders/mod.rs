//! The order-taking example: a service worth keeping up, small enough to read in one sitting.
//!
//! Three programs speak lines of text over TCP ([`wire`]). The **store** stands for the venue or
//! the database behind an order gateway: it refuses old epochs and forgets nothing. The
//! **server** is the gateway that Backstay keeps up, with hot standbys. The **client** sends an
//! order every few milliseconds and writes down what became of each. `examples/orders/README.md`
//! shows how to run them by hand; the demo judges the service by their records ([`records`]).

pub mod accept;
pub mod active_log;
pub mod book;
pub mod client;
pub mod command;
pub mod control;
pub mod gate;
pub mod lease;
pub mod lines;
pub mod notify;
pub mod records;
pub mod server;
pub mod store;
pub mod upstream;
pub mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why one of the three programs stopped.
#[derive(Debug, thiserror::Error)]
pub enum OrdersError {
    /// The address can't be listened on.
    #[error(
        "can't listen on {address}: nobody could reach the program; \
         free the address or name another one"
    )]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A file can't be opened or written.
    #[error(
        "can't write {path}: the record would have gaps, so the program stops; \
         check the directory, its permissions and the space left"
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The lease file can't be read.
    #[error(
        "{path} can't be used as the lease: without it the order server can't tell whether it \
         may acknowledge; BACKSTAY_LEASE must name the file that the launcher made"
    )]
    Lease {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// Something that Backstay hands to an instance is missing.
    #[error(
        "{name} is not set: the order server runs only as a Backstay resource, because without \
         an epoch and a lease it could not tell whether it may acknowledge"
    )]
    Environment {
        /// The variable.
        name: &'static str,
    },
    /// A variable or argument has a value that makes no sense.
    #[error("{what} is {value:?}, which is not {expected}; correct it and start again")]
    Value {
        /// What has the value.
        what: &'static str,
        /// The value.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The event loop can't be started.
    #[error("the event loop can't be started: check the limit of open files")]
    Runtime(#[source] std::io::Error),
}

/// Runs a future to its end on an event loop of one thread: the shortest way from a byte that
/// arrives to the byte that answers it.
///
/// # Errors
/// Whatever the future ends with, or [`OrdersError::Runtime`].
fn block_on<T>(work: impl Future<Output = Result<T, OrdersError>>) -> Result<T, OrdersError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(OrdersError::Runtime)?
        .block_on(work)
}
