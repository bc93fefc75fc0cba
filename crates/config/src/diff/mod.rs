//! What `apply` would do: the difference of two specifications as effects on nodes and resources,
//! in words and as data. It plans nothing that the coordinator decides by what runs at that
//! moment; where that matters, it says "may".

mod node;
mod resource;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::{ClusterSpec, NodeName, ResourceName};
use serde::Serialize;

use crate::print::{self, Section};

/// Where the active instances are now, as far as it is known.
pub type Placed = BTreeMap<ResourceName, NodeName>;

/// What is known of the cluster as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Now {
    /// Where the active instances are: makes "may move" exact for the resources it names.
    pub placed: Placed,
    /// The nodes that have joined.
    pub joined: BTreeSet<NodeName>,
}

/// What a change leads to, the gentlest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It applies in place; nothing stops.
    Live,
    /// Standbys are started.
    StartStandby,
    /// Standbys are stopped.
    StopStandby,
    /// A node may join.
    Join,
    /// A node gets a vote.
    GainVote,
    /// A node loses its vote.
    LoseVote,
    /// Connections to a node are made anew.
    Reconnect,
    /// The agent of a node is restarted; what runs there goes on.
    RestartAgent,
    /// A node leaves the cluster.
    Leave,
    /// A resource is started.
    Start,
    /// Its instances are restarted.
    Restart,
    /// The active instance moves to another node if it is where it may not stay.
    MayMove,
    /// The active instance moves to another node.
    Move,
    /// What runs on a node moves away first.
    Drain,
    /// A node can't be reached for a while.
    CutOff,
    /// It is stopped for good.
    Stop,
}

impl Effect {
    /// Whether the service is away for a moment.
    #[must_use]
    pub const fn interrupts(self) -> bool {
        matches!(
            self,
            Effect::Restart
                | Effect::MayMove
                | Effect::Move
                | Effect::Drain
                | Effect::CutOff
                | Effect::Stop
        )
    }

    /// As words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Effect::Live => "changes in place",
            Effect::StartStandby => "starts standbys",
            Effect::StopStandby => "stops standbys",
            Effect::Join => "may join",
            Effect::GainVote => "gains a vote",
            Effect::LoseVote => "loses its vote",
            Effect::Reconnect => "reconnects",
            Effect::RestartAgent => "restarts its agent",
            Effect::Leave => "leaves",
            Effect::Start => "starts",
            Effect::Restart => "restarts",
            Effect::MayMove => "may move",
            Effect::Move => "moves",
            Effect::Drain => "is drained",
            Effect::CutOff => "is cut off",
            Effect::Stop => "stops",
        }
    }
}

/// A value that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    /// The key, as in the file.
    pub key: String,
    /// The old value; absent where there was none.
    pub old: Option<String>,
    /// The new value; absent where there is none.
    pub new: Option<String>,
}

/// What happens to one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `cluster`, `node`, `resource` or `hook`.
    pub subject: &'static str,
    /// Its name.
    pub name: String,
    /// What happens.
    pub effect: Effect,
    /// Whether the service is away for a moment.
    pub interrupts: bool,
    /// Why, in words.
    pub why: String,
    /// The values that lead to it.
    pub keys: Vec<KeyChange>,
}

impl Change {
    fn new(subject: &'static str, name: &str, effect: Effect, why: impl Into<String>) -> Change {
        Change {
            subject,
            name: name.to_string(),
            effect,
            interrupts: effect.interrupts(),
            why: why.into(),
            keys: Vec::new(),
        }
    }

    fn keys(mut self, keys: Vec<KeyChange>) -> Change {
        self.keys = keys;
        self
    }
}

/// Why a specification can't follow another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// The difference of two specifications.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Why it can't be applied; empty where it can.
    pub refused: Vec<Refused>,
    /// What would happen.
    pub changes: Vec<Change>,
}

impl Diff {
    /// Whether nothing would happen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.refused.is_empty() && self.changes.is_empty()
    }

    /// Whether some service would be away for a moment.
    #[must_use]
    pub fn interrupts(&self) -> bool {
        self.changes.iter().any(|change| change.interrupts)
    }
}

/// Compares the committed specification with a new one.
#[must_use]
pub fn diff(old: &ClusterSpec, new: &ClusterSpec, now: &Now) -> Diff {
    let mut diff = Diff::default();
    refusals(old, new, &mut diff);
    cluster(old, new, &mut diff);
    node::compare(old, new, now, &mut diff);
    resource::compare(old, new, &now.placed, &mut diff);
    hooks(old, new, &mut diff);
    diff
}

fn refusals(old: &ClusterSpec, new: &ClusterSpec, diff: &mut Diff) {
    let mut refuse = |message: String, help: &str| {
        diff.refused.push(Refused { message, help: help.to_string() });
    };
    if old.name != new.name {
        refuse(
            format!("the cluster is named \"{}\", not \"{}\"", old.name, new.name),
            "a cluster's name can't change: its certificates and log carry it. Is this the file \
             of another cluster?",
        );
    }
    let stays = |name: &&NodeName| new.nodes.get(*name).is_some_and(|node| node.voter);
    let voters = old.voters().count();
    let staying = old.voters().filter(stays).count();
    if voters > 0 && staying == 0 {
        refuse(
            format!("none of the {voters} voters would stay one: nobody could hand over"),
            "add the new voters in one `apply`, wait until they have caught up, then remove the \
             old ones",
        );
    }
    let machines = |name: &&NodeName| old.nodes.get(*name).is_some_and(|node| !node.witness);
    if staying > 0 && old.voters().filter(stays).filter(machines).count() == 0 {
        refuse(
            "of the voters, only witnesses would stay: they can't coordinate".to_string(),
            "keep at least one voter that is no witness until the new ones have caught up",
        );
    }
}

fn cluster(old: &ClusterSpec, new: &ClusterSpec, diff: &mut Diff) {
    if old.profile != new.profile {
        let (was, is) = (old.timers().lease, new.timers().lease);
        let why = format!(
            "timers change from profile \"{}\" to \"{}\" (lease {was} to {is}); each voter \
             records a longer promise before it counts",
            old.profile, new.profile
        );
        let keys = key_changes(&print::cluster(old), &print::cluster(new));
        let keys = keys.into_iter().filter(|change| change.key == "profile").collect();
        diff.changes.push(Change::new("cluster", &new.name, Effect::Live, why).keys(keys));
    }
}

fn hooks(old: &ClusterSpec, new: &ClusterSpec, diff: &mut Diff) {
    if old.hooks != new.hooks {
        let why = format!("there are {} of them, after {}", new.hooks.len(), old.hooks.len());
        diff.changes.push(Change::new("hook", "all", Effect::Live, why));
    }
}

/// The values that differ between two things of one kind. Keys of a nested table carry its name.
fn key_changes(old: &[Section], new: &[Section]) -> Vec<KeyChange> {
    let flat = |sections: &[Section]| -> Vec<(String, String)> {
        let named = sections.iter().enumerate().flat_map(|(index, section)| {
            let prefix = if index == 0 { "" } else { "recovery." };
            section.pairs.iter().map(move |(key, value)| (format!("{prefix}{key}"), value.clone()))
        });
        named.collect()
    };
    let (old, new) = (flat(old), flat(new));
    let find = |list: &[(String, String)], key: &str| {
        list.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone())
    };
    let mut keys: Vec<&String> = old.iter().chain(&new).map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .map(|key| KeyChange { key: key.clone(), old: find(&old, key), new: find(&new, key) })
        .filter(|change| change.old != change.new)
        .collect()
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for refused in &self.refused {
            writeln!(f, "refused: {}\n  help: {}", refused.message, refused.help)?;
        }
        for change in &self.changes {
            let mark = if change.interrupts { "!" } else { " " };
            let effect = change.effect.as_str();
            writeln!(f, "{mark} {} \"{}\" {effect}: {}", change.subject, change.name, change.why)?;
            for KeyChange { key, old, new } in &change.keys {
                let show = |value: &Option<String>| {
                    value.as_deref().map_or("nothing".to_string(), |v| v.replace('\n', ""))
                };
                writeln!(f, "      {key}: {} → {}", show(old), show(new))?;
            }
        }
        if self.is_empty() {
            return writeln!(f, "nothing changes");
        }
        let away = self.changes.iter().filter(|change| change.interrupts).count();
        writeln!(
            f,
            "{} change{}, {away} can interrupt a service{}",
            self.changes.len(),
            if self.changes.len() == 1 { "" } else { "s" },
            if self.refused.is_empty() { "" } else { "; refused" }
        )
    }
}
