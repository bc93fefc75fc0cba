//! What runs when, without an operator: backups, proofs of restore, verification, tests of the
//! key, clean-up. `machine` decides and does no I/O; `file` is what an operator writes; `book`
//! is what a machine remembers between runs; `orders` are the command lines of a run; `place` is
//! where in a cluster a job runs.

mod book;
mod file;
pub(crate) mod fuzzing;
mod machine;
mod orders;
mod place;
mod when;
mod window;

pub use book::{Book, BookLock, book_path};
pub use file::{
    CleanupSection, ClusterSection, KeySection, LimitSection, ProofSection, SOURCES_MAX,
    ScheduleFile, SourceSection, VerifySection,
};
pub use machine::{
    Action, BACK_OFF_MAX_MS, BACK_OFF_MIN_MS, Event, Machine, Outcome, Outlook, Plan, Why,
};
pub use orders::{Order, orders};
pub use place::{Place, Seen, TURN_MS};
pub use when::When;
pub use window::Window;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is done. In the order in which those that are due at once begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A backup of a source.
    Backup,
    /// A restore of a source's newest backup into a scratch place, checked.
    Prove,
    /// Trying whether the keys open the repository.
    KeyTest,
    /// Reading a part of the repository, another one each time.
    Verify,
    /// Forgetting by the rules, and giving room back.
    Cleanup,
    /// Telling the cluster how far the repository has come.
    Record,
}

impl Kind {
    /// As it is written in files and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Backup => "backup",
            Kind::Prove => "prove",
            Kind::KeyTest => "key-test",
            Kind::Verify => "verify",
            Kind::Cleanup => "cleanup",
            Kind::Record => "record",
        }
    }
}

/// Names a job: what is done, and to which source; without one, to the whole repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobKey {
    /// What is done.
    pub kind: Kind,
    /// To which source.
    pub source: Option<String>,
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{} of {source}", self.kind.word()),
            None => f.write_str(self.kind.word()),
        }
    }
}

/// Something to do again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name.
    pub key: JobKey,
    /// How often.
    pub when: When,
    /// When in the day it may begin.
    pub window: Option<Window>,
    /// Where in a cluster it runs; everywhere, where nothing is said.
    pub only: Option<Place>,
}

/// What is remembered of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Past {
    /// When its last run that ended well began, in milliseconds since 1970.
    pub done_ms: Option<i64>,
    /// How long that run took.
    pub took_ms: u64,
    /// Runs that ended well.
    pub runs: u64,
    /// When the run under way began.
    pub running_since_ms: Option<i64>,
    /// Failures since the last run that ended well.
    pub failures: u32,
    /// When the last of them ended.
    pub failed_ms: Option<i64>,
    /// What the last run found wrong, or why it failed.
    pub trouble: Option<String>,
}

/// The moment at which something is decided.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// Milliseconds since 1970, by a clock that may be set.
    pub ms: i64,
    /// The zone of the times of day that operators write.
    pub zone: &'a TimeZone,
}

#[cfg(test)]
mod tests;
