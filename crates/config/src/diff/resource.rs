//! What changes for resources.

use model::spec::{Failback, ResourceSpec, Standby};
use model::{ClusterSpec, NodeName, ResourceName};

use super::{Change, Diff, Effect, KeyChange, Placed, key_changes};
use crate::print;

/// What a changed value of each key leads to, and why.
pub(super) const EFFECTS: &[(&str, Effect, &str)] = &[
    ("kind", Effect::Restart, "another driver runs it"),
    ("address", Effect::Restart, "another address is brought up"),
    ("interface", Effect::Restart, "another interface gets it"),
    ("command", Effect::Restart, "it must run the new command"),
    ("user", Effect::Restart, "a running process keeps its user"),
    ("group", Effect::Restart, "a running process keeps its group"),
    ("environment", Effect::Restart, "a running process keeps its environment"),
    ("directory", Effect::Restart, "a running process keeps its directory"),
    ("limits", Effect::Restart, "limits are set when it is started"),
    ("mode", Effect::Restart, "another number of instances is active"),
    ("standby", Effect::Live, "standbys"),
    ("nodes", Effect::Move, "where it may run"),
    ("with", Effect::Move, "where it must run"),
    ("prefer", Effect::Live, "counts at the next placement"),
    ("spread", Effect::Live, "counts at the next placement"),
    ("after", Effect::Live, "counts at the next start"),
    ("health", Effect::Live, "asked anew from now on"),
    ("rto_ms", Effect::Live, "a target"),
    ("rpo_bytes", Effect::Live, "a target"),
    ("recovery", Effect::Live, "counts from the next failure on"),
    ("failback", Effect::Live, "counts from the next failover on"),
    ("log", Effect::Live, "counts from the next rotation on"),
    ("ready", Effect::Live, "counts at the next start"),
    ("start_ms", Effect::Live, "counts at the next start"),
    ("stop_signal", Effect::Live, "counts at the next stop"),
    ("stop_ms", Effect::Live, "counts at the next stop"),
    ("promote", Effect::Live, "counts at the next promotion"),
    ("promote_ms", Effect::Live, "counts at the next promotion"),
];

/// Compares all resources.
pub(super) fn compare(old: &ClusterSpec, new: &ClusterSpec, placed: &Placed, diff: &mut Diff) {
    for (name, resource) in &old.resources {
        match new.resources.get(name) {
            Some(now) => both(new, name, resource, now, placed, diff),
            None => {
                let renamed = new
                    .resources
                    .iter()
                    .find(|(other, now)| !old.resources.contains_key(*other) && *now == resource);
                let why = match renamed {
                    Some((other, _)) => format!(
                        "it is gone; \"{other}\" is the same under another name and starts anew"
                    ),
                    None => "it is gone from the configuration".to_string(),
                };
                diff.changes.push(Change::new("resource", name.as_str(), Effect::Stop, why));
            }
        }
    }
    for name in new.resources.keys().filter(|name| !old.resources.contains_key(*name)) {
        let why = "it is new";
        diff.changes.push(Change::new("resource", name.as_str(), Effect::Start, why));
    }
    for (name, node) in placed {
        let gone = new.nodes.get(node).is_none_or(|node| node.witness);
        let told = |change: &Change| change.name == name.as_str() && change.effect == Effect::Move;
        if gone && new.resources.contains_key(name) && !diff.changes.iter().any(told) {
            let why = format!("it is active on \"{node}\", which no longer runs resources");
            diff.changes.push(Change::new("resource", name.as_str(), Effect::Move, why));
        }
    }
}

fn both(
    new: &ClusterSpec,
    name: &ResourceName,
    was: &ResourceSpec,
    is: &ResourceSpec,
    placed: &Placed,
    diff: &mut Diff,
) {
    let keys =
        key_changes(&print::resource(name.as_str(), was), &print::resource(name.as_str(), is));
    let mut by_effect: Vec<(Effect, Vec<String>, Vec<KeyChange>)> = Vec::new();
    for change in keys {
        let key = change.key.split('.').next().unwrap_or_default();
        let known = EFFECTS.iter().find(|(k, _, _)| *k == key);
        let (_, effect, why) = known.copied().unwrap_or(("", Effect::Restart, "it differs"));
        let (effect, why) = match key {
            "standby" => standby(is),
            "nodes" | "with" => moves(new, name, is, placed),
            "prefer" => prefer(is, why),
            _ => (effect, why.to_string()),
        };
        match by_effect.iter_mut().find(|(e, _, _)| *e == effect) {
            Some((_, whys, keys)) => {
                if !whys.contains(&why) {
                    whys.push(why);
                }
                keys.push(change);
            }
            None => by_effect.push((effect, vec![why], vec![change])),
        }
    }
    by_effect.sort_by_key(|(effect, _, _)| std::cmp::Reverse(*effect));
    for (effect, whys, keys) in by_effect {
        let change = Change::new("resource", name.as_str(), effect, whys.join("; "));
        diff.changes.push(change.keys(keys));
    }
}

fn standby(is: &ResourceSpec) -> (Effect, String) {
    match is.standby {
        Standby::Hot => (Effect::StartStandby, "copies wait on other nodes from now on".into()),
        Standby::Cold => (Effect::StopStandby, "no copies wait any more".into()),
    }
}

/// Whether the active instance may stay where it is.
fn moves(
    new: &ClusterSpec,
    name: &ResourceName,
    is: &ResourceSpec,
    placed: &Placed,
) -> (Effect, String) {
    let allowed = |at: &NodeName| new.nodes.get(at).is_some_and(|node| is.allows(at, node));
    let leader = is.with.as_ref().and_then(|with| placed.get(with));
    match (placed.get(name), leader) {
        (Some(at), _) if !allowed(at) => {
            (Effect::Move, format!("it is active on \"{at}\", where it may no longer run"))
        }
        (Some(at), Some(leader)) if at != leader => {
            let with = is.with.as_ref().map(ResourceName::as_str).unwrap_or_default();
            (Effect::Move, format!("it is active on \"{at}\", and \"{with}\" on \"{leader}\""))
        }
        (Some(at), _) => (Effect::Live, format!("it may stay on \"{at}\"")),
        (None, _) => (Effect::MayMove, "it may be active where it may no longer run".to_string()),
    }
}

fn prefer(is: &ResourceSpec, why: &str) -> (Effect, String) {
    match (&is.failback, is.prefer.first()) {
        (Failback::AfterMs(ms), Some(best)) => (
            Effect::MayMove,
            format!(
                "`failback` takes it to \"{best}\" after {ms} ms of health, if it is elsewhere"
            ),
        ),
        _ => (Effect::Live, why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::RESOURCE;

    #[test]
    fn every_key_of_a_resource_has_an_effect_and_no_effect_is_of_no_key() {
        for key in RESOURCE.keys.iter().filter(|key| key.name != "name") {
            assert!(EFFECTS.iter().any(|(k, _, _)| *k == key.name), "{} has no effect", key.name);
        }
        for (key, _, _) in EFFECTS {
            assert!(RESOURCE.key(key).is_some(), "{key} is no key");
        }
    }
}
