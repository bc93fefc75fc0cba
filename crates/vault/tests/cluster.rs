//! A cluster that remembers heads, played by the control state's own rules: what is recorded when,
//! what a crash in between leaves, what becomes of a repository that was set back.

mod common;

use age::x25519::Identity;
use brain::cluster::{Applied, apply};
use common::*;
use model::command::{Command, Entry};
use model::state::ClusterState;
use model::vault::{ChainHead, ChainRecord, RepositoryId, Standing};
use model::{ClusterMs, NodeName, Operation, ReplicaId};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use vault::VaultError;
use vault::chain::Body;
use vault::cluster::{Cluster, Committed, Link, Unable, View, chain_head, commit};
use vault::repository::{Freshness, OpenOptions, Repository};
use vault::store::Store;
use vault::store::local::LocalStore;

/// How it behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// It answers nothing.
    Silent,
    /// It carries out what it is told, and its answer is lost.
    Mute,
    /// It carries out nothing that it is told.
    Deaf,
}

struct Inner {
    state: ClusterState,
    mood: Mood,
    entries: usize,
}

#[derive(Clone)]
struct Remembering(Arc<Mutex<Inner>>);

impl Remembering {
    fn new() -> Remembering {
        let state = ClusterState::default();
        Remembering(Arc::new(Mutex::new(Inner { state, mood: Mood::Well, entries: 0 })))
    }

    fn mood(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    fn entries(&self) -> usize {
        self.0.lock().unwrap().entries
    }

    fn chain(&self) -> ChainRecord {
        self.0.lock().unwrap().state.repositories.values().next().unwrap().clone()
    }

    fn link(&self, is_needed: bool) -> Option<Link> {
        Some(Link { cluster: Arc::new(self.clone()), is_needed })
    }
}

fn command(operation: &Operation, chain: Option<&ChainRecord>) -> Command {
    let by = "w".to_owned();
    match operation.clone() {
        Operation::RecordHead { repository, previous, head, sources } => {
            match chain.map(|chain| chain.standing(&head)) {
                Some(Standing::Against(known)) => {
                    Command::NoteFork { repository, found: head, known, by }
                }
                _ => Command::RecordHead { repository, previous, head, by, sources },
            }
        }
        Operation::ReportFork { repository, found, known } => {
            Command::NoteFork { repository, found, known, by }
        }
        other => panic!("{other:?}"),
    }
}

impl Cluster for Remembering {
    fn view(&self, _local: bool) -> Result<View, Unable> {
        let inner = self.0.lock().unwrap();
        if inner.mood == Mood::Silent {
            return Err(Unable::Silent("no node answered".to_owned()));
        }
        let repositories = inner.state.repositories.clone();
        Ok(View { repositories, authoritative: true, ..View::default() })
    }

    fn say(&self, operation: &Operation) -> Result<(), Unable> {
        let mut inner = self.0.lock().unwrap();
        let lost = || Err(Unable::Silent("no answer in time".to_owned()));
        if matches!(inner.mood, Mood::Silent | Mood::Deaf) {
            return lost();
        }
        let command = command(operation, inner.state.repositories.values().next());
        let is_fork = matches!(command, Command::NoteFork { .. });
        let (by, now) = (ReplicaId(1), ClusterMs(0));
        let entry = Entry { by, now, wall_ms: 0, request: None, command, reasons: Vec::new() };
        let index = inner.state.index + 1;
        let applied = apply(&mut inner.state, index, &entry);
        inner.entries += 1;
        match (inner.mood, applied) {
            (Mood::Mute, _) => lost(),
            // One that is noted already is answered alike.
            (_, _) if is_fork => Err(Unable::Forked("two histories".to_owned())),
            (_, Applied::Done) => Ok(()),
            (_, Applied::Overtaken) => Err(Unable::Moved),
        }
    }

    fn me(&self) -> Option<NodeName> {
        None
    }
}

/// A repository on disk that a cluster remembers.
struct Stage {
    folder: tempfile::TempDir,
    clock: TestClock,
    identity: Identity,
    cluster: Remembering,
}

impl Stage {
    fn new() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::new();
        fs::create_dir(folder.path().join("data")).unwrap();
        let (_, identity) = init(store(&folder.path().join("repository")), &clock);
        let stage = Stage { folder, clock, identity, cluster: Remembering::new() };
        stage.write("one");
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, text: &str) {
        fs::write(self.path("data/file"), text).unwrap();
    }

    fn open(&self, is_needed: bool) -> vault::Result<Repository> {
        let options = OpenOptions { cluster: self.cluster.link(is_needed), ..self.clock.options() };
        Repository::open(store(&self.path("repository")), &self.identity, options)
    }

    /// A backup that is recorded.
    fn back_up(&self, text: &str) -> Repository {
        let mut repository = self.open(false).unwrap();
        self.back_up_with(&mut repository, text);
        commit(&mut repository).unwrap();
        repository
    }

    fn back_up_with(&self, repository: &mut Repository, text: &str) {
        self.write(text);
        common::back_up(repository, &self.path("data")).unwrap();
    }

    fn keep(&self, from: &str, to: &str) {
        copy(&self.path(from), &self.path(to));
    }

    /// An older copy takes the repository's place.
    fn put_back(&self, kept: &str) {
        fs::remove_dir_all(self.path("repository")).unwrap();
        self.keep(kept, "repository");
    }
}

fn store(path: &Path) -> Arc<dyn Store> {
    match path.exists() {
        true => Arc::new(LocalStore::open(path)),
        false => Arc::new(LocalStore::create(path).unwrap()),
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => _ = fs::copy(entry.path(), target).unwrap(),
        }
    }
}

fn head(repository: &Repository) -> ChainHead {
    chain_head(&repository.chain().head)
}

#[test]
fn a_backup_is_remembered_with_its_source_and_once() {
    let stage = Stage::new();
    let mut repository = stage.back_up("two");
    let chain = stage.cluster.chain();
    assert_eq!(chain.head, head(&repository));
    let newest = chain.sources["data"].newest.clone().unwrap();
    let (number, backup) = repository.state().newest(None).unwrap();
    assert_eq!((newest.number, newest.root.0), (number, backup.subject.root));
    assert_eq!(chain.sources["data"].proven, None);
    let entries = stage.cluster.entries();
    assert!(matches!(commit(&mut repository), Ok(Committed::Head(_))));
    assert_eq!(stage.cluster.entries(), entries, "nothing new, no entry");
    vault::rehearsal::record(&mut repository, number, 7, 1, "all".to_owned()).unwrap();
    commit(&mut repository).unwrap();
    let proven = stage.cluster.chain().sources["data"].proven.clone().unwrap();
    assert_eq!((proven.number, proven.took_ms), (number, 7));
}

#[test]
fn a_repository_that_was_set_back_does_not_open_and_the_cluster_knows() {
    let stage = Stage::new();
    stage.back_up("two");
    stage.keep("repository", "kept");
    let newer = head(&stage.back_up("three"));
    stage.put_back("kept");
    // Nobody else would notice: the copy is whole.
    let alone = OpenOptions { cluster: None, ..stage.clock.options() };
    let alone = Repository::open(store(&stage.path("repository")), &stage.identity, alone);
    assert_eq!(alone.unwrap().freshness(), Freshness::NotProvable);
    for is_needed in [true, false] {
        let error = stage.open(is_needed).err().unwrap();
        assert!(matches!(&error, VaultError::RolledBack { .. }), "{error}");
        assert!(error.to_string().contains("the cluster remembers"), "{error}");
    }
    let chain = stage.cluster.chain();
    assert_eq!((chain.head, chain.forks.len()), (newer, 1));
    assert_eq!(chain.forks[0].known, newer);
}

#[test]
fn a_copy_that_went_on_by_itself_is_a_fork_whoever_is_behind_it() {
    let stage = Stage::new();
    stage.back_up("two");
    stage.keep("repository", "kept");
    let known = head(&stage.back_up("three"));
    stage.put_back("kept");
    // Someone without a cluster goes on with it, beyond what is remembered.
    let alone = OpenOptions { cluster: None, ..stage.clock.options() };
    let mut alone =
        Repository::open(store(&stage.path("repository")), &stage.identity, alone).unwrap();
    for text in ["four", "five", "six"] {
        stage.back_up_with(&mut alone, text);
    }
    assert!(head(&alone).number > known.number);
    assert!(matches!(stage.open(true), Err(VaultError::RolledBack { .. })));
    assert_eq!(stage.cluster.chain().head, known);
    assert_eq!(stage.cluster.chain().forks.len(), 1);
}

#[test]
fn what_a_crash_left_out_the_next_one_makes_up_for() {
    let stage = Stage::new();
    stage.back_up("two");
    let before = stage.cluster.chain().head;
    // Dead between the repository and the log.
    let mut dead = stage.open(false).unwrap();
    stage.back_up_with(&mut dead, "three");
    let left = head(&dead);
    drop(dead);
    assert_eq!(stage.cluster.chain().head, before);
    let mut next = stage.open(true).unwrap();
    assert!(matches!(next.freshness(), Freshness::Contains(_)));
    commit(&mut next).unwrap();
    assert_eq!(stage.cluster.chain().head, left);
    assert_eq!(stage.cluster.chain().earlier, [before]);
}

#[test]
fn a_silent_cluster_hinders_no_backup_and_is_never_said_to_remember_it() {
    let stage = Stage::new();
    stage.cluster.mood(Mood::Silent);
    assert!(matches!(stage.open(true), Err(VaultError::ClusterSilent(_))));
    let mut repository = stage.open(false).unwrap();
    assert_eq!(repository.freshness(), Freshness::NotProvable);
    assert!(repository.notes()[0].contains("could not be asked"), "{:?}", repository.notes());
    stage.back_up_with(&mut repository, "two");
    for mood in [Mood::Silent, Mood::Deaf] {
        stage.cluster.mood(mood);
        let error = commit(&mut repository).unwrap_err();
        assert!(matches!(&error, VaultError::NotRecorded { .. }), "{error}");
    }
    stage.cluster.mood(Mood::Well);
    commit(&mut repository).unwrap();
    assert_eq!(stage.cluster.chain().head, head(&repository));
}

#[test]
fn an_answer_that_was_lost_is_found_out() {
    let stage = Stage::new();
    let mut repository = stage.open(false).unwrap();
    stage.back_up_with(&mut repository, "two");
    stage.cluster.mood(Mood::Mute);
    assert!(matches!(commit(&mut repository), Ok(Committed::Head(_))), "it was carried out");
    assert_eq!(stage.cluster.entries(), 1);
}

#[test]
fn two_writers_at_once_are_both_remembered() {
    let stage = Stage::new();
    stage.back_up("two");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut repository = stage.open(false).unwrap();
                for _ in 0..5 {
                    common::back_up(&mut repository, &stage.path("data")).unwrap();
                    commit(&mut repository).unwrap();
                }
            });
        }
    });
    let repository = stage.open(true).unwrap();
    assert_eq!(stage.cluster.chain().head, head(&repository));
    assert_eq!(repository.state().backups.len(), 16);
    assert!(stage.cluster.chain().forks.is_empty());
}

#[test]
fn a_chain_with_a_hole_after_what_is_remembered_is_not_recorded() {
    let stage = Stage::new();
    let mut repository = stage.back_up("two");
    let before = stage.cluster.chain().head;
    stage.back_up_with(&mut repository, "three");
    let lost = before.number + 1;
    let name = vault::store::ObjectName::of_record(lost);
    store(&stage.path("repository")).delete(&name).unwrap();
    let mut next = stage.open(true).unwrap();
    let error = commit(&mut next).unwrap_err();
    assert!(matches!(&error, VaultError::BrokenChain { seq, .. } if *seq == lost), "{error}");
    assert_eq!(stage.cluster.chain().head, before);
}

#[test]
fn a_forgotten_backup_leaves_the_chain_longer_and_whole() {
    let stage = Stage::new();
    let mut repository = stage.back_up("two");
    let first = repository.state().newest(None).unwrap().0;
    stage.back_up_with(&mut repository, "three");
    let forget = Body::Forget { backups: vec![first], why: String::new() };
    repository.append(forget, None, |_| Ok(())).unwrap();
    commit(&mut repository).unwrap();
    assert_eq!(stage.cluster.chain().head, head(&repository));
    stage.open(true).unwrap();
}

#[test]
fn repositories_are_remembered_apart() {
    let stage = Stage::new();
    stage.back_up("two");
    let view = stage.cluster.view(false).unwrap();
    let id: Vec<RepositoryId> = view.repositories.keys().copied().collect();
    let (other, _) = init(store(&stage.path("other")), &stage.clock);
    assert_ne!(id, [RepositoryId(other.ring().repository)]);
}
