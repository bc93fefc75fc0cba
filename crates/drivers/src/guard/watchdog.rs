//! A hardware watchdog: it reboots the machine unless the guard goes on feeding it. This is the
//! last line, for when the guard itself no longer runs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use model::{Moment, Span};

/// How often it is fed; the shortest timeouts of real devices are one second.
const EVERY: Span = Span::from_ms(250);

/// An open watchdog.
#[derive(Debug)]
pub(super) struct Watchdog {
    device: File,
    next: Moment,
}

impl Watchdog {
    /// Opens the device, which starts it.
    pub(super) fn open(path: &Path) -> io::Result<Watchdog> {
        Ok(Watchdog { device: OpenOptions::new().write(true).open(path)?, next: Moment::ZERO })
    }

    /// Feeds it, where it is time to.
    pub(super) fn feed(&mut self, now: Moment) {
        if now < self.next {
            return;
        }
        self.next = now + EVERY;
        if let Err(error) = self.device.write_all(b"f") {
            tracing::error!(%error, "the hardware watchdog can't be fed; it will reboot the node");
        }
    }

    /// Disarms it, when the guard leaves in order: the magic letter of the kernel's interface.
    pub(super) fn disarm(&mut self) {
        if let Err(error) = self.device.write_all(b"V") {
            tracing::error!(%error, "the hardware watchdog stays armed; it will reboot the node");
        }
    }
}
