//! What can go wrong in a repository, said to whoever must act.

use crate::store::{ObjectName, StoreError, selftest::SelfTestError};
use std::io;
use std::path::PathBuf;

/// The result of the vault's functions.
pub type Result<T> = std::result::Result<T, VaultError>;

/// Why the vault could not do it.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The store failed.
    #[error("the repository's store failed")]
    Store(#[from] StoreError),
    /// The store is not safe for a repository.
    #[error(transparent)]
    SelfTest(#[from] SelfTestError),
    /// An object is not what was written.
    #[error(
        "{object} is damaged: {what}. What depends on it cannot be restored from this \
         repository. Run `backstay vault verify` to see which backups are affected"
    )]
    Damaged {
        /// Which object.
        object: String,
        /// What is wrong with it.
        what: String,
    },
    /// The object was sealed under a key that this key ring does not hold.
    #[error(
        "{object} was written under key epoch {epoch}, and this key knows epochs up to {known}: \
         it is an old key, or it was revoked. Use a current key of this repository"
    )]
    NewerKey {
        /// Which object.
        object: String,
        /// Its epoch.
        epoch: u32,
        /// The newest one known.
        known: u32,
    },
    /// The key opens nothing here.
    #[error(
        "this key ({recipient}) does not open the repository at {location}: it belongs to \
         another repository, or it was revoked. Nothing was written. Use the machine's key file, \
         the recovery key or the custodians' shares of this repository"
    )]
    WrongKey {
        /// The public half of the key tried.
        recipient: String,
        /// Where the repository is.
        location: String,
    },
    /// The text of a key or share is mistyped.
    #[error("{0}")]
    Words(#[from] crate::keys::words::WordsError),
    /// The key file cannot be used.
    #[error("{path} holds no usable key: {what}")]
    KeyFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Keys could not be made, split or combined.
    #[error("{0}")]
    Keys(String),
    /// There is no repository.
    #[error(
        "there is no repository at {0}: it holds no chain of records. Check the location, or \
         make one with `backstay vault init`"
    )]
    NoRepository(String),
    /// There is one already.
    #[error("there is a repository at {0} already; `vault init` never replaces one")]
    Exists(String),
    /// Newer records than the repository holds are remembered.
    #[error(
        "the repository at {location} is older than what {who} remembers: record {remembered} \
         ({hash}), {found}. Newer backups were removed, or an old copy of the repository was put \
         back. Compare with another copy before you rely on it"
    )]
    RolledBack {
        /// Where.
        location: String,
        /// Who remembers.
        who: Rememberer,
        /// The remembered record's number.
        remembered: u64,
        /// The remembered record's hash.
        hash: String,
        /// What is there instead.
        found: String,
    },
    /// The cluster was to be asked and was not.
    #[error(
        "the cluster could not be asked what it remembers of this repository ({0}), so nothing \
         tells whether newer backups were removed. Leave --cluster out to rely on what this \
         machine remembers"
    )]
    ClusterSilent(String),
    /// The repository lacks what the cluster remembers, and the cluster could not be told.
    #[error("{error}. The cluster could not be told of it, so `backstay status` is silent: {why}")]
    NotReported {
        /// Why not.
        why: String,
        /// What is wrong with the repository.
        error: Box<VaultError>,
    },
    /// The head could not be committed to the cluster.
    #[error(
        "the cluster does NOT remember record {number} of this repository: {why}. What is in the \
         repository is durable, and until a later record is committed (`backstay vault record`, \
         the next backup or verification) nobody but this machine would notice its removal"
    )]
    NotRecorded {
        /// The record's number.
        number: u64,
        /// Why not.
        why: String,
    },
    /// The chain has a gap or a damaged record, and the operation needs all of it.
    #[error(
        "record {seq} of the chain is {what}: {why}. Run `backstay vault verify`, and bring the \
         record back from another copy of the repository"
    )]
    BrokenChain {
        /// The record's number.
        seq: u64,
        /// Missing or damaged.
        what: String,
        /// Why the operation needs it.
        why: &'static str,
    },
    /// The run was declared dead by a clean-up and must start again.
    #[error(
        "this backup was declared dead by a clean-up because it showed no life for too long: its \
         record was not written. Run it again; what it stored is used again"
    )]
    Fenced,
    /// Nothing fits what was asked for.
    #[error("{0}")]
    NotFound(String),
    /// The request makes no sense or is forbidden here.
    #[error("{0}")]
    Refused(String),
    /// The deletion key is needed.
    #[error(
        "this repository is append-only: {0} needs the deletion key, which the machines that \
         write backups don't hold. Give it with --deletion-key"
    )]
    NeedsDeletionKey(&'static str),
    /// A limit of the format or of the program was met.
    #[error("{what} is over the limit of {limit}")]
    Limit {
        /// What is too large.
        what: String,
        /// How much is allowed.
        limit: u64,
    },
    /// A file of the source or the target failed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A PostgreSQL server failed or refused.
    #[error("the PostgreSQL server at {server} failed: {what}")]
    Postgres {
        /// How it is reached.
        server: String,
        /// Its answer.
        what: String,
    },
    /// A hook or a source command failed.
    #[error("{what} `{command}` failed: {result}. The backup was not recorded")]
    Command {
        /// Which command of ours.
        what: &'static str,
        /// Its text.
        command: String,
        /// How it ended.
        result: String,
    },
}

/// Who remembers a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rememberer {
    /// This machine, in its state directory.
    Machine,
    /// Whoever gave `--expect-head`.
    Caller,
    /// The cluster, in its log.
    Cluster,
}

impl std::fmt::Display for Rememberer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Rememberer::Machine => "this machine",
            Rememberer::Caller => "`--expect-head`",
            Rememberer::Cluster => "the cluster",
        })
    }
}

impl VaultError {
    /// Damage of an object.
    pub fn damaged(object: &ObjectName, what: impl Into<String>) -> VaultError {
        VaultError::Damaged { object: object.to_string(), what: what.into() }
    }

    /// A failed file operation.
    pub fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> VaultError {
        let path = path.into();
        move |source| VaultError::File { action, path, source }
    }

    /// Whether the repository itself is at fault: missing, short or altered objects.
    pub fn is_damage(&self) -> bool {
        match self {
            VaultError::Damaged { .. }
            | VaultError::NewerKey { .. }
            | VaultError::BrokenChain { .. } => true,
            VaultError::Store(error) => matches!(
                error,
                StoreError::NotFound(_) | StoreError::Short { .. } | StoreError::TooLarge { .. }
            ),
            _ => false,
        }
    }
}

/// How often what looks damaged is read, before the repository is blamed: a store may hand out
/// too few bytes, or other ones, once.
pub(crate) const READS_MAX: u32 = 4;

/// Reads, and reads again what is damaged. What is absent is absent.
pub(crate) fn read_again<T>(mut read: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..READS_MAX {
        match read() {
            Err(VaultError::Store(error)) if error.is_not_found() => return Err(error.into()),
            Err(error) if error.is_damage() => {}
            other => return other,
        }
    }
    read()
}

/// What is wrong, for a report that names the object itself.
pub(crate) fn what(error: &VaultError) -> String {
    match error {
        VaultError::Damaged { what, .. } => what.clone(),
        other => explain(other),
    }
}

/// What to do where a disk is full or a quota used up, whoever met it.
pub fn advice(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if let Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) = kind {
            return Some("Make room there and run the command again: what is done already counts");
        }
        cause = error.source();
    }
    None
}

/// The chain of causes as one line, for reports, and what to do where that is known.
pub fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    if let Some(advice) = advice(error) {
        text.push_str(". ");
        text.push_str(advice);
    }
    text
}
