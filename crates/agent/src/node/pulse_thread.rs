//! The heartbeat thread: beats every `h` on every link, and hears.
//!
//! An OS thread with its own sockets, real-time priority and locked memory where permitted, so
//! that neither the event loop nor the disk delays a lease. It shares nothing but the pulse's
//! lock, which nobody holds across I/O.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::{Heartbeat, Moment, ReplicaId, Span};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::figures::HeartbeatCounters;
use super::shared::{HeartbeatPeers, Shared, lock};
use crate::api::Metrics;
use crate::identity::DatagramKey;
use crate::net::seal::{DATAGRAM_MAX, Opener, Sealer};

/// Real-time priority of the thread: below the guard's.
pub const PRIORITY: i32 = 50;
/// Datagrams taken in per wake-up and link before the next beat is looked at.
const BURST: usize = 256;

/// What the thread is made with.
pub struct PulseThread {
    /// The agent's shared state.
    pub shared: Arc<Shared>,
    /// One bound socket per link.
    pub sockets: Vec<UdpSocket>,
    /// Seals what is sent.
    pub sealer: Sealer,
    /// Opens what is received.
    pub opener: Opener,
    /// This node's datagram key.
    pub key: DatagramKey,
    /// Set when the agent ends.
    pub stop: Arc<AtomicBool>,
    /// Where heartbeats are counted.
    pub metrics: Arc<Metrics>,
    /// The counters of the present peers.
    pub(super) counters: HeartbeatCounters,
}

/// Binds the sockets of all links.
///
/// # Errors
/// The address that can't be bound, and why.
pub fn bind(links: &[IpAddr], port: u16) -> Result<Vec<UdpSocket>, (SocketAddr, std::io::Error)> {
    let bind = |link: &IpAddr| {
        let address = SocketAddr::new(*link, port);
        let socket = UdpSocket::bind(address).map_err(|error| (address, error))?;
        socket.set_nonblocking(true).map_err(|error| (address, error))?;
        Ok(socket)
    };
    links.iter().map(bind).collect()
}

impl PulseThread {
    /// Beats until told to stop.
    pub fn run(mut self) {
        if let Err(error) = drivers::sys::realtime(PRIORITY) {
            self.shared.shortfall(format!(
                "the heartbeat thread has no real-time priority ({error}): a busy processor can \
                 delay heartbeats; grant CAP_SYS_NICE"
            ));
        }
        let mut peers = Arc::new(HeartbeatPeers::default());
        let mut next = drivers::sys::now();
        let mut beats = Beats::default();
        while !self.stop.load(Ordering::Relaxed) {
            let latest = Arc::clone(&lock(&self.shared.heartbeat_peers));
            if latest.version != peers.version {
                self.meet(&latest);
                peers = latest;
            }
            let now = drivers::sys::now();
            if now >= next {
                let h = self.beat(now, &peers, &mut beats);
                next = if now.since(next) > h * 4 { now + h } else { next + h };
            }
            self.wait(next.since(drivers::sys::now()));
            self.hear();
        }
    }

    /// Takes over who the peers are.
    fn meet(&mut self, peers: &HeartbeatPeers) {
        let keys = peers
            .peers
            .iter()
            .map(|(replica, peer)| (replica.0, crate::identity::DatagramPublicKey(peer.key)))
            .collect();
        let refused =
            [self.sealer.set_peers(&self.key, &keys), self.opener.set_peers(&self.key, &keys)];
        for replica in refused.into_iter().flatten() {
            tracing::error!(replica, "the datagram key of this replica can't be used");
        }
        self.counters = HeartbeatCounters::new(&self.metrics, peers);
        lock(&self.shared.pulse).retain_peers(&peers.peers.keys().copied().collect());
    }

    fn beat(&mut self, now: Moment, peers: &HeartbeatPeers, beats: &mut Beats) -> Span {
        beats.made.clear();
        let h = {
            let mut pulse = lock(&self.shared.pulse);
            pulse.beat(now);
            for replica in peers.peers.keys() {
                beats.made.push((*replica, pulse.heartbeat_for(now, *replica)));
            }
            pulse.timers().heartbeat
        };
        self.shared.publish_lease(now);
        for (replica, heartbeat) in &beats.made {
            let Ok(used) = postcard::to_slice(heartbeat, &mut beats.plain) else { continue };
            let length = used.len();
            let Some(peer) = peers.peers.get(replica) else { continue };
            for (link, socket) in self.sockets.iter().enumerate() {
                let Some(address) = peer.addresses.get(link) else { continue };
                let plain = &beats.plain[..length];
                let sealed = &mut beats.sealed;
                if self.sealer.seal(replica.0, link as u8, plain, sealed).is_ok() {
                    match socket.send_to(sealed, address) {
                        Ok(_) => self.counters.sent(*replica, link),
                        // Lost ones are what heartbeats are made for.
                        Err(error) => tracing::trace!(%address, %error, "heartbeat not sent"),
                    }
                }
            }
        }
        h
    }

    fn wait(&self, span: Span) {
        let mut fds: Vec<PollFd<'_>> = self
            .sockets
            .iter()
            .map(|s| PollFd::from_borrowed_fd(s.as_fd(), PollFlags::IN))
            .collect();
        let timeout = Timespec {
            tv_sec: (span.0 / 1_000_000_000) as i64,
            tv_nsec: (span.0 % 1_000_000_000) as i64,
        };
        // Interrupted or not: the loop looks at everything again.
        if let Err(error) = rustix::event::poll(&mut fds, Some(&timeout)) {
            tracing::trace!(%error, "poll");
        }
    }

    fn hear(&mut self) {
        let mut buffer = [0u8; DATAGRAM_MAX + 1];
        let mut heard = false;
        for socket in &self.sockets {
            for _ in 0..BURST {
                let Ok((length, _)) = socket.recv_from(&mut buffer) else { break };
                let now = drivers::sys::now();
                let Ok(opened) = self.opener.open(&buffer[..length]) else { continue };
                let Ok(heartbeat) = postcard::from_bytes::<Heartbeat>(opened.payload) else {
                    continue;
                };
                if heartbeat.sender == ReplicaId(opened.sender) {
                    let link = opened.link;
                    self.counters.received(heartbeat.sender, usize::from(link));
                    heard |= lock(&self.shared.pulse).receive(now, link, &heartbeat);
                }
            }
        }
        if heard {
            self.shared.publish_lease(drivers::sys::now());
        }
    }
}

/// Buffers that live as long as the thread.
struct Beats {
    made: Vec<(ReplicaId, Heartbeat)>,
    plain: [u8; 1_024],
    sealed: Vec<u8>,
}

impl Default for Beats {
    fn default() -> Self {
        let sealed = Vec::with_capacity(DATAGRAM_MAX);
        Beats { made: Vec::new(), plain: [0; 1_024], sealed }
    }
}
