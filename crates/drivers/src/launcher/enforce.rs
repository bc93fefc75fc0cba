//! The launcher as second line: active instances are stopped without a living guard, and when
//! the lease ends and the guard has not done it. Standbys are left alone.

use model::{Moment, Span};

use super::core::Launcher;
use super::instance::{Instance, Stage};
use crate::lease::Beat;
use crate::protocol::{Role, Why};

/// What the launcher has seen of the guard's beat.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GuardWatch {
    beat: Moment,
    /// When the launcher last saw another value.
    changed: Moment,
    /// When the launcher last looked.
    looked: Moment,
}

impl GuardWatch {
    /// A guard has greeted: its life is judged from here on.
    pub(super) fn begin(&mut self, now: Moment) {
        *self = GuardWatch { beat: Moment::ZERO, changed: now, looked: now };
    }

    /// Looks; true where the guard shows no life for longer than `limit` while the launcher
    /// itself was running. A machine that stood still as a whole proves nothing about the guard.
    fn is_silent(&mut self, beat: Moment, now: Moment, limit: Span) -> bool {
        if beat != self.beat || now.since(self.looked) > limit {
            (self.beat, self.changed) = (beat, now);
        }
        self.looked = now;
        now.since(self.changed) > limit
    }
}

impl Launcher {
    /// How long before the lease's end the second line begins: later than the guard, and early
    /// enough that the instance is gone by the end.
    fn second_line(&self) -> Span {
        Span(self.options.timers.stopping.0 / 2)
    }

    fn has_active(&self) -> bool {
        self.instances.values().any(|i| i.role == Role::Active || i.armed)
    }

    /// Whether the connected guard's last beat is old while nothing is active, so that nobody
    /// watches it ([`Launcher::enforce`]) and its loss would cost nothing.
    pub(super) fn is_guard_missed(&self, now: Moment) -> bool {
        let age = now.since(self.page.last_beat(Beat::Guard));
        self.guard.is_up() && !self.has_active() && age > self.beat_limit()
    }

    /// Stops active instances that nothing covers.
    pub(super) fn enforce(&mut self, now: Moment) {
        if self.guard.is_up() && self.has_active() {
            let beat = self.page.last_beat(Beat::Guard);
            let limit = self.beat_limit();
            if self.watch.is_silent(beat, now, limit) {
                self.on_guard_lost("it shows no life");
            }
        }
        let (margin, unguarded) = (self.second_line(), !self.guard.is_up());
        let why = if unguarded { Why::GuardLost } else { Why::LeaseEnd };
        let uncovered = |i: &Instance| {
            unguarded || (!self.options.plants.no_fencing && !self.covers(i, margin))
        };
        let hit = |i: &&Instance| {
            i.role == Role::Active && !matches!(i.stage, Stage::Killing { .. }) && uncovered(i)
        };
        let ids: Vec<u64> = self.instances.values().filter(hit).map(|i| i.id).collect();
        for id in ids {
            tracing::warn!(?why, "an active instance is stopped");
            self.kill(id, why.clone());
        }
    }

    /// When `enforce` must look again; never while nothing is active.
    pub(super) fn enforce_wake(&self, now: Moment) -> Option<Moment> {
        if !self.has_active() {
            return None;
        }
        let look = now + Span(self.beat_limit().0 / 2);
        let end = self.page.lease_end(now, self.options.longest_lease);
        Some(end.map_or(look, |end| {
            // What is being killed already does not hurry the next look.
            let due = end.before(self.second_line());
            if due > now { look.min(due) } else { look }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_while_the_launcher_itself_ran_counts() {
        let limit = Span(100);
        let mut watch = GuardWatch::default();
        watch.begin(Moment(1_000));
        assert!(!watch.is_silent(Moment(5), Moment(1_050), limit));
        assert!(!watch.is_silent(Moment(5), Moment(1_100), limit));
        assert!(watch.is_silent(Moment(5), Moment(1_160), limit));
        assert!(!watch.is_silent(Moment(6), Moment(1_170), limit), "it lives again");
        assert!(!watch.is_silent(Moment(6), Moment(9_000), limit), "everything stood still");
        assert!(!watch.is_silent(Moment(6), Moment(9_090), limit));
        assert!(watch.is_silent(Moment(6), Moment(9_180), limit));
    }
}
