//! Who holds the address: a watcher on each host that the kernel tells of every change, and what
//! it wrote down, laid side by side.

use std::io::Write as _;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use model::{Moment, Span};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::shell::Done;

/// Told when addresses of either family change.
const CHANGES: u32 = 0x10 | 0x100;
const PRIORITY: i32 = 40;
/// The kernel's messages that an address was added, or is being removed.
const ADDED: u16 = 20;
const REMOVED: u16 = 21;
/// An address that is not used yet, as another host may have it (`IFA_F_TENTATIVE`).
const TENTATIVE: u8 = 0x40;
/// The kernel tells of a removal first and then removes: it has done so well within this.
const SETTLED: Duration = Duration::from_millis(20);
/// Between two looks at one that is being removed.
const LOOK: Duration = Duration::from_micros(50);

/// The watcher's whole life: a line `NANOSECONDS up|down` for each change, on the boot-time
/// clock, until it is killed.
///
/// It goes by the kernel's messages and not by looks at the address: one added and removed again
/// before this process ran is not to be seen any more, and an added one can be bound to only a
/// moment after its message. Messages wait.
pub(crate) fn watch(address: IpAddr) -> Done {
    let failed = |e: rustix::io::Errno| e.to_string();
    let (kind, flags) = (SocketType::RAW, SocketFlags::CLOEXEC);
    let socket = socket_with(AddressFamily::NETLINK, kind, flags, None).map_err(failed)?;
    bind(&socket, &SocketAddrNetlink::new(0, CHANGES)).map_err(failed)?;
    // It must see a change before others see its effect; without the right to it, it may be late.
    if let Err(error) = drivers::sys::realtime(PRIORITY) {
        eprintln!("no real-time priority: {error}");
    }
    let mut buffer = [0u8; 4_096];
    let mut was = None;
    note(&mut was, is_up(address))?;
    loop {
        match recv(&socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((_, len)) => {
                for added in changes(buffer.get(..len).unwrap_or(&buffer), address) {
                    if !added {
                        until_gone(address);
                    }
                    note(&mut was, added)?;
                }
            }
            // What was lost may have been a removal.
            Err(rustix::io::Errno::NOBUFS) => {
                until_gone(address);
                note(&mut was, is_up(address))?;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.to_string()),
        }
    }
}

/// Nothing but an address that is there can be bound to.
fn is_up(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

fn until_gone(address: IpAddr) {
    let until = Instant::now() + SETTLED;
    while is_up(address) && Instant::now() < until {
        std::thread::park_timeout(LOOK);
    }
}

fn note(was: &mut Option<bool>, is: bool) -> Done {
    if was.replace(is) == Some(is) {
        return Ok(());
    }
    let line = format!("{} {}\n", drivers::sys::now().0, if is { "up" } else { "down" });
    std::io::stdout().write_all(line.as_bytes()).map_err(|e| e.to_string())
}

/// What the kernel's messages say of this address, in their order: added, or not. Each is a header
/// of 16 bytes, 8 about the address (the third: its flags), then attributes, one of which is its
/// bytes.
fn changes(mut messages: &[u8], address: IpAddr) -> Vec<bool> {
    let bytes = match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut all = Vec::new();
    while let Some(([a, b, c, d, e, f], _)) = messages.split_first_chunk() {
        let length = u32::from_ne_bytes([*a, *b, *c, *d]) as usize;
        let Some((message, flags)) = messages.get(..length).and_then(|m| Some((m, m.get(18)?)))
        else {
            return all;
        };
        if message.get(24..).is_some_and(|rest| rest.windows(bytes.len()).any(|w| w == bytes)) {
            match u16::from_ne_bytes([*e, *f]) {
                ADDED if flags & TENTATIVE == 0 => all.push(true),
                REMOVED => all.push(false),
                _ => {}
            }
        }
        messages = messages.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// A time during which a host held the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) host: String,
    pub(crate) from: Moment,
    pub(crate) to: Moment,
}

impl std::fmt::Display for Holding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from {} to {}", self.host, self.from.0, self.to.0)
    }
}

/// Those during which another host held the address too.
pub(crate) fn shared_holdings(holdings: &[Holding]) -> impl Iterator<Item = &Holding> {
    let meet = |a: &Holding, b: &Holding| a != b && a.from < b.to && b.from < a.to;
    holdings.iter().filter(move |a| holdings.iter().any(|b| meet(a, b)))
}

/// What one watcher wrote down, as holdings; one that lasts ends now.
pub(crate) fn holdings(host: &str, log: &Path, now: Moment) -> Done<Vec<Holding>> {
    let text = std::fs::read_to_string(log).map_err(|e| format!("{}: {e}", log.display()))?;
    Ok(parse(host, &text, now))
}

fn parse(host: &str, text: &str, now: Moment) -> Vec<Holding> {
    let mut all = Vec::new();
    let mut since = None;
    for (moment, state) in text.lines().filter_map(|line| line.split_once(' ')) {
        let Ok(moment) = moment.parse().map(Moment) else { continue };
        match (state, since) {
            ("up", None) => since = Some(moment),
            ("down", Some(from)) => {
                all.push(Holding { host: host.to_owned(), from, to: moment });
                since = None;
            }
            _ => {}
        }
    }
    all.extend(since.map(|from| Holding { host: host.to_owned(), from, to: now }));
    all
}

/// The most hosts that held the address at once, and for how long more than one did.
pub(crate) fn most_at_once(holdings: &[Holding]) -> (usize, Span) {
    let mut edges: Vec<(Moment, bool)> =
        holdings.iter().flat_map(|h| [(h.from, true), (h.to, false)]).collect();
    // What ends at a moment has ended before what begins at it.
    edges.sort_unstable();
    let (mut now, mut most, mut shared, mut last) = (0usize, 0, Span::ZERO, Moment::ZERO);
    for (at, begins) in edges {
        if now > 1 {
            shared = shared + at.since(last);
        }
        now = if begins { now + 1 } else { now - 1 };
        (most, last) = (most.max(now), at);
    }
    (most, shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_the_address_is_told_from_what_else_it_says() {
        let message = |kind: u16, flags: u8, ip: [u8; 4]| {
            let mut bytes = 28u32.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 12]);
            bytes.extend([flags, 0, 0, 0, 0, 0]);
            bytes.extend(ip);
            bytes
        };
        let (ours, other) = ([10, 77, 0, 100], [10, 77, 0, 9]);
        let said = |messages: &[Vec<u8>]| changes(&messages.concat(), IpAddr::from(ours));
        assert_eq!(said(&[message(REMOVED, 0, ours)]), [false]);
        let added = || message(ADDED, 0, ours);
        assert_eq!(said(&[added(), message(REMOVED, 0, other)]), [true]);
        assert_eq!(said(&[added(), message(REMOVED, 0, ours), added()]), [true, false, true]);
        assert!(said(&[message(ADDED, TENTATIVE, ours), message(ADDED, 0, other)]).is_empty());
        assert!(said(&[message(24, 0, ours)]).is_empty());
        assert!(said(&[vec![0; 28]]).is_empty() && said(&[]).is_empty());
    }

    #[test]
    fn holders_are_counted_by_the_moments_that_were_written_down() {
        let a = parse("a", "5 down\n10 up\n20 down\n30 up\n", Moment(100));
        let b = parse("b", "20 up\n25 down\nrubbish\n", Moment(100));
        let c = parse("c", "24 up\n31 down\n", Moment(100));
        assert_eq!(a.len(), 2);
        assert_eq!(most_at_once(&[a.clone(), b.clone()].concat()), (1, Span(0)));
        let all = [a.clone(), b.clone(), c.clone()].concat();
        let shared: Vec<String> = shared_holdings(&all).map(ToString::to_string).collect();
        assert_eq!(shared, ["a from 30 to 100", "b from 20 to 25", "c from 24 to 31"]);
        assert_eq!(most_at_once(&[a, b, c].concat()), (2, Span(2)));
        assert_eq!(most_at_once(&[]), (0, Span(0)));
    }
}
