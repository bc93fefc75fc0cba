//! Starting a program: everything is prepared, the child allocates nothing.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::{Pid, Resource, Rlimit};

/// Who a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Everything a program's start needs, prepared so that the child allocates nothing.
#[derive(Debug)]
pub struct SpawnPlan {
    /// Arguments; the first is also the program's absolute path.
    pub argv: Vec<CString>,
    /// Environment, `NAME=value`.
    pub env: Vec<CString>,
    /// Working directory.
    pub directory: CString,
    /// Who it runs as; the launcher's own identity where absent.
    pub identity: Option<Identity>,
    /// Limits: soft and hard at once.
    pub limits: Vec<(Resource, u64)>,
    /// Standard output and error.
    pub output: OwnedFd,
    /// The cgroup's directory.
    pub cgroup: Option<OwnedFd>,
    /// What the kernel sends it when the launcher dies: a program must not outlive launcher and
    /// guard together. Its own children may; those the guard or the next launcher finds.
    pub orphan_signal: i32,
}

/// A child that waits behind its gate: it runs the program once a byte is written there, and
/// leaves without having run anything when the gate is closed.
#[derive(Debug)]
pub struct Gated {
    /// Its process id, which is also its session and process group.
    pub pid: Pid,
    /// A descriptor that becomes readable when it has exited.
    pub pidfd: OwnedFd,
    /// Write one byte to let it go.
    pub gate: OwnedFd,
    /// Closed without data when the program runs; else 8 bytes, see [`SpawnFailure`].
    pub errors: OwnedFd,
    /// Whether it was born inside the cgroup. Otherwise the caller moves it there before it opens
    /// the gate.
    pub in_cgroup: bool,
}

/// Why a child could not run its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpawnFailure {
    /// The step that failed.
    pub step: &'static str,
    /// The kernel's error number.
    pub errno: i32,
}

/// Names of the steps, by the number that the child writes.
const STEPS: [&str; 7] = [
    "setting its standard streams",
    "setting a limit",
    "changing its group and user",
    "changing to its directory",
    "running the program",
    "starting its session",
    "tying it to the launcher's life",
];

impl SpawnFailure {
    /// Decodes what the child wrote.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<SpawnFailure> {
        let step = u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?) as usize;
        let errno = i32::from_ne_bytes(bytes.get(4..8)?.try_into().ok()?);
        Some(SpawnFailure { step: STEPS.get(step)?, errno })
    }
}

/// Lowest descriptor of what the child needs, so that moving it to 0..=4 overwrites nothing.
const HIGH_FD: RawFd = 16;

/// The child's side of a spawn: plain numbers and pointers, nothing to allocate or drop.
struct ChildSide<'a> {
    argv: &'a [*const libc::c_char],
    env: &'a [*const libc::c_char],
    plan: &'a SpawnPlan,
    null: RawFd,
    output: RawFd,
    gate: RawFd,
    errors: RawFd,
    parent: u32,
}

/// Starts a child behind its gate.
///
/// # Errors
/// What the kernel says: no processes or descriptors left, or a cgroup that is not writable.
pub fn spawn(plan: &SpawnPlan) -> io::Result<Gated> {
    let null = high(File::open("/dev/null")?.as_fd())?;
    let (gate_read, gate) = pipe()?;
    let (errors, errors_write) = pipe()?;
    let (gate_read, errors_write) = (high(gate_read.as_fd())?, high(errors_write.as_fd())?);
    let output = high(plan.output.as_fd())?;
    let pointers =
        |list: &[CString]| list.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>();
    let (argv, env) = (pointers(&plan.argv), pointers(&plan.env));
    let side = ChildSide {
        argv: &argv,
        env: &env,
        plan,
        null: null.as_raw_fd(),
        output: output.as_raw_fd(),
        gate: gate_read.as_raw_fd(),
        errors: errors_write.as_raw_fd(),
        parent: std::process::id(),
    };
    let (pid, pidfd, in_cgroup) = clone_child(&side)?;
    rustix::fs::fcntl_setfl(&errors, rustix::fs::OFlags::NONBLOCK)?;
    Ok(Gated { pid, pidfd, gate, errors, in_cgroup })
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

fn high(fd: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, HIGH_FD)?)
}

/// clone3 straight into the cgroup (a later move costs milliseconds in the kernel); where it is
/// not allowed, fork.
fn clone_child(side: &ChildSide<'_>) -> io::Result<(Pid, OwnedFd, bool)> {
    let mut pidfd: RawFd = -1;
    // SAFETY: an all-zero clone_args is valid and means "share nothing".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_PIDFD as u64;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = &side.plan.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let size = size_of::<libc::clone_args>();
    // SAFETY: without CLONE_VM this is a fork: the child gets a copy of everything, runs only
    // async-signal-safe code (`child`), and never returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut args), size) };
    if pid == 0 {
        child(side);
    }
    if pid > 0 {
        // SAFETY: the kernel has put a new descriptor there, which nobody else owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        return Ok((to_pid(pid as i32)?, pidfd, true));
    }
    let error = io::Error::last_os_error();
    if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EINVAL)) {
        return Err(error);
    }
    // SAFETY: as above.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        child(side);
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let pid = to_pid(pid)?;
    // Our own child, not reaped yet: the number can't have been reused.
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    Ok((pid, pidfd, side.plan.cgroup.is_none()))
}

/// `CLONE_INTO_CGROUP` of linux/sched.h; it does not fit the C library's integer type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn to_pid(pid: i32) -> io::Result<Pid> {
    Pid::from_raw(pid).ok_or_else(|| io::Error::other("the kernel returned process 0"))
}

/// Runs in the child. Only raw system calls: no allocation, no locks, no return.
fn child(side: &ChildSide<'_>) -> ! {
    let (step, errno) = match become_program(side) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let mut report = [0u8; 8];
    report[..4].copy_from_slice(&step.to_ne_bytes());
    report[4..].copy_from_slice(&errno.to_ne_bytes());
    // SAFETY: write and _exit are async-signal-safe; 4 is the error pipe or, where setting it up
    // failed, whatever answers EBADF.
    unsafe {
        libc::write(4, report.as_ptr().cast(), report.len());
        libc::_exit(127)
    }
}

fn become_program(side: &ChildSide<'_>) -> Result<std::convert::Infallible, (u32, i32)> {
    let at = |step: u32| move |errno: rustix::io::Errno| (step, errno.raw_os_error());
    // SAFETY: descriptor numbers only; all sources are at or above HIGH_FD, so that no target is
    // a source. The signal calls get valid pointers to locals.
    unsafe {
        let moved = libc::dup2(side.errors, 4);
        libc::fcntl(4, libc::F_SETFD, libc::FD_CLOEXEC);
        let fine = moved == 4
            && libc::dup2(side.null, 0) == 0
            && libc::dup2(side.output, 1) == 1
            && libc::dup2(side.output, 2) == 2
            && libc::dup2(side.gate, 3) == 3
            && libc::fcntl(3, libc::F_SETFD, libc::FD_CLOEXEC) == 0;
        if !fine {
            return Err((0, libc::EBADF));
        }
        close_from(5);
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
    rustix::process::setsid().map_err(at(5))?;
    wait_for_gate();
    for (resource, most) in &side.plan.limits {
        let limit = Rlimit { current: Some(*most), maximum: Some(*most) };
        rustix::process::setrlimit(*resource, limit).map_err(at(1))?;
    }
    if let Some(identity) = &side.plan.identity {
        take_identity(identity).map_err(|errno| (2, errno))?;
    }
    // After the identity, whose change would undo it.
    // SAFETY: numbers only; _exit is async-signal-safe.
    unsafe {
        let signal = side.plan.orphan_signal as libc::c_ulong;
        if libc::prctl(libc::PR_SET_PDEATHSIG, signal) != 0 {
            return Err((6, errno()));
        }
        if libc::getppid() as u32 != side.parent {
            libc::_exit(0);
        }
    }
    // SAFETY: umask can't fail; chdir and execve get NUL-terminated strings and NULL-terminated
    // arrays of them that the parent prepared and that outlive the call.
    unsafe {
        libc::umask(0o022);
        if libc::chdir(side.plan.directory.as_ptr()) != 0 {
            return Err((3, errno()));
        }
        libc::execve(side.argv[0], side.argv.as_ptr(), side.env.as_ptr());
    }
    Err((4, errno()))
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Waits for the byte; leaves where the launcher closed the gate or died.
fn wait_for_gate() {
    let mut byte = 0u8;
    loop {
        // SAFETY: reads one byte into a local; _exit is async-signal-safe.
        unsafe {
            match libc::read(3, ptr::from_mut(&mut byte).cast(), 1) {
                1 => return,
                -1 if errno() == libc::EINTR => {}
                _ => libc::_exit(0),
            }
        }
    }
}

/// The raw calls, because the C library's set the identity of threads that this copy of the
/// process does not have.
fn take_identity(identity: &Identity) -> Result<(), i32> {
    let (uid, gid) = (identity.uid, identity.gid);
    // SAFETY: the group list is valid for its length; the others take numbers.
    let done = unsafe {
        libc::syscall(libc::SYS_setgroups, identity.groups.len(), identity.groups.as_ptr()) == 0
            && libc::syscall(libc::SYS_setresgid, gid, gid, gid) == 0
            && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
    };
    if done { Ok(()) } else { Err(errno()) }
}

/// Most descriptors closed one by one where the kernel has no `close_range`.
const CLOSE_MAX: u32 = 65_536;

fn close_from(first: u32) {
    // SAFETY: in the child, nothing refers to these descriptors any more.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) != 0 {
            for fd in first..CLOSE_MAX {
                libc::close(fd as RawFd);
            }
        }
    }
}
