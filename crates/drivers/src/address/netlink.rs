//! Asking the kernel about addresses and interfaces (rtnetlink(7)).
//!
//! Requests are built in and answers read from buffers of fixed size: the guard does this when
//! a lease ends, and allocates nothing then. Two kinds of request need no library.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send,
    socket_with,
};

use super::AddressAt;

/// Largest answer read at once; the kernel makes none larger than the buffer offered.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// Most answers to one request: more addresses than any node has.
const ANSWERS_MAX: usize = 4_096;
/// Our longest request: two headers, two addresses of IPv6, their lifetimes and flags.
const REQUEST_BYTES_MAX: usize = 128;

/// The first of netlink's protocols, which is the default.
const ROUTE: Option<Protocol> = None;

const HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const LINK_HEADER: usize = 16;

/// Told when addresses of either family or interfaces change.
pub(super) const CHANGES: u32 = 0x1 | 0x10 | 0x100;

/// A message of a dump: its kind, its fixed header and its attributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    kind: u16,
    body: &'a [u8],
}

/// An interface as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link<'a> {
    pub(super) index: u32,
    pub(super) name: &'a str,
    /// Its hardware address, where it has one of Ethernet's length.
    pub(super) hardware: Option<[u8; 6]>,
    /// Up, and with a carrier.
    pub(super) running: bool,
    pub(super) loopback: bool,
}

/// A socket to the kernel's routing tables.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: Cell<u32>,
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Netlink {
    /// Opens one for requests.
    pub(super) fn open() -> io::Result<Netlink> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, ROUTE)?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Netlink { socket, sequence: Cell::new(1) })
    }

    /// Adds an address. IPv6 does without the kernel's own detection of duplicates, which takes
    /// a second, and is never chosen as a source by itself.
    pub(super) fn add(&self, at: AddressAt) -> io::Result<()> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let mut request = Request::address(libc::RTM_NEWADDR, flags, at);
        if at.ip.is_ipv6() {
            request.attribute(libc::IFA_FLAGS, &libc::IFA_F_NODAD.to_ne_bytes());
            let mut lifetimes = [0u8; 16];
            lifetimes[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
            request.attribute(libc::IFA_CACHEINFO, &lifetimes);
        }
        self.ask(&mut request, |_| {})
    }

    /// Removes an address. One that is not there is no error.
    pub(super) fn remove(&self, at: AddressAt) -> io::Result<()> {
        let flags = NLM_F_REQUEST | NLM_F_ACK;
        let done = self.ask(&mut Request::address(libc::RTM_DELADDR, flags, at), |_| {});
        match done {
            Err(error) if is_absent(&error) => Ok(()),
            done => done,
        }
    }

    /// Whether this process may change addresses at all. Asks for a change that can't be made:
    /// the kernel looks at the privilege first.
    pub(super) fn may_change(&self, at: AddressAt) -> io::Result<()> {
        // No interface has this number.
        self.remove(AddressAt { interface: i32::MAX as u32, ..at })
    }

    /// Calls `on` for every address of a family.
    pub(super) fn addresses(&self, of: IpAddr, mut on: impl FnMut(AddressAt)) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP);
        request.bytes(&[family(of), 0, 0, 0, 0, 0, 0, 0]);
        self.ask(&mut request, |message| {
            if let Some(listed) = message.address() {
                on(listed);
            }
        })
    }

    /// Calls `on` for every interface.
    pub(super) fn links(&self, mut on: impl FnMut(Link<'_>)) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP);
        request.bytes(&[0; LINK_HEADER]);
        self.ask(&mut request, |message| {
            if let Some(link) = message.link() {
                on(link);
            }
        })
    }

    /// The address as the kernel lists it at its interface, whatever its prefix there.
    pub(super) fn listed(&self, at: AddressAt) -> io::Result<Option<AddressAt>> {
        let mut found = None;
        self.addresses(at.ip, |listed| {
            if listed.ip == at.ip && listed.interface == at.interface {
                found = Some(listed);
            }
        })?;
        Ok(found)
    }

    /// Sends a request and reads until its end: an acknowledgement, an error, or the end of a
    /// dump. Answers to earlier requests that were given up are skipped.
    fn ask(&self, request: &mut Request, mut on: impl FnMut(Message<'_>)) -> io::Result<()> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        send(&self.socket, request.finish(sequence), SendFlags::empty())?;
        let mut buffer = [0u8; ANSWER_BYTES_MAX];
        for _ in 0..ANSWERS_MAX {
            let (len, whole) = match recv(&self.socket, &mut buffer[..], RecvFlags::TRUNC) {
                Ok(read) => read,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if whole > len {
                return Err(io::Error::other("an answer of the kernel is too long"));
            }
            if let Some(done) = read_answers(&buffer[..len], sequence, &mut on) {
                return done;
            }
        }
        Err(io::Error::other("the kernel's answer does not end"))
    }
}

/// Whether an error says that the address (or its interface) is not there.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV | libc::ENXIO))
}

/// Reads one datagram of answers; the result where it holds the end.
pub(super) fn read_answers(
    mut bytes: &[u8],
    sequence: u32,
    on: &mut impl FnMut(Message<'_>),
) -> Option<io::Result<()>> {
    while bytes.len() >= HEADER {
        let len = u32_at(bytes, 0)? as usize;
        let (kind, flags) = (u16_at(bytes, 4)?, u16_at(bytes, 6)?);
        let ours = u32_at(bytes, 8)? == sequence;
        let Some(body) = bytes.get(HEADER..len) else {
            return Some(Err(io::Error::other("a cut answer of the kernel")));
        };
        if ours && flags & NLM_F_DUMP_INTR != 0 {
            return Some(Err(io::Error::other("the list changed while it was read")));
        }
        if ours && i32::from(kind) == libc::NLMSG_DONE {
            return Some(Ok(()));
        }
        if ours && i32::from(kind) == libc::NLMSG_ERROR {
            let code = u32_at(body, 0)?.cast_signed();
            let failed = || Err(io::Error::from_raw_os_error(-code));
            return Some(if code == 0 { Ok(()) } else { failed() });
        }
        if ours {
            on(Message { kind, body });
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

impl<'a> Message<'a> {
    pub(super) fn address(self) -> Option<AddressAt> {
        if self.kind != libc::RTM_NEWADDR {
            return None;
        }
        let (v6, prefix) = (i32::from(*self.body.first()?) == libc::AF_INET6, *self.body.get(1)?);
        let interface = u32_at(self.body, 4)?;
        // On links between two points, IFA_ADDRESS is the other end.
        let of = |wanted| attribute(self.body.get(ADDRESS_HEADER..)?, wanted);
        let bytes = of(libc::IFA_LOCAL).or_else(|| of(libc::IFA_ADDRESS))?;
        let ip = if v6 {
            IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)
        } else {
            IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)
        };
        Some(AddressAt { ip, prefix, interface })
    }

    pub(super) fn link(self) -> Option<Link<'a>> {
        if self.kind != libc::RTM_NEWLINK {
            return None;
        }
        let (index, flags) = (u32_at(self.body, 4)?, u32_at(self.body, 8)?.cast_signed());
        let of = |wanted| attribute(self.body.get(LINK_HEADER..)?, wanted);
        let name = of(libc::IFLA_IFNAME)?.split(|b| *b == 0).next()?;
        let up = libc::IFF_UP | libc::IFF_RUNNING;
        Some(Link {
            index,
            name: std::str::from_utf8(name).ok()?,
            hardware: of(libc::IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok()),
            running: flags & up == up,
            loopback: flags & libc::IFF_LOOPBACK != 0,
        })
    }
}

/// The value of an attribute in a list of them.
fn attribute(mut list: &[u8], wanted: u16) -> Option<&[u8]> {
    while list.len() >= 4 {
        let (len, kind) = (usize::from(u16_at(list, 0)?), u16_at(list, 2)?);
        let value = list.get(4..len)?;
        if kind == wanted {
            return Some(value);
        }
        list = list.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

const NLM_F_REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const NLM_F_ACK: u16 = libc::NLM_F_ACK as u16;
const NLM_F_DUMP: u16 = libc::NLM_F_DUMP as u16;
const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;
const NLM_F_EXCL: u16 = libc::NLM_F_EXCL as u16;
const NLM_F_DUMP_INTR: u16 = libc::NLM_F_DUMP_INTR as u16;

fn family(ip: IpAddr) -> u8 {
    (if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

/// A request being built.
struct Request {
    buffer: [u8; REQUEST_BYTES_MAX],
    len: usize,
}

impl Request {
    fn new(kind: u16, flags: u16) -> Request {
        let mut request = Request { buffer: [0; REQUEST_BYTES_MAX], len: HEADER };
        request.buffer[4..6].copy_from_slice(&kind.to_ne_bytes());
        request.buffer[6..8].copy_from_slice(&flags.to_ne_bytes());
        request
    }

    fn address(kind: u16, flags: u16, at: AddressAt) -> Request {
        let mut request = Request::new(kind, flags);
        request.bytes(&[family(at.ip), at.prefix, 0, 0]);
        request.bytes(&at.interface.to_ne_bytes());
        match at.ip {
            IpAddr::V4(ip) => {
                request.attribute(libc::IFA_LOCAL, &ip.octets());
                request.attribute(libc::IFA_ADDRESS, &ip.octets());
            }
            IpAddr::V6(ip) => {
                request.attribute(libc::IFA_LOCAL, &ip.octets());
                request.attribute(libc::IFA_ADDRESS, &ip.octets());
            }
        }
        request
    }

    /// What is added is always a multiple of four bytes.
    fn bytes(&mut self, bytes: &[u8]) {
        self.buffer[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let len = (4 + value.len()) as u16;
        self.bytes(&len.to_ne_bytes());
        self.bytes(&kind.to_ne_bytes());
        self.bytes(value);
    }

    fn finish(&mut self, sequence: u32) -> &[u8] {
        self.buffer[0..4].copy_from_slice(&(self.len as u32).to_ne_bytes());
        self.buffer[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.buffer[..self.len]
    }
}

/// A socket that becomes readable when something about addresses or interfaces changes.
#[derive(Debug)]
pub(super) struct Changes(OwnedFd);

impl Changes {
    pub(super) fn watch() -> io::Result<Changes> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, ROUTE)?;
        bind(&socket, &SocketAddrNetlink::new(0, CHANGES))?;
        Ok(Changes(socket))
    }

    /// Reads away what is there. What it says does not matter: the present state is asked for
    /// afterwards, also where messages were lost (ENOBUFS).
    pub(super) fn drain(&self) -> io::Result<()> {
        let mut buffer = [0u8; 4_096];
        for _ in 0..ANSWERS_MAX {
            match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok(_) | Err(rustix::io::Errno::INTR | rustix::io::Errno::NOBUFS) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_lists_the_loopback_address_and_interface() {
        let netlink = Netlink::open().unwrap();
        let mut loopback = None;
        netlink
            .links(|link| {
                if link.loopback {
                    assert_eq!(link.name, "lo");
                    loopback = Some(link.index);
                }
            })
            .unwrap();
        let interface = loopback.expect("a loopback interface");
        let at = AddressAt { ip: "127.0.0.1".parse().unwrap(), prefix: 8, interface };
        let mut seen = Vec::new();
        netlink.addresses(at.ip, |listed| seen.push(listed)).unwrap();
        assert_eq!(netlink.listed(at).unwrap().is_some(), seen.contains(&at), "{seen:?}");
        let absent = AddressAt { ip: "192.0.2.77".parse().unwrap(), ..at };
        assert_eq!(netlink.listed(absent).unwrap(), None);
    }

    #[test]
    fn the_longest_request_fits_and_says_its_length() {
        let ip = "fd00::1".parse().unwrap();
        let mut request = Request::address(1, 2, AddressAt { ip, prefix: 64, interface: 3 });
        request.attribute(libc::IFA_FLAGS, &[0; 4]);
        request.attribute(libc::IFA_CACHEINFO, &[0; 16]);
        let bytes = request.finish(7);
        assert_eq!(u32_at(bytes, 0).unwrap() as usize, bytes.len());
        assert_eq!(attribute(&bytes[HEADER + 8..], libc::IFA_CACHEINFO), Some(&[0u8; 16][..]));
    }

    #[test]
    fn garbage_ends_the_reading_and_never_panics() {
        for len in 0..64u8 {
            let bytes: Vec<u8> = (0..64).map(|i| if i < 4 { len } else { i }).collect();
            let done = read_answers(&bytes, 0, &mut |message| {
                assert!(message.address().is_none() && message.link().is_none());
            });
            assert!(done.is_none_or(|done| done.is_err()), "{len}");
        }
        assert_eq!(attribute(&[200, 0, 1, 0, 9], 1), None);
        assert_eq!(attribute(&[0, 0, 1, 0], 1), None);
    }
}
