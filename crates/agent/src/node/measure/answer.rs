//! The other side of a measurement: sends datagrams back, measures its own machine while somebody
//! measures the links to it, and hands those figures over.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use model::NodeName;

use super::machine::{Machine, Now};
use super::{MeasureError, joined, left, wire};
use crate::node::shared::lock;

/// Longest that is answered.
pub const ANSWER_MAX: Duration = Duration::from_secs(7_200);
/// Without a datagram for so long, nobody measures.
const QUIET: Duration = Duration::from_secs(1);
/// Having handed its figures over and heard nothing more for so long, it is done.
const DONE_AFTER: Duration = Duration::from_secs(5);
/// How often a thread that waits for datagrams looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What came of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// Datagrams that were sent back.
    pub datagrams: u64,
    /// Whether somebody fetched the figures of this machine: the measurement came to its end.
    pub complete: bool,
}

/// Where this node is measured.
#[derive(Debug)]
pub struct Answerer<'a> {
    /// This node.
    pub me: &'a NodeName,
    /// Where fsync is measured.
    pub data: &'a Path,
    /// One socket per link.
    pub sockets: Vec<UdpSocket>,
}

#[derive(Debug, Default)]
struct Heard {
    last: Option<Instant>,
    handed: bool,
}

/// Opens the sockets of all links.
///
/// # Errors
/// [`MeasureError::Listen`] names the address.
pub fn listen(links: &[IpAddr], port: u16) -> Result<Vec<UdpSocket>, MeasureError> {
    let open = |link: &IpAddr| {
        let address = SocketAddr::new(*link, port);
        UdpSocket::bind(address).map_err(|source| MeasureError::Listen { address, source })
    };
    links.iter().map(open).collect()
}

impl Answerer<'_> {
    /// Answers until a measurement is over, but no longer than `life`.
    ///
    /// # Errors
    /// [`MeasureError::Disk`] where the data directory can't be written to.
    pub fn run(&self, life: Duration) -> Result<Answered, MeasureError> {
        let until = Instant::now() + life.min(ANSWER_MAX);
        let (machine, heard) = (Machine::default(), Mutex::new(Heard::default()));
        let now = || lock(&heard).now(until);
        let (datagrams, disk) = std::thread::scope(|scope| {
            let stalls = scope.spawn(|| machine.stalls(now));
            let disk = scope.spawn(|| machine.fsyncs(self.data, now));
            let echoes: Vec<_> = self
                .sockets
                .iter()
                .map(|socket| scope.spawn(|| self.echo(socket, &machine, &heard, until)))
                .collect();
            let datagrams = echoes.into_iter().map(joined).sum();
            joined(stalls);
            (datagrams, joined(disk))
        });
        disk?;
        Ok(Answered { datagrams, complete: lock(&heard).handed })
    }

    fn echo(
        &self,
        socket: &UdpSocket,
        machine: &Machine,
        heard: &Mutex<Heard>,
        until: Instant,
    ) -> u64 {
        let mut answered = 0;
        let mut bytes = [0; wire::BUFFER_BYTES];
        while lock(heard).now(until) != Now::End {
            if socket.set_read_timeout(Some(LOOK_EVERY)).is_err() {
                return answered;
            }
            // A time-out or an ICMP answer to an earlier datagram: listen on until the end.
            let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
            let Some(asked) = wire::asked(&bytes[..length]) else { continue };
            lock(heard).last = Some(Instant::now());
            match asked {
                wire::Asked::Echo => {
                    answered += u64::from(socket.send_to(&bytes[..length], from).is_ok());
                }
                wire::Asked::Figures => {
                    let figures = machine.figures(self.me).as_ref().and_then(wire::figures);
                    // Lost or not to be sent: it is asked for again.
                    if figures.is_some_and(|figures| socket.send_to(&figures, from).is_ok()) {
                        lock(heard).handed = true;
                    }
                }
            }
        }
        answered
    }
}

impl Heard {
    fn now(&self, until: Instant) -> Now {
        let quiet = self.last.map(|last| last.elapsed());
        if left(until).is_none() || self.handed && quiet.is_some_and(|q| q > DONE_AFTER) {
            return Now::End;
        }
        if quiet.is_some_and(|quiet| quiet < QUIET) { Now::Sample } else { Now::Pause }
    }
}
