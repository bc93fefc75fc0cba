//! The few kernel interfaces that no safe library offers, and the only `unsafe` of the project.
//!
//! Everything here is a thin, safe face over one system call or one mapping. It decides nothing.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use model::Moment;
use rustix::mm::{MapFlags, MlockAllFlags, ProtFlags};
use rustix::process::{Pid, Resource, Rlimit};

use crate::address::PacketKind;

/// This node's boot-time clock, which goes on in suspend.
#[must_use]
pub fn now() -> Moment {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Moment(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
}

/// A small file mapped into memory that several processes share, as 64-bit atomics.
///
/// The mapping stays valid whatever happens to the file's name. Where somebody makes the file
/// shorter, which whoever may write to it can, the words read as 0 from then on in a process that
/// called [`survive_cut_files`]: no lease. Elsewhere that ends the process (`SIGBUS`).
#[derive(Debug)]
pub struct SharedWords {
    base: *mut AtomicU64,
    len: usize,
}

// SAFETY: the mapping lives as long as the value and is only ever reached as `&AtomicU64`.
unsafe impl Send for SharedWords {}
// SAFETY: as above; atomics may be shared between threads.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps the first `len` words of a file.
    ///
    /// # Errors
    /// The file is shorter than that, or the kernel refuses.
    pub fn map(file: &File, len: usize, writable: bool) -> io::Result<SharedWords> {
        let bytes = len * size_of::<AtomicU64>();
        if file.metadata()?.len() < bytes as u64 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is too short"));
        }
        let access = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a fresh shared mapping at an address of the kernel's choice aliases nothing; it
        // is page-aligned, therefore aligned for AtomicU64, and as long as asked.
        let base =
            unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, access, MapFlags::SHARED, file, 0)? };
        let words = SharedWords { base: base.cast(), len };
        note_mapping(base as usize)?;
        Ok(words)
    }

    /// One word.
    ///
    /// # Panics
    /// Where `index` lies outside the mapping.
    #[must_use]
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.len, "word {index} of a page of {}", self.len);
        // SAFETY: inside the mapping, aligned, and any bit pattern is a valid u64.
        unsafe { &*self.base.add(index) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        let bytes = self.len * size_of::<AtomicU64>();
        forget_mapping(self.base as usize);
        // SAFETY: exactly what `map` mapped; no reference outlives `self`.
        let done = unsafe { rustix::mm::munmap(self.base.cast(), bytes) };
        debug_assert!(done.is_ok(), "munmap of our own mapping");
    }
}

/// Most files mapped at one time that [`survive_cut_files`] looks after.
const MAPPINGS_MAX: usize = 4_096;

/// Where the mapped pages lie; 0 is a free place. Read by a signal handler, so nothing but atomics.
static MAPPINGS: [AtomicUsize; MAPPINGS_MAX] = [const { AtomicUsize::new(0) }; MAPPINGS_MAX];

/// Bytes of a page; every mapping here lies within one.
const PAGE: usize = 4_096;

fn note_mapping(base: usize) -> io::Result<()> {
    let take = |place: &&AtomicUsize| {
        place.compare_exchange(0, base, Ordering::AcqRel, Ordering::Acquire).is_ok()
    };
    let place = MAPPINGS.iter().find(take);
    place.map(drop).ok_or_else(|| io::Error::other("too many files are mapped"))
}

fn forget_mapping(base: usize) {
    for place in &MAPPINGS {
        if place.compare_exchange(base, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return;
        }
    }
}

/// From here on, a mapped file that somebody makes shorter reads as zeros instead of ending this
/// process: launcher and guard take that for no lease and stop what is active.
///
/// # Errors
/// What the kernel says.
pub fn survive_cut_files() -> io::Result<()> {
    // SAFETY: an all-zero sigaction is valid; the handler does only what is permitted in one.
    let rc = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_cut_file as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut())
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts a page of zeros where the file's page is gone. Any other cause ends the process as it
/// would have.
extern "C" fn on_cut_file(_signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid `info` to a SA_SIGINFO handler; mmap and sigaction are plain
    // system calls; the page belongs to one of our own mappings, all accesses to which are atomic.
    unsafe {
        let page = (*info).si_addr() as usize & !(PAGE - 1);
        let ours = page != 0 && MAPPINGS.iter().any(|m| m.load(Ordering::Acquire) == page);
        let (access, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
        );
        let mapped =
            ours && libc::mmap(page as *mut _, PAGE, access, flags, -1, 0) != libc::MAP_FAILED;
        if !mapped {
            // The access is repeated on return, and then has its usual effect.
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
        }
    }
}

/// Locks this process's memory, so that no page fault delays it.
///
/// Without the privilege and with a limit, future mappings are left out: they would fail at the
/// limit, which is worse than a page fault.
///
/// # Errors
/// What the kernel says where it is not permitted.
pub fn lock_memory() -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Memlock);
    if let Some(most) = limit.maximum {
        let raised = Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(Resource::Memlock, raised)?;
    }
    let mut flags = MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT;
    if limit.maximum.is_none() || rustix::process::geteuid().is_root() {
        flags |= MlockAllFlags::FUTURE;
    }
    Ok(rustix::mm::mlockall(flags)?)
}

/// Keeps this process out of core dumps and away from debuggers of its own user. Everything that
/// it reads about itself in `/proc` must be read before.
///
/// # Errors
/// What the kernel says.
pub fn forbid_dumps() -> io::Result<()> {
    let none = rustix::process::DumpableBehavior::NotDumpable;
    Ok(rustix::process::set_dumpable_behavior(none)?)
}

/// Gives the calling thread real-time priority, which its children don't inherit.
///
/// # Errors
/// What the kernel says where it is not permitted.
pub fn realtime(priority: i32) -> io::Result<()> {
    // SAFETY: an all-zero sched_param is valid.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = priority;
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `param` outlives the call; 0 is the calling thread. The raw call, because some C
    // libraries refuse the wrapper.
    let rc =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, ptr::from_ref(&param)) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Blocks these signals in the calling thread (and those it starts later) and returns a
/// descriptor to read them from.
///
/// # Errors
/// What the kernel says.
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: sigset_t is plain data that sigemptyset initialises; every pointer is to a local.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        let rc = libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
        if rc != 0 {
            return Err(io::Error::from_raw_os_error(rc));
        }
        let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// The next signal waiting on a descriptor of [`signal_fd`], if any.
///
/// # Errors
/// What the kernel says.
pub fn read_signal(fd: &OwnedFd) -> io::Result<Option<i32>> {
    let mut buffer = [0u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut buffer) {
        // The first field is the signal's number, 32 bits.
        Ok(n) if n == buffer.len() => {
            Ok(Some(i32::from_ne_bytes([buffer[0], buffer[1], buffer[2], buffer[3]])))
        }
        Ok(_) => Ok(None),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

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
const STEPS: [&str; 6] = [
    "setting its standard streams",
    "setting a limit",
    "changing its group and user",
    "changing to its directory",
    "running the program",
    "starting its session",
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

/// A non-blocking socket for whole Ethernet frames of one interface.
///
/// # Errors
/// What the kernel says, also where this process may not have one.
pub fn packet_socket(interface: u32, kind: PacketKind) -> io::Result<OwnedFd> {
    let arp = kind == PacketKind::Arp;
    let protocol = if arp { libc::ETH_P_ARP } else { libc::ETH_P_IPV6 };
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the descriptor is new. Nothing comes for protocol 0 before the filter is in place.
    let socket = match unsafe { libc::socket(libc::AF_PACKET, flags, 0) } {
        fd if fd >= 0 => unsafe { OwnedFd::from_raw_fd(fd) },
        _ => return Err(io::Error::last_os_error()),
    };
    if !arp {
        only_neighbours(&socket)?;
    }
    // SAFETY: an all-zero sockaddr_ll is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (protocol as u16).to_be();
    address.sll_ifindex = interface.cast_signed();
    let (size, at) = (size_of::<libc::sockaddr_ll>(), ptr::from_ref(&address).cast());
    // SAFETY: `address` is a sockaddr_ll of that size and outlives the call.
    let rc = unsafe { libc::bind(socket.as_raw_fd(), at, size as u32) };
    if rc == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// A filter (bpf(4)): an IPv6 interface carries all traffic, of which two types are wanted.
fn only_neighbours(socket: &OwnedFd) -> io::Result<()> {
    let (load, equal, answer) = (0x30, 0x15, 0x06);
    // Behind the header of Ethernet: the next header is ICMPv6, and its type is one of the two.
    let mut filter = [
        (load, 0, 0, 20),
        (equal, 0, 4, 58),
        (load, 0, 0, 54),
        (equal, 1, 0, 135),
        (equal, 0, 1, 136),
        (answer, 0, 0, u32::MAX),
        (answer, 0, 0, 0),
    ]
    .map(|(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k });
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let (size, value) = (size_of::<libc::sock_fprog>(), ptr::from_ref(&program).cast());
    let (fd, name) = (socket.as_raw_fd(), libc::SO_ATTACH_FILTER);
    // SAFETY: `program` and the filter that it points to outlive the call, which copies both.
    let rc = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, value, size as u32) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
