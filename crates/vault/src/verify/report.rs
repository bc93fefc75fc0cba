//! What a verification found.

use std::fmt;

/// Findings that a report lists; more are counted.
pub(super) const FINDINGS_MAX: usize = 10_000;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// A record of the chain.
    Record {
        /// Its number.
        seq: u64,
        /// What is wrong.
        what: String,
    },
    /// An object.
    Object {
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A database's log of which there is no backup.
    Log {
        /// The source.
        source: String,
        /// What is missing.
        what: String,
    },
    /// Something that a backup can no longer give back.
    Lost {
        /// The backup's record.
        backup: u64,
        /// The path within it.
        path: String,
        /// Why.
        what: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Record { seq, what } => write!(f, "record {seq}: {what}"),
            Finding::Object { name, what } => write!(f, "{name}: {what}"),
            Finding::Log { source, what } => write!(f, "the log of {source}: {what}"),
            Finding::Lost { backup, path, what } => {
                let path = if path.is_empty() { "." } else { path };
                write!(f, "backup {backup} lost {path}: {what}")
            }
        }
    }
}

/// The outcome of a verification.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// Records of the chain.
    pub records: u64,
    /// Backups looked at.
    pub backups: u64,
    /// Packs read whole.
    pub packs_read: u64,
    /// Bytes read of them.
    pub bytes_read: u64,
    /// Chunks opened and checked.
    pub chunks_read: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How much more of it there is.
    pub findings_more: u64,
    /// Backups of which something is lost.
    pub damaged_backups: Vec<u64>,
    /// Whether removed records would have been noticed.
    pub fresh: bool,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_intact(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_more += 1;
        }
    }
}
