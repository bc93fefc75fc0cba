//! An address that moves belongs to no node and to one resource.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::read::{Draft, ResourceDraft};
use crate::sink::Sink;
use crate::source::Place;

/// Reports addresses that a node has for itself, or that two resources would bring up.
pub(super) fn check(draft: &Draft, sink: &Sink) {
    let links = draft.nodes.iter().flat_map(|node| node.links.iter().map(move |l| (node, l)));
    let fixed: BTreeMap<IpAddr, _> = links.map(|(node, link)| (link.value, (node, link))).collect();
    let mut taken: BTreeMap<IpAddr, (&ResourceDraft, &Place)> = BTreeMap::new();
    for resource in &draft.resources {
        let Some(address) = resource.body.as_ref().and_then(|body| body.address.as_ref()) else {
            continue;
        };
        let (name, ip) = (&resource.name.value, address.value.ip);
        if let Some((node, link)) = fixed.get(&ip) {
            sink.report(
                Diagnostic::new(
                    Code::DuplicateAddress,
                    format!(
                        "\"{name}\" would move {ip}, which is a link of node \"{}\"",
                        node.name.value
                    ),
                    "a node's own address stays with it; choose one that no machine has",
                )
                .at(&address.place, "this address")
                .and(&link.place, "the node's own"),
            );
        }
        if let Some((other, place)) = taken.insert(ip, (resource, &address.place)) {
            let other = &other.name.value;
            sink.report(
                Diagnostic::new(
                    Code::DuplicateAddress,
                    format!("\"{other}\" and \"{name}\" both bring {ip} up"),
                    "two nodes could hold it at once; keep one of them, and let what needs the \
                     address name it in `with` or `after`",
                )
                .at(&address.place, "here again")
                .and(place, "first"),
            );
        }
    }
}
