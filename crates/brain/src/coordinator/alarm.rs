//! What is not as redundant as it should be, and what changed since the last look.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use model::report::{InstancePhase, InstanceStatus};
use model::spec::Standby;
use model::state::{ClusterState, Holder};
use model::vault::{ChainRecord, RepositoryId};
use model::{ClusterMs, ReplicaId, ResourceName};
use serde::{Deserialize, Serialize};

use super::{Group, Now};
use crate::placement::{NodeHealth, NodeView, View};

/// Names an alarm: what it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// One more lost voter would end the quorum.
    Quorum,
    /// A new generation waits for what the ones before may hold.
    Generation,
    /// This resource has no place to go.
    Resource(String),
    /// This repository of the vault has two histories.
    Repository(String),
    /// The certificate of this node ends soon, or opens nothing any more.
    Certificate(String),
    /// The cluster's authority ends soon.
    Authority,
    /// A rotation of the authority is not finished for long.
    Rotation,
}

impl Subject {
    /// Whether it is about certificates rather than redundancy.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        matches!(self, Subject::Certificate(_) | Subject::Authority | Subject::Rotation)
    }
}

/// A change of redundancy, for hooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What it is about.
    pub subject: Subject,
    /// Lost, or back.
    pub lost: bool,
    /// In words.
    pub what: String,
}

/// Alarms that are raised, and changes not fetched yet.
#[derive(Debug, Clone, Default)]
pub struct Alarms {
    raised: BTreeMap<Subject, String>,
    changes: Vec<Change>,
    rests_on: Option<RestsOn>,
}

/// All that alarms follow from. As long as it is the same, so are they.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RestsOn {
    /// The control state, and its time.
    index: u64,
    now: ClusterMs,
    /// Certificates are told of in hours.
    wall_s: u64,
    voters: BTreeSet<ReplicaId>,
    nodes: Vec<Seen>,
}

/// What of a node alarms follow from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    replica: ReplicaId,
    health: NodeHealth,
    ready: bool,
    /// Boot and number of its newest report.
    report: Option<(u64, u64)>,
}

impl RestsOn {
    fn new(at: Now, state: &ClusterState, view: &View, group: &Group) -> RestsOn {
        let node = |seen: &NodeView| {
            let report = seen.report.as_ref().map(|report| (report.boot, report.number));
            let NodeView { replica, health, ready, .. } = *seen;
            Seen { replica, health, ready, report }
        };
        RestsOn {
            index: state.index,
            now: state.now,
            wall_s: at.wall_ms / 1_000,
            voters: group.voters.clone(),
            nodes: view.values().map(node).collect(),
        }
    }
}

const HOUR_S: u64 = 3_600;
const DAY_S: u64 = 24 * HOUR_S;
/// A certificate that ends within this is an alarm, in seconds: three days after it was due.
const CERTIFICATE_ALARM_S: u64 = 7 * DAY_S;
/// An authority that ends within this is an alarm, in seconds.
const AUTHORITY_ALARM_S: u64 = 90 * DAY_S;
/// A rotation that is under way for longer is an alarm, in milliseconds.
const ROTATION_ALARM_MS: u64 = 24 * 3_600_000;

/// Most changes kept until they are fetched; older ones are dropped, the alarms themselves stay.
const CHANGES_MAX: usize = 128;

impl Alarms {
    pub(super) fn watch(&mut self, at: Now, state: &ClusterState, view: &View, group: &Group) {
        // Looked at with every heartbeat: most looks find what the last one found.
        let rests_on = RestsOn::new(at, state, view, group);
        if self.rests_on.as_ref() == Some(&rests_on) {
            return;
        }
        let mut now = certificates(state, view, rests_on.wall_s);
        self.rests_on = Some(rests_on);
        if let Some(what) = quorum(state, view, group) {
            now.insert(Subject::Quorum, what);
        }
        if let Some(what) = generation(state) {
            now.insert(Subject::Generation, what);
        }
        for name in state.spec.resources.keys() {
            if let Some(what) = resource(state, view, name) {
                now.insert(Subject::Resource(String::from(name.as_str())), what);
            }
        }
        for (id, chain) in &state.repositories {
            if let Some(what) = forked(id, chain) {
                now.insert(Subject::Repository(id.to_string()), what);
            }
        }
        self.compare(now);
    }

    fn compare(&mut self, now: BTreeMap<Subject, String>) {
        let subjects: BTreeSet<Subject> = self.raised.keys().chain(now.keys()).cloned().collect();
        for subject in subjects {
            let change = match (self.raised.get(&subject), now.get(&subject)) {
                (None, Some(what)) => Change { subject, lost: true, what: what.clone() },
                (Some(what), None) => {
                    Change { subject, lost: false, what: format!("over: {what}") }
                }
                _ => continue,
            };
            if self.changes.len() < CHANGES_MAX {
                self.changes.push(change);
            }
        }
        self.raised = now;
    }

    /// Alarms that are raised at the moment, in words.
    pub fn raised(&self) -> impl Iterator<Item = (&Subject, &str)> {
        self.raised.iter().map(|(subject, what)| (subject, what.as_str()))
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        core::mem::take(&mut self.changes)
    }
}

fn quorum(state: &ClusterState, view: &View, group: &Group) -> Option<String> {
    let voters = group.voters.len();
    let up = state
        .members
        .iter()
        .filter(|(_, member)| group.voters.contains(&member.replica))
        .filter(|(node, _)| view.get(*node).is_some_and(|s| s.health == NodeHealth::Healthy))
        .count();
    let needed = voters / 2 + 1;
    (up <= needed).then(|| {
        format!("{up} of {voters} voters are up and {needed} are needed: none more may be lost")
    })
}

fn generation(state: &ClusterState) -> Option<String> {
    let wait = state.wait_out.as_ref()?;
    Some(format!(
        "generation {} places nothing yet: leases of an earlier one may run on for {} s after its \
         coordinator took office",
        state.generation,
        wait.ms.div_ceil(1_000)
    ))
}

/// Certificates that end soon, by what the nodes say of theirs. A certificate renews itself with a
/// third of its life left: one that is near its end could not, for days.
fn certificates(state: &ClusterState, view: &View, wall_s: u64) -> BTreeMap<Subject, String> {
    let mut raised = BTreeMap::new();
    let said = |seen: &NodeView| seen.report.as_deref()?.identity.clone();
    let said: Vec<_> = view.iter().filter_map(|(node, seen)| Some((node, said(seen)?))).collect();
    for (node, identity) in &said {
        if let Some(left) = near(identity.ends_s, wall_s, CERTIFICATE_ALARM_S) {
            let what = format!(
                "the certificate of {node} {left} and could not be renewed: look at its agent's \
                 log; while the others know it as a member it goes on taking part"
            );
            raised.insert(Subject::Certificate(String::from(node.as_str())), what);
        }
    }
    let first = said.iter().map(|(_, identity)| identity.authority_ends_s).min();
    if let Some(left) = first.and_then(|end| near(end, wall_s, AUTHORITY_ALARM_S)) {
        let what = format!("the cluster's authority {left}: `backstay authority rotate`");
        raised.insert(Subject::Authority, what);
    }
    for node in state.trust.shut_out.iter().filter(|node| state.members.contains_key(*node)) {
        let what = format!(
            "{node} was left behind by a rotation of the authority: set its data directory aside \
             and let it join anew (`backstay token --node {node}`), or `backstay forget {node}`"
        );
        raised.insert(Subject::Certificate(String::from(node.as_str())), what);
    }
    let open = state.trust.rotation.as_ref().map(|rotation| rotation.began);
    if open.is_some_and(|began| state.now.since(began) > ROTATION_ALARM_MS) {
        let what = "a rotation of the authority is not finished since yesterday or longer: \
                    `backstay authority show`";
        raised.insert(Subject::Rotation, String::from(what));
    }
    raised
}

/// That something has ended or ends within `alarm_s`, in words.
fn near(ends_s: u64, wall_s: u64, alarm_s: u64) -> Option<String> {
    match ends_s.checked_sub(wall_s) {
        None => Some(format!("ended {} h ago", (wall_s - ends_s) / HOUR_S)),
        Some(left) if left < 2 * DAY_S => Some(format!("ends in {} h", left / HOUR_S)),
        Some(left) if left < alarm_s => Some(format!("ends in {} days", left / DAY_S)),
        Some(_) => None,
    }
}

fn forked(id: &RepositoryId, chain: &ChainRecord) -> Option<String> {
    let fork = chain.forks.first()?;
    let more = match (chain.forks.len() - 1) as u64 + chain.forks_more {
        0 => String::new(),
        more => format!(" ({more} more: `backstay vault heads`)"),
    };
    Some(format!(
        "repository {id} has two histories: {} showed record {}, which can't go with record {} \
         that is remembered{more}. Backups were removed or replaced, or an old copy was put back. \
         Compare it with another copy, then end this with `backstay vault heads --clear-fork \
         {id}/{1}`, or take the other history with `--accept`",
        fork.by, fork.found, fork.known
    ))
}

/// Whether its node told, after it was active there, that it is not.
fn has_ended(view: &View, holder: &Holder, name: &ResourceName) -> bool {
    let report = view.get(&holder.node).and_then(|seen| seen.report.as_deref());
    report.is_some_and(|report| {
        let its = |i: &InstanceStatus| i.resource == *name && i.phase == InstancePhase::Active;
        report.replica == holder.replica && !report.instances.iter().any(its)
    })
}

fn resource(state: &ClusterState, view: &View, name: &ResourceName) -> Option<String> {
    let spec = state.spec.resources.get(name)?;
    let held = state.resources.get(name)?;
    if held.quarantine.is_some() {
        return Some(format!("{name} is quarantined and runs nowhere"));
    }
    if let Some(holder) = held.holder.as_ref().filter(|h| h.stuck) {
        return Some(format!(
            "{name} can't be stopped on {} and its machine was not rebooted for it: nobody takes \
             over until it is gone; reboot or power off {0}, then say so with `backstay failover \
             {name} --confirm-stopped {0}` if it does not come back",
            holder.node
        ));
    }
    let Some(holder) = &held.holder else { return Some(format!("{name} runs nowhere")) };
    if state.in_maintenance(name) && holder.active && has_ended(view, holder, name) {
        return Some(format!(
            "{name} ended on {} and is in maintenance: nothing starts it before that is over",
            holder.node
        ));
    }
    let spare = view.iter().any(|(node, seen)| {
        *node != holder.node
            && seen.health == NodeHealth::Healthy
            && seen.ready
            && crate::placement::may_run(state, name, node).is_ok()
            && (spec.standby == Standby::Cold || seen.standby_ready(name))
    });
    (!spare).then(|| format!("{name} has nowhere to go if {} is lost", holder.node))
}
