//! A profile is two numbers, heartbeat interval and lease; every other timer follows from them.
//!
//! DESIGN.md, "Time, leases, epochs", gives the table. Operators choose a profile and never keep
//! two timers consistent by hand; `backstay check` prints what is derived here.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Span;

/// How far two nodes' clocks may drift apart, in parts per million: 1,000 is twice the worst
/// oscillator that NTP still disciplines (RFC 5905 assumes 500 ppm each).
pub const DRIFT_PPM: u64 = 1_000;

/// Named timing for a kind of environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// One rack, quiet machines, real-time priority granted.
    Fast,
    /// One site, own machines.
    Lan,
    /// Rented machines: live migration, stolen processor time, slow fsync. Where none is named.
    #[default]
    Cloud,
    /// Several sites.
    Wan,
}

impl Profile {
    /// All profiles, fastest first.
    pub const ALL: [Profile; 4] = [Profile::Fast, Profile::Lan, Profile::Cloud, Profile::Wan];

    /// Its name in `cluster.toml`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Profile::Fast => "fast",
            Profile::Lan => "lan",
            Profile::Cloud => "cloud",
            Profile::Wan => "wan",
        }
    }

    /// The timers of this profile.
    #[must_use]
    pub const fn timers(self) -> Timers {
        match self {
            Profile::Fast => Timers::derive(10, 150, 15),
            Profile::Lan => Timers::derive(20, 500, 30),
            Profile::Cloud => Timers::derive(100, 2_000, 100),
            Profile::Wan => Timers::derive(250, 8_000, 200),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl core::str::FromStr for Profile {
    type Err = &'static str;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Profile::ALL
            .into_iter()
            .find(|p| p.as_str() == name)
            .ok_or("the profiles are fast, lan, cloud and wan")
    }
}

/// Every timer of the lease protocol. Letters are DESIGN.md's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// `h`: the heartbeat interval.
    pub heartbeat: Span,
    /// `L = P + G`: the lease.
    pub lease: Span,
    /// `P`: the voters' promise.
    pub promise: Span,
    /// `G`: the grace: election, round trip, guard's stopping time and drift must fit in it.
    pub grace: Span,
    /// `k`: the guard's stopping time.
    pub stopping: Span,
    /// `ρ`: drift in parts per million.
    pub drift_ppm: u64,
    /// How often the coordinator commits a barrier, proof that its disk and quorum still work.
    pub barrier_every: Span,
    /// How old the newest committed barrier may be before rounds stop.
    pub barrier_limit: Span,
    /// How long without a sign of life from its own Raft thread before rounds stop.
    pub stall_limit: Span,
    /// How long a coordinator that stepped down stays out of elections.
    pub back_off: Span,
}

impl Timers {
    /// Derives everything from heartbeat interval, lease and stopping time, all in milliseconds.
    #[must_use]
    pub const fn derive(heartbeat_ms: u64, lease_ms: u64, stopping_ms: u64) -> Timers {
        let promise_ms = lease_ms / 2;
        Timers {
            heartbeat: Span::from_ms(heartbeat_ms),
            lease: Span::from_ms(lease_ms),
            promise: Span::from_ms(promise_ms),
            grace: Span::from_ms(lease_ms - promise_ms),
            stopping: Span::from_ms(stopping_ms),
            drift_ppm: DRIFT_PPM,
            barrier_every: Span::from_ms(lease_ms),
            barrier_limit: Span::from_ms(lease_ms * 4),
            stall_limit: Span::from_ms(promise_ms / 2),
            back_off: Span::from_ms(lease_ms * 2),
        }
    }

    /// For how long leases by these timers may run on once others were decided: a coordinator that
    /// applies nothing (its disk stalls, the others go on) grants by them until its newest barrier
    /// is too old and its authority over, and what it granted last runs for a lease. One more
    /// covers drift and the time from proposal to commit.
    #[must_use]
    pub fn outlive(&self) -> Span {
        self.barrier_limit + self.promise + self.lease * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promise_and_grace_make_the_lease_and_grace_holds_an_election() {
        for profile in Profile::ALL {
            let t = profile.timers();
            assert_eq!(t.promise + t.grace, t.lease, "{profile}");
            // An election takes two round trips, two fsyncs and a stagger of heartbeats.
            assert!(t.grace > t.heartbeat * 3 + t.stopping, "{profile}");
            assert!(t.stall_limit < t.promise, "{profile}");
            assert_eq!(profile.as_str().parse(), Ok(profile));
        }
    }
}
