//! The launcher: the small process that starts, stops and promotes instances.
//!
//! It is parent and subreaper of every program. It does what the agent asks, within what the
//! committed specification names, refuses old epochs, and lets nothing become active that the
//! guard has not armed. It never decides where something runs.
//!
//! Everything happens in one loop (`core.rs`); each file beside it holds one behaviour of it.

mod agent_link;
mod core;
mod enforce;
mod epochs;
pub(crate) mod fuzzing;
mod guard_link;
mod instance;
mod leftovers;
mod probes;
mod ready;
mod requests;
mod roles;
mod start;
mod stop;
mod talk;

use std::io;
use std::path::PathBuf;

use model::{NodeName, Span, Timers};

use crate::lease::PageError;
use crate::plant::Plants;
use crate::process::cgroup::CgroupChoice;
use crate::run_dir::RunDir;

/// How long the guard may take to confirm that it has armed an instance.
pub const ARM_CONFIRM: Span = Span::from_ms(250);
/// How long what was killed may take to go before the agent is told that it doesn't.
pub const KILL_LIMIT: Span = Span::from_ms(1_000);
/// How long what an earlier launcher left behind may take to go before the start fails.
pub const LEFTOVERS_LIMIT: Span = Span::from_ms(5_000);
/// Most health-check commands running at once.
pub const PROBES_MAX: usize = 64;

/// How the launcher runs.
#[derive(Debug, Clone)]
pub struct LauncherOptions {
    /// This node.
    pub node: NodeName,
    /// The run directory, shared with guard and agent.
    pub run_dir: RunDir,
    /// Where the output of instances goes.
    pub log_dir: PathBuf,
    /// The timers of the profile.
    pub timers: Timers,
    /// A lease that ends further ahead is treated as none.
    pub longest_lease: Span,
    /// The agent's user, where it is not the launcher's own.
    pub agent_uid: Option<u32>,
    /// Where instances' cgroups go.
    pub cgroups: CgroupChoice,
    /// The program that holds an address, less its last word; see [`crate::address::keeper`].
    pub keeper: Vec<String>,
    /// Planted faults.
    pub plants: Plants,
}

impl LauncherOptions {
    /// Options with the defaults of everything that has one.
    #[must_use]
    pub fn new(
        node: NodeName,
        run_dir: RunDir,
        log_dir: PathBuf,
        timers: Timers,
        longest_lease: Span,
    ) -> Self {
        LauncherOptions {
            node,
            run_dir,
            log_dir,
            timers,
            longest_lease,
            agent_uid: None,
            cgroups: CgroupChoice::default(),
            // This very program, whatever lies under its name by now.
            keeper: vec!["/proc/self/exe".into(), "keeper".into()],
            plants: Plants::default(),
        }
    }
}

/// Why the launcher can't do its work.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// The kernel or the file system.
    #[error("the launcher can't {0}")]
    Io(&'static str, #[source] io::Error),
    /// Another one serves this directory.
    #[error(
        "another launcher holds {}: two would start everything twice; stop that one first",
        .0.display()
    )]
    Locked(PathBuf),
    /// The lease page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// What an earlier launcher left behind is still there.
    #[error(
        "{0} processes of an earlier launcher can't be killed: nothing is started beside them; \
         reboot this node"
    )]
    Leftovers(usize),
    /// The launcher was told to end, and could not stop this many instances.
    #[error("{0} instances can't be stopped: fence or reboot this node")]
    Unstoppable(usize),
}

/// Runs the launcher until it is told to end (SIGTERM, SIGINT), when it stops all instances.
/// The caller has no other threads yet.
///
/// # Errors
/// [`LauncherError`].
pub fn run(options: LauncherOptions) -> Result<(), LauncherError> {
    options.plants.warn("launcher");
    let signals = crate::sys::signal_fd(&[libc::SIGTERM, libc::SIGINT, libc::SIGCHLD])
        .map_err(|e| LauncherError::Io("take signals", e))?;
    core::Launcher::set_up(options, signals)?.serve()
}
