//! Messages from node to node, over mutual TLS.
//!
//! Each node dials every other for what it has to say; what it hears comes over the connections
//! that others dialled. Every link of a peer is tried in turn, and a connection over which nothing
//! moves is given up for the next link. Messages can be lost, doubled by whoever sends again, and
//! small ones overtake large ones: Raft lives with that. This module never reads a message.

pub mod frame;
mod generations;
mod inbound;
mod outbound;
mod queue;
mod stats;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use model::NodeName;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use frame::{MESSAGE_MAX, PART_MAX};
pub use generations::{Generations, OnSuperseded};
pub use queue::{LARGE_BYTES_MAX, LARGE_MAX, SMALL_BYTES_MAX, SMALL_MAX, Sent};
pub use stats::PeerStats;

use super::counters::{Counters, Undelivered};
use super::dial::DialMap;
use super::gate::Gate;
use super::listen::{self, ListenError};
use super::tls::Tls;
use queue::Queue;

/// Shortest pause before a peer is dialled again.
pub const RETRY_MIN: Duration = Duration::from_millis(20);
/// Longest pause before a peer is dialled again.
pub const RETRY_MAX: Duration = Duration::from_millis(500);
/// Most connections that have not said yet who they are.
pub const STRANGERS_MAX: usize = 64;
/// Most of those from one address.
pub const STRANGERS_PER_ADDRESS_MAX: usize = 16;

/// Called with every message: the replica it came from and its bytes. It runs on the event loop,
/// so it hands the message on and returns.
pub type OnMessage = Arc<dyn Fn(u64, Bytes) + Send + Sync>;
/// Whether the cluster knows this node under this replica id, now. Asked at every hello and, while
/// a connection lives, at every tick: who was removed is cut off.
pub type Belongs = Arc<dyn Fn(&NodeName, u64) -> bool + Send + Sync>;

/// This node, to its peers.
#[derive(Debug, Clone)]
pub struct Local {
    /// Its replica id.
    pub replica: u64,
    /// Where it listens: an address per link.
    pub listen: Vec<SocketAddr>,
}

/// How peer connections behave.
#[derive(Clone)]
pub struct PeerOptions {
    /// A connection over which nothing has moved for this long is given up; about two leases.
    pub stall: Duration,
    /// How long a handshake may take, TLS and hello together.
    pub handshake: Duration,
    /// Where to dial instead of the stated addresses.
    pub dial: DialMap,
    /// Who belongs to the cluster.
    pub belongs: Belongs,
    /// Where refusals and drops are counted.
    pub counters: Counters,
    /// This node's generation, and whom to tell of a higher one.
    pub generations: Generations,
}

/// A peer, as the specification states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its node's name, which its certificate must bear.
    pub name: NodeName,
    /// Its peer addresses, in the order of its links.
    pub addresses: Vec<SocketAddr>,
}

/// What all tasks share.
struct Shared {
    replica: u64,
    tls: Arc<Tls>,
    options: PeerOptions,
    on_message: OnMessage,
    gate: Gate,
    /// Counts connections that came or went, and changes of who the peers are.
    changes: Arc<AtomicU64>,
    /// Statistics of the peers that are set.
    cells: Mutex<BTreeMap<u64, Arc<stats::Cell>>>,
    /// The inbound connection of each replica; dropping its sender ends it.
    inbound: Mutex<BTreeMap<u64, (u64, oneshot::Sender<()>)>>,
}

impl Shared {
    fn new_cell(&self) -> Arc<stats::Cell> {
        Arc::new(stats::Cell::new(Arc::clone(&self.changes)))
    }

    fn cell(&self, replica: u64) -> Option<Arc<stats::Cell>> {
        lock(&self.cells).get(&replica).cloned()
    }
}

struct Outbound {
    peer: watch::Sender<Peer>,
    queue: Arc<Queue>,
    cell: Arc<stats::Cell>,
    task: JoinHandle<()>,
}

/// The peer transport. Dropping it ends every connection.
pub struct Peers {
    runtime: Handle,
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    listeners: Vec<JoinHandle<()>>,
    outbound: Mutex<BTreeMap<u64, Outbound>>,
}

impl Peers {
    /// Listens on the local addresses. Nobody is dialled until [`Peers::set_peers`].
    ///
    /// # Errors
    /// [`ListenError`] where an address can't be listened on.
    pub fn start(
        runtime: Handle,
        local: Local,
        tls: Arc<Tls>,
        options: PeerOptions,
        on_message: OnMessage,
    ) -> Result<Peers, ListenError> {
        let shared = Arc::new(Shared {
            replica: local.replica,
            tls,
            options,
            on_message,
            gate: Gate::new(STRANGERS_MAX, STRANGERS_PER_ADDRESS_MAX),
            changes: Arc::default(),
            cells: Mutex::default(),
            inbound: Mutex::default(),
        });
        let mut peers = Peers {
            runtime: runtime.clone(),
            shared: Arc::clone(&shared),
            addresses: Vec::new(),
            listeners: Vec::new(),
            outbound: Mutex::default(),
        };
        let _inside = runtime.enter();
        for address in local.listen {
            let failed = |source| ListenError { address, source };
            let listener = listen::tcp(address)?;
            peers.addresses.push(listener.local_addr().map_err(failed)?);
            let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
            let task = inbound::listen(Arc::clone(&shared), listener);
            peers.listeners.push(runtime.spawn(task));
        }
        Ok(peers)
    }

    /// Where it listens, with the ports that the system chose where it was asked to.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Sets who the peers are. Connections to those who stay live on where their addresses do;
    /// what waits for those who are gone is dropped.
    pub fn set_peers(&self, peers: &BTreeMap<u64, Peer>) {
        let mut outbound = lock(&self.outbound);
        outbound.retain(|replica, known| {
            let stays = peers.get(replica).is_some_and(|p| p.name == known.peer.borrow().name);
            if !stays {
                known.task.abort();
                lock(&self.shared.cells).remove(replica);
                lock(&self.shared.inbound).remove(replica);
            }
            stays
        });
        for (&replica, peer) in peers.iter().filter(|(replica, _)| **replica != self.replica()) {
            match outbound.get(&replica) {
                Some(known) => {
                    known.peer.send_if_modified(|current| {
                        let changed = current != peer;
                        current.clone_from(peer);
                        changed
                    });
                }
                None => drop(outbound.insert(replica, self.dial(replica, peer.clone()))),
            }
        }
        drop(outbound);
        self.shared.changes.fetch_add(1, Ordering::Release);
    }

    /// Sends a message. Never blocks; what becomes of it, the answer says as far as it is known.
    pub fn send(&self, to: u64, message: Bytes) -> Sent {
        let outbound = lock(&self.outbound);
        let counters = &self.shared.options.counters;
        let Some(known) = outbound.get(&to) else {
            counters.message_undelivered(Undelivered::UnknownPeer);
            return Sent::Dropped(Undelivered::UnknownPeer);
        };
        let sent = known.queue.push(message);
        let dropped = match sent {
            Sent::Queued => return sent,
            Sent::Displaced(count) => (count, Undelivered::Displaced),
            Sent::Dropped(reason) => (1, reason),
        };
        for _ in 0..dropped.0 {
            counters.message_undelivered(dropped.1);
        }
        known.cell.dropped.fetch_add(dropped.0 as u64, Ordering::Relaxed);
        sent
    }

    /// A number that rises whenever [`Peers::connected`] may have changed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::Acquire)
    }

    /// The peers to which messages can leave.
    #[must_use]
    pub fn connected(&self) -> BTreeSet<u64> {
        let outbound = lock(&self.outbound);
        let connected = outbound.iter().filter(|(_, known)| known.cell.is_connected());
        connected.map(|(replica, _)| *replica).collect()
    }

    /// The state of the connection to each peer.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<u64, PeerStats> {
        lock(&self.outbound).iter().map(|(replica, known)| (*replica, known.cell.read())).collect()
    }

    fn replica(&self) -> u64 {
        self.shared.replica
    }

    fn dial(&self, replica: u64, peer: Peer) -> Outbound {
        let (peer, watched) = watch::channel(peer);
        let queue = Arc::new(Queue::default());
        let cell = self.shared.new_cell();
        lock(&self.shared.cells).insert(replica, Arc::clone(&cell));
        let dialler = outbound::Dialler {
            shared: Arc::clone(&self.shared),
            replica,
            peer: watched,
            queue: Arc::clone(&queue),
            cell: Arc::clone(&cell),
        };
        Outbound { peer, queue, cell, task: self.runtime.spawn(dialler.run()) }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.listeners.iter().for_each(JoinHandle::abort);
        lock(&self.outbound).values().for_each(|known| known.task.abort());
    }
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("replica", &self.replica()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
