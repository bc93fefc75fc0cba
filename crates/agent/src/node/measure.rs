//! Measures what a profile has to bear: how long an fsync takes, how long a machine leaves a
//! thread standing, and how links carry datagrams to nodes that answer.
//!
//! The figures come from pure functions over samples; the rest is sockets, a file and sleeping.
//! It decides nothing: `config::pick_profile` does.

mod answer;
mod machine;
mod probe;
mod wire;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use config::Measurement;
use config::measurement::{MEASUREMENT_VERSION, NodeMeasurement};
use model::{ClusterSpec, NodeName};

pub use answer::{ANSWER_MAX, Answered, Answerer, listen};
use machine::{Machine, Now};
use probe::Probe;

/// Reads a datagram in every way in which one is read, for fuzz targets.
pub(crate) fn measured(datagram: &[u8]) -> Option<NodeMeasurement> {
    let asked = (wire::asked(datagram), wire::echoed(datagram));
    wire::figured(datagram).filter(|_| asked.0.is_none() || asked.1.is_none())
}

/// Shortest measurement that says anything.
pub const DURATION_MIN: Duration = Duration::from_millis(200);
/// Longest measurement; samples are kept in memory.
pub const DURATION_MAX: Duration = Duration::from_secs(3_600);
/// Time between two samples: the interval of the fastest profile's heartbeats.
const INTERVAL: Duration = Duration::from_millis(10);

/// Why nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The data directory can't be written to.
    #[error(
        "{path} can't be written to, so the disk can't be measured: the node's data will lie \
         there, make it writable and have some room there"
    )]
    Disk {
        /// The file that is written.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A socket can't be opened.
    #[error("there is no socket to measure the way to {address} with")]
    Socket {
        /// The other end.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// An address can't be listened on.
    #[error(
        "{address} can't be listened on: does this machine have that address, and is no agent \
         running here?"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// Another node answers where one is said to be.
    #[error(
        "at the addresses of {expected} answers {answered}: compare `links` in the configuration \
         with the machines, and the names given to `backstay measure --answer`"
    )]
    Mixed {
        /// Whose addresses they are.
        expected: NodeName,
        /// Who answers.
        answered: String,
    },
}

/// Which other nodes answer, before anything is measured.
#[derive(Debug)]
pub struct Contacts {
    cluster: String,
    me: NodeName,
    /// Links to nodes that answer on one of them at least.
    probes: Vec<Probe>,
    answering: BTreeSet<NodeName>,
    silent: BTreeSet<NodeName>,
}

/// Looks for at most `wait` which of the other nodes answer.
///
/// # Errors
/// [`MeasureError::Socket`].
pub fn contact(
    spec: &ClusterSpec,
    me: &NodeName,
    wait: Duration,
) -> Result<Contacts, MeasureError> {
    let mut probes = Vec::new();
    for (name, node) in spec.nodes.iter().filter(|(name, _)| *name != me) {
        let port = node.ports.unwrap_or(spec.ports).heartbeat;
        for (link, ip) in node.links.iter().enumerate() {
            probes.push(Probe::open(name.clone(), link, SocketAddr::new(*ip, port))?);
        }
    }
    let answered: Vec<bool> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            probes.iter().map(|probe| scope.spawn(|| probe.contact(wait))).collect();
        asked.into_iter().map(joined).collect()
    });
    let answers = probes.iter().zip(answered).filter(|(_, answered)| *answered);
    let answering: BTreeSet<NodeName> = answers.map(|(probe, _)| probe.to.clone()).collect();
    let others = spec.nodes.keys().filter(|name| *name != me);
    let silent = others.filter(|name| !answering.contains(name)).cloned().collect();
    probes.retain(|probe| answering.contains(&probe.to));
    let (cluster, me) = (spec.name.clone(), me.clone());
    Ok(Contacts { cluster, me, probes, answering, silent })
}

impl Contacts {
    /// Nodes that answer.
    #[must_use]
    pub fn answering(&self) -> Vec<&NodeName> {
        self.answering.iter().collect()
    }

    /// Nodes that don't.
    #[must_use]
    pub fn silent(&self) -> Vec<&NodeName> {
        self.silent.iter().collect()
    }

    /// Measures this machine, the links to the nodes that answer, and has those say what they
    /// measured of theirs meanwhile.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn measure(&self, data: &Path, duration: Duration) -> Result<Measurement, MeasureError> {
        let duration = duration.clamp(DURATION_MIN, DURATION_MAX);
        let until = Instant::now() + duration;
        let now = || if left(until).is_some() { Now::Sample } else { Now::End };
        let machine = Machine::default();
        let (links, disk) = std::thread::scope(|scope| {
            let stalls = scope.spawn(|| machine.stalls(now));
            let disk = scope.spawn(|| machine.fsyncs(data, now));
            let probes: Vec<_> = self
                .probes
                .iter()
                .map(|probe| (probe, scope.spawn(move || probe.samples(duration))))
                .collect();
            let links: Vec<_> = probes
                .into_iter()
                .map(|(probe, samples)| probe.measurement(&self.me, &joined(samples)))
                .collect();
            joined(stalls);
            (links, joined(disk))
        });
        disk?;
        let mut nodes: Vec<NodeMeasurement> = machine.figures(&self.me).into_iter().collect();
        let mut unknown: Vec<String> = self.silent.iter().map(ToString::to_string).collect();
        for name in &self.answering {
            match self.figures_of(name)? {
                Some(figures) => nodes.push(figures),
                None => unknown.push(name.to_string()),
            }
        }
        Ok(Measurement {
            version: MEASUREMENT_VERSION,
            seconds: duration.as_secs().max(1),
            cluster: self.cluster.clone(),
            unknown,
            links,
            nodes,
        })
    }

    fn figures_of(&self, name: &NodeName) -> Result<Option<NodeMeasurement>, MeasureError> {
        let mut links = self.probes.iter().filter(|probe| probe.to == *name);
        match links.find_map(Probe::figures) {
            Some(figures) if figures.name != name.as_str() => {
                Err(MeasureError::Mixed { expected: name.clone(), answered: figures.name })
            }
            figures => Ok(figures),
        }
    }
}

fn left(until: Instant) -> Option<Duration> {
    until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The smallest sample that this many of a thousand don't exceed; none of none.
fn per_mille(samples: &[Duration], share: usize) -> Option<Duration> {
    let mut sorted = samples.to_vec();
    sorted.sort();
    let rank = (sorted.len() * share).div_ceil(1_000).max(1);
    sorted.get(rank - 1).copied()
}

/// Milliseconds, to the microsecond.
fn ms(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests;
