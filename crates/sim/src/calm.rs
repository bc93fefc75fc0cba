//! Decisions come to an end: a coordinator that takes back what it has just decided, again and
//! again, breaks no rule of the leases and yet serves nobody.

use brain::invariants::Violation;
use model::ResourceName;

use crate::plan::SECOND;
use crate::world::World;

/// Most assignments of one resource within a second.
const ASSIGNED_MAX: usize = 30;

impl World {
    /// Nobody gives a resource away again and again without end (L3).
    pub(crate) fn check_calm(&mut self, resource: &ResourceName) {
        let now = self.now;
        let times = self.judge.assigned.entry(resource.clone()).or_default();
        times.push_back(now);
        times.retain(|at| now - at <= SECOND);
        if times.len() > ASSIGNED_MAX {
            let what = format!("{resource} was given away {} times within a second", times.len());
            self.fail(Violation { rule: "L3", what });
        }
    }
}
