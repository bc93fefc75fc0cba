//! What changes for nodes.

use model::spec::NodeSpec;
use model::{ClusterSpec, NodeName};

use super::{Change, Diff, Effect, key_changes};
use crate::print;

/// Compares all nodes.
pub(super) fn compare(old: &ClusterSpec, new: &ClusterSpec, diff: &mut Diff) {
    for (name, node) in &old.nodes {
        match new.nodes.get(name) {
            Some(now) => both(old, new, name, node, now, diff),
            None => {
                let vote = if node.voter { "; the others take its vote over first" } else { "" };
                let why = format!("it is drained, then forgotten{vote}");
                diff.changes.push(Change::new("node", name.as_str(), Effect::Leave, why));
            }
        }
    }
    for (name, node) in new.nodes.iter().filter(|(name, _)| !old.nodes.contains_key(*name)) {
        let role = match (node.witness, node.voter) {
            (true, _) => " as a witness",
            (_, true) => " as a voter, once it has caught up",
            _ => "",
        };
        let why = format!("`backstay join` on it lets it in{role}");
        diff.changes.push(Change::new("node", name.as_str(), Effect::Join, why));
    }
}

fn both(
    old: &ClusterSpec,
    new: &ClusterSpec,
    name: &NodeName,
    was: &NodeSpec,
    is: &NodeSpec,
    diff: &mut Diff,
) {
    let NodeSpec { links, ports: _, domains, witness, voter } = is;
    let all = key_changes(&print::node(name.as_str(), was), &print::node(name.as_str(), is));
    let mut add = |effect, why: &str, keys: &[&str]| {
        let keys = all.iter().filter(|k| keys.contains(&k.key.as_str())).cloned().collect();
        diff.changes.push(Change::new("node", name.as_str(), effect, why).keys(keys));
    };
    if was.links != *links {
        let kept = was.links.iter().any(|link| links.contains(link));
        let why = match kept {
            true => "one link at least stays, so it stays reachable",
            false => {
                "no link stays: it is unreachable until its addresses change too, and its \
                 resources may move. Change one link at a time to avoid that"
            }
        };
        add(if kept { Effect::Reconnect } else { Effect::CutOff }, why, &["links"]);
    }
    if was.ports_or(old.ports) != is.ports_or(new.ports) {
        let why = "its agent listens on other ports after its restart; instances go on";
        add(Effect::RestartAgent, why, &["ports"]);
    }
    if was.witness != *witness {
        match witness {
            true => add(Effect::Drain, "a witness runs nothing", &["witness"]),
            false => add(Effect::Live, "resources may be placed on it", &["witness"]),
        }
    }
    if was.voter != *voter {
        match voter {
            true => add(Effect::GainVote, "once it has caught up with the log", &["voter"]),
            false => add(Effect::LoseVote, "decisions no longer wait for it", &["voter"]),
        }
    }
    if was.domains != *domains {
        let why = "placement and `risk` look at it by its new failure domains";
        add(Effect::Live, why, &["site", "rack", "power"]);
    }
}
