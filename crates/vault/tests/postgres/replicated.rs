//! Base backups over the replication protocol. What is recorded must be what a copy of the
//! directory would be, and whatever happens on the way must be noticed.

use crate::cluster::{DIGEST, LEDGER, Server, Vault, booking, give, owner, scratch};
use crate::increments::{assert_equal, is_by_log};
use crate::log::while_streaming;
use crate::proof::command_line;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use vault::backup::{BackupOutcome, BackupRequest, run};
use vault::postgres::recovery::{Log, RecoverRequest, Target, recover};
use vault::postgres::{ConnInfo, PostgresSource, ReplicatedSource};
use vault::restore::RestoreCounters;
use vault::verify::Depth;
use vault::wal::stream::Event;

/// What the rows of a table say again and again, so that it is found on its way.
const MARKER: &str = "what is looked for on the wire";

/// A role that may replicate, and nothing else.
const ROLE: &str = "CREATE ROLE far REPLICATION LOGIN";

fn big() -> Vec<String> {
    vec![
        "CREATE TABLE big (id bigserial PRIMARY KEY, filler text)".to_owned(),
        format!(
            "INSERT INTO big (filler) SELECT '{MARKER} ' || repeat(md5(n::text), 6) \
             FROM generate_series(1, 24000) n"
        ),
        "VACUUM FREEZE big".to_owned(),
    ]
}

fn make(folder: &Path, settings: &str) -> Server {
    let server = Server::new(folder, settings);
    server.run(LEDGER);
    server.run(&[ROLE]);
    big().iter().for_each(|sql| server.run(&[sql]));
    server
}

fn info(socket: &Path) -> ConnInfo {
    let text = format!("host={} user=far dbname=postgres", socket.display());
    ConnInfo::parse(&text).unwrap()
}

fn back_up(vault: &mut Vault, socket: &Path) -> vault::Result<BackupOutcome> {
    back_up_as(vault, info(socket))
}

pub(crate) fn back_up_as(vault: &mut Vault, info: ConnInfo) -> vault::Result<BackupOutcome> {
    let source = ReplicatedSource::new(info, "ledger")?;
    let plain = BackupRequest::plain("ledger", "a", &source, 2);
    let request = BackupRequest { block_memory: Some(vault.state.clone()), ..plain };
    run(&mut vault.repository, &request)
}

/// No slot of ours is left at the server.
fn assert_nothing_left(server: &Server) {
    let slots = "SELECT count(*) = 0 FROM pg_replication_slots WHERE slot_name <> 'backstay'";
    server.wait_for(slots);
}

pub(crate) fn opens_at_every_point() {
    let folder = scratch();
    let server = make(folder.path(), "wal_keep_size = 1GB");
    let space = folder.path().join("space");
    fs::create_dir(&space).unwrap();
    give(&space);
    server.run(&[
        &format!("CREATE TABLESPACE extra LOCATION '{}'", space.display()),
        "CREATE TABLE there TABLESPACE extra AS SELECT generate_series(1, 5000) n",
        "CREATE UNLOGGED TABLE scrap AS SELECT 1 n",
    ]);
    let mut vault = Vault::new(folder.path());
    let (stop, booked) = (AtomicBool::new(false), AtomicU64::new(0));
    let first = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = server.open();
            while !stop.load(Ordering::Acquire) {
                connection.query(&booking(booked.fetch_add(1, Ordering::AcqRel))).unwrap();
            }
        });
        while booked.load(Ordering::Acquire) < 50 {
            std::thread::yield_now();
        }
        let outcome = back_up(&mut vault, &server.socket).unwrap();
        stop.store(true, Ordering::Release);
        outcome
    });
    assert_eq!(first.backup.skipped, []);
    assert!(first.note.as_ref().unwrap().contains("over the replication protocol"));
    assert_nothing_left(&server);
    let mut points = Vec::new();
    while_streaming(&vault.again(), &server, |streaming| {
        for round in 0..2 {
            server.run(&[&booking(round), "SELECT pg_switch_wal()"]);
            points.push((server.position(), server.one(DIGEST)));
        }
        server.run(&["UPDATE big SET filler = 'changed' WHERE id % 500 = 0"]);
        vault.repository.refresh().unwrap();
        let second = back_up(&mut vault, &server.socket).unwrap();
        let stored = |outcome: &BackupOutcome| outcome.backup.statistics.bytes_stored;
        assert!(stored(&second) * 3 < stored(&first), "{} {}", stored(&second), stored(&first));
        server.run(&[&booking(7)]);
        let end = server.position();
        streaming.wait(|e| matches!(e, Event::Stored { upto, .. } if *upto >= end));
    })
    .unwrap();
    let newest = server.one(DIGEST);
    server.kill();
    let report = vault.verify(Depth::Bytes);
    assert!(report.is_intact(), "{:?}", report.findings);
    fs::remove_dir_all(&space).unwrap();
    let (lsn, digest) = points.swap_remove(1);
    let restored = restore(&vault, folder.path(), Target::Lsn(lsn), 1);
    assert_eq!(restored.one(DIGEST), digest);
    assert_eq!(restored.one("SELECT count(*) FROM there"), "5000");
    let scratch = folder.path().to_str().unwrap();
    let query = format!("SELECT ({DIGEST}) = '{newest}'");
    let prove = ["vault", "prove-restore", "--scratch", scratch, "--query", &query];
    let (code, said) = command_line(&vault, &prove);
    assert!(code == 0 && said.contains("PROVEN"), "{said}");
    // Nobody knows where it came from: where it goes has to be said.
    let (code, said) = command_line(&vault, &["restore", "--latest", "--in-place", "--with-log"]);
    assert!(code == 1 && said.contains("--target"), "{said}");
}

/// Restores into a place of its own; the backup has so many tablespaces.
pub(crate) fn restore(vault: &Vault, folder: &Path, target: Target, expected: usize) -> Server {
    let place = folder.join("back");
    fs::create_dir(&place).unwrap();
    let plan = vault.plan(target).unwrap();
    let repository = vault.reopen();
    let spaces =
        vault::postgres::recovery::space_numbers(&repository.blobs().unwrap(), &plan.backup);
    let spaces = spaces.unwrap().into_iter().map(|number| (number.clone(), place.join(number)));
    let request = RecoverRequest {
        target: place.join("data"),
        spaces: BTreeMap::from_iter(spaces),
        log: Log::Fetched,
        owners: owner().is_some(),
        workers: 2,
        counters: Arc::new(RestoreCounters::default()),
    };
    assert_eq!(request.spaces.len(), expected);
    assert!(recover(&repository, &plan, &request).unwrap().is_complete());
    Server::start(&place, &request.target, &["archive_mode=off"])
}

pub(crate) fn what_is_sent_is_what_lies_there() {
    let folder = scratch();
    let server = make(folder.path(), "wal_keep_size = 1GB");
    server.run(&["CREATE UNLOGGED TABLE scrap AS SELECT 1 n"]);
    let mut vault = Vault::new(folder.path());
    back_up(&mut vault, &server.socket).unwrap();
    // An increment from the directory goes on from it, and the other way round.
    server.run(&["UPDATE big SET filler = 'changed' WHERE id % 500 = 0", &booking(1)]);
    let read = vault.back_up(&server);
    assert!(is_by_log(&read), "{:?}", read.note);
    assert_equal(&vault, &server, folder.path(), &read);
    server.run(&["DELETE FROM big WHERE id > 12000", "VACUUM big", &booking(2)]);
    let sent = back_up(&mut vault, &server.socket).unwrap();
    assert_equal(&vault, &server, folder.path(), &sent);
    // Where the directory here is another server's, or out of reach, there is advice.
    let refused = |sought: &str| {
        let error = PostgresSource::new(server.info(), "ledger").err().unwrap().to_string();
        assert!(error.contains(sought) && error.contains("--over-replication"), "{error}");
    };
    let note = server.data.join("postmaster.pid");
    let noted = fs::read_to_string(&note).unwrap();
    let started = noted.lines().nth(2).unwrap();
    fs::write(&note, noted.replacen(started, "1700000000", 1)).unwrap();
    refused("another server's");
    let error = PostgresSource::new(info(&server.socket), "ledger").err().unwrap().to_string();
    assert!(error.contains("does not tell `far`"), "{error}");
    let connection = format!("host={} user=far", server.socket.display());
    let words = ["backup", "--postgres", &connection, "--over-replication", "--name", "ledger"];
    let (code, said) = command_line(&vault, &words);
    assert!(code == 0 && said.contains("what the server's manifest says"), "{said}");
}

/// What is done to the bytes of a base backup; nothing where the connection is to be cut.
type Fault = dyn FnMut(&mut [u8]) -> Option<()> + Send;

/// A place through which a server is reached, where its base backups meet a fault.
fn proxy(folder: &Path, server: &Server, fault: Box<Fault>) -> std::path::PathBuf {
    let fault = Arc::new(Mutex::new(fault));
    let name = format!("proxy-{}", fs::read_dir(folder).unwrap().count());
    let place = folder.join(name);
    fs::create_dir(&place).unwrap();
    let listener = UnixListener::bind(place.join(".s.PGSQL.5432")).unwrap();
    let target = server.socket.join(".s.PGSQL.5432");
    // It ends with the test's process; its connections end with those who made them.
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), UnixStream::connect(&target).unwrap());
            let fault = Arc::clone(&fault);
            std::thread::spawn(move || forward(near, far, &fault));
        }
    });
    place
}

fn forward(mut near: UnixStream, mut far: UnixStream, fault: &Mutex<Box<Fault>>) {
    let mut buffer = vec![0; 64 << 10];
    let length = near.read(&mut buffer).unwrap();
    far.write_all(&buffer[..length]).unwrap();
    let is_meant = String::from_utf8_lossy(&buffer[..length]).contains("backstay_backup\0");
    let (mut up_from, mut up_to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    std::thread::spawn(move || {
        // Either end may leave at any time.
        let _ = std::io::copy(&mut up_from, &mut up_to);
        let _ = up_to.shutdown(Shutdown::Both);
    });
    while let Ok(length @ 1..) = far.read(&mut buffer) {
        let bytes = &mut buffer[..length];
        let goes_on = !is_meant || fault.lock().unwrap()(bytes).is_some();
        if !goes_on || near.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = (near.shutdown(Shutdown::Both), far.shutdown(Shutdown::Both));
}

pub(crate) fn nothing_altered_or_broken_off_is_recorded() {
    let folder = scratch();
    let server = make(folder.path(), "");
    let mut vault = Vault::new(folder.path());
    let mut refused = |place: &Path, sought: &str| {
        let error = back_up(&mut vault, place).unwrap_err();
        let error = vault::error::explain(&error);
        assert!(error.contains(sought), "{error}");
        assert!(vault.repository.state().backups.is_empty());
        assert_nothing_left(&server);
    };
    for (after, sought) in [(3_000, "closed"), (2_000_000, "closed"), (12_000_000, "closed")] {
        let mut left: usize = after;
        let cut = move |bytes: &mut [u8]| {
            left = left.checked_sub(bytes.len())?;
            Some(())
        };
        refused(&proxy(folder.path(), &server, Box::new(cut)), sought);
    }
    let number = server.one("SELECT pg_relation_filepath('big')");
    let mut flipped = false;
    let flip = move |bytes: &mut [u8]| {
        let found = bytes.windows(MARKER.len()).position(|w| w == MARKER.as_bytes());
        if let (Some(at), false) = (found, flipped) {
            bytes[at] ^= 1;
            flipped = true;
        }
        Some(())
    };
    let place = proxy(folder.path(), &server, Box::new(flip));
    refused(&place, &format!("`{number}` is not what the server's manifest says"));
    // The manifest itself.
    let mut seen = false;
    let forge = move |bytes: &mut [u8]| {
        let sought = b"\"Last-Modified\": \"2";
        if let (Some(at), false) = (bytes.windows(19).position(|w| w == sought), seen) {
            bytes[at + 18] ^= 1;
            seen = true;
        }
        Some(())
    };
    refused(&proxy(folder.path(), &server, Box::new(forge)), "manifest is damaged");
    // What follows a failure is a backup like any other.
    if server.one("SHOW server_version_num").parse::<u32>().unwrap() >= 140_000 {
        // What keeps the log is silent meanwhile, and is not ended for it.
        server.run(&["ALTER SYSTEM SET idle_session_timeout = '50ms'", "SELECT pg_reload_conf()"]);
    }
    let whole = proxy(folder.path(), &server, Box::new(|_| Some(())));
    back_up(&mut vault, &whole).unwrap();
    let report = vault.verify(Depth::Bytes);
    assert!(report.is_intact(), "{:?}", report.findings);
    // A page that is damaged at the server: it says so, and where.
    server.run(&["CHECKPOINT"]);
    let file = fs::OpenOptions::new().write(true).open(server.data.join(&number)).unwrap();
    file.write_all_at(&[0x5a; 100], 3 * 8192 + 4000).unwrap();
    let error = back_up(&mut vault, &server.socket).unwrap_err().to_string();
    assert!(error.contains("checksum") && error.contains(&number), "{error}");
    assert_eq!(vault.repository.state().backups.len(), 1);
}
