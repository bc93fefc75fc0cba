//! What the launcher does not do: it fails, is busy, or refuses an epoch.

use brain::member::{InstanceEvent, Undone};
use model::Epoch;
use model::report::Failure;

use crate::cluster::resource_name;
use crate::plan::Class;
use crate::world::World;

impl World {
    pub(crate) fn refuse(&mut self, n: usize, r: usize, failure: Failure, runs: bool) {
        let resource = resource_name(r);
        self.tell(n, InstanceEvent::Refused { resource, failure, runs });
    }

    /// Some services fail to start, or to be promoted, now and then.
    pub(crate) fn misbehaves(&mut self, kind: usize) -> bool {
        let failing = self.plan.class == Class::Swarm && !self.healed;
        failing && self.plan.faults.len().is_multiple_of(kind) && self.rng.permille(30)
    }

    /// The launcher is at something else, now and then.
    pub(crate) fn is_busy(&mut self, n: usize, r: usize, what: Undone) -> bool {
        let at_times = self.plan.class == Class::Swarm && !self.healed;
        let busy = at_times && self.plan.faults.len().is_multiple_of(2) && self.rng.permille(30);
        if busy {
            self.coverage.hit("launcher-busy");
            self.tell(n, InstanceEvent::NotNow(resource_name(r), what));
        }
        busy
    }

    /// Nothing is done: an old epoch is refused for good, anything else may be asked again.
    pub(crate) fn decline(&mut self, n: usize, r: usize, epoch: Epoch, what: Undone) {
        let resource = resource_name(r);
        self.tell(
            n,
            if epoch <= self.nodes[n].seen[r] {
                InstanceEvent::EpochRefused(resource, epoch, what)
            } else {
                InstanceEvent::NotNow(resource, what)
            },
        );
    }
}
