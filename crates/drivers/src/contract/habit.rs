//! How a resource under test behaves.

use std::path::PathBuf;

use model::ResourceSpec;
use model::spec::{Failback, ProcessSpec, RecoverySpec, ResourceKind, Standby};

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
    /// As plain, and ignores the stop signal.
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

/// A driver under test.
pub trait Subject {
    /// The specification of a resource with a habit.
    fn resource(&self, habit: &Habit) -> ResourceSpec;
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
