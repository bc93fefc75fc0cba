//! The few kernel interfaces that no safe library offers, and the only `unsafe` of the project.
//!
//! Everything here is a thin, safe face over one system call or one mapping. It decides nothing.
#![allow(unsafe_code)]

mod spawn;
mod words;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use model::Moment;
use rustix::mm::MlockAllFlags;
use rustix::process::{Resource, Rlimit};

pub use spawn::{Gated, Identity, SpawnFailure, SpawnPlan, spawn};
pub use words::{SharedWords, survive_cut_files};

use crate::address::PacketKind;

/// This node's boot-time clock, which goes on in suspend.
#[must_use]
pub fn now() -> Moment {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Moment(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
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
