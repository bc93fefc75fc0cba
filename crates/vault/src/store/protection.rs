//! What a place does by itself against whoever has the right to write there: old versions, and
//! locks. Nothing of it is ours: it is asked for, said, and where the operator wants it, required.

use super::Store;
use crate::error::{Result, VaultError};
use std::fmt;

/// Days of a year, as buckets count them.
pub(super) const YEAR_DAYS: u32 = 365;

/// What a place does by itself against removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// What is deleted is gone.
    Nothing,
    /// What is deleted or overwritten stays as an old version, until somebody deletes that.
    Versions,
    /// Nobody deletes the version of an object for so long after it was written.
    Locked {
        /// As the store calls it: who may end it early.
        mode: String,
        /// How long.
        days: u32,
    },
    /// These credentials may not ask.
    Unknown,
}

impl Protection {
    /// The lock's length; zero where there is none, nothing where that is not known.
    pub fn days(&self) -> Option<u32> {
        match self {
            Protection::Locked { days, .. } => Some(*days),
            Protection::Nothing | Protection::Versions => Some(0),
            Protection::Unknown => None,
        }
    }

    /// Whether what is deleted takes room until the store itself removes it.
    pub fn keeps_deleted(&self) -> bool {
        matches!(self, Protection::Versions | Protection::Locked { .. })
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protection::Nothing => f.write_str("no object lock"),
            Protection::Versions => {
                f.write_str("no object lock by default; what is deleted stays as old versions")
            }
            Protection::Locked { mode, days } => {
                write!(f, "each object is locked for {days} days from its writing ({mode})")
            }
            Protection::Unknown => {
                f.write_str("not known whether objects are locked: the credentials may not ask")
            }
        }
    }
}

/// Refuses a place that does not lock objects for so long by itself.
///
/// # Errors
/// Where it does not, or does not say.
pub fn require_lock(store: &dyn Store, days: u32) -> Result<()> {
    let found = store.protection()?;
    if found.days().is_some_and(|locked| locked >= days) {
        return Ok(());
    }
    Err(VaultError::Refused(format!(
        "{} does not lock objects for {days} days: {found}. Nothing was written. Make a bucket \
         with object lock and a default retention of {days} days, in mode COMPLIANCE where nobody \
         at all shall end it early",
        store.describe()
    )))
}
