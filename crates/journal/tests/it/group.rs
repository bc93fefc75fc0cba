//! A group of replicas in one process, over memory disks and a network that the test holds in
//! its hands. Whatever any replica commits is checked against what others committed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use journal::{
    Chain, Committed, Kept, MemoryDisk, Message, Options, Payload, Recovered, Replica,
    ReplicaConfig, RoleKind, Segments, Unsynced, Work, Write,
};

pub(crate) const SMALL: Options = Options { segment_bytes: 2048 };

/// SplitMix64: the same numbers for the same seed, everywhere.
#[derive(Clone)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The application: how many entries it applied, and a hash over them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) applied: u64,
    pub(crate) hash: [u8; 32],
}

impl App {
    fn apply(&mut self, committed: &Committed) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.hash).update(&committed.index.to_le_bytes());
        if let Payload::Data(data) = &committed.payload {
            hasher.update(data);
        }
        self.hash = *hasher.finalize().as_bytes();
        self.applied = committed.index;
    }

    fn to_bytes(&self) -> Vec<u8> {
        [&self.applied.to_le_bytes()[..], &self.hash[..]].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let (applied, hash) = bytes.split_at(8);
        Self {
            applied: u64::from_le_bytes(applied.try_into().unwrap()),
            hash: hash.try_into().unwrap(),
        }
    }
}

/// The state that a group is founded on; it counts as applied up to index 1.
pub(crate) fn founding_state() -> Vec<u8> {
    App { applied: 1, hash: [0; 32] }.to_bytes()
}

pub(crate) struct Running {
    pub(crate) replica: Replica,
    pub(crate) segments: Segments<MemoryDisk>,
    pub(crate) app: App,
    pub(crate) pending: VecDeque<Write>,
    /// How many of the pending writes are appended, though not durable.
    pub(crate) appended: usize,
    pub(crate) reads: Vec<journal::ReadIndex>,
}

pub(crate) struct Node {
    pub(crate) config: ReplicaConfig,
    pub(crate) options: Options,
    pub(crate) running: Option<Running>,
    /// The disk of a node that is down.
    pub(crate) disk: Option<MemoryDisk>,
    /// Highest term and, in it, the vote that was reported as durable.
    pub(crate) durable_ballot: (u64, u64),
}

#[derive(Default)]
pub(crate) struct Group {
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) network: VecDeque<Message>,
    /// Directed pairs whose messages vanish.
    pub(crate) cut: BTreeSet<(u64, u64)>,
    /// What was committed at each index: term, payload, entry chain.
    pub(crate) committed: BTreeMap<u64, (u64, Payload, Chain)>,
    /// Who led each term.
    pub(crate) leaders: BTreeMap<u64, u64>,
}

impl Group {
    /// Founds a group of the given voters, all running.
    pub(crate) fn founded(voters: &[u64]) -> Self {
        Self::founded_with(voters, |config| config)
    }

    pub(crate) fn founded_with(
        voters: &[u64],
        tune: impl Fn(ReplicaConfig) -> ReplicaConfig,
    ) -> Self {
        let mut group = Self::default();
        for id in voters {
            let recovered = Recovered::bootstrap(voters, founding_state()).unwrap();
            group.add(tune(ReplicaConfig::new(*id)), MemoryDisk::new(), Some(recovered));
        }
        group.settle();
        group
    }

    /// Starts a node on an empty disk, to join as a learner.
    pub(crate) fn add_empty(&mut self, config: ReplicaConfig) {
        self.add(config, MemoryDisk::new(), None);
    }

    fn add(&mut self, config: ReplicaConfig, disk: MemoryDisk, founded: Option<Recovered>) {
        let node = Node {
            config,
            options: SMALL,
            running: None,
            disk: Some(disk),
            durable_ballot: (0, 0),
        };
        self.nodes.insert(config.id, node);
        self.start_with(config.id, founded);
    }

    pub(crate) fn start(&mut self, id: u64) {
        self.start_with(id, None);
    }

    fn start_with(&mut self, id: u64, founded: Option<Recovered>) {
        let node = self.nodes.get_mut(&id).unwrap();
        let disk = node.disk.take().expect("a node that is down");
        let (segments, read) = Segments::open(disk, node.options).expect("the log opens");
        let state = read.hard_state();
        let kept = state.term > node.durable_ballot.0
            || (state.term, state.vote) == node.durable_ballot
            || (state.term == node.durable_ballot.0 && node.durable_ballot.1 == 0);
        assert!(kept, "node {id}: ballot {:?} went back to {state:?}", node.durable_ballot);
        let recovered = if read.is_empty() { founded.unwrap_or(read) } else { read };
        let app = recovered.snapshot().map_or_else(App::default, |s| App::from_bytes(&s.data));
        let replica = Replica::new(node.config, recovered).unwrap();
        node.running = Some(Running {
            replica,
            segments,
            app,
            pending: VecDeque::new(),
            appended: 0,
            reads: Vec::new(),
        });
        self.pump(id);
    }

    /// The node's power fails; `keep` judges what was not durable.
    pub(crate) fn crash(&mut self, id: u64, keep: impl FnMut(&Unsynced<'_>) -> Kept) {
        let node = self.nodes.get_mut(&id).unwrap();
        let mut disk = node.running.take().unwrap().segments.into_disk();
        disk.crash(keep);
        node.disk = Some(disk);
    }

    pub(crate) fn running(&mut self, id: u64) -> &mut Running {
        self.nodes.get_mut(&id).unwrap().running.as_mut().expect("a running node")
    }

    pub(crate) fn replica(&mut self, id: u64) -> &mut Replica {
        &mut self.running(id).replica
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.iter().filter(|(_, n)| n.running.is_some()).map(|(id, _)| *id).collect()
    }

    /// Carries out all work but the writes, which stay pending.
    pub(crate) fn pump(&mut self, id: u64) {
        while let Some(work) = self.running(id).replica.work() {
            self.carry_out(id, work);
        }
        let role = self.replica(id).role();
        if role.kind == RoleKind::Leader {
            let leader = *self.leaders.entry(role.term).or_insert(id);
            assert_eq!(leader, id, "two leaders in term {}", role.term);
        }
    }

    fn carry_out(&mut self, id: u64, work: Work) {
        let node = self.nodes.get_mut(&id).unwrap().running.as_mut().unwrap();
        self.network.extend(work.send);
        node.pending.extend(work.write);
        node.reads.extend(work.reads);
        if let Some(snapshot) = work.installed_snapshot {
            node.app = App::from_bytes(&snapshot.data);
            assert_eq!(node.app.applied, snapshot.index);
        }
        for entry in work.committed {
            assert_eq!(entry.index, node.app.applied + 1, "node {id} skips or repeats");
            node.app.apply(&entry);
            let chain = node.replica.chain_at(entry.index).expect("the chain of an entry");
            let now = (entry.term, entry.payload.clone(), chain);
            let agreed = self.committed.entry(entry.index).or_insert_with(|| now.clone());
            assert_eq!(*agreed, now, "node {id} disagrees at {}", entry.index);
            node.replica.applied(entry.index);
        }
        if node.replica.wants_snapshot() {
            let (index, state) = (node.app.applied, node.app.to_bytes());
            node.replica.snapshot(index, state).expect("a snapshot that was asked for");
        }
    }

    /// Makes all pending writes durable.
    pub(crate) fn write(&mut self, id: u64) {
        self.append(id);
        self.sync(id);
    }

    pub(crate) fn append(&mut self, id: u64) {
        let node = self.running(id);
        let fresh = node.pending.range(node.appended..).cloned().collect::<Vec<_>>();
        node.segments.append(&fresh).expect("append");
        node.appended = node.pending.len();
    }

    pub(crate) fn sync(&mut self, id: u64) {
        let all = self.nodes.get_mut(&id).unwrap();
        let node = all.running.as_mut().unwrap();
        node.segments.sync().expect("sync");
        let done: Vec<Write> = node.pending.drain(..node.appended).collect();
        node.appended = 0;
        for state in done.iter().filter_map(|write| write.hard_state.as_ref()) {
            all.durable_ballot = (state.term, state.vote);
        }
        if let Some(last) = done.last() {
            node.replica.written(last.id);
        }
        node.segments.settle(true).expect("settle");
        self.pump(id);
    }

    /// Delivers the message at a position in the network.
    pub(crate) fn deliver(&mut self, position: usize) {
        let Some(message) = self.network.remove(position) else {
            return;
        };
        self.hand_over(message);
    }

    pub(crate) fn hand_over(&mut self, message: Message) {
        if self.cut.contains(&(message.from, message.to)) {
            return;
        }
        let bytes = journal::encode_message(&message).unwrap();
        let message = journal::decode_message(&bytes).expect("replicas send what they accept");
        let to = message.to;
        if let Some(node) = self.nodes.get_mut(&to).and_then(|node| node.running.as_mut()) {
            match node.replica.step(message) {
                Ok(())
                | Err(
                    journal::StepError::UnknownPeer
                    | journal::StepError::NotNow
                    | journal::StepError::Busy,
                ) => {}
                Err(error) => panic!("node {to}: {error}"),
            }
            self.pump(to);
        }
    }

    /// Delivers and writes until nothing moves.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            for id in self.ids() {
                self.pump(id);
                if !self.running(id).pending.is_empty() {
                    self.write(id);
                    moved = true;
                }
            }
            while !self.network.is_empty() {
                self.deliver(0);
                moved = true;
            }
            if !moved {
                return;
            }
        }
        panic!("the group never settles");
    }

    /// One tick everywhere, then until nothing moves.
    pub(crate) fn tick(&mut self, times: usize) {
        for _ in 0..times {
            for id in self.ids() {
                self.replica(id).tick();
            }
            self.settle();
        }
    }

    pub(crate) fn elect(&mut self, id: u64) {
        // Followers ignore a candidate while they may have a leader.
        let ticks = self.nodes[&id].config.election_ticks;
        for other in self.ids() {
            if self.replica(other).role().kind != RoleKind::Leader {
                for _ in 0..ticks {
                    self.replica(other).tick();
                }
            }
        }
        self.replica(id).campaign().expect("a campaign");
        self.settle();
        assert_eq!(self.replica(id).role().kind, RoleKind::Leader, "node {id} leads");
    }

    pub(crate) fn propose(&mut self, id: u64, data: &str) -> u64 {
        let proposed = self.replica(id).propose(data.as_bytes().to_vec()).expect("a proposal");
        self.settle();
        proposed.index
    }

    pub(crate) fn isolate(&mut self, id: u64) {
        for other in self.nodes.keys().copied().filter(|other| *other != id) {
            self.cut.insert((id, other));
            self.cut.insert((other, id));
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn data_at(&self, index: u64) -> Option<&[u8]> {
        match self.committed.get(&index) {
            Some((_, Payload::Data(data), _)) => Some(data),
            _ => None,
        }
    }

    /// All running nodes have the same log and state.
    pub(crate) fn assert_agreement(&mut self) {
        let mut seen = None;
        for id in self.ids() {
            let node = self.running(id);
            let last = node.replica.last_index();
            let state = (last, node.replica.chain_at(last), node.app.clone());
            assert_eq!(*seen.get_or_insert_with(|| state.clone()), state, "node {id}");
        }
    }
}
