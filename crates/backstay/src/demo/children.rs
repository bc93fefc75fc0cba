//! The processes that a demo starts, and the certainty that none of them outlives it.
//!
//! Every child has a process group of its own (Ctrl-C at the terminal reaches the demo alone)
//! and dies with the demo, whatever ends that ([`run_tied`]). Programs that our launchers start
//! are not our children; they are found by what their environment or arguments name: the demo's
//! own directory, which nobody else knows.
//!
//! The list is global, so that the panic hook and the second Ctrl-C can clean up from anywhere.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use drivers::process::cgroup::{self, CgroupChoice, CgroupRoot};

use super::error::{DemoError, system};
use super::premises::{NODES, RUN};

/// Most children alive at once: three nodes of three processes, store, client, one command.
pub(super) const CHILDREN_MAX: usize = 64;
/// Sweeps for strays before giving up; a killed process is gone within a few of them.
const SWEEPS_MAX: u32 = 200;
const SWEEP_PAUSE: Duration = Duration::from_millis(10);

static HOUSE: Mutex<House> = Mutex::new(House { dir: None, keep: false, children: Vec::new() });

/// Everything that must be gone in the end.
struct House {
    dir: Option<PathBuf>,
    keep: bool,
    children: Vec<Child>,
}

fn house() -> MutexGuard<'static, House> {
    HOUSE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on this directory, and whatever names it, belongs to the demo.
pub(super) fn own(dir: &Path, keep: bool) {
    let mut house = house();
    house.dir = Some(dir.to_owned());
    house.keep = keep;
}

/// Prepares a command of our own binary that dies with this process.
pub(super) fn backstay() -> Result<Command, DemoError> {
    let program = std::env::current_exe().map_err(system("find our own binary"))?;
    let mut command = Command::new(&program);
    let own = std::process::id().to_string();
    command.args(["demo", "--tied", &own]).arg(program).process_group(0).stdin(Stdio::null());
    Ok(command)
}

/// What `demo --tied PID PROGRAM ARGUMENT…` does: asks the kernel to end this process with its
/// parent, makes sure that it still has that parent, and becomes the program.
pub(super) fn run_tied(words: &[String]) -> ExitCode {
    let [parent, program, arguments @ ..] = words else { return ExitCode::FAILURE };
    let tied = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let now_parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if tied.is_err() || now_parent.as_ref() != Some(parent) {
        return ExitCode::FAILURE;
    }
    let error = Command::new(program).args(arguments).exec();
    eprintln!("{program} can't be run: {error}");
    ExitCode::FAILURE
}

/// Starts a child whose output goes to `log`, and returns its process id. Call it from a thread
/// that lives as long as the demo: the kernel ties a child to the thread that started it.
pub(super) fn start(command: &mut Command, log: &Path) -> Result<u32, DemoError> {
    let what = || format!("start a process with its log {}", log.display());
    let output = fs::File::options().create(true).append(true).open(log);
    let output = output.map_err(system(what()))?;
    let errors = output.try_clone().map_err(system(what()))?;
    adopt(command.stdout(output).stderr(errors).spawn().map_err(system(what()))?)
}

/// Takes care of a child that was started elsewhere.
pub(super) fn adopt(child: Child) -> Result<u32, DemoError> {
    let mut house = house();
    house.children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
    let (pid, full) = (child.id(), house.children.len() >= CHILDREN_MAX);
    house.children.push(child);
    if full {
        return Err(system("start more processes")(io::ErrorKind::QuotaExceeded.into()));
    }
    Ok(pid)
}

/// Whether a child still runs. Its process id stays its own until this has said no once.
pub(super) fn is_running(pid: u32) -> bool {
    let mut house = house();
    let child = house.children.iter_mut().find(|child| child.id() == pid);
    child.is_some_and(|child| !matches!(child.try_wait(), Ok(Some(_))))
}

/// Whether a child has ended, and if so, whether well. One that is not known has ended badly.
pub(super) fn ended(pid: u32) -> Option<bool> {
    let mut house = house();
    match house.children.iter_mut().find(|child| child.id() == pid).map(Child::try_wait) {
        Some(Ok(None)) => None,
        Some(Ok(Some(status))) => Some(status.success()),
        Some(Err(_)) | None => Some(false),
    }
}

/// Sends a signal to a child. True where it was still there.
pub(super) fn signal(pid: u32, signal: Signal) -> bool {
    let mut house = house();
    let Some(child) = house.children.iter_mut().find(|child| child.id() == pid) else {
        return false;
    };
    // Not reaped yet: the id can't have become somebody else's.
    matches!(child.try_wait(), Ok(None))
        && rustix::process::kill_process(Pid::from_child(child), signal).is_ok()
}

/// Sends a signal to a process that a launcher of ours started. True where it was there and ours.
pub(super) fn signal_instance(pid: u32, signal: Signal) -> bool {
    let dir = house().dir.clone();
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    dir.is_some_and(|dir| signal_if_ours(pid, &dir, signal))
}

/// Order servers that live in a node's directory: what its launcher started.
pub(super) fn instances(node_dir: &Path) -> Vec<u32> {
    // With the slash at its end: another path may begin with the same letters.
    let servers = ours(&node_dir.join("")).into_iter().filter(|pid| {
        let cmdline = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
        let has =
            |word: &[u8]| cmdline.as_ref().is_ok_and(|c| c.split(|b| *b == 0).any(|w| w == word));
        has(b"orders-server")
    });
    servers.filter_map(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()).collect()
}

/// Kills everything, removes the directory (unless it is to be kept), and returns what is left.
/// Nothing is, unless the kernel can't end a process.
pub(super) fn clean_up() -> Leftovers {
    let mut house = match try_lock() {
        Some(house) => house,
        None => return Leftovers::default(),
    };
    let House { dir, keep, children } = &mut *house;
    for child in children.iter_mut() {
        // A child that has ended already can't be killed, and need not be.
        _ = child.kill();
    }
    for child in children.iter_mut() {
        _ = child.wait();
    }
    children.clear();
    let Some(dir) = dir.take() else { return Leftovers::default() };
    let mut strays = Vec::new();
    for _ in 0..SWEEPS_MAX {
        strays = ours(&dir);
        strays.retain(|pid| signal_if_ours(*pid, &dir, Signal::KILL));
        if strays.is_empty() {
            break;
        }
        std::thread::sleep(SWEEP_PAUSE);
    }
    let cgroups = remove_cgroups(&dir);
    let processes = strays.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    let removed = if *keep { Ok(()) } else { fs::remove_dir_all(&dir) };
    let directory = removed.is_err().then_some(dir);
    Leftovers { processes, cgroups, directory }
}

/// Removes what killed launchers leave of their cgroups, and returns what stays. Preparing a
/// root finds the one that is there, wherever cgroups are mounted.
fn remove_cgroups(dir: &Path) -> Vec<PathBuf> {
    let runs = NODES.map(|node| (node, dir.join(node).join(RUN)));
    let roots = runs.iter().filter(|(_, run)| run.exists()).filter_map(|(node, run)| {
        let name = cgroup::root_name(node, run);
        CgroupRoot::prepare(&CgroupChoice::Auto, &name).ok().flatten()
    });
    let stays = |root: &CgroupRoot| {
        for _ in 0..SWEEPS_MAX {
            // A cgroup counts as busy until its last process has been reaped.
            if root.remove_self().is_ok() {
                return false;
            }
            std::thread::sleep(SWEEP_PAUSE);
        }
        true
    };
    roots.filter(stays).map(|root| root.path().to_owned()).collect()
}

/// The lock, even where its holder panicked; nothing where its holder is this very thread.
fn try_lock() -> Option<MutexGuard<'static, House>> {
    for _ in 0..SWEEPS_MAX {
        match HOUSE.try_lock() {
            Ok(house) => return Some(house),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(SWEEP_PAUSE),
        }
    }
    None
}

/// What could not be taken away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Leftovers {
    /// Processes that do not die.
    pub(super) processes: Vec<i32>,
    /// Launchers' cgroups that can't be removed.
    pub(super) cgroups: Vec<PathBuf>,
    /// The directory, where it can't be removed.
    pub(super) directory: Option<PathBuf>,
}

impl Leftovers {
    /// Whether there is nothing.
    pub(super) fn is_none(&self) -> bool {
        self.processes.is_empty() && self.cgroups.is_empty() && self.directory.is_none()
    }
}

/// Living processes of our own binary that name the directory.
fn ours(dir: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let pids = entries.filter_map(Result::ok).filter_map(number).filter_map(Pid::from_raw);
    pids.filter(|pid| is_ours(*pid, dir)).collect()
}

/// Signals through a pidfd that was opened before the look at the process, so that the signal
/// can't reach another one that got its number meanwhile.
fn signal_if_ours(pid: Pid, dir: &Path, signal: Signal) -> bool {
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    is_ours(pid, dir) && pidfd_send_signal(&handle, signal).is_ok()
}

fn is_ours(pid: Pid, dir: &Path) -> bool {
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let needle = dir.as_os_str().as_encoded_bytes();
    let names_dir = |file: &str| {
        let text = fs::read(proc.join(file)).unwrap_or_default();
        text.windows(needle.len()).any(|window| window == needle)
    };
    let same_file = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    // Following the link works even where the binary was replaced meanwhile.
    let own = fs::metadata("/proc/self/exe").ok();
    let same_binary = own.zip(fs::metadata(proc.join("exe")).ok()).map(|(a, b)| same_file(a, b));
    let is_self = pid == rustix::process::getpid();
    !is_self && same_binary == Some(true) && (names_dir("environ") || names_dir("cmdline"))
}
