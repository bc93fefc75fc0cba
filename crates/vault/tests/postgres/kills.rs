//! The process killed at every change of an increment, and at every write of a restore.
//!
//! A restore runs as a process of its own under `strace`, which kills it when it makes the nth
//! call of a kind. Every day a few such places are tried; `BACKSTAY_TEST_KILLS` says how many.

use crate::cluster::{DIGEST, LEDGER, Server, Vault, booking, programs, scratch};
use crate::common::WAIT;
use crate::proof::{command_line, command_line_of};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use vault::cleanup::{self, CleanupRequest};
use vault::postgres::is_unfinished;
use vault::postgres::recovery::Target;
use vault::repository::{OpenOptions, Repository, wall_clock};
use vault::store::failpoint::{Crash, FailpointStore};
use vault::store::local::LocalStore;
use vault::verify::Depth;

/// Calls that change what lies on a disk, as this machine names them.
const CALLS: &[&str] = &[
    "openat",
    "write",
    "pwrite64",
    "mkdir",
    "mkdirat",
    "linkat",
    "lsetxattr",
    "mknodat",
    "symlink",
    "symlinkat",
    "rename",
    "renameat2",
    "unlink",
    "unlinkat",
    "ftruncate",
    "chmod",
    "fchmodat",
    "chown",
    "fchownat",
    "utimensat",
    "fsync",
    "syncfs",
];
/// Places tried every day, spread over all.
const PLACES: usize = 5;

fn places() -> usize {
    let wanted = std::env::var("BACKSTAY_TEST_KILLS").ok();
    wanted.map_or(PLACES, |n| n.parse().expect("a number"))
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &place),
            false => drop(fs::copy(entry.path(), place).unwrap()),
        }
    }
}

/// A copy of repository and state, opened through a store that dies at `crash`.
struct Copied {
    vault: Vault,
    store: Arc<FailpointStore>,
}

fn copied(vault: &Vault, folder: &Path, crash: Crash) -> Copied {
    let place = folder.join("repository");
    let state = folder.join("state");
    copy_tree(&vault.place, &place);
    copy_tree(&vault.state, &state);
    let local = Arc::new(LocalStore::open(&place));
    let store = Arc::new(FailpointStore::new(local, crash));
    let identity = vault.identity.clone();
    let repository = Repository::open(store.clone(), &identity, OpenOptions::default()).unwrap();
    Copied { vault: Vault { repository, identity, place, state }, store }
}

/// Cleans up until nothing is left to do, days later by the repository's clock.
fn clean_fully(vault: &Vault) -> Repository {
    let mut days = 0;
    loop {
        days += 3;
        let wall = wall_clock();
        let ahead = (WAIT + Duration::from_secs(days * 24 * 3600)).as_millis() as i64;
        let clock = Arc::new(move || wall() + ahead);
        let options = OpenOptions { clock, ..OpenOptions::default() };
        let store = Arc::new(LocalStore::open(&vault.place));
        let mut repository = Repository::open(store, &vault.identity, options).unwrap();
        cleanup::run(&mut repository, &CleanupRequest::default()).unwrap();
        if days > 9 {
            return repository;
        }
    }
}

/// After a run that died: what was there is intact, the next backup is made, and nothing of the
/// dead run is left once it was cleaned up.
fn require_unharmed(vault: &mut Vault, server: &Server, case: &str) {
    let report = vault.verify(Depth::Bytes);
    assert!(report.is_intact(), "{case}: {:?}", report.findings);
    vault.plan(Target::Latest).unwrap_or_else(|e| panic!("{case}: {e}"));
    vault.repository = vault.reopen();
    vault.back_up(server);
    let repository = clean_fully(vault);
    let index = repository.blobs().unwrap().index();
    assert_eq!(index.unmentioned().count(), 0, "{case}");
    let live = cleanup::live_packs(&repository).unwrap();
    let packs: BTreeSet<_> = index.packs().keys().copied().collect();
    assert_eq!(packs, live, "{case}: packs that nobody needs");
    assert!(repository.state().runs.is_empty(), "{case}: a run that never ends");
    let report = vault.verify(Depth::Bytes);
    assert!(report.is_intact(), "{case}: {:?}", report.findings);
}

pub(crate) fn an_increment_that_dies_at_every_change() {
    let folder = scratch();
    let server = Server::new(folder.path(), "");
    server.run(LEDGER);
    let mut vault = Vault::new(folder.path());
    vault.back_up(&server);
    (0..20).for_each(|number| server.run(&[&booking(number)]));
    let count = {
        let place = tempfile::tempdir().unwrap();
        let mut whole = copied(&vault, place.path(), Crash::Never);
        whole.vault.back_up(&server);
        whole.store.changes()
    };
    assert!(count >= 5, "{count} changes");
    for n in 1..=count {
        let both = [Crash::Before(n), Crash::After(n)];
        let tried = match places() > PLACES {
            true => &both[..],
            false => &both[n as usize % 2..][..1],
        };
        for crash in tried {
            let place = tempfile::tempdir().unwrap();
            let mut dying = copied(&vault, place.path(), *crash);
            let state = dying.vault.state.clone();
            let ended = dying.vault.back_up_with(&server, Some(state));
            assert!(ended.is_err() || n == count, "{crash:?} of {count}");
            require_unharmed(&mut dying.vault, &server, &format!("{crash:?} of {count}"));
            if n == count {
                let digest = server.one(DIGEST);
                let restored =
                    dying.vault.restore(folder.path(), &format!("back-{crash:?}"), Target::Latest);
                assert_eq!(restored.one(DIGEST), digest, "{crash:?}");
            }
        }
    }
}

/// Every file with its rights and contents.
fn contents(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let what = if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            "directory".to_owned()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            blake3::hash(&fs::read(&path).unwrap()).to_string()
        };
        let line = format!("{what} {:o} {}", meta.permissions().mode(), meta.uid());
        found.insert(path.strip_prefix(root).unwrap().to_owned(), line);
    }
    found
}

/// Runs our command line as a process of its own; `words` go to `strace`. Says whether it lived.
fn lives_under(vault: &Vault, words: &[&str], line: &[&str]) -> bool {
    let mut command = command_line_of(vault, "strace");
    command.args(["-f", "-qq"]).args(words);
    command.arg(std::env::current_exe().unwrap()).args(line);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("error: "), "{said}");
    output.status.success()
}

/// Calls of one kind, the first to the last of one thread.
pub(crate) struct Calls(BTreeMap<String, u64>);

impl Calls {
    /// Counts how often a command makes each call in one thread, at most.
    pub(crate) fn of(vault: &Vault, line: &[&str], log: &Path) -> Calls {
        let trace = format!("trace={}", CALLS.join(","));
        assert!(lives_under(vault, &["-o", log.to_str().unwrap(), "-e", &trace], line));
        let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
        for line in fs::read_to_string(log).unwrap().lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
            if CALLS.contains(&call) {
                *counts.entry((thread.to_owned(), call.to_owned())).or_default() += 1;
            }
        }
        let mut most = BTreeMap::new();
        for ((_, call), count) in counts {
            let known: &mut u64 = most.entry(call).or_default();
            *known = count.max(*known);
        }
        Calls(most)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.values().map(|n| *n as usize).sum()
    }

    /// Those to be killed at today, spread over all, and the last of these kinds: the end is where
    /// the order matters most.
    pub(crate) fn places(&self, lasts: &[&str]) -> Vec<(String, u64)> {
        let all = self.0.iter().flat_map(|(call, n)| (1..=*n).map(move |n| (call.clone(), n)));
        let step = self.count().div_ceil(places());
        let lasts = self.0.iter().filter(|(call, _)| lasts.contains(&call.as_str()));
        let lasts = lasts.map(|(call, n)| (call.clone(), *n));
        all.skip(step / 2).step_by(step).chain(lasts).collect()
    }

    /// So many of the places must have been met: threads share the work otherwise each time.
    pub(crate) fn require_killed(&self, killed: usize) {
        println!("killed {killed} times; {:?}", self.0);
        assert!(killed >= places().min(self.count()) / 2, "killed {killed} times only");
    }
}

/// The same command, undisturbed, goes on.
pub(crate) fn require_going_on(vault: &Vault, line: &[&str], case: &str) {
    let (code, said) = command_line(vault, line);
    assert_eq!(code, 0, "{case}: gone on: {said}");
}

/// Runs a command that is killed when it makes the nth call of a kind. Says whether it lived.
pub(crate) fn lives_killed_at(vault: &Vault, (call, n): (&str, u64), line: &[&str]) -> bool {
    let inject = format!("inject={call}:signal=KILL:when={n}");
    let trace = format!("trace={call}");
    lives_under(vault, &["-o", "/dev/null", "-e", &trace, "-e", &inject], line)
}

pub(crate) fn a_restore_that_is_killed_at_every_write() {
    let folder = scratch();
    let server = Server::new(folder.path(), "");
    server.run(LEDGER);
    // One database of the three that a new server has: a third of the files.
    server.run(&["ALTER DATABASE template0 IS_TEMPLATE false", "DROP DATABASE template0"]);
    server.run(&["ALTER DATABASE template1 IS_TEMPLATE false", "DROP DATABASE template1"]);
    let mut vault = Vault::new(folder.path());
    vault.back_up(&server);
    (0..20).for_each(|number| server.run(&[&booking(number)]));
    vault.back_up(&server);
    let digest = server.one(DIGEST);
    server.kill();
    let (whole, target) = (folder.path().join("whole"), folder.path().join("target"));
    let line = |target: &Path| {
        ["restore", "--latest", "--with-log", "--target", target.to_str().unwrap()]
            .map(str::to_owned)
    };
    let (whole_line, line) = (line(&whole), line(&target));
    let whole_line = whole_line.each_ref().map(String::as_str);
    let line = line.each_ref().map(String::as_str);
    let calls = Calls::of(&vault, &whole_line, &folder.path().join("calls"));
    let expected = contents(&whole);
    assert!(calls.count() > 300, "{} calls", calls.count());
    let mut killed = 0;
    for (call, n) in calls.places(&["write", "fsync", "unlink", "openat"]) {
        let case = format!("{call} {n}");
        if lives_killed_at(&vault, (&call, n), &line) {
            // Threads share the work otherwise each time: this one did less of it.
            assert_eq!(contents(&target), expected, "{case}: not killed");
        } else {
            killed += 1;
            if require_safe(&target, &expected, &case) {
                fs::remove_dir_all(&target).unwrap();
                continue;
            }
            require_going_on(&vault, &line, &case);
            assert_eq!(contents(&target), expected, "{case}: gone on");
        }
        fs::remove_dir_all(&target).unwrap();
    }
    calls.require_killed(killed);
    let opened = Server::start(folder.path(), &whole, &["archive_mode=off"]);
    assert_eq!(opened.one(DIGEST), digest);
}

/// What a killed restore left: no server opens it, or it is whole. True where nothing was left to
/// do but to say so: there is no mark any more.
fn require_safe(target: &Path, expected: &BTreeMap<PathBuf, String>, case: &str) -> bool {
    let control = Path::new("global/pg_control");
    let found = if target.exists() { contents(target) } else { BTreeMap::new() };
    if found.get(control) != expected.get(control) {
        let refused = crate::cluster::as_owner(&programs().unwrap().join("postgres"))
            .arg("-D")
            .arg(target)
            .output()
            .unwrap();
        assert!(!refused.status.success(), "{case}: a server opened a half of it");
        assert!(found.len() <= 1 || is_unfinished(target), "{case}: a half of it, unmarked");
        return false;
    }
    let unfinished = is_unfinished(target);
    let mut found = found;
    found.remove(Path::new("backstay.restoring"));
    assert_eq!(&found, expected, "{case}: openable and not whole (marked: {unfinished})");
    !unfinished
}
