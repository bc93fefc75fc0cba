//! Network paths: one is none, and two through one subnet are most often one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::NodeName;

use super::{Case, list};
use crate::code::Code;
use crate::diagnostic::Diagnostic;

/// Warns of single links, links that share a subnet, uneven numbers of links and of loopback
/// addresses among others.
pub(super) fn check(case: &Case<'_>, found: &mut Vec<Diagnostic>) {
    if case.spec.nodes.len() < 2 {
        return;
    }
    single(case, found);
    uneven(case, found);
    for (name, node) in &case.spec.nodes {
        same_subnet(case, name, &node.links, found);
    }
    loopback(case, found);
}

fn names_where(case: &Case<'_>, links: impl Fn(usize) -> bool) -> Vec<String> {
    let nodes = case.spec.nodes.iter().filter(|(_, n)| !n.witness && links(n.links.len()));
    nodes.map(|(name, _)| name.to_string()).collect()
}

fn single(case: &Case<'_>, found: &mut Vec<Diagnostic>) {
    let names = names_where(case, |links| links == 1);
    let Some(first) = names.first() else { return };
    let many = names.len() > 1;
    found.push(
        Diagnostic::new(
            Code::OneLink,
            format!(
                "{} {} one link: whatever breaks that path takes the node out of the cluster",
                list(&names),
                if many { "have" } else { "has" }
            ),
            "add a second address on another switch to `links`; heartbeats use both all the time",
        )
        .at_known(case.places.node(first, "links"), "one link"),
    );
}

fn uneven(case: &Case<'_>, found: &mut Vec<Diagnostic>) {
    let most = case.spec.nodes.values().filter(|n| !n.witness).map(|n| n.links.len()).max();
    let most = most.unwrap_or(0);
    // Those with one link are spoken of already.
    let fewer = names_where(case, |links| links < most && links > 1);
    let Some(first) = fewer.first() else { return };
    found.push(
        Diagnostic::new(
            Code::UnevenLinks,
            format!("{} can be reached on fewer than the {most} links of others", list(&fewer)),
            "give all nodes the same number of links, in the same order",
        )
        .at_known(case.places.node(first, "links"), "fewer"),
    );
}

/// The subnet that an address most likely is in; prefix lengths are not in the configuration.
fn subnet(address: IpAddr) -> (IpAddr, u8) {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            (IpAddr::from([a, b, c, 0]), 24)
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            (IpAddr::from([a, b, c, d, 0, 0, 0, 0]), 64)
        }
    }
}

fn same_subnet(case: &Case<'_>, name: &NodeName, links: &[IpAddr], found: &mut Vec<Diagnostic>) {
    let mut subnets: BTreeMap<(IpAddr, u8), Vec<IpAddr>> = BTreeMap::new();
    for link in links.iter().filter(|link| !link.is_loopback()) {
        subnets.entry(subnet(*link)).or_default().push(*link);
    }
    for ((subnet, prefix), shared) in subnets.into_iter().filter(|(_, shared)| shared.len() > 1) {
        found.push(
            Diagnostic::new(
                Code::SameSubnet,
                format!(
                    "links {} of \"{name}\" look like one subnet ({subnet}/{prefix}): one switch, \
                     route or cable then breaks both",
                    list(&shared)
                ),
                "use addresses in different subnets on different switches; if your prefix is \
                 longer and they are, ignore this",
            )
            .at_known(case.places.node(name.as_str(), "links"), "one subnet"),
        );
    }
}

fn loopback(case: &Case<'_>, found: &mut Vec<Diagnostic>) {
    let on_loopback = |links: &[IpAddr]| links.iter().any(IpAddr::is_loopback);
    let nodes = &case.spec.nodes;
    let local: Vec<_> =
        nodes.iter().filter(|(_, n)| on_loopback(&n.links)).map(|(name, _)| name).collect();
    let all_local = nodes.values().all(|node| node.links.iter().all(IpAddr::is_loopback));
    if local.is_empty() || all_local {
        return;
    }
    found.push(
        Diagnostic::new(
            Code::MixedLoopback,
            format!("{} has a loopback address, which no other machine can reach", list(&local)),
            "write the address that the other nodes reach it by",
        )
        .at_known(case.places.node(local[0].as_str(), "links"), "loopback"),
    );
}
