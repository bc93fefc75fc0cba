//! The log: streamed, lost, let go.

use crate::cluster::{DIGEST, LEDGER, Server, Vault, booking, scratch};
use crate::common::WAIT;
use crate::proof::command_line;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use vault::error::Result;
use vault::postgres::ConnInfo;
use vault::postgres::recovery::Target;
use vault::repository::Repository;
use vault::verify::Depth;
use vault::wal::stream::{Event, StreamRequest, run};
use vault::wal::{Lag, stream_id};

/// Long enough for anything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server may keep for a stream that stalls.
const LIMIT: u64 = 40 << 20;

/// A stream in the background of a test, and what it told.
pub(crate) struct Streaming<'a> {
    pub(crate) stop: &'a AtomicBool,
    pub(crate) events: &'a Mutex<Vec<Event>>,
    pub(crate) spool: Option<PathBuf>,
    /// How the server is reached, if not by its socket.
    pub(crate) info: Option<ConnInfo>,
}

impl Streaming<'_> {
    /// Streams until told to stop.
    pub(crate) fn run(
        &self,
        repository: &mut Repository,
        server: &Server,
        state: &Path,
        retain_max_bytes: u64,
    ) -> Result<()> {
        let request = StreamRequest {
            info: self.info.clone().unwrap_or_else(|| server.info()),
            name: "ledger".to_owned(),
            slot: "backstay".to_owned(),
            standby_name: "backstay".to_owned(),
            retain_max_bytes,
            mark_every: WAIT,
            memory: Some(state.to_owned()),
            spool: self.spool.clone(),
            stop: self.stop,
            tell: &|event| self.events.lock().unwrap().push(event),
        };
        let ended = run(repository, &request);
        if let Err(error) = &ended {
            println!("the stream ended: {}", vault::error::explain(error));
        }
        ended
    }

    /// Waits until an event came that `wanted` takes.
    pub(crate) fn wait(&self, wanted: impl Fn(&Event) -> bool) {
        let begun = Instant::now();
        while !self.events.lock().unwrap().iter().any(&wanted) {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.events.lock().unwrap());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    pub(crate) fn end(&self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// Runs `work` while the log streams.
pub(crate) fn while_streaming(
    vault: &Vault,
    server: &Server,
    work: impl FnOnce(&Streaming<'_>),
) -> Result<()> {
    while_streaming_from(vault, server, None, work)
}

/// The same from a server that is reached otherwise.
pub(crate) fn while_streaming_from(
    vault: &Vault,
    server: &Server,
    info: Option<ConnInfo>,
    work: impl FnOnce(&Streaming<'_>),
) -> Result<()> {
    let (stop, events) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let streaming = Streaming { stop: &stop, events: &events, spool: None, info };
    let mut repository = vault.reopen();
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| streaming.run(&mut repository, server, &vault.state, u64::MAX));
        streaming.wait(|e| matches!(e, Event::Started { .. }));
        work(&streaming);
        streaming.end();
        stream.join().unwrap()
    })
}

pub(crate) fn nothing_acknowledged_is_lost() {
    let folder = scratch();
    let server = Server::new(folder.path(), "");
    server.run(LEDGER);
    let mut vault = Vault::new(folder.path());
    vault.back_up(&server);
    // A stream that ended goes on where it ended, in the middle of a segment.
    for _ in 0..2 {
        while_streaming(&vault, &server, |streaming| {
            server
                .run(&["CREATE TABLE IF NOT EXISTS other (n int)", "INSERT INTO other VALUES (1)"]);
            let end = server.position();
            streaming.wait(|e| matches!(e, Event::Stored { upto, .. } if *upto >= end));
        })
        .unwrap();
        server.run(&["INSERT INTO other VALUES (2)"]);
    }
    let acknowledged = AtomicU64::new(0);
    let wait = "synchronous_standby_names = 'backstay'";
    while_streaming(&vault, &server, |streaming| {
        server.run(&[&format!("ALTER SYSTEM SET {wait}"), "SELECT pg_reload_conf()"]);
        std::thread::scope(|scope| {
            for client in 0..4 {
                let (server, acknowledged) = (&server, &acknowledged);
                scope.spawn(move || {
                    let mut connection = server.open();
                    for number in 0..50 {
                        connection.query(&booking(number * 4 + client)).unwrap();
                        acknowledged.fetch_add(1, Ordering::AcqRel);
                    }
                });
            }
        });
        assert_eq!(acknowledged.load(Ordering::Acquire), 200);
        streaming.wait(|e| matches!(e, Event::Stored { .. }));
    })
    .unwrap();
    let digest = {
        // Whatever was acknowledged is there, though the server's machine is gone.
        let digest = server.one(DIGEST);
        server.kill();
        fs::remove_dir_all(folder.path().join("data")).unwrap();
        digest
    };
    let report = vault.verify(Depth::Bytes);
    assert!(report.is_intact(), "{:?}", report.findings);
    let restored = vault.restore(folder.path(), "back", Target::Latest);
    assert_eq!(restored.one("SELECT sum(n) FROM other"), "6");
    assert_eq!(restored.one("SELECT count(*) FROM booking"), "200");
    assert_eq!(restored.one(DIGEST), digest);
}

/// A repository with a backup and bookings after it, all streamed. The server has ended.
fn streamed(folder: &Path) -> Vault {
    let server = Server::new(folder, "");
    server.run(LEDGER);
    let mut vault = Vault::new(folder);
    vault.back_up(&server);
    while_streaming(&vault, &server, |streaming| {
        for number in 0..60 {
            server.run(&[&booking(number)]);
            if number % 20 == 19 {
                server.run(&["SELECT pg_switch_wal()"]);
            }
        }
        let end = server.position();
        streaming.wait(|e| matches!(e, Event::Stored { upto, .. } if *upto >= end));
    })
    .unwrap();
    vault
}

pub(crate) fn every_removed_piece_is_missed() {
    let folder = scratch();
    let vault = streamed(folder.path());
    let report = vault.verify(Depth::Structure);
    assert!(report.is_intact(), "{:?}", report.findings);
    assert!(vault.plan(Target::Latest).is_ok());
    let pieces: Vec<_> =
        fs::read_dir(vault.place.join("wal")).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(pieces.len() >= 4, "{pieces:?}");
    for piece in pieces {
        let aside = folder.path().join("aside");
        fs::rename(&piece, &aside).unwrap();
        let report = vault.verify(Depth::Structure);
        assert!(!report.damaged_backups.is_empty(), "{}: {report:?}", piece.display());
        let (code, said) = command_line(&vault, &["vault", "verify"]);
        assert_eq!(code, 3, "{}: {said}", piece.display());
        assert!(
            said.contains("the log was acknowledged up to") || said.contains("cannot be opened"),
            "{said}"
        );
        assert!(said.contains("backups that lost something"), "{said}");
        // And nobody opens the database in silence without it.
        let planned = vault.plan(Target::Latest);
        assert!(planned.is_err(), "{}", piece.display());
        fs::rename(&aside, &piece).unwrap();
        // A flipped bit is found where every byte is read.
        let bytes = fs::read(&piece).unwrap();
        let mut altered = bytes.clone();
        altered[bytes.len() / 2] ^= 4;
        fs::write(&piece, &altered).unwrap();
        let report = vault.verify(Depth::Bytes);
        assert!(!report.damaged_backups.is_empty(), "{}: {report:?}", piece.display());
        let (code, said) = command_line(&vault, &["vault", "verify", "--bytes"]);
        let name = piece.file_name().unwrap().to_str().unwrap();
        assert!(code == 3 && said.contains(name), "{}: {said}", piece.display());
        fs::write(&piece, &bytes).unwrap();
    }
}

pub(crate) fn a_promotion_is_followed() {
    let folder = scratch();
    let mut vault = streamed(folder.path());
    let second = vault.restore(folder.path(), "second", Target::Latest);
    while_streaming(&vault, &second, |streaming| {
        (100..130).for_each(|number| second.run(&[&booking(number)]));
        let end = second.position();
        streaming.wait(|e| matches!(e, Event::Stored { timeline: 2, upto } if *upto >= end));
    })
    .unwrap();
    let report = vault.verify(Depth::Bytes);
    assert!(report.is_intact(), "{:?}", report.findings);
    // From the backup before the promotion, through it.
    let third = vault.restore(folder.path(), "third", Target::Latest);
    assert_eq!(third.one(DIGEST), second.one(DIGEST));
    assert_eq!(third.one("SELECT timeline_id FROM pg_control_checkpoint()"), "3");
    drop(third);
    // And a backup of the new timeline.
    vault.repository.refresh().unwrap();
    let outcome = vault.back_up(&second);
    assert!(outcome.backup.subject.position.contains("timeline 2"));
    let digest = second.one(DIGEST);
    drop(second);
    let fourth = vault.restore(folder.path(), "fourth", Target::Latest);
    assert_eq!(fourth.one(DIGEST), digest);
    // Another system under the same name is refused.
    drop(fourth);
    let other_folder = folder.path().join("other");
    fs::create_dir(&other_folder).unwrap();
    let other = Server::new(&other_folder, "");
    let error = vault.back_up_with(&other, None).unwrap_err().to_string();
    assert!(error.contains("two logs must not be mixed"), "{error}");
}

pub(crate) fn a_stalled_archive_lets_go() {
    let folder = scratch();
    let server = Server::new(folder.path(), "min_wal_size = 32MB\nmax_wal_size = 64MB");
    server.run(LEDGER);
    let mut vault = Vault::new(folder.path());
    vault.back_up(&server);
    let (stop, events) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let streaming = Streaming { stop: &stop, events: &events, spool: None, info: None };
    let (wal, away) = (vault.place.join("wal"), vault.place.join("away"));
    let mut repository = vault.reopen();
    let result = std::thread::scope(|scope| {
        let stream = scope.spawn(|| streaming.run(&mut repository, &server, &vault.state, LIMIT));
        streaming.wait(|e| matches!(e, Event::Stored { .. } | Event::Started { .. }));
        // The disk of the repository goes away, and the server works on.
        fs::rename(&wal, &away).unwrap();
        server
            .run(&["CREATE TABLE load AS SELECT repeat('x', 1000) FROM generate_series(1, 9000)"]);
        streaming.wait(|e| matches!(e, Event::Stalled { .. }));
        for _ in 0..5 {
            server.run(&["INSERT INTO load SELECT * FROM load LIMIT 9000"]);
        }
        stream.join().unwrap()
    });
    fs::rename(&away, &wal).unwrap();
    assert!(result.is_err());
    let (ring, known) = (repository.ring(), &repository.state().archives["ledger"]);
    let stream = stream_id(ring, "ledger", known.system);
    let lag = Lag::recall(&vault.state, &ring.repository, &stream).unwrap().unwrap();
    // What waits to be stored at least; while nothing is taken from it the server is not heard.
    assert!(lag.bytes() >= 9_000_000, "{lag:?}");
    let cost =
        |e: &Event| matches!(e, Event::LetGo { retained_bytes, .. } if *retained_bytes >= LIMIT);
    assert!(events.lock().unwrap().iter().any(cost), "{:?} {result:?}", events.lock().unwrap());
    assert_eq!(server.one("SELECT count(*) FROM pg_replication_slots"), "0");
    // The server throws away what nobody keeps; the next stream says what that cost.
    for _ in 0..4 {
        server.run(&["SELECT pg_switch_wal()", "CHECKPOINT", "CHECKPOINT"]);
        server.run(&["INSERT INTO load SELECT * FROM load LIMIT 9000"]);
    }
    while_streaming(&vault, &server, |streaming| {
        streaming.wait(|e| matches!(e, Event::Gap { .. }));
        server.run(&[&booking(1)]);
        let end = server.position();
        streaming.wait(|e| matches!(e, Event::Stored { upto, .. } if *upto >= end));
    })
    .unwrap();
    // What was acknowledged is all there, and a new backup heals the rest.
    assert!(vault.verify(Depth::Structure).is_intact());
    vault.repository.refresh().unwrap();
    vault.back_up(&server);
    let digest = server.one(DIGEST);
    drop(server);
    assert_eq!(vault.restore(folder.path(), "back", Target::Latest).one(DIGEST), digest);
}

pub(crate) fn segments_are_pushed() {
    let folder = scratch();
    let key = folder.path().join("key");
    let mut vault = Vault::new(folder.path());
    vault::keys::access::write_key_file(&key, &vault.identity).unwrap();
    let program = std::env::current_exe().unwrap();
    let command = format!(
        "{} vault wal push --repository {} --key {} --state-dir {} --source ledger %p",
        program.display(),
        vault.place.display(),
        key.display(),
        vault.state.display(),
    );
    fs::create_dir_all(&vault.state).unwrap();
    let settings = format!("archive_mode = on\narchive_command = '{command}'");
    [&vault.place, &vault.state, &key].iter().for_each(|path| crate::cluster::give(path));
    let server = Server::new(folder.path(), &settings);
    server.run(LEDGER);
    vault.repository.refresh().unwrap();
    vault.back_up(&server);
    crate::cluster::give(&vault.place);
    (0..50).for_each(|number| server.run(&[&booking(number)]));
    let digest = server.one(DIGEST);
    let last = server.one("SELECT pg_walfile_name(pg_switch_wal())");
    let begun = Instant::now();
    while server.one("SELECT last_archived_wal FROM pg_stat_archiver") < last {
        let stats = server.one("SELECT pg_stat_archiver::text FROM pg_stat_archiver");
        assert!(begun.elapsed() < PATIENCE, "{stats}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    server.kill();
    assert!(vault.verify(Depth::Bytes).is_intact());
    assert_eq!(vault.restore(folder.path(), "back", Target::Latest).one(DIGEST), digest);
}

pub(crate) fn what_the_spool_holds_is_not_lost() {
    let folder = scratch();
    let (key, spool) = (folder.path().join("key"), folder.path().join("spool"));
    let mut vault = Vault::new(folder.path());
    vault::keys::access::write_key_file(&key, &vault.identity).unwrap();
    let server = Server::new(folder.path(), "");
    server.run(LEDGER);
    vault.back_up(&server);
    let postgres = format!("host={} user=postgres", server.socket.display());
    let stream = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["vault", "wal", "stream", "--once", "--source", "ledger"]);
        command.arg("--postgres").arg(&postgres).arg("--spool").arg(&spool);
        command.arg("--repository").arg(&vault.place).arg("--key").arg(&key);
        command.arg("--state-dir").arg(&vault.state).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let waiting = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    let wait = "synchronous_standby_names = 'backstay'";
    server.run(&[&format!("ALTER SYSTEM SET {wait}"), "SELECT pg_reload_conf()"]);
    let mut number = 0;
    for _ in 0..3 {
        let mut child = stream().spawn().unwrap();
        server.wait_for(&format!("SELECT ({waiting}) = 1"));
        let mut connection = server.open();
        // It is killed between a commit and what follows in the repository.
        for _ in 0..40 {
            connection.query(&booking(number)).unwrap();
            number += 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // The server and its disk are gone: only the spool has the newest bookings.
    server.kill();
    fs::remove_dir_all(folder.path().join("data")).unwrap();
    let before = booked(&vault, folder.path(), "before");
    let output = stream().output().unwrap();
    assert!(!output.status.success());
    let after = booked(&vault, folder.path(), "after");
    assert!(before < number && after == number, "{before}, {after} of {number}");
    assert!(vault.verify(Depth::Bytes).is_intact());
    // Started once more, it finds nothing left, and changes nothing.
    stream().output().unwrap();
    assert_eq!(booked(&vault, folder.path(), "again"), number);
}

/// Bookings that a restore brings back.
fn booked(vault: &Vault, folder: &Path, name: &str) -> u64 {
    let restored = vault.restore(folder, name, Target::Latest);
    restored.one("SELECT count(*) FROM booking").parse().unwrap()
}
