//! Measures one machine: how long an fsync takes, and how long a thread is left standing.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use config::measurement::NodeMeasurement;
use model::NodeName;

use super::{INTERVAL, MeasureError, ms, per_mille};

/// Bytes written before each fsync: a log entry of usual size.
const WRITE_BYTES: usize = 512;
/// After so many bytes the file begins anew.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most fsyncs remembered; of further ones only the slowest counts.
const SYNCS_MAX: usize = 360_000;
/// The file that is written to and removed.
const PROBE_FILE: &str = "measure.probe";
/// How long a pause sleeps before it looks again.
const PAUSE: Duration = Duration::from_millis(20);

/// What sampling is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Now {
    /// Take a sample.
    Sample,
    /// Nobody measures: leave the disk alone.
    Pause,
    /// End.
    End,
}

/// Samples of this machine, which two threads take.
#[derive(Debug, Default)]
pub(super) struct Machine(Mutex<Samples>);

#[derive(Debug, Default)]
struct Samples {
    stall_max: Duration,
    realtime: bool,
    fsyncs: Vec<Duration>,
    fsync_max: Duration,
}

impl Machine {
    fn with<T>(&self, change: impl FnOnce(&mut Samples) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The longest time that a thread slept beyond what it asked for, with real-time priority
    /// where it is granted.
    pub(super) fn stalls(&self, now: impl Fn() -> Now) {
        let realtime = drivers::sys::realtime(1).is_ok();
        self.with(|samples| samples.realtime = realtime);
        loop {
            match now() {
                Now::End => return,
                Now::Pause => std::thread::sleep(PAUSE),
                Now::Sample => {
                    let began = Instant::now();
                    std::thread::sleep(INTERVAL);
                    let stall = began.elapsed().saturating_sub(INTERVAL);
                    self.with(|samples| samples.stall_max = samples.stall_max.max(stall));
                }
            }
        }
    }

    /// Writes and syncs in this directory.
    pub(super) fn fsyncs(&self, data: &Path, now: impl Fn() -> Now) -> Result<(), MeasureError> {
        let path = data.join(PROBE_FILE);
        let done = self.write_and_sync(&path, now);
        let removed = std::fs::remove_file(&path);
        done.and(removed).map_err(|source| disk(&path, source))
    }

    fn write_and_sync(&self, path: &Path, now: impl Fn() -> Now) -> std::io::Result<()> {
        let mut file = File::create(path)?;
        let mut written = 0;
        loop {
            match now() {
                Now::End => return Ok(()),
                Now::Pause => std::thread::sleep(PAUSE),
                Now::Sample => {
                    if written >= FILE_BYTES_MAX {
                        file.set_len(0)?;
                        file.rewind()?;
                        written = 0;
                    }
                    file.write_all(&[0; WRITE_BYTES])?;
                    written += WRITE_BYTES as u64;
                    let began = Instant::now();
                    file.sync_data()?;
                    let taken = began.elapsed();
                    self.with(|samples| samples.synced(taken));
                    std::thread::sleep(INTERVAL.saturating_sub(taken));
                }
            }
        }
    }

    /// The figures of what was sampled so far; none before the first fsync.
    pub(super) fn figures(&self, me: &NodeName) -> Option<NodeMeasurement> {
        self.with(|samples| {
            let p99 = per_mille(&samples.fsyncs, 990)?;
            Some(NodeMeasurement {
                name: me.to_string(),
                stall_max_ms: ms(samples.stall_max),
                fsync_p99_ms: ms(p99),
                fsync_max_ms: ms(samples.fsync_max),
                realtime: samples.realtime,
            })
        })
    }
}

impl Samples {
    fn synced(&mut self, taken: Duration) {
        self.fsync_max = self.fsync_max.max(taken);
        if self.fsyncs.len() < SYNCS_MAX {
            self.fsyncs.push(taken);
        }
    }
}

fn disk(path: &Path, source: std::io::Error) -> MeasureError {
    MeasureError::Disk { path: PathBuf::from(path), source }
}
