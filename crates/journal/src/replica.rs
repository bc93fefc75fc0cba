//! One replica of the log: Raft, stepped from outside, without I/O, clock, threads or chance.
//!
//! The library's own election timer never fires: a replica stands for leader when it is told to
//! ([`Replica::campaign`]) or when its leader hands over, and at no other time. Nothing is
//! acknowledged, voted or applied before the write it rests on was reported as durable.

use std::collections::{BTreeMap, VecDeque};

use prost::Message as _;
use raft::eraftpb::{ConfChangeV2, ConfState, Entry, EntryType, HardState, Message, MessageType};
use raft::{Config, RawNode, SnapshotStatus, StateRole};

use crate::agreement::{Agreement, Offer};
use crate::limits::{
    MAX_APPEND_BYTES, MAX_COMMITTED_BYTES_PER_WORK, MAX_PENDING_READS, MAX_PROPOSAL_BYTES,
    MAX_READ_CONTEXT_BYTES, MAX_SNAPSHOT_BYTES, MAX_UNCOMMITTED_BYTES,
};
use crate::membership::{Membership, MembershipChange};
use crate::message::{self, MessageKind};
use crate::recovered::Recovered;
use crate::refusal::{
    CampaignRefused, ConfigError, MembershipRefused, ProposeError, ReadRefused, SnapshotRefused,
    StepError, TransferRefused,
};
use crate::snapshot_file::{Snapshot, sorted};
use crate::store::{EntryLog, ID_BYTES};
use crate::work::ReadIndex;
use crate::write::WriteId;

/// The library's election timeout, which must never pass: 2^62 ticks.
const NEVER_TICKS: usize = 1 << 62;

/// How a replica behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// This replica's id: not zero, unique, never used again after its removal.
    pub id: u64,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// A leader that hears no quorum for so many ticks steps down; a follower ignores vote
    /// requests for so many ticks after its leader's last sign. More than the heartbeat's.
    pub election_ticks: usize,
    /// Append messages on their way to one peer.
    pub max_inflight: usize,
    /// Among equally good logs the higher priority leads; a witness has a negative one.
    pub priority: i64,
    /// So many entries since the last snapshot make [`Replica::wants_snapshot`] true.
    pub snapshot_after_entries: u64,
    /// So many bytes of entries since the last snapshot do the same.
    pub snapshot_after_bytes: u64,
    /// Entries kept in memory under a snapshot, so that a peer slightly behind needs none.
    pub keep_entries: u64,
    /// A snapshot not acknowledged for so many ticks is sent again.
    pub snapshot_retry_ticks: u64,
}

impl ReplicaConfig {
    /// Sensible values for the rest.
    pub fn new(id: u64) -> Self {
        Self {
            id,
            heartbeat_ticks: 1,
            election_ticks: 10,
            max_inflight: 256,
            priority: 0,
            snapshot_after_entries: 100_000,
            snapshot_after_bytes: 64 << 20,
            keep_entries: 1_000,
            snapshot_retry_ticks: 100,
        }
    }

    fn to_raft(self, applied: u64) -> Config {
        Config {
            id: self.id,
            election_tick: self.election_ticks,
            heartbeat_tick: self.heartbeat_ticks,
            applied,
            max_size_per_msg: MAX_APPEND_BYTES,
            max_inflight_msgs: self.max_inflight,
            check_quorum: true,
            pre_vote: true,
            min_election_tick: self.election_ticks,
            max_election_tick: NEVER_TICKS,
            batch_append: true,
            priority: self.priority,
            max_uncommitted_size: MAX_UNCOMMITTED_BYTES,
            max_committed_size_per_ready: MAX_COMMITTED_BYTES_PER_WORK,
            ..Config::default()
        }
    }
}

/// Something that waits for a write.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) id: WriteId,
    /// The library's number of the newest state that rests on this write.
    pub(crate) ready: Option<u64>,
    pub(crate) messages: Vec<Message>,
    pub(crate) installed: Option<Snapshot>,
    /// Term and vote that are durable once this write is.
    pub(crate) ballot: (u64, u64),
}

/// Where a proposal stands in the log, if its leader stays in office.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposed {
    /// The index of the (first) entry.
    pub index: u64,
    /// It was committed only if the entry committed at `index` has this term.
    pub term: u64,
}

/// One replica.
pub struct Replica {
    pub(crate) node: RawNode<EntryLog>,
    pub(crate) config: ReplicaConfig,
    /// Messages whose write is durable.
    pub(crate) outbox: Vec<Message>,
    pub(crate) reads: Vec<ReadIndex>,
    pub(crate) held: VecDeque<Held>,
    pub(crate) next_write: u64,
    /// A leader's snapshot that is durable and not handed over yet.
    pub(crate) installed: Option<Snapshot>,
    /// The application's snapshot, to be written.
    pub(crate) queued_snapshot: Option<Snapshot>,
    /// Whether the start's snapshot and hard state are to be written first.
    pub(crate) found_first: bool,
    /// Term and vote that are known to be durable.
    pub(crate) ballot: (u64, u64),
    /// The last hard state in a write.
    pub(crate) recorded: HardState,
    /// The membership from each index on, as applied here.
    pub(crate) memberships: BTreeMap<u64, ConfState>,
    pub(crate) entries_since_snapshot: u64,
    pub(crate) bytes_since_snapshot: u64,
    /// For how many ticks each peer has owed the answer to a snapshot.
    snapshot_ticks: BTreeMap<u64, u64>,
    agreement: Agreement,
}

impl Replica {
    /// Starts from what is durable.
    ///
    /// # Errors
    /// The configuration makes no sense.
    pub fn new(config: ReplicaConfig, mut recovered: Recovered) -> Result<Self, ConfigError> {
        let index = recovered.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        // A snapshot is of committed entries, even where a crash came before that was recorded.
        recovered.hard_state.commit = recovered.hard_state.commit.max(index);
        let recorded =
            if recovered.unwritten { HardState::default() } else { recovered.hard_state.clone() };
        let found_first = recovered.unwritten;
        let membership = recovered.snapshot.as_ref().map(|s| s.membership.clone());
        let entries_since_snapshot = recovered.entries.len() as u64;
        let bytes_since_snapshot = recovered.entries.iter().map(crate::store::entry_bytes).sum();
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config.to_raft(index), EntryLog::new(recovered), &logger)
            .map_err(|error| ConfigError { why: error.to_string() })?;
        Ok(Self {
            node,
            config,
            outbox: Vec::new(),
            reads: Vec::new(),
            held: VecDeque::new(),
            next_write: 1,
            installed: None,
            queued_snapshot: None,
            found_first,
            ballot: (recorded.term, recorded.vote),
            recorded,
            memberships: BTreeMap::from([(index, membership.unwrap_or_default())]),
            entries_since_snapshot,
            bytes_since_snapshot,
            snapshot_ticks: BTreeMap::new(),
            agreement: Agreement::default(),
        })
    }

    /// One tick of the caller's clock: heartbeats, the leader's check for a quorum, retries.
    pub fn tick(&mut self) {
        // The library draws a random timeout at every change of role. This one never passes, so
        // what was drawn has no effect.
        self.node.raft.set_randomized_election_timeout(NEVER_TICKS - 1);
        self.node.tick();
        self.retry_snapshots();
        self.leave_joint();
    }

    fn retry_snapshots(&mut self) {
        let waiting: Vec<u64> = if self.is_leader() {
            let peers = self.node.raft.prs().iter();
            let waits = peers.filter(|(_, p)| p.state == raft::ProgressState::Snapshot);
            waits.map(|(id, _)| *id).collect()
        } else {
            Vec::new()
        };
        self.snapshot_ticks.retain(|id, _| waiting.contains(id));
        for id in waiting {
            let ticks = self.snapshot_ticks.entry(id).or_insert(0);
            *ticks += 1;
            if *ticks >= self.config.snapshot_retry_ticks {
                self.snapshot_ticks.remove(&id);
                self.snapshot_sent(id, false);
            }
        }
    }

    /// A leader that took office in the middle of a joint change ends it.
    fn leave_joint(&mut self) {
        let conf = self.node.raft.prs().conf();
        let joint = *conf.auto_leave() && !conf.to_conf_state().voters_outgoing.is_empty();
        if self.is_leader() && joint && !self.node.raft.has_pending_conf() {
            // Refused during a transfer; the next tick tries again.
            let _ = self.node.propose_conf_change(Vec::new(), ConfChangeV2::default());
        }
    }

    /// Takes a message from another replica.
    ///
    /// # Errors
    /// The message was ignored; see [`StepError`], of which one says that this replica lost
    /// entries and must not go on.
    pub fn step(&mut self, mut message: Message) -> Result<(), StepError> {
        message::check(&message)?;
        if message.to != self.config.id || message.from == self.config.id {
            return Err(StepError::NotForUs { from: message.from, to: message.to });
        }
        let last = self.last_index();
        let raft = &self.node.raft;
        match message::kind(&message) {
            MessageKind::Heartbeat if message.term >= raft.term && message.commit > last => {
                return Err(StepError::LostEntries { commit: message.commit, last });
            }
            MessageKind::Heartbeat if message.term >= raft.term => {
                message.commit = self.agreement.bound(message.term, message.commit);
            }
            MessageKind::Append if self.agreement.contradicts(&message, raft) => {
                return Err(StepError::LostEntries { commit: message.index, last });
            }
            // To the leader of its term; answers to an earlier leader may be of other entries.
            MessageKind::AppendReply
                if self.is_leader()
                    && message.term == raft.term
                    && !message.reject
                    && message.index > last =>
            {
                return Err(StepError::Beyond { index: message.index, last });
            }
            MessageKind::TimeoutNow if self.may_stand().is_err() => {
                return Err(StepError::NotNow);
            }
            MessageKind::ReadIndex if raft.pending_read_count() >= MAX_PENDING_READS => {
                return Err(StepError::Busy);
            }
            _ => {}
        }
        let offer = Offer::of(&message, raft.raft_log.committed);
        let stepped = self.node.step(message);
        self.agreement.heed(offer, &self.node.raft);
        match stepped {
            Ok(()) | Err(raft::Error::ProposalDropped) => Ok(()),
            Err(raft::Error::StepPeerNotFound) => Err(StepError::UnknownPeer),
            Err(error) => Err(StepError::Library(error.to_string())),
        }
    }

    /// Stands for leader, asking for pre-votes first. Success means having begun.
    ///
    /// # Errors
    /// See [`CampaignRefused`].
    pub fn campaign(&mut self) -> Result<(), CampaignRefused> {
        self.may_stand()?;
        let before = self.node.raft.state;
        // The library's answer is its new role.
        let stepped = self.node.campaign();
        match (before, self.node.raft.state) {
            (_, _) if stepped.is_err() => Err(CampaignRefused::Pending),
            (_, StateRole::Follower) => Err(CampaignRefused::Pending),
            _ => Ok(()),
        }
    }

    fn may_stand(&self) -> Result<(), CampaignRefused> {
        let raft = &self.node.raft;
        if raft.state == StateRole::Leader {
            return Err(CampaignRefused::Leader);
        }
        if !raft.promotable() {
            return Err(CampaignRefused::NoVoter);
        }
        // The library asserts that its log is durable when it wins; a sole voter wins at once.
        let unwritten = !self.held.is_empty()
            || self.found_first
            || !raft.raft_log.unstable_entries().is_empty();
        let installing = self.installed.is_some()
            || raft.raft_log.unstable_snapshot().is_some()
            || self.held.iter().any(|held| held.installed.is_some());
        if installing || (unwritten && raft.prs().is_singleton()) {
            return Err(CampaignRefused::Unwritten);
        }
        Ok(())
    }

    /// Gives up leadership in this term, without successor. Does nothing at a follower.
    pub fn step_down(&mut self) {
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, raft::INVALID_ID);
    }

    /// Hands leadership over to a voter; it is over when another leads or after the election
    /// ticks, and proposals are refused meanwhile.
    ///
    /// # Errors
    /// See [`TransferRefused`].
    pub fn transfer(&mut self, to: u64) -> Result<(), TransferRefused> {
        if !self.is_leader() {
            return Err(TransferRefused::NotLeader);
        }
        if to == self.config.id || !self.membership().voters.contains(&to) {
            return Err(TransferRefused::NoVoter(to));
        }
        self.node.transfer_leader(to);
        Ok(())
    }

    /// Proposes one entry.
    ///
    /// # Errors
    /// See [`ProposeError`]; then the entry is not in the log.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<Proposed, ProposeError> {
        self.propose_all(vec![data])
    }

    /// Proposes several entries that follow each other, all or none.
    ///
    /// # Errors
    /// See [`ProposeError`]; then none of the entries is in the log.
    pub fn propose_all(&mut self, proposals: Vec<Vec<u8>>) -> Result<Proposed, ProposeError> {
        self.may_propose()?;
        if proposals.is_empty() || proposals.iter().any(Vec::is_empty) {
            return Err(ProposeError::Empty);
        }
        if let Some(large) = proposals.iter().find(|data| data.len() > MAX_PROPOSAL_BYTES) {
            return Err(ProposeError::TooLarge(large.len()));
        }
        let to_entry = |data| Entry { data, ..Entry::default() };
        self.propose_entries(proposals.into_iter().map(to_entry).collect())
    }

    /// Proposes a change of membership. One may be on its way at a time.
    ///
    /// # Errors
    /// See [`MembershipRefused`].
    pub fn propose_membership(
        &mut self,
        change: &MembershipChange,
    ) -> Result<Proposed, MembershipRefused> {
        self.may_propose()?;
        // The library would take it and turn it into an empty entry.
        if self.node.raft.has_pending_conf() || self.membership().is_joint() {
            return Err(MembershipRefused::InFlight);
        }
        change.check(&self.membership())?;
        let entry = Entry {
            entry_type: EntryType::EntryConfChangeV2 as i32,
            data: change.to_raft().encode_to_vec(),
            ..Entry::default()
        };
        Ok(self.propose_entries(vec![entry])?)
    }

    fn may_propose(&self) -> Result<(), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NotLeader { leader: self.role().leader });
        }
        if self.node.raft.lead_transferee.is_some() {
            return Err(ProposeError::Transferring);
        }
        Ok(())
    }

    fn propose_entries(&mut self, entries: Vec<Entry>) -> Result<Proposed, ProposeError> {
        let proposed = Proposed { index: self.last_index() + 1, term: self.node.raft.term };
        let message = Message {
            msg_type: MessageType::MsgPropose as i32,
            from: self.config.id,
            entries,
            ..Message::default()
        };
        self.node.raft.step(message).map_err(|_| ProposeError::Backlog)?;
        Ok(proposed)
    }

    /// Asks for an index that a linearizable read must wait for; [`crate::Work::reads`] answers,
    /// unless leadership changes: then ask again. The context must be unique at this replica.
    ///
    /// # Errors
    /// See [`ReadRefused`].
    pub fn read_index(&mut self, context: &[u8]) -> Result<(), ReadRefused> {
        let raft = &self.node.raft;
        if context.len() > MAX_READ_CONTEXT_BYTES {
            return Err(ReadRefused::Context(context.len()));
        }
        if raft.leader_id == raft::INVALID_ID {
            return Err(ReadRefused::NoLeader);
        }
        if self.is_leader() && !raft.commit_to_current_term() {
            return Err(ReadRefused::NotReady);
        }
        if raft.pending_read_count() >= MAX_PENDING_READS {
            return Err(ReadRefused::Busy);
        }
        // The leader tells requests apart by context alone, so it begins with who asks.
        let mut tagged = Vec::with_capacity(ID_BYTES + context.len());
        tagged.extend_from_slice(&self.config.id.to_le_bytes());
        tagged.extend_from_slice(context);
        self.node.read_index(tagged);
        Ok(())
    }

    /// The application has applied everything up to `index`.
    pub fn applied(&mut self, index: u64) {
        let before = self.last_index();
        let handed_over = self.node.raft.raft_log.committed.min(self.node.raft.raft_log.persisted);
        if index > self.applied_index() {
            assert!(index <= handed_over, "applied {index}, handed over {handed_over}");
            self.node.advance_apply_to(index);
        }
        if self.is_leader() && self.last_index() > before {
            // Applying a joint configuration makes the library propose its end.
            self.node.raft.bcast_append();
        }
    }

    /// Takes the application's state after `index`, in place of the entries up to there.
    ///
    /// # Errors
    /// See [`SnapshotRefused`].
    pub fn snapshot(&mut self, index: u64, data: Vec<u8>) -> Result<(), SnapshotRefused> {
        if data.len() > MAX_SNAPSHOT_BYTES {
            return Err(SnapshotRefused::TooLarge(data.len()));
        }
        let (applied, newest) = (self.applied_index(), self.snapshot_index());
        if index > applied || index <= newest {
            return Err(SnapshotRefused::Index { index, applied, newest });
        }
        let log = self.node.store();
        let (Some(term), Some(entry_chain)) = (log.term_at(index), log.chain_at(index)) else {
            return Err(SnapshotRefused::Index { index, applied, newest });
        };
        let membership = self.membership_at(index);
        let data = std::sync::Arc::new(data);
        let snapshot = Snapshot { index, term, entry_chain, membership, data };
        self.queued_snapshot = Some(snapshot.clone());
        self.node.mut_store().compact(snapshot, self.config.keep_entries);
        self.entries_since_snapshot = self.last_index() - index;
        self.bytes_since_snapshot = 0;
        let from = self.memberships.range(..=index).next_back().map_or(0, |(from, _)| *from);
        self.memberships = self.memberships.split_off(&from);
        Ok(())
    }

    fn membership_at(&self, index: u64) -> ConfState {
        let latest = self.memberships.range(..=index).next_back();
        latest.map(|(_, membership)| sorted(membership.clone())).unwrap_or_default()
    }

    /// The transport could not reach a peer: entries on their way to it may be lost.
    pub fn unreachable(&mut self, peer: u64) {
        self.node.report_unreachable(peer);
    }

    /// The transport has handed a snapshot to a peer, or failed to. Without this call the peer's
    /// own answer, or [`ReplicaConfig::snapshot_retry_ticks`], goes on.
    pub fn snapshot_sent(&mut self, peer: u64, arrived: bool) {
        let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(peer, status);
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// The members in force here.
    pub fn membership(&self) -> Membership {
        self.node.raft.prs().conf().to_conf_state().into()
    }
}
