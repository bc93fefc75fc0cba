//! The judge: stores that the active instances write to, each write with its epoch.
//!
//! A store knows nothing of clusters. It refuses an epoch below the highest it accepted, as any
//! fenced database or venue does, and finds whoever writes under an epoch that is another's (S1).

use std::collections::BTreeMap;

use brain::invariants::Violation;
use model::Epoch;

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Taken.
    Accepted,
    /// Its epoch has passed.
    Stale,
}

/// One store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    highest: Epoch,
    /// Who wrote first under each epoch: node and activation.
    holders: BTreeMap<Epoch, (usize, u64)>,
    accepted: u64,
}

impl Store {
    /// A write arrives.
    ///
    /// # Errors
    /// The epoch belongs to another holder.
    pub(crate) fn write(
        &mut self,
        node: usize,
        activation: u64,
        epoch: Epoch,
    ) -> Result<Judged, Violation> {
        if epoch < self.highest {
            return Ok(Judged::Stale);
        }
        let holder = *self.holders.entry(epoch).or_insert((node, activation));
        if holder != (node, activation) {
            let what = format!(
                "epoch {epoch} was written under by node {} (activation {}) and by node {node} \
                 (activation {activation})",
                holder.0, holder.1
            );
            return Err(Violation { rule: "S1", what });
        }
        self.highest = epoch;
        self.accepted += 1;
        Ok(Judged::Accepted)
    }

    /// How many writes it took.
    #[must_use]
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }
}
