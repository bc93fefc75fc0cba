//! The interface's wire: what is sent there, and who else claims the address.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::AddressAt;
use super::frames::{self, FRAME_BYTES_MAX};
use crate::sys;

/// Most frames looked at before the clock is.
const FRAMES_PER_TURN: usize = 256;

/// Which frames a packet socket gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketKind {
    /// ARP.
    Arp,
    /// Solicitations and advertisements of IPv6's neighbour discovery.
    Neighbours,
}

/// A socket for the frames of one address.
#[derive(Debug)]
pub(super) struct Wire {
    socket: OwnedFd,
    ip: IpAddr,
    own: [u8; 6],
}

impl Wire {
    pub(super) fn open(at: AddressAt, own: [u8; 6]) -> io::Result<Wire> {
        let kind = if at.ip.is_ipv4() { PacketKind::Arp } else { PacketKind::Neighbours };
        let socket = sys::packet_socket(at.interface, kind)?;
        Ok(Wire { socket, ip: at.ip, own })
    }

    /// Asks whether somebody has the address.
    pub(super) fn probe(&self) -> io::Result<()> {
        self.send(&frames::probe(self.ip, self.own))
    }

    /// Tells everybody who has it.
    pub(super) fn announce(&self) -> io::Result<()> {
        frames::announcement(self.ip, self.own).iter().try_for_each(|frame| self.send(frame))
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(&self.socket, frame, SendFlags::empty())?;
        Ok(())
    }

    /// Reads what arrived: somebody else who claims the address, if there is one.
    pub(super) fn hear(&self) -> io::Result<Option<[u8; 6]>> {
        let mut buffer = [0u8; FRAME_BYTES_MAX];
        let mut found = None;
        for _ in 0..FRAMES_PER_TURN {
            match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((len, _)) => {
                    found = found.or(frames::claimant(&buffer[..len], self.ip, self.own));
                }
                Err(rustix::io::Errno::AGAIN) => break,
                // The interface went down: what follows from that is decided by its state.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::NETDOWN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(found)
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
