//! Measures one link: sends datagrams to a node that answers, and figures what became of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use config::measurement::{LinkMeasurement, NodeMeasurement};
use model::NodeName;

use super::{INTERVAL, MeasureError, left, ms, per_mille, wire};

/// How long the last datagrams are waited for.
const LAST_WAIT: Duration = Duration::from_millis(500);
/// Pause between two attempts to get an answer at all.
const CONTACT_EVERY: Duration = Duration::from_millis(50);
/// How often a machine is asked for its figures.
const ASKS_MAX: u32 = 20;
/// How long each of these is waited for.
const ASK_WAIT: Duration = Duration::from_millis(100);
/// The number of datagrams that only look whether somebody answers.
const CONTACT_NUMBER: u64 = u64::MAX;

/// One link to another node.
#[derive(Debug)]
pub(super) struct Probe {
    /// The other node.
    pub(super) to: NodeName,
    /// Which link, from 0.
    pub(super) link: usize,
    address: SocketAddr,
    socket: UdpSocket,
}

/// One datagram: when it was sent, counted from the beginning, and its round trip if it came back.
pub(super) type Sample = (Duration, Option<Duration>);

/// Waits for an answer; none where nothing comes in time.
struct Ear<'a> {
    probe: &'a Probe,
    bytes: [u8; wire::BUFFER_BYTES],
}

impl Ear<'_> {
    fn next(&mut self, until: Instant) -> Option<&[u8]> {
        while let Some(left) = left(until) {
            if self.probe.socket.set_read_timeout(Some(left)).is_err() {
                return None;
            }
            // A time-out, or an ICMP answer to an earlier datagram: wait until the end.
            let Ok((length, from)) = self.probe.socket.recv_from(&mut self.bytes) else { continue };
            if from == self.probe.address {
                return Some(&self.bytes[..length]);
            }
        }
        None
    }
}

impl Probe {
    /// Opens a socket for it; nothing is sent yet.
    pub(super) fn open(
        to: NodeName,
        link: usize,
        address: SocketAddr,
    ) -> Result<Probe, MeasureError> {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket =
            UdpSocket::bind((any, 0)).map_err(|source| MeasureError::Socket { address, source })?;
        Ok(Probe { to, link, address, socket })
    }

    fn send(&self, datagram: &[u8]) {
        // Refused or without a route: it counts as lost, which is what it is.
        let _ = self.socket.send_to(datagram, self.address);
    }

    fn ear(&self) -> Ear<'_> {
        Ear { probe: self, bytes: [0; wire::BUFFER_BYTES] }
    }

    /// Whether somebody answers within that time.
    pub(super) fn contact(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        let mut ear = self.ear();
        while left(until).is_some() {
            self.send(&wire::echo(CONTACT_NUMBER));
            let next = until.min(Instant::now() + CONTACT_EVERY);
            while let Some(datagram) = ear.next(next) {
                if wire::echoed(datagram).is_some() {
                    return true;
                }
            }
        }
        false
    }

    /// Sends for so long, one datagram every [`INTERVAL`].
    pub(super) fn samples(&self, duration: Duration) -> Vec<Sample> {
        let began = Instant::now();
        let mut ear = self.ear();
        let mut samples: Vec<Sample> = Vec::new();
        let mut missing = 0;
        while began.elapsed() < duration {
            let next = Instant::now() + INTERVAL;
            let number = samples.len() as u64;
            samples.push((began.elapsed(), None));
            missing += 1;
            self.send(&wire::echo(number));
            while let Some(datagram) = ear.next(next) {
                missing -= usize::from(note(datagram, began, &mut samples));
            }
        }
        let until = Instant::now() + LAST_WAIT;
        while missing > 0
            && let Some(datagram) = ear.next(until)
        {
            missing -= usize::from(note(datagram, began, &mut samples));
        }
        samples
    }

    /// The figures of the machine at the other end, if it gives them.
    pub(super) fn figures(&self) -> Option<NodeMeasurement> {
        let mut ear = self.ear();
        for _ in 0..ASKS_MAX {
            self.send(&wire::ask());
            let until = Instant::now() + ASK_WAIT;
            while let Some(datagram) = ear.next(until) {
                if let Some(found) = wire::figured(datagram) {
                    return Some(found);
                }
            }
        }
        None
    }

    /// What the samples say of the link. Nothing came back: the other end answered before, so the
    /// link lost them all.
    pub(super) fn measurement(&self, me: &NodeName, samples: &[Sample]) -> LinkMeasurement {
        let end = samples.last().map(|(sent, _)| *sent).unwrap_or_default();
        let lost = Figures { loss_percent: 100.0, late_p999: end, silence_max: end };
        let found = figures(samples).unwrap_or(lost);
        LinkMeasurement {
            link: self.link,
            from: me.to_string(),
            to: self.to.to_string(),
            loss_percent: found.loss_percent,
            late_p999_ms: ms(found.late_p999),
            silence_max_ms: ms(found.silence_max),
        }
    }
}

/// Notes an echo; whether it was missing until now.
fn note(datagram: &[u8], began: Instant, samples: &mut [Sample]) -> bool {
    let number = wire::echoed(datagram).and_then(|number| usize::try_from(number).ok());
    match number.and_then(|number| samples.get_mut(number)) {
        Some((sent, back @ None)) => {
            *back = Some(began.elapsed().saturating_sub(*sent));
            true
        }
        _ => false,
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    pub(super) loss_percent: f64,
    pub(super) late_p999: Duration,
    pub(super) silence_max: Duration,
}

/// None where nothing came back.
pub(super) fn figures(samples: &[Sample]) -> Option<Figures> {
    let trips: Vec<Duration> = samples.iter().filter_map(|(_, back)| *back).collect();
    let late_p999 = per_mille(&trips, 999)?;
    let lost = samples.len() - trips.len();
    let mut arrivals: Vec<Duration> =
        samples.iter().filter_map(|(sent, back)| Some(*sent + (*back)?)).collect();
    arrivals.sort();
    let end = samples.last().map(|(sent, _)| *sent).unwrap_or_default();
    let starts = std::iter::once(Duration::ZERO).chain(arrivals.iter().copied());
    let ends = arrivals.iter().copied().chain([end]);
    let silence_max = starts.zip(ends).map(|(a, b)| b.saturating_sub(a)).max();
    Some(Figures {
        loss_percent: lost as f64 * 100.0 / samples.len() as f64,
        late_p999,
        silence_max: silence_max.unwrap_or_default(),
    })
}
