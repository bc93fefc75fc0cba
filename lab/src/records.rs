//! What store, client and instances write down, as lines of JSON; moments are nanoseconds on the
//! boot-time clock, which all hosts of a lab share.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};

use model::{Epoch, Moment};
use serde::{Deserialize, Deserializer};

/// One attempt, as the store saw it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Stored {
    pub(crate) order: String,
    #[serde(deserialize_with = "epoch")]
    pub(crate) epoch: Epoch,
    pub(crate) instance: String,
    pub(crate) moment: Moment,
    /// `stored`, `duplicate`, `stale` or `full`.
    pub(crate) verdict: String,
}

/// One order, as the client saw it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Order {
    pub(crate) order: String,
    pub(crate) sent: Moment,
    pub(crate) acknowledged: Option<Moment>,
    /// Where it was not acknowledged: what the store said when it was asked, if it answered.
    pub(crate) stored: Option<bool>,
}

/// A moment at which an instance would have acknowledged an order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ActiveMoment {
    pub(crate) instance: String,
    pub(crate) pid: u32,
    #[serde(deserialize_with = "epoch")]
    pub(crate) epoch: Epoch,
    pub(crate) moment: Moment,
}

fn epoch<'de, D: Deserializer<'de>>(from: D) -> Result<Epoch, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

/// One process under one epoch, from the first to the last moment at which it was active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) instance: String,
    pub(crate) pid: u32,
    pub(crate) epoch: Epoch,
    pub(crate) first: Moment,
    pub(crate) last: Moment,
}

/// Joins moments to intervals.
pub(crate) fn intervals(moments: impl IntoIterator<Item = ActiveMoment>) -> Vec<Interval> {
    let mut all: BTreeMap<(String, u32, Epoch), (Moment, Moment)> = BTreeMap::new();
    for ActiveMoment { instance, pid, epoch, moment } in moments {
        let ends = all.entry((instance, pid, epoch)).or_insert((moment, moment));
        *ends = (ends.0.min(moment), ends.1.max(moment));
    }
    let of =
        |((instance, pid, epoch), (first, last))| Interval { instance, pid, epoch, first, last };
    all.into_iter().map(of).collect()
}

/// Everything that was written down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    pub(crate) stored: Vec<Stored>,
    pub(crate) orders: Vec<Order>,
    pub(crate) intervals: Vec<Interval>,
}

/// The end of a file, as text.
pub(crate) fn tail(path: &str, last: u64) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(last)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
