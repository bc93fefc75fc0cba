//! Whether this instance may take and acknowledge orders: its role and its lease together.
//!
//! The role is what the launcher last said; the lease is what the cluster grants, with an end
//! on the boot-time clock. Both must hold, so a role that nobody could take back (a frozen
//! process, a dead launcher) is worth nothing once the lease has ended.

use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{Epoch, Moment};

use super::records::now;

/// What the gate asks of a lease.
pub trait Lease: Send + Sync {
    /// When the lease of the active role under this epoch ends; `None` where there is none.
    fn end(&self, epoch: Epoch) -> Option<Moment>;
}

/// What this instance was last told to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Listens and answers `not-active`.
    Standby,
    /// Takes orders under this epoch.
    Active(Epoch),
    /// Takes no more, but may still acknowledge what it has in hand under this epoch.
    Draining(Epoch),
}

/// Role and lease.
pub struct Gate {
    role: Mutex<Role>,
    lease: Box<dyn Lease>,
    heedless: bool,
}

impl Gate {
    /// A gate that begins in this role.
    #[must_use]
    pub fn new(role: Role, lease: Box<dyn Lease>) -> Gate {
        Gate { role: Mutex::new(role), lease, heedless: false }
    }

    /// A planted fault: a gate that heeds neither the lease nor the store's refusals, as a
    /// program does that knows of neither. Only fencing from outside stops it.
    #[must_use]
    pub fn heedless(role: Role, lease: Box<dyn Lease>) -> Gate {
        Gate { heedless: true, ..Gate::new(role, lease) }
    }

    fn lock(&self) -> MutexGuard<'_, Role> {
        // Nothing that holds this lock can panic.
        self.role.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this instance was last told to be.
    #[must_use]
    pub fn role(&self) -> Role {
        *self.lock()
    }

    /// Changes the role.
    pub fn set(&self, role: Role) {
        *self.lock() = role;
    }

    /// Steps down from this epoch, because the store has seen a higher one.
    pub fn burn(&self, epoch: Epoch) {
        let mut role = self.lock();
        if !self.heedless
            && matches!(*role, Role::Active(held) | Role::Draining(held) if held == epoch)
        {
            *role = Role::Standby;
        }
    }

    /// The epoch to take an order under, where this instance may take one.
    #[must_use]
    pub fn may_take(&self) -> Option<Epoch> {
        let Role::Active(epoch) = self.role() else { return None };
        self.covered(epoch).map(|_| epoch)
    }

    /// The moment at which an order of this epoch may be acknowledged: now, or never.
    #[must_use]
    pub fn may_acknowledge(&self, epoch: Epoch) -> Option<Moment> {
        match self.role() {
            Role::Active(held) | Role::Draining(held) if held == epoch => self.covered(epoch),
            _ => None,
        }
    }

    /// The lease is read before the clock: a pause between the two makes the answer "no".
    fn covered(&self, epoch: Epoch) -> Option<Moment> {
        if self.heedless {
            return Some(now());
        }
        let end = self.lease.end(epoch)?;
        let moment = now();
        (moment < end).then_some(moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Until(Epoch, Moment);

    impl Lease for Until {
        fn end(&self, epoch: Epoch) -> Option<Moment> {
            (epoch == self.0).then_some(self.1)
        }
    }

    const SEVEN: Epoch = Epoch { generation: 1, counter: 7 };
    const EIGHT: Epoch = Epoch { generation: 1, counter: 8 };
    const NEVER: Moment = Moment(u64::MAX);

    fn check(role: Role, lease: Until, takes: bool, acknowledges: bool) {
        let gate = Gate::new(role, Box::new(lease));
        assert_eq!(gate.may_take().is_some(), takes, "takes as {role:?}");
        assert_eq!(gate.may_acknowledge(SEVEN).is_some(), acknowledges, "as {role:?}");
    }

    #[test]
    fn role_epoch_and_lease_must_all_hold() {
        check(Role::Active(SEVEN), Until(SEVEN, NEVER), true, true);
        check(Role::Standby, Until(SEVEN, NEVER), false, false);
        check(Role::Active(SEVEN), Until(SEVEN, Moment::ZERO), false, false);
        check(Role::Active(SEVEN), Until(EIGHT, NEVER), false, false);
        check(Role::Active(EIGHT), Until(EIGHT, NEVER), true, false);
        check(Role::Draining(SEVEN), Until(SEVEN, NEVER), false, true);
    }

    #[test]
    fn a_burnt_epoch_ends_its_own_role_only() {
        let gate = Gate::new(Role::Active(EIGHT), Box::new(Until(EIGHT, NEVER)));
        gate.burn(SEVEN);
        assert_eq!(gate.role(), Role::Active(EIGHT));
        gate.burn(EIGHT);
        assert_eq!(gate.role(), Role::Standby);
    }

    #[test]
    fn a_heedless_gate_stays_open_until_its_role_is_taken() {
        let lapsed = Box::new(Until(SEVEN, Moment::ZERO));
        let gate = Gate::heedless(Role::Active(SEVEN), lapsed);
        gate.burn(SEVEN);
        assert!(gate.may_take().is_some());
        gate.set(Role::Standby);
        assert!(gate.may_take().is_none());
    }
}
