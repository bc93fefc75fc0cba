//! Measures what a profile has to bear: how long an fsync takes, how long this machine leaves a
//! thread standing, and how links carry datagrams to nodes that answer.
//!
//! The figures come from pure functions over samples; the rest is sockets, a file and sleeping.
//! It decides nothing: `config::pick_profile` does.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use config::measurement::{LinkMeasurement, MEASUREMENT_VERSION, NodeMeasurement};
use model::{ClusterSpec, NodeName};

/// Shortest measurement that says anything.
pub const DURATION_MIN: Duration = Duration::from_millis(200);
/// Longest measurement; samples are kept in memory.
pub const DURATION_MAX: Duration = Duration::from_secs(3_600);
/// Longest that `measure --answer` answers.
pub const ANSWER_MAX: Duration = Duration::from_secs(7_200);
/// Time between two samples: the interval of the fastest profile's heartbeats.
pub const INTERVAL: Duration = Duration::from_millis(10);
/// How long the last datagrams are waited for.
const LAST_WAIT: Duration = Duration::from_millis(500);
/// Bytes written before each fsync: a log entry of usual size.
const WRITE_BYTES: usize = 512;
/// The file that is written to and removed.
const PROBE_FILE: &str = "measure.probe";
/// Every datagram begins with this, so that nothing else is answered.
const MAGIC: [u8; 8] = *b"bsmeas01";
/// Magic and number.
const DATAGRAM_BYTES: usize = 16;

/// A link that nobody answered on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotMeasured {
    /// The other node.
    pub to: NodeName,
    /// Which link, from 0.
    pub link: usize,
    /// Where datagrams were sent.
    pub address: SocketAddr,
}

/// What was measured, and what was not.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The figures.
    pub measurement: config::Measurement,
    /// Links without an answer: they say nothing about loss.
    pub not_measured: Vec<NotMeasured>,
}

/// Measures this machine and its links to all other nodes for `duration`.
///
/// # Errors
/// Where the data directory can't be written or a socket can't be opened.
pub fn measure(
    spec: &ClusterSpec,
    me: &NodeName,
    data: &Path,
    duration: Duration,
) -> std::io::Result<Measured> {
    let duration = duration.clamp(DURATION_MIN, DURATION_MAX);
    let (stalls, fsyncs, probes) = std::thread::scope(|scope| {
        let stalls = scope.spawn(|| stalls(duration));
        let fsyncs = scope.spawn(|| fsyncs(data, duration));
        let probes: Vec<_> = targets(spec, me)
            .into_iter()
            .map(|target| scope.spawn(move || probe(target, duration)))
            .collect();
        let probes: Vec<_> = probes.into_iter().map(joined).collect();
        (joined(stalls), joined(fsyncs), probes)
    });
    let (stalls, realtime) = stalls;
    let fsyncs = fsyncs?;
    let node = NodeMeasurement {
        name: me.to_string(),
        stall_max_ms: ms(stalls),
        fsync_p99_ms: ms(per_mille(&fsyncs, 990)),
        fsync_max_ms: ms(fsyncs.iter().copied().max().unwrap_or_default()),
        realtime,
    };
    let mut links = Vec::new();
    let mut not_measured = Vec::new();
    for found in probes {
        let (target, samples) = found?;
        match figures(&samples) {
            Some(found) => links.push(LinkMeasurement {
                link: target.link,
                from: me.to_string(),
                to: target.to.to_string(),
                loss_percent: found.loss_percent,
                late_p999_ms: ms(found.late_p999),
                silence_max_ms: ms(found.silence_max),
            }),
            None => not_measured.push(target),
        }
    }
    let measurement = config::Measurement {
        version: MEASUREMENT_VERSION,
        seconds: duration.as_secs().max(1),
        links,
        nodes: vec![node],
    };
    Ok(Measured { measurement, not_measured })
}

/// Answers datagrams of [`measure`] at these addresses until `life` has passed; the number of
/// answers. The agent must not be running: it has the same port.
///
/// # Errors
/// Where a socket can't be opened; the address is named.
pub fn answer(links: &[IpAddr], port: u16, life: Duration) -> std::io::Result<u64> {
    let sockets: Vec<UdpSocket> =
        links.iter().map(|ip| open(SocketAddr::new(*ip, port))).collect::<Result<_, _>>()?;
    Ok(answer_on(&sockets, life.min(ANSWER_MAX)))
}

/// [`answer`] on sockets that are open already.
#[must_use]
pub fn answer_on(sockets: &[UdpSocket], life: Duration) -> u64 {
    let until = Instant::now() + life;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            sockets.iter().map(|socket| scope.spawn(move || echo(socket, until))).collect();
        threads.into_iter().map(joined).sum()
    })
}

fn echo(socket: &UdpSocket, until: Instant) -> u64 {
    let mut answered = 0;
    let mut bytes = [0; DATAGRAM_BYTES + 1];
    while let Some(left) = left(until) {
        if socket.set_read_timeout(Some(left.min(Duration::from_millis(200)))).is_err() {
            return answered;
        }
        // A time-out or an ICMP answer to an earlier datagram: listen on until the end.
        let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
        if length == DATAGRAM_BYTES && bytes.starts_with(&MAGIC) {
            answered += u64::from(socket.send_to(&bytes[..length], from).is_ok());
        }
    }
    answered
}

fn left(until: Instant) -> Option<Duration> {
    until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn open(address: SocketAddr) -> std::io::Result<UdpSocket> {
    UdpSocket::bind(address).map_err(|error| {
        let text = format!("{address} can't be listened on: {error}; is the agent running?");
        std::io::Error::new(error.kind(), text)
    })
}

/// Every link of every other node.
fn targets(spec: &ClusterSpec, me: &NodeName) -> Vec<NotMeasured> {
    let others = spec.nodes.iter().filter(|(name, _)| *name != me);
    others
        .flat_map(|(name, node)| {
            let port = node.ports.unwrap_or(spec.ports).heartbeat;
            node.links.iter().enumerate().map(move |(link, ip)| NotMeasured {
                to: name.clone(),
                link,
                address: SocketAddr::new(*ip, port),
            })
        })
        .collect()
}

/// The longest time that a thread slept beyond what it asked for, and whether it had real-time
/// priority.
fn stalls(duration: Duration) -> (Duration, bool) {
    let realtime = drivers::sys::realtime(1).is_ok();
    let until = Instant::now() + duration;
    let mut worst = Duration::ZERO;
    while left(until).is_some() {
        let began = Instant::now();
        std::thread::sleep(INTERVAL);
        worst = worst.max(began.elapsed().saturating_sub(INTERVAL));
    }
    (worst, realtime)
}

fn fsyncs(data: &Path, duration: Duration) -> std::io::Result<Vec<Duration>> {
    let path = data.join(PROBE_FILE);
    let taken = write_and_sync(&path, duration);
    let removed = std::fs::remove_file(&path);
    let taken = taken?;
    removed?;
    Ok(taken)
}

fn write_and_sync(path: &Path, duration: Duration) -> std::io::Result<Vec<Duration>> {
    let mut file = File::create(path)?;
    let until = Instant::now() + duration;
    let mut taken = Vec::new();
    while left(until).is_some() {
        file.write_all(&[0; WRITE_BYTES])?;
        let began = Instant::now();
        file.sync_data()?;
        taken.push(began.elapsed());
        std::thread::sleep(INTERVAL.saturating_sub(began.elapsed()));
    }
    Ok(taken)
}

/// One datagram: when it was sent, counted from the beginning, and its round trip if it came back.
type Sample = (Duration, Option<Duration>);

fn probe(to: NotMeasured, duration: Duration) -> std::io::Result<(NotMeasured, Vec<Sample>)> {
    let any: IpAddr = match to.address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    let began = Instant::now();
    let mut samples: Vec<Sample> = Vec::new();
    while began.elapsed() < duration {
        let mut datagram = [0; DATAGRAM_BYTES];
        datagram[..MAGIC.len()].copy_from_slice(&MAGIC);
        datagram[MAGIC.len()..].copy_from_slice(&(samples.len() as u64).to_be_bytes());
        let next = Instant::now() + INTERVAL;
        samples.push((began.elapsed(), None));
        // Refused or without a route: it counts as lost, which is what it is.
        let _ = socket.send_to(&datagram, to.address);
        hear(&socket, to.address, began, next, &mut samples)?;
    }
    hear(&socket, to.address, began, Instant::now() + LAST_WAIT, &mut samples)?;
    Ok((to, samples))
}

fn hear(
    socket: &UdpSocket,
    peer: SocketAddr,
    began: Instant,
    until: Instant,
    samples: &mut [Sample],
) -> std::io::Result<()> {
    let mut bytes = [0; DATAGRAM_BYTES + 1];
    while let Some(left) = left(until) {
        if samples.iter().all(|(_, back)| back.is_some()) && left > INTERVAL {
            return Ok(());
        }
        socket.set_read_timeout(Some(left))?;
        let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
        if length != DATAGRAM_BYTES || !bytes.starts_with(&MAGIC) || from != peer {
            continue;
        }
        let number = bytes[MAGIC.len()..length].try_into().map_or(u64::MAX, u64::from_be_bytes);
        let at = usize::try_from(number).ok().and_then(|number| samples.get_mut(number));
        if let Some((sent, back @ None)) = at {
            *back = Some(began.elapsed().saturating_sub(*sent));
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct LinkFigures {
    loss_percent: f64,
    late_p999: Duration,
    silence_max: Duration,
}

/// None where nothing came back: a silent peer says nothing about the link.
fn figures(samples: &[Sample]) -> Option<LinkFigures> {
    let trips: Vec<Duration> = samples.iter().filter_map(|(_, back)| *back).collect();
    if trips.is_empty() {
        return None;
    }
    let lost = samples.len() - trips.len();
    let mut arrivals: Vec<Duration> =
        samples.iter().filter_map(|(sent, back)| Some(*sent + (*back)?)).collect();
    arrivals.sort();
    let end = samples.last().map(|(sent, _)| *sent).unwrap_or_default();
    let starts = std::iter::once(Duration::ZERO).chain(arrivals.iter().copied());
    let ends = arrivals.iter().copied().chain([end]);
    let silence_max = starts.zip(ends).map(|(a, b)| b.saturating_sub(a)).max();
    Some(LinkFigures {
        loss_percent: lost as f64 * 100.0 / samples.len() as f64,
        late_p999: per_mille(&trips, 999),
        silence_max: silence_max.unwrap_or_default(),
    })
}

/// The smallest sample that this many of a thousand don't exceed; zero of none.
fn per_mille(samples: &[Duration], share: usize) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort();
    let rank = (sorted.len() * share).div_ceil(1_000).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// Milliseconds, to the microsecond.
fn ms(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests;
