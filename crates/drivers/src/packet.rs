//! Packet sockets (`SOCK_SEQPACKET`) between guard and launcher, and who is at their other end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with,
    bind, connect, listen, recv, send, socket_with, sockopt,
};
use serde::Serialize;

use crate::guard::wire::PACKET_BYTES_MAX;

/// Connections waiting to be accepted.
const BACKLOG: i32 = 8;

/// Who is at the other end of a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Process id; 0 where it is not visible from here.
    pub(crate) pid: i32,
    /// User id.
    pub(crate) uid: u32,
}

/// Asks the kernel who is at the other end.
///
/// # Errors
/// What the kernel says.
pub(crate) fn peer(fd: impl AsFd) -> io::Result<Peer> {
    let cred = sockopt::socket_peercred(fd)?;
    Ok(Peer { pid: cred.pid.as_raw_pid(), uid: cred.uid.as_raw() })
}

/// Whether a peer may give orders: root, this process's own user, or the one named.
#[must_use]
pub(crate) fn trusted(peer: Peer, also: Option<u32>) -> bool {
    let me = rustix::process::geteuid().as_raw();
    peer.uid == 0 || peer.uid == me || Some(peer.uid) == also
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Serves packets under a name.
///
/// # Errors
/// What the kernel says.
pub(crate) fn serve(path: &Path) -> io::Result<OwnedFd> {
    crate::process::plan::remove_stale(path)?;
    let fd = socket()?;
    bind(&fd, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// Takes the next connection, if one waits.
///
/// # Errors
/// What the kernel says.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(fd) => Ok(Some(fd)),
        Err(
            rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED,
        ) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Connects to who serves under a name.
///
/// # Errors
/// What the kernel says.
pub(crate) fn dial(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket()?;
    connect(&fd, &SocketAddrUnix::new(path)?)?;
    Ok(fd)
}

/// Sends one message. Allocates nothing.
///
/// # Errors
/// What the kernel says; `WouldBlock` where the other side doesn't read.
pub(crate) fn send_packet<T: Serialize>(fd: impl AsFd, message: &T) -> io::Result<()> {
    let mut buffer = [0u8; PACKET_BYTES_MAX];
    let packet = postcard::to_slice(message, &mut buffer).map_err(io::Error::other)?;
    send(fd, packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// What a receive found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// A packet of this length. One that filled the buffer was cut and is garbage.
    Packet(usize),
    /// Nothing waits.
    Nothing,
    /// The other side is gone.
    Closed,
}

/// Receives one packet, if one waits.
#[must_use]
pub(crate) fn receive(fd: impl AsFd, buffer: &mut [u8; PACKET_BYTES_MAX]) -> Received {
    match recv(fd, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
        Ok((0, _)) => Received::Closed,
        Ok((len, _)) => Received::Packet(len),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Received::Nothing,
        Err(_) => Received::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::wire::FromGuard;

    #[test]
    fn packets_keep_their_bounds_and_the_end_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert!(dial(&path).is_err());
        let listener = serve(&path).unwrap();
        assert!(accept(&listener).unwrap().is_none());
        let near = dial(&path).unwrap();
        let far = accept(&listener).unwrap().unwrap();
        assert!(trusted(peer(&far).unwrap(), None));
        assert!(
            !trusted(Peer { pid: 1, uid: 4_711 }, Some(4_712)) || {
                rustix::process::geteuid().as_raw() == 4_711
            }
        );
        let mut buffer = [0u8; PACKET_BYTES_MAX];
        assert_eq!(receive(&far, &mut buffer), Received::Nothing);
        for incarnation in [1, 2] {
            send_packet(&near, &FromGuard::Hello { incarnation }).unwrap();
        }
        for incarnation in [1, 2] {
            let Received::Packet(len) = receive(&far, &mut buffer) else { panic!("a packet") };
            let message: FromGuard<'_> = postcard::from_bytes(&buffer[..len]).unwrap();
            assert_eq!(message, FromGuard::Hello { incarnation });
        }
        drop(near);
        assert_eq!(receive(&far, &mut buffer), Received::Closed);
    }
}
