//! Who holds the address: a watcher on each host that the kernel tells of every change, and what
//! it wrote down, laid side by side.

use std::io::Write as _;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use model::{Moment, Span};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::shell::Done;

/// Told when addresses of either family change.
const CHANGES: u32 = 0x10 | 0x100;
const PRIORITY: i32 = 40;

/// The watcher's whole life: a line `NANOSECONDS up|down` for each change, on the boot-time
/// clock, until it is killed.
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
    loop {
        // Nothing but an address that is there can be bound to.
        let is = UdpSocket::bind((address, 0)).is_ok();
        if was.replace(is) != Some(is) {
            let line = format!("{} {}\n", drivers::sys::now().0, if is { "up" } else { "down" });
            std::io::stdout().write_all(line.as_bytes()).map_err(|e| e.to_string())?;
        }
        match recv(&socket, &mut buffer[..], RecvFlags::empty()) {
            Ok(_) | Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.to_string()),
        }
    }
}

/// A time during which a host held the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) host: String,
    pub(crate) from: Moment,
    pub(crate) to: Moment,
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
    fn holders_are_counted_by_the_moments_that_were_written_down() {
        let a = parse("a", "5 down\n10 up\n20 down\n30 up\n", Moment(100));
        let b = parse("b", "20 up\n25 down\nrubbish\n", Moment(100));
        let c = parse("c", "24 up\n31 down\n", Moment(100));
        assert_eq!(a.len(), 2);
        assert_eq!(most_at_once(&[a.clone(), b.clone()].concat()), (1, Span(0)));
        assert_eq!(most_at_once(&[a, b, c].concat()), (2, Span(2)));
        assert_eq!(most_at_once(&[]), (0, Span(0)));
    }
}
