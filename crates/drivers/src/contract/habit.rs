//! How a resource under test behaves.

use std::path::{Path, PathBuf};

use model::spec::{Failback, ProcessSpec, RecoverySpec, ResourceKind, Standby};
use model::{Moment, ResourceSpec};

/// A habit of a resource under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Habit {
    /// Runs until asked to stop, then leaves with status 0. Active instances write the present
    /// moment into `ticks` about every millisecond (8 bytes, little-endian), without asking
    /// their lease: the worst program there is.
    Plain {
        /// That file.
        ticks: PathBuf,
    },
    /// As plain, and changes roles on its socket.
    ChangesRoles {
        /// That file.
        ticks: PathBuf,
    },
    /// On its socket, but says that it can't become active.
    FailsToPromote,
    /// On its socket, and never answers.
    NeverAnswers,
    /// As plain, ignores the stop signal, and has the kernel forget whose child it is: it outlives
    /// its launcher.
    IgnoresStop {
        /// That file.
        ticks: PathBuf,
    },
    /// Leaves at once with status 3 after "goodbye", and leaves a child behind in a session of
    /// its own that writes ticks.
    LeavesChild {
        /// That file.
        ticks: PathBuf,
    },
    /// Leaves at once with this status after printing "goodbye".
    LeavesAtOnce {
        /// The status.
        code: i32,
    },
    /// Writes its environment, one entry a line, and its limit of open files to a file.
    ShowsEnvironment {
        /// That file.
        to: PathBuf,
    },
    /// Says that it is ready on `NOTIFY_SOCKET` once this file exists.
    NotifiesWhen {
        /// That file.
        exists: PathBuf,
    },
    /// Can't be started at all.
    Missing,
}

/// What a driver's resources can do, as far as the suite asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ability {
    /// They are active or not: every driver's are. Habit: plain.
    Activity,
    /// They change roles when told. Habits: changes roles, fails to promote.
    Roles,
    /// They are programs of the operator's own. Habits: all.
    Program,
}

/// A driver under test.
pub trait Subject {
    /// The specification of a resource with a habit.
    fn resource(&self, habit: &Habit) -> ResourceSpec;

    /// Whether its resources can do something.
    fn has(&self, ability: Ability) -> bool;

    /// When an active instance last did what active ones do, if it ever did: what it wrote into
    /// `ticks`, or now, where that can be seen from outside.
    fn last_act(&self, ticks: &Path) -> Option<Moment>;

    /// What one that fails to promote says.
    fn refusal(&self) -> &str;
}

/// A resource of kind `process` with everything else as it is by default.
#[must_use]
pub fn process_resource(process: ProcessSpec) -> ResourceSpec {
    ResourceSpec {
        kind: ResourceKind::Process(process),
        standby: Standby::Hot,
        prefer: Vec::new(),
        nodes: std::collections::BTreeSet::new(),
        spread: None,
        with: None,
        after: Vec::new(),
        health: Vec::new(),
        rto_ms: None,
        rpo_bytes: None,
        recovery: RecoverySpec::default(),
        failback: Failback::Manual,
    }
}
