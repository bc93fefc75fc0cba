//! Who the peers are and how to reach them: follows the control state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use kernel::PeerMessage;
use model::spec::Ports;
use model::state::ClusterState;
use model::{NodeName, ReplicaId};

use super::shared::{HeartbeatPeer, HeartbeatPeers, Shared, lock};
use crate::net::{DialMap, Peer, Peers};

/// The transport, kept in step with the control state.
pub struct PeerTable {
    peers: Arc<Peers>,
    me: ReplicaId,
    dial: DialMap,
    members: Arc<Mutex<BTreeMap<NodeName, ReplicaId>>>,
    version: u64,
    /// The transport's count of changes when it was last asked who is connected.
    seen: Option<u64>,
}

impl PeerTable {
    /// A table over a running transport. `members` is what the transport asks whether a node
    /// belongs to the cluster.
    #[must_use]
    pub fn new(
        peers: Arc<Peers>,
        me: ReplicaId,
        dial: DialMap,
        members: Arc<Mutex<BTreeMap<NodeName, ReplicaId>>>,
    ) -> PeerTable {
        PeerTable { peers, me, dial, members, version: 0, seen: None }
    }

    /// Sends a message; the transport counts what it can't deliver.
    pub fn send(&self, to: ReplicaId, message: &PeerMessage) {
        let sent = self.peers.send(to.0, message.encode().into());
        tracing::trace!(%to, ?sent, "message");
    }

    /// Replicas with a connection, where that has changed since the last call.
    pub fn newly_connected(&mut self) -> Option<BTreeSet<ReplicaId>> {
        // Read before the connections are: what changes meanwhile is seen the next time.
        let changes = self.peers.changes();
        if self.seen == Some(changes) {
            return None;
        }
        self.seen = Some(changes);
        Some(self.peers.connected().into_iter().map(ReplicaId).collect())
    }

    /// Takes over members and addresses from the control state.
    pub fn follow(&mut self, state: &ClusterState, shared: &Shared) {
        let mut peers = BTreeMap::new();
        let mut heartbeat = BTreeMap::new();
        for (name, member) in &state.members {
            let Some(node) = state.spec.nodes.get(name) else { continue };
            if member.replica == self.me {
                continue;
            }
            let ports = node.ports.unwrap_or(state.spec.ports);
            let at = |port: u16| node.links.iter().map(move |ip| SocketAddr::new(*ip, port));
            let addresses = at(ports.peer).collect();
            peers.insert(member.replica.0, Peer { name: name.clone(), addresses });
            let addresses = at(ports.heartbeat)
                .enumerate()
                .map(|(link, stated)| self.dial.heartbeat(name, link as u8, stated))
                .collect();
            let key = member.datagram_key;
            let peer = HeartbeatPeer { name: name.clone(), addresses, key };
            heartbeat.insert(member.replica, peer);
        }
        tell_awaited(state, &mut peers);
        shared.generation.store(state.generation, std::sync::atomic::Ordering::Release);
        *lock(&self.members) =
            state.members.iter().map(|(name, m)| (name.clone(), m.replica)).collect();
        self.peers.set_peers(&peers);
        self.version += 1;
        *lock(&shared.heartbeat_peers) =
            Arc::new(HeartbeatPeers { version: self.version, peers: heartbeat });
    }
}

/// Those of an earlier generation are told of this one wherever they still run. So two that began
/// without knowing of each other meet, and the lower one stops. Nothing is ever sent to them: no
/// member has their replica ids.
fn tell_awaited(state: &ClusterState, peers: &mut BTreeMap<u64, Peer>) {
    for (name, awaited) in &state.awaited {
        let Some(node) = state.spec.nodes.get(name) else { continue };
        let port = node.ports.unwrap_or(state.spec.ports).peer;
        let addresses = node.links.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        peers.insert(awaited.barred.0, Peer { name: name.clone(), addresses });
    }
}

/// The ports of a node.
#[must_use]
pub fn ports(state: &model::ClusterSpec, node: &NodeName) -> Ports {
    state.nodes.get(node).and_then(|n| n.ports).unwrap_or(state.ports)
}
