//! Turns the Raft library's state changes into work, and finished writes back into progress.
//!
//! **Invariant:** a message leaves only after the writes it rests on. The library lets a leader
//! send while it writes; that is right only once its term and vote are durable. A sole voter
//! with learners wins before that, and a crash could then make it lead the same term twice, with
//! other entries. So the leader's messages wait for its ballot here.

use prost::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeV2, Entry, EntryType, Message};
use raft::{Ready, StateRole};
use raft_proto_conversion::into_v2;

use crate::limits::MAX_WRITES_IN_FLIGHT;
use crate::message::decode_snapshot;
use crate::replica::{Held, Replica};
use crate::snapshot_file::Snapshot;
use crate::store::{ID_BYTES, entry_bytes};
use crate::work::{Committed, Payload, ReadIndex, Work};
use crate::write::{SnapshotWrite, Write, WriteId};

mod raft_proto_conversion {
    use raft::eraftpb::{ConfChange, ConfChangeSingle, ConfChangeV2};

    /// A change of the library's older form, which this code never proposes, in the newer one.
    pub(super) fn into_v2(old: ConfChange) -> ConfChangeV2 {
        let single = ConfChangeSingle { change_type: old.change_type, node_id: old.node_id };
        ConfChangeV2 { changes: vec![single], context: old.context, ..ConfChangeV2::default() }
    }
}

impl Replica {
    /// The next piece of work, or `None` when there is nothing to do now. Call it until then
    /// after every call that changes the replica.
    pub fn work(&mut self) -> Option<Work> {
        // Most calls find nothing: they are to cost nothing.
        let free = self.held.len() < MAX_WRITES_IN_FLIGHT;
        let begins = || self.found_first || self.queued_snapshot.is_some() || self.node.has_ready();
        let waits = !self.outbox.is_empty() || !self.reads.is_empty() || self.installed.is_some();
        if !waits && !(free && begins()) {
            return None;
        }
        let mut work = Work {
            send: std::mem::take(&mut self.outbox),
            reads: std::mem::take(&mut self.reads),
            ..Work::default()
        };
        if let Some(snapshot) = self.installed.take() {
            self.node.advance_apply_to(snapshot.index);
            work.installed_snapshot = Some(snapshot);
        }
        if self.held.len() < MAX_WRITES_IN_FLIGHT {
            if self.found_first {
                self.write_foundation(&mut work);
            } else if self.node.has_ready() {
                self.take_ready(&mut work);
            } else if let Some(snapshot) = self.queued_snapshot.take() {
                let snapshot = SnapshotWrite { snapshot, installed: false };
                self.write(&mut work, Some(snapshot), Vec::new(), None, Vec::new());
            }
        }
        if work.is_empty() { None } else { Some(work) }
    }

    /// Everything up to this write is durable.
    pub fn written(&mut self, id: WriteId) {
        let mut ready = None;
        while let Some(held) = self.held.pop_front_if(|held| held.id <= id) {
            ready = held.ready.or(ready);
            self.ballot = held.ballot;
            self.outbox.extend(held.messages);
            self.installed = held.installed.or(self.installed.take());
        }
        if let Some(ready) = ready {
            self.node.on_persist_ready(ready);
        }
    }

    /// A founded group's first snapshot and hard state, before anything else.
    fn write_foundation(&mut self, work: &mut Work) {
        self.found_first = false;
        let snapshot = self.node.store().newest_snapshot().cloned();
        let snapshot = snapshot.map(|snapshot| SnapshotWrite { snapshot, installed: true });
        self.write(work, snapshot, Vec::new(), None, Vec::new());
    }

    fn take_ready(&mut self, work: &mut Work) {
        let mut ready = self.node.ready();
        let number = ready.number();
        let entries = ready.take_entries();
        let installed = self.take_snapshot(&ready);
        self.node.mut_store().append(&entries);
        self.entries_since_snapshot += entries.len() as u64;
        self.bytes_since_snapshot += entries.iter().map(entry_bytes).sum::<u64>();
        let mut at_once = ready.take_messages();
        let mut after_write = ready.take_persisted_messages();
        let committed = ready.take_committed_entries();
        let reads = ready.take_read_states();
        self.node.advance_append_async(ready);

        let ballot = self.current_ballot();
        if self.ballot != ballot {
            after_write.append(&mut at_once);
        }
        work.send.append(&mut at_once);
        // A leader's snapshot is newer than the application's own, which is then dropped.
        let own = self.queued_snapshot.take();
        let snapshot = match installed {
            Some(snapshot) => Some(SnapshotWrite { snapshot, installed: true }),
            None => own.map(|snapshot| SnapshotWrite { snapshot, installed: false }),
        };
        let ballot_changed = (self.recorded.term, self.recorded.vote) != ballot;
        // Who votes is told by what is known to be committed: after a loss of power everywhere, a
        // replica that has forgotten a commit would ask voters of before, who may be gone.
        let regrouped = committed.iter().any(|e| e.get_entry_type() != EntryType::EntryNormal);
        if !entries.is_empty() || snapshot.is_some() || ballot_changed || regrouped {
            self.write(work, snapshot, entries, Some(number), after_write);
        } else if let Some(last) = self.held.back_mut() {
            last.ready = Some(number);
            last.messages.append(&mut after_write);
        } else {
            self.node.on_persist_ready(number);
            work.send.append(&mut after_write);
        }
        for read in reads {
            if read.request_ctx.starts_with(&self.config.id.to_le_bytes()) {
                let context = read.request_ctx[ID_BYTES..].to_vec();
                work.reads.push(ReadIndex { context, index: read.index });
            }
        }
        work.committed = committed.into_iter().map(|entry| self.commit(entry)).collect();
    }

    /// Takes a leader's snapshot into memory; it is handed over once it is durable.
    fn take_snapshot(&mut self, ready: &Ready) -> Option<Snapshot> {
        if ready.snapshot().is_empty() {
            return None;
        }
        let snapshot = decode_snapshot(ready.snapshot()).expect("checked when it arrived");
        self.node.mut_store().install(snapshot.clone());
        self.memberships = [(snapshot.index, snapshot.membership.clone())].into();
        self.entries_since_snapshot = 0;
        self.bytes_since_snapshot = 0;
        Some(snapshot)
    }

    fn current_ballot(&self) -> (u64, u64) {
        (self.node.raft.term, self.node.raft.vote)
    }

    fn write(
        &mut self,
        work: &mut Work,
        snapshot: Option<SnapshotWrite>,
        entries: Vec<Entry>,
        ready: Option<u64>,
        messages: Vec<Message>,
    ) {
        let id = WriteId(self.next_write);
        self.next_write += 1;
        let state = self.node.raft.hard_state();
        let hard_state = (state != self.recorded).then(|| state.clone());
        self.recorded = state;
        let installed = snapshot
            .as_ref()
            .filter(|s| s.installed && ready.is_some())
            .map(|s| s.snapshot.clone());
        let ballot = self.current_ballot();
        self.held.push_back(Held { id, ready, messages, installed, ballot });
        work.write = Some(Write { id, snapshot, entries, hard_state });
    }

    fn commit(&mut self, entry: Entry) -> Committed {
        let (index, term) = (entry.index, entry.term);
        let change = match entry.get_entry_type() {
            EntryType::EntryNormal if entry.data.is_empty() => {
                return Committed { index, term, payload: Payload::Empty };
            }
            EntryType::EntryNormal => {
                return Committed { index, term, payload: Payload::Data(entry.data) };
            }
            EntryType::EntryConfChangeV2 => ConfChangeV2::decode(entry.data.as_slice()).ok(),
            EntryType::EntryConfChange => {
                ConfChange::decode(entry.data.as_slice()).ok().map(into_v2)
            }
        };
        let state = change.and_then(|change| self.node.apply_conf_change(&change).ok());
        let applied = state.is_some();
        if let Some(state) = state {
            self.memberships.insert(index, state);
            self.leave_office_if_removed();
        }
        Committed { index, term, payload: Payload::Membership { now: self.membership(), applied } }
    }

    /// The library lets a removed leader go on and then panics on its own missing progress.
    fn leave_office_if_removed(&mut self) {
        if self.node.raft.state == StateRole::Leader && !self.node.raft.promotable() {
            // The others learn that its removal is committed, rather than wait for a successor.
            self.node.raft.bcast_append();
            self.step_down();
        }
    }
}
