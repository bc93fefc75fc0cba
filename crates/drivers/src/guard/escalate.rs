//! What the guard does about an instance that it can't stop: force a reboot where that is
//! allowed, and say so where it is not.

use std::fs::OpenOptions;
use std::io::{self, Write};

use super::Reboot;

/// Forces the reboot. Returns what to say where the node still runs afterwards.
pub(super) fn escalate(reboot: &Reboot) -> &'static str {
    match reboot {
        Reboot::Never => "it can't be stopped, and a forced reboot is not allowed here",
        Reboot::Really => {
            let (quick, orderly) = (at_once(), by_call());
            tracing::error!(?quick, ?orderly, "the forced reboot failed");
            "it can't be stopped, and the forced reboot failed"
        }
        Reboot::StandIn(path) => {
            let written = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .and_then(|mut file| file.write_all(b"forced reboot\n"));
            match written {
                Ok(()) => "it can't be stopped; the stand-in for the reboot was called",
                Err(error) => {
                    tracing::error!(%error, "the stand-in for the reboot can't be written");
                    "it can't be stopped, and the stand-in for the reboot failed"
                }
            }
        }
    }
}

/// Does not wait for devices or processes, one of which hangs already.
fn at_once() -> io::Result<()> {
    OpenOptions::new().write(true).open("/proc/sysrq-trigger")?.write_all(b"b")
}

fn by_call() -> io::Result<()> {
    Ok(rustix::system::reboot(rustix::system::RebootCommand::Restart)?)
}
