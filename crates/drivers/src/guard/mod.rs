//! The guard: the process that stops what the lease no longer covers.
//!
//! It knows the active instances of this node (the launcher arms each before it may act) and the
//! moment the lease ends (the agent writes it into the lease page). At `end − k` it kills them,
//! sees that they are gone, and says so. It is small on purpose: no network, no disk on its path,
//! memory locked, real-time priority where allowed, and its loop allocates nothing.

mod armed;
mod duty;
mod escalate;
mod sole;
mod statement;
mod watchdog;
pub mod wire;

use std::io;
use std::path::PathBuf;

use model::{NodeName, Span, Timers};

use crate::lease::PageError;
use crate::plant::Plants;
use crate::run_dir::RunDir;

pub use armed::ARMED_MAX;
pub use statement::{Cause, Statement};

/// How long what was killed may take to go before the guard reaches for the reboot.
pub const KILL_LIMIT: Span = Span::from_ms(1_000);
/// Real-time priority asked for: above ordinary real-time work, below the kernel's threads.
pub const REALTIME_PRIORITY: i32 = 60;

/// What the guard does about an instance that it can't stop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reboot {
    /// It says so, and claims nothing.
    #[default]
    Never,
    /// It reboots the machine at once.
    Really,
    /// It writes a line to this file, as a stand-in for the reboot in tests.
    StandIn(PathBuf),
}

/// How the guard runs.
#[derive(Debug, Clone)]
pub struct GuardOptions {
    /// This node, for its statements.
    pub node: NodeName,
    /// The run directory that launcher and agent use.
    pub run_dir: RunDir,
    /// The timers of the profile.
    pub timers: Timers,
    /// A lease that ends further ahead is treated as none.
    pub longest_lease: Span,
    /// What to do about what can't be stopped.
    pub reboot: Reboot,
    /// How long that takes to be decided.
    pub kill_limit: Span,
    /// A hardware watchdog, such as `/dev/watchdog`.
    pub watchdog: Option<PathBuf>,
    /// Planted faults.
    pub plants: Plants,
}

impl GuardOptions {
    /// Options with the defaults of everything that has one.
    #[must_use]
    pub fn new(node: NodeName, run_dir: RunDir, timers: Timers, longest_lease: Span) -> Self {
        GuardOptions {
            node,
            run_dir,
            timers,
            longest_lease,
            reboot: Reboot::default(),
            kill_limit: KILL_LIMIT,
            watchdog: None,
            plants: Plants::default(),
        }
    }
}

/// Why the guard can't do its duty. It has nothing armed then, or has stopped it.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The kernel or the file system.
    #[error("the guard can't {0}")]
    Io(&'static str, #[source] io::Error),
    /// The lease page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// Another one stands by.
    #[error(
        "another guard is on duty here: the launcher takes one, and this one ends without having \
         done anything. `fuser -v {}` names the other; a run directory belongs to one node",
        .0.display()
    )]
    OnDuty(PathBuf),
}

/// Runs the guard until it is told to end (SIGTERM, SIGINT). It waits for the launcher, and for
/// the next one when that is gone. The caller has no other threads yet.
///
/// # Errors
/// [`GuardError`].
pub fn run(options: GuardOptions) -> Result<(), GuardError> {
    options.plants.warn("guard");
    let signals = crate::sys::signal_fd(&[libc::SIGTERM, libc::SIGINT])
        .map_err(|e| GuardError::Io("take signals", e))?;
    let Some(mut duty) = duty::Duty::set_up(options, signals)? else { return Ok(()) };
    let done = duty.serve();
    duty.leave();
    done
}
