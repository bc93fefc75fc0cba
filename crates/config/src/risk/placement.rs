//! Where resources can run, and whether a second place is left when one node is lost.

use std::collections::BTreeSet;

use model::spec::{ResourceSpec, Standby};
use model::{NodeName, ResourceName};

use super::{Case, list};
use crate::code::Code;
use crate::diagnostic::Diagnostic;

/// Looks at every resource.
pub(super) fn check(case: &Case<'_>, found: &mut Vec<Diagnostic>) {
    for (name, resource) in &case.spec.resources {
        let own = allowed(case, resource);
        let places = with_chain(case, name, resource, own.clone(), found);
        alone(case, name, resource, &places, found);
        standby(case, name, resource, &places, found);
        spread(case, name, resource, &places, found);
        prefer(case, name, resource, &own, found);
    }
}

fn allowed(case: &Case<'_>, resource: &ResourceSpec) -> BTreeSet<NodeName> {
    let nodes = case.spec.nodes.iter().filter(|(name, node)| resource.allows(name, node));
    nodes.map(|(name, _)| name.clone()).collect()
}

/// Where a resource may be, given what it runs `with` in turn. Chains are finite here: circles
/// are errors. The count is bounded all the same.
fn leaders(case: &Case<'_>, first: &ResourceName) -> Option<BTreeSet<NodeName>> {
    let mut leader = case.spec.resources.get(first)?;
    let mut places = allowed(case, leader);
    for _ in 0..case.spec.resources.len() {
        let Some(next) = leader.with.as_ref().and_then(|with| case.spec.resources.get(with)) else {
            break;
        };
        places = places.intersection(&allowed(case, next)).cloned().collect();
        leader = next;
    }
    Some(places)
}

/// Cuts the nodes of a resource down to those where what it runs `with` may be too.
fn with_chain(
    case: &Case<'_>,
    name: &ResourceName,
    resource: &ResourceSpec,
    mut places: BTreeSet<NodeName>,
    found: &mut Vec<Diagnostic>,
) -> BTreeSet<NodeName> {
    let Some(with) = &resource.with else { return places };
    let Some(leaders) = leaders(case, with) else { return places };
    let missing: Vec<_> = leaders.difference(&places).cloned().collect();
    places = places.intersection(&leaders).cloned().collect();
    if places.is_empty() {
        found.push(
            Diagnostic::new(
                Code::NowhereToRun,
                format!("\"{name}\" runs with \"{with}\", and no node may run both"),
                "let their `nodes` have some in common",
            )
            .at_known(case.places.resource(name.as_str(), "with"), "never on one node"),
        );
    } else if !missing.is_empty() {
        found.push(
            Diagnostic::new(
                Code::WithApart,
                format!(
                    "\"{with}\" may run on {}, where \"{name}\" may not follow it: it would stay \
                     down",
                    list(&missing)
                ),
                "give both the same `nodes`",
            )
            .at_known(case.places.resource(name.as_str(), "nodes"), "fewer nodes"),
        );
    }
    places
}

fn alone(
    case: &Case<'_>,
    name: &ResourceName,
    resource: &ResourceSpec,
    places: &BTreeSet<NodeName>,
    found: &mut Vec<Diagnostic>,
) {
    let machines = case.spec.nodes.values().filter(|node| !node.witness).count();
    // What follows a single-node resource is said of that one.
    if places.len() != 1 || resource.with.is_some() {
        return;
    }
    let reason =
        if machines == 1 { "add a node that is no witness" } else { "add another node to `nodes`" };
    found.push(
        Diagnostic::new(
            Code::NoSecondNode,
            format!("only {} may run \"{name}\": when it is lost, so is \"{name}\"", list(places)),
            reason,
        )
        .at_known(case.places.resource(name.as_str(), "nodes"), "one node"),
    );
}

fn standby(
    case: &Case<'_>,
    name: &ResourceName,
    resource: &ResourceSpec,
    places: &BTreeSet<NodeName>,
    found: &mut Vec<Diagnostic>,
) {
    if resource.standby != Standby::Hot {
        return;
    }
    let said = case.places.says(&format!("resource.{name}.standby"));
    let (message, help) = if places.len() == 1 && said {
        (
            format!("\"{name}\" has a hot standby, but no second node for it to wait on"),
            "allow another node, or remove `standby = \"hot\"`",
        )
    } else if places.len() > 1 && !resource.kind.changes_roles() {
        (
            format!(
                "the hot standby of \"{name}\" is restarted to become active: it saves no time"
            ),
            "let it read role changes (`promote = \"socket\"`), or say `standby = \"cold\"`",
        )
    } else {
        return;
    };
    found.push(
        Diagnostic::new(Code::StandbyUseless, message, help)
            .at_known(case.places.resource(name.as_str(), "standby"), "of no use"),
    );
}

fn spread(
    case: &Case<'_>,
    name: &ResourceName,
    resource: &ResourceSpec,
    places: &BTreeSet<NodeName>,
    found: &mut Vec<Diagnostic>,
) {
    let Some(kind) = resource.spread else { return };
    let domains: BTreeSet<Option<&str>> = places
        .iter()
        .filter_map(|name| case.spec.nodes.get(name))
        .map(|node| node.domains.get(kind))
        .collect();
    let kind = kind.as_str();
    if domains.iter().flatten().count() < 2 {
        found.push(
            Diagnostic::new(
                Code::SpreadUseless,
                format!("\"{name}\" is to be spread by {kind}, but its nodes name fewer than two"),
                format!("say `{kind}` on each [[node]], or remove `spread`"),
            )
            .at_known(case.places.resource(name.as_str(), "spread"), "nothing to spread over"),
        );
    }
}

fn prefer(
    case: &Case<'_>,
    name: &ResourceName,
    resource: &ResourceSpec,
    own: &BTreeSet<NodeName>,
    found: &mut Vec<Diagnostic>,
) {
    let place = case.places.resource(name.as_str(), "prefer");
    if let (Some(with), false) = (&resource.with, resource.prefer.is_empty()) {
        let message =
            format!("\"{name}\" runs where \"{with}\" is active; its `prefer` is ignored");
        let help = "remove it, or set `prefer` on the other";
        found.push(Diagnostic::new(Code::PreferIgnored, message, help).at_known(place, "ignored"));
    } else if resource.prefer.len() == 1 && own.len() > 2 {
        let rest: Vec<_> = own.iter().filter(|node| !resource.prefer.contains(node)).collect();
        let message = format!(
            "\"{name}\" prefers one node: when that is lost, any of {} may get it",
            list(&rest)
        );
        let help = "list a second choice as well, or leave this if any will do";
        found.push(Diagnostic::new(Code::PreferAlone, message, help).at_known(place, "one node"));
    } else if resource.prefer.len() == 1 && own.len() == 1 {
        let message = format!("\"{name}\" has one node; to prefer it orders nothing");
        let help = "remove `prefer`";
        found.push(Diagnostic::new(Code::PreferAlone, message, help).at_known(place, "no choice"));
    }
}
