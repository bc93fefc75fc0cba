//! What the agent's threads share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use brain::Pulse;
use drivers::lease::{Beat, InstanceLease, LeasePage};
use drivers::run_dir::RunDir;
use kernel::Input;
use model::{Epoch, Moment, NodeName, ReplicaId, ResourceName};

use super::core::CoreInput;

/// Most inputs that wait for the core thread; further peer messages are dropped and counted, as
/// the network would.
pub const INPUTS_MAX: usize = 16_384;

/// How to reach a peer by datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatPeer {
    /// Its name.
    pub name: NodeName,
    /// Its heartbeat addresses, by link, with what `local.toml` replaces.
    pub addresses: Vec<SocketAddr>,
    /// Its public datagram key.
    pub key: [u8; 32],
}

/// The peers as the heartbeat thread needs them; `version` tells it when to look again.
#[derive(Debug, Clone, Default)]
pub struct HeartbeatPeers {
    /// Rises with every change.
    pub version: u64,
    /// By incarnation.
    pub peers: BTreeMap<ReplicaId, HeartbeatPeer>,
}

/// Shared by all threads of the agent.
pub struct Shared {
    /// The lease protocol (DESIGN.md, rule 1: one lock).
    pub pulse: Mutex<Pulse>,
    /// The way to the core thread.
    pub inputs: SyncSender<CoreInput>,
    /// Whom the heartbeat thread sends to.
    pub heartbeat_peers: Mutex<Arc<HeartbeatPeers>>,
    /// Where the lease end is published; none before the launcher has made the page.
    pub lease: Mutex<LeaseBoard>,
    /// What this process was not permitted, in words, for `status`.
    pub shortfalls: Mutex<Vec<String>>,
    /// This node's generation; 0 while it knows none.
    pub generation: Arc<std::sync::atomic::AtomicU64>,
    /// Inputs dropped because the core thread did not keep up.
    pub dropped_inputs: std::sync::atomic::AtomicU64,
}

/// Locks; a thread that panicked under the lock has ended the process already.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Gives a peer's message to the core thread, or drops it.
    pub fn offer(&self, input: CoreInput) {
        match self.inputs.try_send(input) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped_inputs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }

    /// Gives an input that must not be lost to the core thread; waits for room. False where the
    /// agent is ending.
    pub fn give(&self, input: Input) -> bool {
        self.inputs.send(CoreInput::Kernel(input)).is_ok()
    }

    /// Publishes the lease as the pulse has it. Call under no lock.
    pub fn publish_lease(&self, now: Moment) {
        // The board first: of two that publish, the later must not carry the older lease.
        let mut board = lock(&self.lease);
        let (number, end) = {
            let mut pulse = lock(&self.pulse);
            (pulse.check_lease(now), pulse.lease_end())
        };
        board.publish(now, number, end);
    }

    /// Ends the lease at once, whatever is left of it: what this node was granted is void.
    pub fn end_lease(&self, now: Moment) {
        lock(&self.pulse).check_lease(Moment(u64::MAX));
        self.publish_lease(now);
    }

    /// Notes something that was not permitted.
    pub fn shortfall(&self, what: String) {
        tracing::warn!("{what}");
        lock(&self.shortfalls).push(what);
    }
}

/// The lease page and the lease files of active instances.
#[derive(Default)]
pub struct LeaseBoard {
    page: Option<LeasePage>,
    instances: BTreeMap<ResourceName, (Epoch, InstanceLease)>,
    /// The number of the page's lease when this agent started; each lapse adds one.
    base: u64,
    /// Number and end of the lease as last published.
    published: (u64, Option<Moment>),
}

impl LeaseBoard {
    /// The launcher's page is there.
    pub fn set_page(&mut self, page: LeasePage) {
        self.page = Some(page);
        self.published = (0, None);
    }

    /// Whether the lease files of exactly these are at hand.
    pub fn holds<'a>(&self, mut active: impl Iterator<Item = (&'a ResourceName, Epoch)>) -> bool {
        let mut count = 0;
        let known = |(name, epoch): (&ResourceName, Epoch)| {
            count += 1;
            self.instances.get(name).is_some_and(|(held, _)| *held == epoch)
        };
        active.all(known) && count == self.instances.len()
    }

    /// Instances that are active now: their lease files are renewed with the page.
    pub fn set_active(&mut self, run: &RunDir, active: BTreeMap<ResourceName, Epoch>) {
        self.instances.retain(|name, (epoch, _)| active.get(name) == Some(epoch));
        for (name, epoch) in active {
            if self.instances.contains_key(&name) {
                continue;
            }
            match InstanceLease::open_writable(&run.instance_lease(&name)) {
                Ok(lease) => {
                    if let (number, Some(end)) = self.published {
                        lease.renew(epoch, number, end);
                    }
                    self.instances.insert(name, (epoch, lease));
                }
                Err(error) => tracing::warn!(resource = %name, %error, "no lease file"),
            }
        }
    }

    /// The lease that the page showed when this agent started has this number.
    pub fn begin_at(&mut self, number: u64) {
        self.base = number;
    }

    fn publish(&mut self, now: Moment, lapses: u64, end: Option<Moment>) {
        let Some(page) = &self.page else { return };
        page.beat(Beat::Agent, now);
        let number = self.base.wrapping_add(lapses);
        if (number, end) == self.published {
            return;
        }
        page.set_lease(number, end);
        self.published = (number, end);
        if let Some(end) = end {
            self.instances.retain(|_, (epoch, lease)| lease.renew(*epoch, number, end));
        }
    }
}
