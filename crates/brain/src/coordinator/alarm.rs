//! What is not as redundant as it should be, and what changed since the last look.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use model::spec::Standby;
use model::state::ClusterState;
use serde::{Deserialize, Serialize};

use super::Group;
use crate::placement::{NodeHealth, View};

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
}

/// Most changes kept until they are fetched; older ones are dropped, the alarms themselves stay.
const CHANGES_MAX: usize = 128;

impl Alarms {
    pub(super) fn watch(&mut self, state: &ClusterState, view: &View, group: &Group) {
        let mut now = BTreeMap::new();
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
        self.compare(now);
    }

    fn compare(&mut self, now: BTreeMap<Subject, String>) {
        let subjects: BTreeSet<Subject> = self.raised.keys().chain(now.keys()).cloned().collect();
        for subject in subjects {
            let change = match (self.raised.get(&subject), now.get(&subject)) {
                (None, Some(what)) => Change { subject, lost: true, what: what.clone() },
                (Some(what), None) => Change { subject, lost: false, what: what.clone() },
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

fn resource(state: &ClusterState, view: &View, name: &model::ResourceName) -> Option<String> {
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
    let spare = view.iter().any(|(node, seen)| {
        *node != holder.node
            && seen.health == NodeHealth::Healthy
            && seen.ready
            && crate::placement::may_run(state, name, node).is_ok()
            && (spec.standby == Standby::Cold || seen.standby_ready(name))
    });
    (!spare).then(|| format!("{name} has nowhere to go if {} is lost", holder.node))
}
