//! The pulse: heartbeats, promises, authority, leases and grants of one node.
//!
//! It is one struct because DESIGN.md wants one lock: acknowledging a round and voting, barring a
//! node and granting it a lease must never interleave. The agent keeps it in a mutex that the
//! heartbeat thread and the Raft thread share; the simulator calls it directly.
//!
//! One file per rule: [`promise`] (1), [`authority`] (2), [`lease`] (3), [`grants`] (4, 5, 7).

pub mod authority;
pub mod grants;
pub mod hearing;
pub mod lease;
pub mod promise;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use model::heartbeat::{Ack, Grant, Heartbeat, Promised, Round};
use model::{Moment, ReplicaId, Span, Timers};

use crate::plant::{Plant, Plants};
use authority::Authority;
use grants::Grants;
use hearing::Hearing;
use lease::Lease;
use promise::Promise;

/// Sending times of so many of the newest beats are remembered; acknowledgements of older ones
/// say nothing any more (at 20 ms this is 5 s, ten leases).
pub const BEATS_REMEMBERED: usize = 256;
/// Most peers; a datagram of a further one is dropped. Members and a few stale incarnations.
pub const PEERS_MAX: usize = 1_024;

/// What a pulse is made with.
#[derive(Debug, Clone)]
pub struct PulseConfig {
    /// This node's incarnation.
    pub me: ReplicaId,
    /// How many times its agent has started; durable.
    pub boot: u64,
    /// Timers of the profile.
    pub timers: Timers,
    /// The largest promise ever recorded durably here.
    pub recorded_promise: Span,
    /// The Raft term recovered from disk.
    pub term: u64,
    /// A witness never solicits promises (rule 8).
    pub witness: bool,
    /// Planted faults; none in production.
    pub plants: Plants,
}

/// What the consensus library says, as far as the pulse needs it. The kernel refreshes it after
/// every step of the library, under the same lock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RaftView {
    /// Present term.
    pub term: u64,
    /// Leader of that term, where known.
    pub leader: Option<ReplicaId>,
    /// When the last message of that leader came over the peer connection.
    pub leader_heard: Moment,
    /// Voter sets of every configuration in force or proposed; none where they are as before.
    pub configurations: Option<Vec<BTreeSet<ReplicaId>>>,
    /// Commit index.
    pub commit: u64,
}

/// How a coordinator came to its office; it decides how long it waits for its predecessor's
/// grants (rule 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// All promises had ended.
    Elected,
    /// A renounced predecessor handed over.
    Transferred,
}

/// One beat, remembered: when it was sent, and the promise it asked for as a round.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    at: Moment,
    promise: Span,
}

/// The pulse of one node.
#[derive(Debug, Clone)]
pub struct Pulse {
    config: PulseConfig,
    raft: RaftView,
    seq: u64,
    sent: [Sent; BEATS_REMEMBERED],
    /// The longest lease and grace that a predecessor may have granted with, and until when they
    /// matter: a profile with shorter ones was applied lately.
    longer: Option<(Timers, Moment)>,
    last_beat: Option<Moment>,
    stalled: bool,
    judge_after: Moment,
    alive: Moment,
    hearing: BTreeMap<ReplicaId, Hearing>,
    promise: Promise,
    authority: Option<Authority>,
    grants: Grants,
    lease: Lease,
}

impl Pulse {
    /// A pulse that begins now; its voter side waits out the largest promise ever recorded.
    #[must_use]
    pub fn new(config: PulseConfig, now: Moment) -> Pulse {
        let promise = Promise::after_start(&config, now);
        let raft = RaftView { term: config.term, ..RaftView::default() };
        Pulse {
            raft,
            seq: 0,
            sent: [Sent::default(); BEATS_REMEMBERED],
            longer: None,
            last_beat: None,
            stalled: false,
            judge_after: now,
            alive: now,
            hearing: BTreeMap::new(),
            promise,
            authority: None,
            grants: Grants::default(),
            lease: Lease::default(),
            config,
        }
    }

    /// This node's incarnation.
    #[must_use]
    pub fn me(&self) -> ReplicaId {
        self.config.me
    }

    /// The start count of this agent.
    #[must_use]
    pub fn boot(&self) -> u64 {
        self.config.boot
    }

    /// The timers in force.
    #[must_use]
    pub fn timers(&self) -> &Timers {
        &self.config.timers
    }

    /// Takes over the timers of another profile, once it is applied. Promises and leases given
    /// stay as they are; predecessors' grants are waited for with the longer grace of the two.
    pub fn set_timers(&mut self, now: Moment, timers: Timers) {
        let before = core::mem::replace(&mut self.config.timers, timers);
        if before.lease > timers.lease {
            self.predecessors_may_use(now, before);
        }
        self.wait_for_predecessors(now);
    }

    /// Longer timers were in force lately: what was granted with them may run still. Said by
    /// whoever applies the change, and by a state image that holds it.
    pub fn predecessors_may_use(&mut self, now: Moment, timers: Timers) {
        let until = now + timers.outlive();
        let known = self.longer.filter(|(_, until)| now < *until);
        self.longer = Some(match known {
            Some((longer, known)) if longer.lease > timers.lease => (longer, known.max(until)),
            Some((_, known)) => (timers, known.max(until)),
            None => (timers, until),
        });
        self.wait_for_predecessors(now);
    }

    /// What predecessors may have granted is waited for by the longest timers in force lately.
    fn wait_for_predecessors(&mut self, now: Moment) {
        if let Some(authority) = &self.authority {
            let wait = self.succession_wait(now, authority.succession);
            self.grants.wait_until(authority.since + wait);
        }
    }

    /// How long a predecessor's grants may run on after an election (rule 4), by the longest
    /// timers that it may have used.
    fn succession_wait(&self, now: Moment, succession: Succession) -> Span {
        let wait = |t: &Timers| match succession {
            Succession::Elected => t.grace,
            Succession::Transferred if self.config.plants.has(Plant::TransferWaitsGrace) => t.grace,
            Succession::Transferred => t.lease,
        };
        let t = &self.config.timers;
        let longer = self.longer.filter(|(_, until)| now < *until);
        let longest = longer.map_or(wait(t), |(longer, _)| wait(t).max(wait(&longer)));
        longest.stretched(t.drift_ppm)
    }

    /// The planted faults (none in production).
    #[must_use]
    pub fn plants(&self) -> Plants {
        self.config.plants
    }

    /// Takes over what the consensus library says now. Leaving office, or a new term, ends the
    /// authority at once.
    pub fn set_raft(&mut self, raft: RaftView) {
        let leads = raft.leader == Some(self.config.me);
        if self.authority.as_ref().is_some_and(|a| !leads || a.term != raft.term) {
            self.authority = None;
            if !self.config.plants.has(Plant::GrantsOfEarlierOffice) {
                self.grants.clear();
            }
        }
        let before = self.raft.configurations.take();
        let regrouped = raft.configurations.is_some();
        self.raft = raft;
        self.raft.configurations = self.raft.configurations.take().or(before);
        if regrouped {
            self.count_promises();
        }
    }

    /// What the consensus library said last.
    #[must_use]
    pub fn raft(&self) -> &RaftView {
        &self.raft
    }

    /// The Raft thread lives. Without this for `stall_limit`, rounds stop.
    pub fn raft_thread_lives(&mut self, now: Moment) {
        self.alive = now;
    }

    /// Begins a beat: numbers it, remembers its sending time, notices a stall of our own loop.
    /// Call [`Pulse::heartbeat_for`] for each peer afterwards.
    pub fn beat(&mut self, now: Moment) {
        let h = self.config.timers.heartbeat;
        let late = self.last_beat.is_some_and(|last| now.since(last) > h * 4);
        self.stalled = late;
        if late {
            // What arrived meanwhile is still in the socket: hear it before judging anyone.
            self.judge_after = now + h * 3;
        }
        self.last_beat = Some(now);
        self.seq += 1;
        self.lease.check(now);
        let promise = self.round(now).map_or(Span::ZERO, |round| round.promise);
        self.sent[self.seq as usize % BEATS_REMEMBERED] = Sent { at: now, promise };
        self.round_for_ourselves(now);
        self.lease_for_ourselves(now);
    }

    /// The heartbeat of the present beat for one peer. Granting is bookkept here: a node counts
    /// as granted from the moment its grant was made.
    pub fn heartbeat_for(&mut self, now: Moment, to: ReplicaId) -> Heartbeat {
        let heard = self.hearing.get(&to);
        let ack = heard.map(|h| Ack { boot: h.boot, seq: h.seq });
        let promised = self.promise.acknowledgement(to);
        Heartbeat {
            sender: self.config.me,
            boot: self.config.boot,
            seq: self.seq,
            term: self.raft.term,
            ack,
            round: self.round(now),
            promised,
            grant: self.grant_for(now, to),
            lapses: self.lease.lapses(),
            stalled: self.stalled,
        }
    }

    /// Takes in a heartbeat that came over `link`. Returns whether it was news: a copy of one
    /// that another link brought already is not, nor is one of an older boot.
    pub fn receive(&mut self, now: Moment, link: u8, heartbeat: &Heartbeat) -> bool {
        if heartbeat.sender == self.config.me {
            return false;
        }
        if !self.hearing.contains_key(&heartbeat.sender) && self.hearing.len() >= PEERS_MAX {
            return false;
        }
        let h = self.config.timers.heartbeat;
        let by_number = self.config.plants.has(Plant::BeatsByNumberAlone);
        let hearing = self.hearing.entry(heartbeat.sender).or_default();
        if (by_number && heartbeat.seq <= hearing.seq) || !hearing.receive(now, link, heartbeat, h)
        {
            return false;
        }
        self.lease.check(now);
        if let Some(round) = heartbeat.round {
            self.consider_round(now, heartbeat, round);
        }
        if let Some(promised) = heartbeat.promised {
            self.note_promise(now, heartbeat.sender, promised);
        }
        if let (Some(ack), Some(grant)) = (heartbeat.ack, heartbeat.grant)
            && self.may_grant(heartbeat.sender)
        {
            self.take_grant(now, ack, grant);
        }
        true
    }

    /// Only one who votes may be coordinator: what anybody else grants is worth nothing, however
    /// good its certificate. Who leads is not asked: a node may hear its coordinator's grants
    /// before it hears of the election.
    fn may_grant(&self, sender: ReplicaId) -> bool {
        self.raft.configurations.iter().flatten().any(|voters| voters.contains(&sender))
    }

    /// When the beat with this number was sent, where it is remembered.
    fn sent(&self, seq: u64) -> Option<Sent> {
        let remembered = seq >= 1 && seq <= self.seq && seq + BEATS_REMEMBERED as u64 > self.seq;
        remembered.then(|| self.sent[seq as usize % BEATS_REMEMBERED])
    }

    fn consider_round(&mut self, now: Moment, heartbeat: &Heartbeat, round: Round) {
        let from_leader = round.term == heartbeat.term
            && round.term == self.raft.term
            && self.raft.leader == Some(heartbeat.sender);
        // Neither path alone keeps a half-dead coordinator in office (rule 2): without its
        // messages over the peer connection, its datagrams count for nothing.
        let connected = now.since(self.raft.leader_heard) <= self.config.timers.promise;
        let votes = || self.may_grant(self.config.me);
        let silent = self.config.plants.has(Plant::LearnerGivesNoPromise) && !votes();
        if from_leader && connected && !silent {
            let round_id = Ack { boot: heartbeat.boot, seq: heartbeat.seq };
            self.promise.consider(
                self.config.plants,
                now,
                heartbeat.sender,
                Promised { term: round.term, round: round_id },
                round.promise,
                self.config.timers.drift_ppm,
            );
        }
    }

    fn take_grant(&mut self, now: Moment, ack: Ack, grant: Grant) {
        if ack.boot != self.config.boot {
            return;
        }
        let Some(sent) = self.sent(ack.seq) else { return };
        let from = if self.config.plants.has(Plant::LeaseFromReceipt) { now } else { sent.at };
        let any = self.config.plants.has(Plant::FreshFromForgotten);
        let commit = if any { 0 } else { grant.commit };
        self.lease.extend(now, from + grant.span, grant.term, commit);
    }

    /// Whom this node hears: sender, and what is known of its heartbeats.
    pub fn hearing(&self) -> impl Iterator<Item = (ReplicaId, &Hearing)> {
        self.hearing.iter().map(|(id, h)| (*id, h))
    }

    /// What is known of one sender's heartbeats.
    #[must_use]
    pub fn hearing_of(&self, sender: ReplicaId) -> Option<&Hearing> {
        self.hearing.get(&sender)
    }

    /// Forgets peers that belong to the cluster no more.
    pub fn retain_peers(&mut self, keep: &BTreeSet<ReplicaId>) {
        self.hearing.retain(|id, _| keep.contains(id));
    }

    /// Whether this node's own loop ran on time lately, so that it may judge others by silence.
    #[must_use]
    pub fn may_judge(&self, now: Moment) -> bool {
        now >= self.judge_after
    }

    /// Whether the last beat came late.
    #[must_use]
    pub fn stalled(&self) -> bool {
        self.stalled
    }
}

#[cfg(test)]
mod tests;
