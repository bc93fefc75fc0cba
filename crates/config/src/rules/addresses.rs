//! No two listeners share an address and a port. Nodes may share an address (a test cluster on
//! one machine does) if all their ports differ.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::read::{Draft, NodeDraft};
use crate::sink::Sink;
use crate::source::Place;

/// Reports addresses that two nodes, or two links of one, would listen on.
pub(super) fn check(draft: &Draft, sink: &Sink) {
    let mut taken: BTreeMap<(IpAddr, Port), (&NodeDraft, &Place)> = BTreeMap::new();
    for node in &draft.nodes {
        for link in &node.links {
            let Some((port, (other, place))) = ports(draft, node)
                .into_iter()
                .find_map(|port| Some((port, *taken.get(&(link.value, port))?)))
            else {
                for port in ports(draft, node) {
                    taken.insert((link.value, port), (node, &link.place));
                }
                continue;
            };
            sink.report(
                shared(node, other, port, link.value)
                    .at(&link.place, "here again")
                    .and(place, "first"),
            );
        }
    }
}

/// A port and its protocol: TCP or not.
type Port = (u16, bool);

fn ports(draft: &Draft, node: &NodeDraft) -> [Port; 3] {
    let ports = node.ports.unwrap_or(draft.ports);
    [(ports.peer, true), (ports.heartbeat, false), (ports.api, true)]
}

fn shared(node: &NodeDraft, other: &NodeDraft, port: Port, address: IpAddr) -> Diagnostic {
    let (here, there) = (&node.name.value, &other.name.value);
    if here == there {
        return Diagnostic::new(
            Code::DuplicateAddress,
            format!("node \"{here}\" has the link {address} twice"),
            "a link is a network path of its own; remove one",
        );
    }
    let protocol = if port.1 { "TCP" } else { "UDP" };
    Diagnostic::new(
        Code::DuplicateAddress,
        format!(
            "nodes \"{there}\" and \"{here}\" both use {address} with {protocol} port {}",
            port.0
        ),
        "each machine has addresses of its own; nodes that share a machine for a test need \
         different `ports`",
    )
}
