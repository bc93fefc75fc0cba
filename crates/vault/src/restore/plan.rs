//! What a dry run says that the restore would change: decided by the code that changes it.

use std::collections::{BTreeMap, BTreeSet};

/// Changes that a plan lists, the first by path; more are counted.
pub const CHANGES_MAX: usize = 1000;

/// What happens to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// What is there is removed: it is of another kind, or shared with other names.
    Remove,
    /// What is there is moved aside.
    SetAside,
    /// It is not there, or not any more, and is made.
    Make,
    /// A file is there, and bytes of it are written.
    Rewrite,
    /// It is right but for its owner, rights, time or attributes.
    Adjust,
}

impl Action {
    /// For people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Action::Remove => "remove",
            Action::SetAside => "set aside",
            Action::Make => "make",
            Action::Rewrite => "rewrite",
            Action::Adjust => "adjust",
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The path below the target; empty for the target itself.
    pub path: Vec<u8>,
    /// What happens to it.
    pub action: Action,
}

/// What a restore would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The first changes by path.
    pub listed: BTreeSet<Change>,
    /// How many there are in all, by what happens.
    pub counts: BTreeMap<Action, u64>,
}

impl Plan {
    pub(super) fn add(&mut self, path: &[u8], action: Action) {
        *self.counts.entry(action).or_default() += 1;
        self.listed.insert(Change { path: path.to_vec(), action });
        if self.listed.len() > CHANGES_MAX {
            self.listed.pop_last();
        }
    }

    /// How many changes there are beyond the list.
    pub fn more(&self) -> u64 {
        self.counts.values().sum::<u64>().saturating_sub(self.listed.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_lists_the_first_changes_and_counts_the_others() {
        let mut plan = Plan::default();
        for number in (0..CHANGES_MAX + 7).rev() {
            plan.add(format!("{number:06}").as_bytes(), Action::Make);
        }
        assert_eq!((plan.listed.len(), plan.more()), (CHANGES_MAX, 7));
        assert_eq!(plan.listed.last().unwrap().path, format!("{:06}", CHANGES_MAX - 1).as_bytes());
        assert_eq!(plan.counts[&Action::Make], CHANGES_MAX as u64 + 7);
    }
}
