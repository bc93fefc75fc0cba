//! Datagrams and peer connections between the machines.

use std::collections::VecDeque;
use std::rc::Rc;

use kernel::{Input, PeerMessage};
use model::{Heartbeat, ReplicaId};

use crate::event::{Ev, Mail};
use crate::plan::{MILLI, SECOND};
use crate::world::World;

/// Links between any two nodes.
pub(crate) const LINKS: usize = 2;
/// Messages that a stalled connection holds before it breaks.
const HELD_MAX: usize = 2_000;
/// A connection that stalled for longer than this breaks.
const BREAKS_AFTER: u64 = 2 * SECOND;

#[derive(Debug, Clone, Default)]
struct Connection {
    number: u32,
    up_at: u64,
    last: u64,
    held: VecDeque<Box<Mail>>,
    held_since: u64,
}

/// The network.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    count: usize,
    /// Per direction and link, how many faults block datagrams.
    blocked: Vec<[u8; LINKS]>,
    /// Per direction, how many faults stall the peer connection.
    stalled: Vec<u8>,
    connections: Vec<Connection>,
    /// Per direction, when a datagram was received last.
    received: Vec<u64>,
    /// Peer messages sent, by kind.
    sent: [u64; KINDS],
    /// Datagrams lost, in permille.
    pub(crate) loss: u64,
    /// Longest delay on top of the usual, nanoseconds.
    pub(crate) delay: u64,
}

/// Kinds of peer message that are told apart; the log library's come first, by its own numbers.
const KINDS: usize = 24;
/// The names of those that have to be seen.
const KIND_NAMES: [(usize, &str); 14] = [
    (3, "message-append"),
    (4, "message-append-reply"),
    (5, "message-vote-request"),
    (6, "message-vote-reply"),
    (7, "message-snapshot"),
    (8, "message-heartbeat"),
    (9, "message-heartbeat-reply"),
    (14, "message-stand-now"),
    (17, "message-pre-vote-request"),
    (18, "message-pre-vote-reply"),
    (20, "message-report"),
    (21, "message-operate"),
    (22, "message-answer"),
    (23, "message-want-absence"),
];

/// The log library's messages begin with their kind: field 1, a small number.
fn kind(message: &PeerMessage) -> usize {
    match message {
        PeerMessage::Raft { bytes, .. } => match bytes[..] {
            [0x08, kind, ..] if kind < 20 => usize::from(kind),
            _ => 0,
        },
        PeerMessage::Report(_) => 20,
        PeerMessage::Operate { .. } => 21,
        PeerMessage::Answer { .. } => 22,
        PeerMessage::WantAbsence { .. } => 23,
    }
}

impl Network {
    pub(crate) fn new(count: usize) -> Network {
        Network {
            count,
            blocked: vec![[0; LINKS]; count * count],
            stalled: vec![0; count * count],
            connections: vec![Connection::default(); count * count],
            received: vec![0; count * count],
            sent: [0; KINDS],
            loss: 0,
            delay: 0,
        }
    }

    /// For how long a node has received no datagram of another.
    pub(crate) fn silence(&self, from: usize, to: usize, now: u64) -> u64 {
        now - self.received[self.way(from, to)]
    }

    fn way(&self, from: usize, to: usize) -> usize {
        from * self.count + to
    }

    fn passes(&self, from: usize, to: usize, link: usize) -> bool {
        self.blocked[self.way(from, to)][link] == 0
    }

    /// A connection needs both directions of some link.
    pub(crate) fn flows(&self, from: usize, to: usize) -> bool {
        let there = (0..LINKS).any(|l| self.passes(from, to, l) && self.passes(to, from, l));
        there && self.stalled[self.way(from, to)] == 0 && self.stalled[self.way(to, from)] == 0
    }

    pub(crate) fn block(&mut self, pairs: &[(usize, usize)], links: u8, streams: bool) {
        for (from, to) in pairs {
            let way = self.way(*from, *to);
            for link in (0..LINKS).filter(|l| links & (1 << l) != 0) {
                self.blocked[way][link] += 1;
            }
            self.stalled[way] += u8::from(streams);
        }
    }
}

impl World {
    /// Adds the messages of this run to what was seen.
    pub(crate) fn count_messages(&mut self) {
        for (kind, name) in KIND_NAMES {
            self.coverage.add_count(name, self.network.sent[kind]);
        }
    }

    pub(crate) fn unblock(&mut self, pairs: &[(usize, usize)], links: u8, streams: bool) {
        for (from, to) in pairs {
            let way = self.network.way(*from, *to);
            for link in (0..LINKS).filter(|l| links & (1 << l) != 0) {
                self.network.blocked[way][link] -= 1;
            }
            self.network.stalled[way] -= u8::from(streams);
        }
        let count = self.nodes.len();
        for (from, to) in (0..count).flat_map(|a| (0..count).map(move |b| (a, b))) {
            self.flush(from, to);
        }
    }

    /// Sends on what a connection held, or breaks it where it stalled for too long.
    fn flush(&mut self, from: usize, to: usize) {
        let way = self.network.way(from, to);
        if self.network.connections[way].held.is_empty() || !self.network.flows(from, to) {
            return;
        }
        if self.now - self.network.connections[way].held_since > BREAKS_AFTER {
            return self.break_connection(from, to);
        }
        let connection = &mut self.network.connections[way];
        let conn = connection.number;
        // At once, so that they stay in front of what is still on its way.
        for mail in std::mem::take(&mut connection.held) {
            self.at(self.now, Ev::Stream { from, to, conn, mail });
        }
    }

    /// A connection breaks: all on its way is lost, and a new one takes a moment.
    pub(crate) fn break_connection(&mut self, from: usize, to: usize) {
        let pause = self.rng.skewed(5 * MILLI, 500 * MILLI);
        let none = |n: usize| self.nodes[n].no_descriptors_until;
        let up_at = (self.now + pause).max(none(from)).max(none(to));
        for (from, to) in [(from, to), (to, from)] {
            let way = self.network.way(from, to);
            let connection = &mut self.network.connections[way];
            connection.number += 1;
            connection.held.clear();
            connection.up_at = up_at;
            connection.last = connection.up_at;
        }
    }

    pub(crate) fn break_all(&mut self, n: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != n) {
            self.break_connection(n, other);
        }
    }

    fn delay(&mut self) -> u64 {
        let base = self.plan.delay;
        let usual = base + self.rng.below(base + 1);
        let spike = if self.rng.below(256) == 0 { self.rng.below(base * 30) } else { 0 };
        let late = if self.network.delay > 0 { self.rng.below(self.network.delay) } else { 0 };
        usual + spike + late
    }

    pub(crate) fn send_heartbeat(
        &mut self,
        from: usize,
        to: usize,
        replica: ReplicaId,
        beat: Heartbeat,
    ) {
        let mut links = 0u8;
        for link in 0..LINKS {
            let lost = self.rng.permille(self.network.loss);
            if !lost && self.network.passes(from, to, link) {
                links |= 1 << link;
            }
        }
        if links == 0 {
            return;
        }
        let beat = Rc::new(beat);
        let twice = self.rng.permille(self.plan.duplicated);
        if twice || (self.network.delay > 0 && links == 3) {
            // The copies of the links, or of one, arrive apart from each other.
            self.coverage.hit(if twice { "duplicated" } else { "reordered" });
            let delay = self.delay();
            let last = if links == 3 { 2 } else { links };
            self.after(delay, Ev::Datagram { to, links: last, replica, beat: Rc::clone(&beat) });
            links = if links == 3 { 1 } else { links };
        }
        let delay = self.delay();
        self.after(delay, Ev::Datagram { to, links, replica, beat });
    }

    pub(crate) fn on_datagram(
        &mut self,
        n: usize,
        links: u8,
        replica: ReplicaId,
        beat: &Heartbeat,
    ) {
        let node = &mut self.nodes[n];
        let Some(agent) = node.agent.as_mut().filter(|_| node.replica == Some(replica)) else {
            return;
        };
        // Its key is known where it is a member; a node without state knows those it joined by.
        let members = &agent.kernel.state().members;
        if !members.is_empty() && !members.values().any(|m| m.replica == beat.sender) {
            return;
        }
        let local = node.clock.local(self.now);
        if let Some(from) = self.nodes.iter().position(|node| node.replica == Some(beat.sender)) {
            let way = self.network.way(from, n);
            self.network.received[way] = self.now;
        }
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        for link in (0..LINKS).filter(|l| links & (1 << l) != 0) {
            agent.pulse.receive(local, link as u8, beat);
        }
        self.after_pulse(n);
    }

    pub(crate) fn send_message(&mut self, from: usize, to: ReplicaId, message: PeerMessage) {
        let Some(sender) = self.nodes[from].replica else { return };
        let Some(n) = self.node_of(to).filter(|n| *n != from) else { return };
        let way = self.network.way(from, n);
        if self.nodes[n].agent.is_none() || self.now < self.network.connections[way].up_at {
            return;
        }
        self.network.sent[kind(&message)] += 1;
        if let PeerMessage::Report(report) = &message {
            self.check_report(from, report);
        }
        let delay = self.delay();
        let connection = &mut self.network.connections[way];
        let at = connection.last.max(self.now + delay);
        connection.last = at;
        let conn = connection.number;
        let mail = Box::new(Mail { from: sender, to, message });
        self.at(at, Ev::Stream { from, to: n, conn, mail });
    }

    pub(crate) fn on_stream(&mut self, from: usize, to: usize, conn: u32, mail: Box<Mail>) {
        let way = self.network.way(from, to);
        if self.network.connections[way].number != conn {
            return;
        }
        let flows = self.network.flows(from, to);
        let connection = &mut self.network.connections[way];
        if !flows || !connection.held.is_empty() {
            if connection.held.is_empty() {
                connection.held_since = self.now;
            }
            connection.held.push_back(mail);
            if connection.held.len() > HELD_MAX {
                self.break_connection(from, to);
            }
            return;
        }
        if self.nodes[to].replica == Some(mail.to) {
            self.drive(to, Input::Peer(mail.from, mail.message));
        }
    }
}
