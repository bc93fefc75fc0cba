//! What a seed stands for: the cluster, its environment, and which classes of fault are on.

use brain::plant::{Plant, Plants};
use model::Profile;

use crate::fault::Fault;
use crate::rng::Rng;

/// The purpose of a run; each has its own checks beside those of safety.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Any faults; after they heal everything runs (L1).
    Swarm,
    /// One node stays bad for the whole run; the others serve (L2).
    Minority,
    /// One node comes and goes for the whole run; failovers are bounded (L3).
    Flapping,
    /// Loss and a slow processor, nothing failed: no failover (L4).
    Calm,
    /// Clocks drift beyond the bound: only the store judges (S1).
    Drift,
    /// A majority of the voters is lost for good, and an operator recovers on a survivor.
    Recovery,
}

impl Class {
    /// All classes.
    pub const ALL: [Class; 6] = [
        Class::Swarm,
        Class::Minority,
        Class::Flapping,
        Class::Calm,
        Class::Drift,
        Class::Recovery,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Class::Swarm => "swarm",
            Class::Minority => "minority",
            Class::Flapping => "flapping",
            Class::Calm => "calm",
            Class::Drift => "drift",
            Class::Recovery => "recovery",
        }
    }

    /// The class of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.name() == name)
    }

    fn of(seed: u64) -> Class {
        match seed % 16 {
            11 => Class::Recovery,
            12 => Class::Minority,
            13 => Class::Flapping,
            14 => Class::Calm,
            15 => Class::Drift,
            _ => Class::Swarm,
        }
    }
}

/// What a node is in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Votes and runs resources.
    Voter,
    /// Votes only.
    Witness,
    /// Runs resources only.
    Member,
}

/// All that is drawn before a run begins.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The purpose.
    pub class: Class,
    /// The planted bug.
    pub plants: Plants,
    /// Timing profile at the start.
    pub profile: Profile,
    /// The nodes.
    pub kinds: Vec<Kind>,
    /// Clock rates, parts per million fast.
    pub ppm: Vec<i64>,
    /// Faults that the nemesis draws from.
    pub faults: Vec<Fault>,
    /// Mean time between faults, nanoseconds.
    pub fault_every: u64,
    /// Mean time between operations, nanoseconds.
    pub operate_every: u64,
    /// Shortest one-way delay, nanoseconds.
    pub delay: u64,
    /// Typical sync time, nanoseconds.
    pub sync: u64,
    /// Datagrams lost for the whole run, in permille.
    pub loss: u64,
    /// Datagrams that arrive twice, in permille.
    pub duplicated: u64,
    /// The processor is withheld from agents most of the time.
    pub starved: bool,
    /// The guard may force a reboot.
    pub may_reboot: bool,
    /// The node that is bad or flaps, for those classes.
    pub victim: usize,
    /// How long faults go on, nanoseconds.
    pub safety: u64,
}

/// One second.
pub const SECOND: u64 = 1_000_000_000;
/// One millisecond.
pub const MILLI: u64 = 1_000_000;

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(seed: u64, class: Option<Class>, plant: Option<Plant>) -> Plan {
        let mut rng = Rng::new(seed);
        let class = class.unwrap_or(Class::of(seed));
        let profile = match rng.below(100) {
            0..5 => Profile::Fast,
            5..40 => Profile::Lan,
            40..92 => Profile::Cloud,
            _ => Profile::Wan,
        };
        let kinds = match rng.below(10) {
            0..6 => vec![Kind::Voter; 3],
            6 => vec![Kind::Voter; 5],
            7 => vec![Kind::Voter, Kind::Voter, Kind::Voter, Kind::Member],
            _ => vec![Kind::Voter, Kind::Voter, Kind::Witness],
        };
        let h = profile.timers().heartbeat.0;
        let calm = class == Class::Calm;
        let spread: i64 = if class == Class::Drift { 100_000 } else { 499 };
        let faults = Fault::draw(&mut rng, class);
        Plan {
            seed,
            class,
            plants: plant.map_or(Plants::NONE, plants),
            profile,
            ppm: kinds.iter().map(|_| rng.below(2 * spread as u64 + 1) as i64 - spread).collect(),
            victim: rng.below(kinds.len() as u64) as usize,
            faults,
            fault_every: rng.range(SECOND, 4 * SECOND),
            operate_every: rng.range(2 * SECOND, 12 * SECOND),
            delay: rng.range(h / 400, h / 20),
            sync: rng.skewed(100_000, if calm { 2 * MILLI } else { h / 2 }),
            loss: if calm { 300 } else { [0, 0, 0, 10, 50, 150][rng.below(6) as usize] },
            duplicated: [0, 10, 200][rng.below(3) as usize],
            starved: calm && rng.permille(500),
            may_reboot: rng.permille(600),
            kinds,
            safety: 60 * SECOND,
        }
    }
}

#[cfg(feature = "plant")]
pub(crate) fn plants(plant: Plant) -> Plants {
    Plants::one(plant)
}

#[cfg(not(feature = "plant"))]
pub(crate) fn plants(_: Plant) -> Plants {
    Plants::NONE
}
