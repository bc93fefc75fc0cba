//! Relays between the demo's nodes: everything that one node sends another goes through one of
//! them, so that the demo can cut any node, link or direction without being root.
//!
//! There is one [`Route`] for each ordered pair of nodes, link and protocol. All relays run on
//! one thread of their own. They look at nothing that they carry.

pub mod gates;
pub mod tcp;
pub mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use gates::{Direction, Gates};

/// Most routes: three nodes have 24, nine nodes with two links 288.
pub const ROUTES_MAX: usize = 512;

/// What a route carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Connections between agents.
    Tcp,
    /// Heartbeats.
    Udp,
}

/// One relay: what arrives at `listen` goes on to `target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Who sends to whom, on which link.
    pub direction: Direction,
    /// What it carries.
    pub protocol: Protocol,
    /// The relay's own address, which the sender is told to use for the receiver.
    pub listen: SocketAddr,
    /// The receiver's true address.
    pub target: SocketAddr,
}

/// All relays of a demo; they end when this is dropped.
pub struct Relays {
    gates: Arc<Gates>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relays {
    /// Binds every route's address, then carries until dropped.
    ///
    /// # Errors
    /// What the kernel says where an address is taken or files run out; then none runs. More
    /// than [`ROUTES_MAX`] routes are refused as `InvalidInput`.
    pub fn start(routes: &[Route]) -> io::Result<Relays> {
        if routes.len() > ROUTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many routes"));
        }
        let gates = Arc::new(Gates::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            for route in routes {
                match route.protocol {
                    Protocol::Tcp => tcp::start(*route, Arc::clone(&gates)).await?,
                    Protocol::Udp => udp::start(*route, Arc::clone(&gates)).await?,
                }
            }
            io::Result::Ok(())
        })?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("relays".to_owned()).spawn(move || {
            // Told, or forgotten: both mean that nobody needs the relays any more.
            _ = runtime.block_on(stopped);
        })?;
        Ok(Relays { gates, stop: Some(stop), thread: Some(thread) })
    }

    /// What is open and what is closed.
    #[must_use]
    pub fn gates(&self) -> &Gates {
        &self.gates
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the relays' thread panicked");
        }
    }
}
