//! Resources name nodes and other resources that exist, and can run somewhere.

use std::collections::BTreeSet;
use std::fmt::Display;

use model::ids::NodeName;

use super::node_names;
use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::read::{Draft, Found, ResourceDraft};
use crate::sink::Sink;
use crate::suggest;

/// Reports names of nothing, names of itself, lists with repetitions, and resources that no node
/// may run.
pub(super) fn check(draft: &Draft, sink: &Sink) {
    let machines: BTreeSet<&NodeName> =
        draft.nodes.iter().filter(|n| !n.witness).map(|n| &n.name.value).collect();
    for resource in &draft.resources {
        let Some(body) = &resource.body else { continue };
        repeated("nodes", &body.nodes, sink);
        repeated("prefer", &body.prefer, sink);
        repeated("after", &body.after, sink);
        for node in body.nodes.iter().chain(&body.prefer) {
            known_node(draft, &machines, node, sink);
        }
        for node in &body.prefer {
            let allowed = body.nodes.is_empty() || body.nodes.iter().any(|n| n.value == node.value);
            if !allowed && machines.contains(&node.value) {
                sink.report(
                    Diagnostic::new(
                        Code::PreferOutside,
                        format!("\"{}\" is preferred, but `nodes` does not allow it", node.value),
                        "add it to `nodes`, or remove it from `prefer`",
                    )
                    .at(&node.place, "not in `nodes`"),
                );
            }
        }
        for (key, other) in body
            .with
            .iter()
            .map(|other| ("with", other))
            .chain(body.after.iter().map(|other| ("after", other)))
        {
            known_resource(draft, resource, key, other, sink);
        }
        if machines.is_empty() && !draft.nodes.is_empty() && !sink.failed() {
            sink.report(
                Diagnostic::new(
                    Code::NowhereToRun,
                    format!("no node can run \"{}\": all are witnesses", resource.name.value),
                    "add a node that is no witness",
                )
                .at(&resource.name.place, "this resource"),
            );
        }
    }
}

fn repeated<T: PartialEq + Display>(key: &str, list: &[Found<T>], sink: &Sink) {
    for (index, entry) in list.iter().enumerate() {
        if let Some(first) = list[..index].iter().find(|other| other.value == entry.value) {
            sink.report(
                Diagnostic::new(
                    Code::DuplicateEntry,
                    format!("`{key}` names \"{}\" twice", entry.value),
                    "remove one of them",
                )
                .at(&entry.place, "again")
                .and(&first.place, "first"),
            );
        }
    }
}

fn known_node(draft: &Draft, machines: &BTreeSet<&NodeName>, node: &Found<NodeName>, sink: &Sink) {
    if machines.contains(&node.value) {
        return;
    }
    let names = node_names(draft);
    if names.contains(&&node.value) {
        let message = format!("\"{}\" is a witness: it votes and runs nothing", node.value);
        let help = "name a node that is no witness";
        sink.report(Diagnostic::new(Code::WitnessRuns, message, help).at(&node.place, "a witness"));
        return;
    }
    let near = suggest::nearest(node.value.as_str(), names.iter().map(|name| name.as_str()));
    let help = match near {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => {
            let shown: Vec<&str> = names.iter().take(12).map(|name| name.as_str()).collect();
            format!("the nodes are: {}", shown.join(", "))
        }
    };
    let message = format!("there is no node \"{}\"", node.value);
    sink.report(Diagnostic::new(Code::UnknownNode, message, help).at(&node.place, "unknown"));
}

fn known_resource(
    draft: &Draft,
    resource: &ResourceDraft,
    key: &str,
    other: &Found<model::ResourceName>,
    sink: &Sink,
) {
    if other.value == resource.name.value {
        sink.report(
            Diagnostic::new(
                Code::SelfReference,
                format!("\"{}\" names itself in `{key}`: it would wait for itself", other.value),
                "name another resource, or remove the key",
            )
            .at(&other.place, "itself"),
        );
        return;
    }
    if draft.resources.iter().any(|candidate| candidate.name.value == other.value) {
        return;
    }
    let names = draft.resources.iter().map(|r| r.name.value.as_str());
    let near = suggest::nearest(
        other.value.as_str(),
        names.filter(|n| *n != resource.name.value.as_str()),
    );
    let help = match near {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "add that resource, or remove the reference".to_string(),
    };
    let message = format!("there is no resource \"{}\"", other.value);
    sink.report(Diagnostic::new(Code::UnknownResource, message, help).at(&other.place, "unknown"));
}
