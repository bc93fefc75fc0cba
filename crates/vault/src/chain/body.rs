//! What records say.

use super::State;
use crate::keys::wrap::KeyEntry;
use crate::postgres::Lsn;
use crate::store::ObjectName;
use crate::tree::{Entry, Totals};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The identity of one run of a backup.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId(pub [u8; 16]);

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::hex::encode(&self.0))
    }
}

/// The contents of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// The first record.
    Genesis(Genesis),
    /// The state so far, so that readers need not begin at the first record.
    Checkpoint(Box<State>),
    /// A backup begins; it has read every record before this one.
    Begin {
        /// Which run.
        run: RunId,
        /// What it backs up.
        source: String,
        /// On which machine.
        host: String,
    },
    /// A long run is alive.
    Renew {
        /// Which run.
        run: RunId,
    },
    /// A backup is complete and durable.
    Backup(Box<Backup>),
    /// A run gave up.
    Abandon {
        /// Which run.
        run: RunId,
    },
    /// A run showed no life and may no longer record its backup.
    Fence {
        /// Which run.
        run: RunId,
    },
    /// Backups are no longer wanted.
    Forget {
        /// Their record numbers.
        backups: Vec<u64>,
        /// By which rule.
        why: String,
    },
    /// Objects that will be deleted unless they are needed again.
    Mark(Mark),
    /// The objects of a mark are deleted, but for those needed again.
    Swept {
        /// The mark's record number.
        mark: u64,
        /// How many were deleted.
        deleted: u64,
        /// How many were needed again.
        spared: u64,
    },
    /// A recipient was added.
    KeyAdded(KeyEntry),
    /// Recipients were removed and the keys rotated: what follows is under a new epoch.
    Rotated {
        /// The new epoch.
        epoch: u32,
        /// The epoch's verifying key.
        verifying_key: [u8; 32],
        /// All recipients from now on.
        keys: Vec<KeyEntry>,
        /// The recipients removed.
        revoked: Vec<String>,
    },
    /// A stretch of a database's log is stored, unbroken: its end is the signed high-water mark of
    /// what its server was told to be safe.
    Archived {
        /// The source.
        source: String,
        /// The database system's identity.
        system: u64,
        /// Bytes of a segment of its log.
        segment_bytes: u64,
        /// The timeline.
        timeline: u32,
        /// Where the stretch begins.
        from: Lsn,
        /// Where it ends.
        upto: Lsn,
    },
    /// A backup was restored and checked.
    Proven {
        /// The backup's record number.
        backup: u64,
        /// How long the restore took.
        took_ms: u64,
        /// How much was restored.
        bytes: u64,
        /// What was checked.
        checked: String,
    },
}

impl Body {
    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Body::Genesis(_) => "genesis",
            Body::Checkpoint(_) => "checkpoint",
            Body::Begin { .. } => "begin",
            Body::Renew { .. } => "renew",
            Body::Backup(_) => "backup",
            Body::Abandon { .. } => "abandon",
            Body::Fence { .. } => "fence",
            Body::Forget { .. } => "forget",
            Body::Mark(_) => "mark",
            Body::Swept { .. } => "swept",
            Body::KeyAdded(_) => "key-added",
            Body::Rotated { .. } => "rotated",
            Body::Archived { .. } => "archived",
            Body::Proven { .. } => "proven",
        }
    }

    /// Whether an append-only repository takes it from the deletion key alone.
    pub fn removes(&self) -> bool {
        matches!(
            self,
            Body::Forget { .. } | Body::Mark(_) | Body::Swept { .. } | Body::Rotated { .. }
        )
    }
}

/// What a repository is, for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Version of the format.
    pub format: u8,
    /// The first epoch's verifying key.
    pub verifying_key: [u8; 32],
    /// Append-only: the deletion key's verifying key.
    pub deletion_key: Option<[u8; 32]>,
    /// How long forgotten backups stay, and a mark waits before its sweep.
    pub wait_ms: u64,
    /// The first recipients.
    pub keys: Vec<KeyEntry>,
}

/// What was backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceKind {
    /// A directory or a file.
    Directory,
    /// A command's output.
    Command,
    /// A PostgreSQL server.
    Postgres,
}

/// The signed part of a backup that a third party may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The Merkle root over everything in it.
    pub root: [u8; 32],
    /// Where in the source's own history it is: a database's log position and timeline, an
    /// epoch; empty for a directory.
    pub position: String,
    /// When reading began, in milliseconds since 1970.
    pub begun_ms: i64,
    /// When reading ended.
    pub ended_ms: i64,
    /// The record of the backup that it was compared with.
    pub parent: Option<u64>,
    /// Of which backup it is a copy, where it is one; the times are that backup's.
    pub copied: Option<Copied>,
}

/// Where a copy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// The repository that it was read from.
    pub repository: [u8; 16],
    /// The backup's record number there.
    pub record: u64,
    /// When the copy was complete, in milliseconds since 1970.
    pub time_ms: i64,
}

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// The run that made it.
    pub run: RunId,
    /// The source's name.
    pub source: String,
    /// The machine.
    pub host: String,
    /// The directory, or the command.
    pub origin: String,
    /// The sort of source.
    pub kind: SourceKind,
    /// The signed part.
    pub subject: Subject,
    /// The top of the tree.
    pub top: Entry,
    /// What is in it.
    pub totals: Totals,
    /// How much work it was.
    pub statistics: Statistics,
    /// What was left out or changed while it was read.
    pub skipped: Vec<Skipped>,
    /// How many more there were than `skipped` holds.
    pub skipped_more: u64,
}

/// Something that a backup could not take as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its path below the top.
    pub path: String,
    /// What happened.
    pub why: String,
}

/// How much work a backup was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Files whose contents were read.
    pub files_read: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes of packs and index written to the store.
    pub bytes_stored: u64,
    /// New chunks.
    pub chunks_new: u64,
    /// How long it took.
    pub took_ms: u64,
}

/// Objects that a clean-up intends to delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The objects.
    pub doomed: Vec<ObjectName>,
    /// Forgotten backups that protect nothing any more.
    pub released: Vec<u64>,
    /// When.
    pub time_ms: i64,
}

/// A backup that was forgotten and is still protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// It.
    pub backup: Backup,
    /// When it was forgotten.
    pub time_ms: i64,
}
