//! `backstay example`: the arguments of the three programs of the order-taking example.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::client::ClientOptions;
use super::server::{Handed, ServerOptions};
use super::store::StoreOptions;
use super::{OrdersError, client, server, store};

/// Runs one of the programs that ship as examples.
#[derive(Debug, Args)]
pub struct ExampleArgs {
    #[command(subcommand)]
    program: Program,
}

#[derive(Debug, Subcommand)]
enum Program {
    /// The store behind the order server: keeps orders, refuses old epochs
    #[command(name = "orders-store")]
    Store {
        /// Where to listen
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
        /// Append every attempt to this file as a line of JSON
        #[arg(long, value_name = "FILE")]
        records: Option<PathBuf>,
    },
    /// The order server, run by Backstay as an active-passive resource with hot standbys
    #[command(name = "orders-server")]
    Server {
        /// Where to listen; `NODE=ADDRESS:PORT` counts only on that node
        #[arg(long, value_name = "[NODE=]ADDRESS:PORT", required = true, value_delimiter = ',')]
        listen: Vec<Listen>,
        /// Where the store is
        #[arg(long, value_name = "ADDRESS:PORT")]
        store: SocketAddr,
        /// This node's name; where absent, the one of --listen that is a directory on the way to
        /// BACKSTAY_SOCKET
        #[arg(long, env = "BACKSTAY_NODE", value_name = "NAME")]
        node: Option<String>,
        /// Append the moments at which it would acknowledge to this file
        #[arg(long, env = "ORDERS_ACTIVE_LOG", value_name = "FILE")]
        active_log: Option<PathBuf>,
        /// A planted fault, for tests: heed neither the lease nor the store's refusals
        #[arg(long, hide = true)]
        heedless: bool,
    },
    /// A client that sends an order every few milliseconds and records what became of each
    #[command(name = "orders-client")]
    Client {
        /// All order servers
        #[arg(long, value_name = "ADDRESS:PORT", required = true, value_delimiter = ',')]
        servers: Vec<SocketAddr>,
        /// The store, asked about orders whose outcome stayed unknown
        #[arg(long, value_name = "ADDRESS:PORT")]
        store: SocketAddr,
        /// Time between two orders, in microseconds
        #[arg(long, value_name = "N", default_value_t = 5_000,
              value_parser = clap::value_parser!(u64).range(1_000..))]
        every_us: u64,
        /// Longest wait for one attempt, in milliseconds
        #[arg(long, value_name = "N", default_value_t = 50)]
        timeout_ms: u64,
        /// Write the records to this file instead of standard output
        #[arg(long, value_name = "FILE")]
        records: Option<PathBuf>,
        /// Stop after so many milliseconds instead of at the end of standard input
        #[arg(long, value_name = "N")]
        duration_ms: Option<u64>,
    },
}

/// An address to listen on, perhaps of one node only.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listen {
    node: Option<String>,
    address: SocketAddr,
}

impl std::str::FromStr for Listen {
    type Err = std::net::AddrParseError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('=') {
            Some((node, address)) => {
                Listen { node: Some(node.to_owned()), address: address.parse()? }
            }
            None => Listen { node: None, address: text.parse()? },
        })
    }
}

/// The node whose run directory holds this socket, as far as the directories' names tell: where
/// several nodes share a machine, each has a directory of its name.
fn node_of(listen: &[Listen], socket: &Path) -> String {
    let is_part = |name: &&str| socket.iter().any(|part| part == *name);
    let named = listen.iter().filter_map(|l| l.node.as_deref()).find(is_part);
    named.unwrap_or("orders").to_owned()
}

/// The address for this node: its own where one is named, else the one for all.
fn choose(listen: &[Listen], node: &str) -> Result<SocketAddr, OrdersError> {
    let of = |name: Option<&str>| listen.iter().find(|l| l.node.as_deref() == name);
    let chosen = of(Some(node)).or_else(|| of(None)).map(|l| l.address);
    chosen.ok_or_else(|| OrdersError::Value {
        what: "the node's name",
        value: node.to_owned(),
        expected: "among the nodes of --listen",
    })
}

/// Runs the program that was asked for.
///
/// # Errors
/// Whatever ended it; it says what to do.
pub fn run(args: ExampleArgs) -> Result<(), OrdersError> {
    match args.program {
        Program::Store { listen, records } => store::run(&StoreOptions { listen, records }),
        Program::Server { listen, store, node, active_log, heedless } => {
            let handed = Handed::read(|name| std::env::var(name).ok())?;
            let instance = node.unwrap_or_else(|| node_of(&listen, &handed.socket));
            let listen = choose(&listen, &instance)?;
            let options = ServerOptions { listen, store, instance, active_log, heedless };
            server::run(&options, &handed)
        }
        Program::Client { servers, store, every_us, timeout_ms, records, duration_ms } => {
            let not_begun = client::run(&ClientOptions {
                servers,
                store,
                every: Duration::from_micros(every_us),
                timeout: Duration::from_millis(timeout_ms),
                records,
                duration: duration_ms.map(Duration::from_millis),
            })?;
            if not_begun > 0 {
                tracing::warn!(not_begun, "too many orders waited: so many were not begun");
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_listens_on_its_own_address_or_on_the_common_one() {
        let check = |listen: &[&str], node: &str, expect: Option<&str>| {
            let listen: Vec<Listen> = listen.iter().map(|l| l.parse().unwrap()).collect();
            let chosen = choose(&listen, node).ok().map(|a| a.to_string());
            assert_eq!(chosen.as_deref(), expect);
        };
        let named = ["a=127.0.0.1:1", "b=127.0.0.2:2"];
        check(&named, "b", Some("127.0.0.2:2"));
        check(&named, "c", None);
        check(&["0.0.0.0:9", "b=127.0.0.2:2"], "c", Some("0.0.0.0:9"));
        assert!("a=somewhere".parse::<Listen>().is_err());
    }

    #[test]
    fn a_node_is_known_by_its_directory_where_nobody_names_it() {
        let listen = ["a=127.0.0.1:1", "b=127.0.0.2:2"].map(|l| l.parse().unwrap());
        assert_eq!(node_of(&listen, Path::new("/tmp/d/b/run/i/gw.sock")), "b");
        assert_eq!(node_of(&listen, Path::new("/run/backstay/i/gw.sock")), "orders");
    }
}
