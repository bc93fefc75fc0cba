//! Writes down the moments at which this instance would have acknowledged an order.
//!
//! The first and the last of them bound the instance's own active interval; the judge lays the
//! intervals of all instances beside each other. A moment is written at most every
//! [`MOMENT_EVERY`], so a process that is killed loses at most that much of its interval.

use std::path::Path;

use model::{Epoch, Moment, Span};

use super::OrdersError;
use super::records::{ActiveMoment, RecordFile};

/// How often a moment is written while nothing else changes.
pub const MOMENT_EVERY: Span = Span::from_ms(2);

/// The file and what was written last.
#[derive(Debug)]
pub struct ActiveLog {
    file: RecordFile,
    instance: String,
    pid: u32,
    written: Option<(Epoch, Moment)>,
}

impl ActiveLog {
    /// Opens the file at its end; instances may share it.
    ///
    /// # Errors
    /// [`OrdersError::Record`] where it can't be opened.
    pub fn open(path: &Path, instance: &str) -> Result<ActiveLog, OrdersError> {
        let (file, pid) = (RecordFile::open(path)?, std::process::id());
        Ok(ActiveLog { file, instance: instance.to_owned(), pid, written: None })
    }

    /// Notes that an order would have been acknowledged under this epoch at this moment.
    ///
    /// # Errors
    /// [`OrdersError::Record`] where it can't be written.
    pub fn note(&mut self, epoch: Epoch, moment: Moment) -> Result<(), OrdersError> {
        let fresh =
            |(held, last): (Epoch, Moment)| held == epoch && moment.since(last) < MOMENT_EVERY;
        if self.written.is_some_and(fresh) {
            return Ok(());
        }
        self.written = Some((epoch, moment));
        let (instance, pid) = (self.instance.clone(), self.pid);
        self.file.append(&ActiveMoment { instance, pid, epoch, moment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_thinned_but_every_epoch_begins_with_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("active");
        let mut log = ActiveLog::open(&path, "a").unwrap();
        let [seven, eight] = [7, 8].map(|counter| Epoch { generation: 1, counter });
        for us in [0, 500, 1_900, 2_000, 2_100] {
            log.note(seven, Moment(us * 1_000)).unwrap();
        }
        log.note(eight, Moment(2_200_000)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let moments: Vec<ActiveMoment> =
            text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let seen: Vec<_> = moments.iter().map(|m| (m.epoch.counter, m.moment.0)).collect();
        assert_eq!(seen, [(7, 0), (7, 2_000_000), (8, 2_200_000)]);
    }
}
