//! One guard on a run directory. A second one would write itself into the lease page and knock at
//! the launcher's door for ever.
//!
//! Another guard is believed to be on duty only where it holds the lock, so that its process is
//! there, and its beats go on while this one watches, so that it is neither frozen nor about to
//! go. In doubt this one stays: a node with two guards is noisy, one without stops its services.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, flock};

use super::duty::DIAL_EVERY;
use super::{GuardError, GuardOptions};
use crate::lease::{Beat, LeasePage};
use crate::poll::Poll;
use crate::sys;

/// Looks at the other's beats before it counts as frozen.
const LOOKS_MAX: u32 = 10;
/// Looks that must find another beat than the one before.
const SIGNS_OF_LIFE: u32 = 3;

/// What was found.
pub(super) enum Place {
    /// Nobody else's; held as long as the file is open.
    Mine(File),
    /// One that shows no life holds it.
    Frozen,
    /// This guard was told to end meanwhile.
    ToldToEnd,
}

/// Takes the place of the guard. It waits only where another holds it.
pub(super) fn take(
    options: &GuardOptions,
    page: &LeasePage,
    poll: &mut Poll,
    signals: &OwnedFd,
) -> Result<Place, GuardError> {
    let at = |what| move |e: io::Error| GuardError::Io(what, e);
    let path = options.run_dir.guard_lock();
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(at("open its lock"))?;
    let (mut last, mut signs) = (page.last_beat(Beat::Guard), 0);
    for _ in 0..LOOKS_MAX {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Place::Mine(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(errno) => return Err(at("take its lock")(errno.into())),
        }
        poll.wait(Some(sys::now() + DIAL_EVERY), |_| {}).map_err(at("wait"))?;
        if sys::read_signal(signals).map_err(at("read signals"))?.is_some() {
            return Ok(Place::ToldToEnd);
        }
        let beat = page.last_beat(Beat::Guard);
        signs += u32::from(std::mem::replace(&mut last, beat) != beat);
        if signs == SIGNS_OF_LIFE {
            return Err(GuardError::OnDuty(path));
        }
    }
    tracing::warn!("another guard is there and shows no life: this one stands by as well");
    Ok(Place::Frozen)
}
