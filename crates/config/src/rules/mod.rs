//! From a draft to a specification: what the parts mean together. Each rule is a file.

mod addresses;
mod counts;
mod cycles;
mod moving;
mod names;
mod references;
mod voters;

use std::collections::BTreeMap;

use model::ids::{NodeName, ResourceName};
use model::spec::{ClusterSpec, NodeSpec, ResourceKind, ResourceSpec};

use crate::read::{Draft, Found, ResourceDraft};
use crate::sink::Sink;

/// Checks the draft as a whole and makes the specification of it. What was reported before or
/// here decides whether it may be used; this function only builds it.
pub(crate) fn assemble(mut draft: Draft, sink: &Sink) -> Option<ClusterSpec> {
    counts::check(&draft, sink);
    names::check(&mut draft, sink);
    addresses::check(&draft, sink);
    moving::check(&draft, sink);
    let voters = voters::choose(&draft, sink);
    references::check(&draft, sink);
    cycles::check(&draft, sink);
    let name = draft.name?.value;
    let mut spec = ClusterSpec {
        name,
        profile: draft.profile.map(|found| found.value).unwrap_or_default(),
        ports: draft.ports,
        nodes: BTreeMap::new(),
        resources: BTreeMap::new(),
        hooks: draft.hooks,
    };
    for node in draft.nodes {
        let voter = voters.contains(&node.name.value);
        let links = node.links.into_iter().map(|link| link.value).collect();
        let (ports, domains, witness) = (node.ports, node.domains, node.witness);
        spec.nodes.insert(node.name.value, NodeSpec { links, ports, domains, witness, voter });
    }
    for resource in draft.resources {
        let (name, resource) = resource_spec(resource)?;
        spec.resources.insert(name, resource);
    }
    Some(spec)
}

fn resource_spec(draft: ResourceDraft) -> Option<(ResourceName, ResourceSpec)> {
    let body = draft.body?;
    let spec = ResourceSpec {
        kind: match body.address {
            Some(address) => ResourceKind::Address(address.value),
            None => ResourceKind::Process(body.process),
        },
        standby: body.standby,
        prefer: bare(body.prefer),
        nodes: body.nodes.into_iter().map(|found| found.value).collect(),
        spread: body.spread,
        with: body.with.map(|found| found.value),
        after: bare(body.after),
        health: body.health,
        rto_ms: body.rto_ms,
        rpo_bytes: body.rpo_bytes,
        recovery: body.recovery,
        failback: body.failback,
    };
    Some((draft.name.value, spec))
}

fn bare<T>(found: Vec<Found<T>>) -> Vec<T> {
    found.into_iter().map(|found| found.value).collect()
}

/// The names of a kind of thing, for "did you mean".
fn node_names(draft: &Draft) -> Vec<&NodeName> {
    draft.nodes.iter().map(|node| &node.name.value).collect()
}
