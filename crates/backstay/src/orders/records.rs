//! What the three programs write down, and the clock that all of them write it by.
//!
//! Records are lines of JSON, appended and never changed. Moments are nanoseconds on
//! `CLOCK_BOOTTIME`, which all processes of one machine share, so the records of different
//! programs can be laid beside each other.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use model::{Epoch, Moment};
use serde::{Deserialize, Serialize};

use super::OrdersError;
use super::wire::Verdict;

/// This moment on the boot-time clock.
#[must_use]
pub fn now() -> Moment {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Moment(t.tv_sec.unsigned_abs() * 1_000_000_000 + t.tv_nsec.unsigned_abs())
}

/// One attempt, as the store saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreRecord {
    /// The order.
    pub order: String,
    /// The epoch it was written under.
    #[serde(with = "epoch_text")]
    pub epoch: Epoch,
    /// The attempt's number.
    pub attempt: u64,
    /// The instance that wrote it.
    pub instance: String,
    /// When the store decided.
    pub moment: Moment,
    /// What it decided.
    pub verdict: Verdict,
}

/// How many attempts of each verdict the store has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct StoreCounts {
    /// Orders stored.
    pub stored: u64,
    /// Attempts for orders that were stored before.
    pub duplicate: u64,
    /// Attempts refused for an old epoch.
    pub stale: u64,
    /// Attempts refused for want of room.
    pub full: u64,
    /// Claims refused for an old epoch.
    pub stale_claims: u64,
    /// The highest epoch seen.
    #[serde(with = "epoch_text")]
    pub highest: Epoch,
}

/// How the client sees an order in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A server said that the store has it.
    Acknowledged,
    /// Nobody said so in time.
    Unknown,
}

/// One order, as the client saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// The order.
    pub order: String,
    /// When it was first sent.
    pub sent: Moment,
    /// When the acknowledgement was read.
    pub acknowledged: Option<Moment>,
    /// What the client learnt.
    pub outcome: Outcome,
    /// How often it was tried, over all addresses.
    pub attempts: u32,
    /// Where the outcome is unknown: what the store said when it was asked, if it answered.
    pub stored: Option<bool>,
}

/// A moment at which an instance would have acknowledged an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveMoment {
    /// The instance.
    pub instance: String,
    /// Its process, because a restarted instance is another one.
    pub pid: u32,
    /// The epoch it held.
    #[serde(with = "epoch_text")]
    pub epoch: Epoch,
    /// The moment.
    pub moment: Moment,
}

/// An append-only file of JSON lines.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    file: File,
    line: Vec<u8>,
}

impl RecordFile {
    /// Opens the file at its end, and makes it where it is missing.
    ///
    /// # Errors
    /// [`OrdersError::Record`] where it can't be opened.
    pub fn open(path: &Path) -> Result<RecordFile, OrdersError> {
        let opened = OpenOptions::new().create(true).append(true).open(path);
        let file =
            opened.map_err(|source| OrdersError::Record { path: path.to_owned(), source })?;
        Ok(RecordFile { path: path.to_owned(), file, line: Vec::with_capacity(256) })
    }

    /// Appends one record with a single write, so that several processes may share the file.
    ///
    /// # Errors
    /// [`OrdersError::Record`] where it can't be written.
    pub fn append(&mut self, record: &impl Serialize) -> Result<(), OrdersError> {
        let failed = |path: &Path, source| OrdersError::Record { path: path.to_owned(), source };
        self.line.clear();
        serde_json::to_writer(&mut self.line, record)
            .map_err(|e| failed(&self.path, std::io::Error::other(e)))?;
        self.line.push(b'\n');
        self.file.write_all(&self.line).map_err(|source| failed(&self.path, source))
    }
}

/// Epochs as people write them, `generation.counter`.
mod epoch_text {
    use model::Epoch;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(epoch: &Epoch, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(epoch)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Epoch, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}
