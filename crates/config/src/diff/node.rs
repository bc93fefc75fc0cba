//! What changes for nodes.

use model::spec::NodeSpec;
use model::{ClusterSpec, NodeName};

use super::{Change, Diff, Effect, Now, Refused, key_changes};
use crate::print;

/// Compares all nodes.
pub(super) fn compare(old: &ClusterSpec, new: &ClusterSpec, now: &Now, diff: &mut Diff) {
    for (name, node) in &old.nodes {
        match new.nodes.get(name) {
            Some(is) => both(old, new, name, node, is, diff),
            None if now.joined.contains(name) => diff.refused.push(joined(name)),
            None => {
                let why = "it has not joined: only its place is given up";
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

/// A member is put out by `forget` alone: a line that is missing in a file must not do it.
fn joined(name: &NodeName) -> Refused {
    Refused {
        message: format!("node \"{name}\" has joined, and this leaves it out"),
        help: format!(
            "`backstay drain {name} --for 1h` moves what runs there, `backstay forget {name}` \
             puts it out for good; then apply this. Or put its [[node]] back"
        ),
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
