//! Where to dial instead of where a node says it is: for address translation and relays. It is a
//! matter of this node's place in the network, so it stands in its local file, not in the
//! committed specification.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use model::NodeName;

/// Addresses that replace those of the specification, by node and number of the link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DialMap {
    /// For the peer port (TCP).
    pub peer: BTreeMap<(NodeName, u8), SocketAddr>,
    /// For the heartbeat port (UDP).
    pub heartbeat: BTreeMap<(NodeName, u8), SocketAddr>,
}

impl DialMap {
    /// Where to connect to this node's peer port over this link.
    #[must_use]
    pub fn peer(&self, node: &NodeName, link: u8, stated: SocketAddr) -> SocketAddr {
        self.peer.get(&(node.clone(), link)).copied().unwrap_or(stated)
    }

    /// Where to send this node's heartbeats over this link.
    #[must_use]
    pub fn heartbeat(&self, node: &NodeName, link: u8, stated: SocketAddr) -> SocketAddr {
        self.heartbeat.get(&(node.clone(), link)).copied().unwrap_or(stated)
    }
}
