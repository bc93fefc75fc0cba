use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use model::spec::Standby;
use model::vault::{BackupRecord, Digest};
use model::{ClusterMs, ReplicaId};

use super::*;
use crate::cluster::{Applied, apply};
use crate::fixtures::{cluster_spec, genesis, resource_spec};

const ID: RepositoryId = RepositoryId([7; 16]);

fn head(number: u64, byte: u8) -> ChainHead {
    ChainHead { number, hash: Digest([byte; 32]) }
}

fn news(source: &str, number: u64) -> SourceNews {
    let newest = BackupRecord {
        number,
        root: Digest([0; 32]),
        position: String::new(),
        host: String::from("h"),
        begun_ms: 0,
        ended_ms: 0,
    };
    SourceNews { source: source.to_string(), newest: Some(newest), proven: None }
}

struct Log(ClusterState);

impl Log {
    fn new() -> Log {
        let mut log = Log(ClusterState::default());
        let spec = cluster_spec(&["a"], resource_spec(Standby::Cold));
        assert!(log.apply(Command::Genesis(genesis(spec))));
        log
    }

    /// Whether it took effect. What did not must have changed nothing.
    fn apply(&mut self, command: Command) -> bool {
        let (by, now, wall_ms) = (ReplicaId(1), ClusterMs(0), 5);
        let entry = Entry { by, now, wall_ms, request: None, command, reasons: Vec::new() };
        let before = self.0.clone();
        let index = self.0.index + 1;
        let done = apply(&mut self.0, index, &entry) == Applied::Done;
        if !done {
            assert_eq!(self.0, ClusterState { index, wall_ms: 5, ..before }, "{entry:?}");
        }
        done
    }

    fn record(&mut self, previous: Option<ChainHead>, head: ChainHead) -> bool {
        self.say(previous, head, Vec::new())
    }

    fn say(
        &mut self,
        previous: Option<ChainHead>,
        head: ChainHead,
        sources: Vec<SourceNews>,
    ) -> bool {
        let (repository, by) = (ID, String::from("a"));
        self.apply(Command::RecordHead { repository, previous, head, by, sources })
    }

    fn fork(&mut self, found: ChainHead, known: ChainHead) -> bool {
        let (repository, by) = (ID, String::from("b"));
        self.apply(Command::NoteFork { repository, found, known, by })
    }

    fn chain(&self) -> &ChainRecord {
        &self.0.repositories[&ID]
    }
}

#[test]
fn a_head_follows_the_one_its_writer_names_and_nothing_else() {
    let mut log = Log::new();
    assert!(!log.record(Some(head(1, 1)), head(2, 2)), "nothing was remembered");
    assert!(log.record(None, head(2, 2)));
    for (previous, next) in [
        (None, head(3, 3)),
        (Some(head(2, 9)), head(3, 3)),
        (Some(head(1, 1)), head(3, 3)),
        (Some(head(2, 2)), head(2, 2)),
        (Some(head(2, 2)), head(2, 3)),
        (Some(head(2, 2)), head(1, 1)),
    ] {
        assert!(!log.record(previous, next), "{previous:?} {next}");
    }
    assert!(log.record(Some(head(2, 2)), head(5, 5)));
    assert_eq!(log.chain().head, head(5, 5));
    assert_eq!(log.chain().earlier, [head(2, 2)]);
    assert!(!log.record(Some(head(2, 2)), head(6, 6)), "another writer came first");
}

#[test]
fn of_two_writers_that_saw_the_same_head_one_is_overtaken() {
    let mut log = Log::new();
    assert!(log.record(None, head(1, 1)));
    assert!(log.record(Some(head(1, 1)), head(2, 2)));
    assert!(!log.record(Some(head(1, 1)), head(2, 3)), "the other one's");
    assert_eq!(log.chain().head, head(2, 2));
}

#[test]
fn news_of_sources_come_with_the_same_head_once() {
    let mut log = Log::new();
    assert!(log.record(None, head(2, 2)));
    assert!(log.say(Some(head(2, 2)), head(2, 2), vec![news("s", 1)]));
    assert!(!log.say(Some(head(2, 2)), head(2, 2), vec![news("s", 1)]));
    assert_eq!(log.chain().sources.len(), 1);
    assert!(log.chain().earlier.is_empty());
}

#[test]
fn a_fork_is_noted_against_what_is_remembered_and_stays_until_it_is_named() {
    let mut log = Log::new();
    log.record(None, head(2, 2));
    log.record(Some(head(2, 2)), head(5, 5));
    assert!(!log.fork(head(4, 1), head(4, 4)), "nobody remembers that");
    assert!(log.fork(head(5, 1), head(5, 5)));
    assert!(!log.fork(head(5, 1), head(5, 5)), "it is noted");
    assert!(log.fork(head(2, 1), head(2, 2)), "against an earlier one");
    assert_eq!(log.chain().head, head(5, 5));
    assert!(log.record(Some(head(5, 5)), head(6, 6)), "the chain remembered goes on");
    assert_eq!(log.chain().forks.len(), 2);
    let clear = |found| Command::ClearFork { repository: ID, found };
    assert!(!log.apply(clear(head(5, 2))));
    assert!(log.apply(clear(head(5, 1))) && log.apply(clear(head(2, 1))));
    assert!(log.chain().forks.is_empty());
}

#[test]
fn another_chain_holds_only_by_an_order_that_names_what_it_replaces() {
    let mut log = Log::new();
    log.say(None, head(9, 9), vec![news("s", 8)]);
    log.fork(head(5, 1), head(9, 9));
    let accept = |instead_of, head| {
        let (repository, by) = (ID, String::from("carla"));
        Command::AcceptHead { repository, instead_of, head, by }
    };
    assert!(!log.apply(accept(head(8, 9), head(5, 1))));
    assert!(log.apply(accept(head(9, 9), head(5, 1))));
    let chain = log.chain();
    assert_eq!((chain.head, chain.by.as_str()), (head(5, 1), "carla"));
    assert!(chain.forks.is_empty() && chain.sources.is_empty() && chain.earlier.is_empty());
    let forget = |head| Command::ForgetRepository { repository: ID, head };
    assert!(!log.apply(forget(head(9, 9))));
    assert!(log.apply(forget(head(5, 1))));
    assert!(log.0.repositories.is_empty());
}

#[test]
fn everything_remembered_has_its_limit() {
    let mut log = Log::new();
    log.record(None, head(0, 0));
    for number in 1..=EARLIER_MAX as u64 + 5 {
        assert!(log.record(Some(log.chain().head), head(number, 1)));
    }
    assert_eq!(log.chain().earlier.len(), EARLIER_MAX);
    let known = log.chain().head;
    let events = log.0.history.len();
    for number in 0..FORKS_MAX as u8 + 5 {
        assert!(log.fork(head(known.number, 100 + number), known));
    }
    assert_eq!((log.chain().forks.len(), log.chain().forks_more), (FORKS_MAX, 5));
    assert_eq!(log.0.history.len(), events + FORKS_MAX, "a flood fills no history");
    for number in 1..REPOSITORIES_MAX as u8 + 3 {
        let (repository, previous, sources) = (RepositoryId([number; 16]), None, Vec::new());
        let (head, by) = (head(1, 1), format!("w{number}"));
        let room = log.0.repositories.len() < REPOSITORIES_MAX;
        let is_new = !log.0.repositories.contains_key(&repository);
        let done = log.apply(Command::RecordHead { repository, previous, head, by, sources });
        assert_eq!(done, room && is_new, "{number}");
    }
    assert_eq!(log.0.repositories.len(), REPOSITORIES_MAX);
}

#[test]
fn heads_survive_an_image_of_the_state() {
    let mut log = Log::new();
    log.say(None, head(9, 9), vec![news("s", 8)]);
    log.fork(head(5, 1), head(9, 9));
    let bytes = postcard::to_allocvec(&log.0).unwrap();
    assert_eq!(postcard::from_bytes::<ClusterState>(&bytes), Ok(log.0));
}
