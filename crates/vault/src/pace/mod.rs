//! Keeps a run within its limits: bytes a second read from the source, bytes a second to and from
//! the repository, a share of the processors. Whoever moved bytes waits until they may have been
//! moved; how long is decided by `bucket` and `share`, which know no clock.

mod bucket;
mod clock;
mod share;
mod store;

pub use bucket::Bucket;
pub use clock::{Clock, SystemClock};
pub use share::Share;
pub use store::PacedStore;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a run may use. Nothing named is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a second read from the source.
    pub read_bytes: Option<u64>,
    /// Bytes a second to and from the repository.
    pub repository_bytes: Option<u64>,
    /// Percent of all processors, from 1 to 100.
    pub processor_percent: Option<u8>,
}

impl Limits {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }
}

/// Makes the threads of a run wait.
pub struct Pacer {
    clock: Arc<dyn Clock>,
    read: Option<Mutex<Bucket>>,
    repository: Option<Mutex<Bucket>>,
    share: Option<Mutex<Share>>,
}

impl Pacer {
    /// Begins now. `processors` is how many there are.
    pub fn new(limits: Limits, processors: usize, clock: Arc<dyn Clock>) -> Pacer {
        let bucket = |bytes: Option<u64>| bytes.map(|b| Mutex::new(Bucket::new(b)));
        let share = limits
            .processor_percent
            .map(|percent| Mutex::new(Share::new(percent, processors, clock.now(), clock.busy())));
        let (read, repository) = (bucket(limits.read_bytes), bucket(limits.repository_bytes));
        Pacer { clock, read, repository, share }
    }

    /// So many bytes were read from the source.
    pub fn read(&self, bytes: u64) {
        self.wait(self.read.as_ref(), bytes);
    }

    /// So many bytes go to or came from the repository.
    pub fn moved(&self, bytes: u64) {
        self.wait(self.repository.as_ref(), bytes);
    }

    fn wait(&self, bucket: Option<&Mutex<Bucket>>, bytes: u64) {
        let now = self.clock.now();
        // A panic of another thread leaves sums that are still right.
        let take =
            |b: &Mutex<Bucket>| b.lock().unwrap_or_else(PoisonError::into_inner).take(bytes, now);
        let for_bytes = bucket.map_or(Duration::ZERO, take);
        let for_share = self.share.as_ref().map_or(Duration::ZERO, |share| {
            share.lock().unwrap_or_else(PoisonError::into_inner).wait(now, self.clock.busy())
        });
        let wait = for_bytes.max(for_share);
        if !wait.is_zero() {
            self.clock.sleep(wait);
        }
    }
}
