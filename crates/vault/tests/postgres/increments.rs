//! Increments by the pages that the log names: never one page too few. The oracle is the data
//! directory itself: with checksums, whatever changes a page is in the log, so that what a
//! backup restores is equal to what lies there, byte by byte.

use crate::cluster::{DIGEST, LEDGER, Server, Vault, booking, scratch};
use crate::equality::{compared, require_equal};
use crate::log::while_streaming;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use vault::backup::BackupOutcome;
use vault::postgres::recovery::{Log, Target};
use vault::postgres::{Lsn, Position, SegmentName};
use vault::wal::stream::Event;

const PAGE: usize = 8192;

/// The server keeps the log between two backups itself.
const KEEP: &str = "wal_keep_size = 1GB";

/// Rounds of chance; each is an increment.
const ROUNDS: u64 = 10;

/// Where an increment says that it read only what the log names.
pub(crate) fn is_by_log(outcome: &BackupOutcome) -> bool {
    outcome.note.as_ref().is_some_and(|note| note.starts_with("the log names"))
}

fn files(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![top.join("base"), top.join("global")];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => found.push(entry.path().strip_prefix(top).unwrap().to_owned()),
            }
        }
    }
    found
}

/// Every page that nobody has changed since the backup began is restored as it lies there.
pub(crate) fn assert_equal(vault: &Vault, server: &Server, folder: &Path, outcome: &BackupOutcome) {
    let start = Position::parse(&outcome.backup.subject.position).unwrap().start;
    let place = folder.join(format!("copy-{}", outcome.seq));
    vault.recover(&vault.plan(Target::Latest).unwrap(), &place, Log::Fetched);
    let mut pages = 0;
    let names = files(&place);
    assert!(names.len() > 200, "{}", names.len());
    for name in names.iter().filter(|n| !n.ends_with("pg_control")) {
        let (there, here) = (fs::read(server.data.join(name)), fs::read(place.join(name)).unwrap());
        let there = there.unwrap_or_else(|e| panic!("{}: {e}", name.display()));
        assert_eq!(there.len(), here.len(), "{}", name.display());
        for (number, (there, here)) in there.chunks(PAGE).zip(here.chunks(PAGE)).enumerate() {
            let half = |at: usize| u32::from_le_bytes(there[at..at + 4].try_into().unwrap());
            let is_older =
                there.len() < PAGE || Lsn(u64::from(half(0)) << 32 | u64::from(half(4))) < start;
            assert!(there == here || !is_older, "page {number} of {}", name.display());
            pages += 1;
        }
    }
    assert!(pages > 500, "{pages}");
    fs::remove_dir_all(place).unwrap();
}

/// One of many things that change pages.
fn statement(chance: u64, number: u64) -> Vec<String> {
    let table = format!("t{}", number % 4);
    let some = chance / 32 % 97;
    let one = match chance % 16 {
        0 => format!("CREATE TABLE IF NOT EXISTS {table} (id bigserial PRIMARY KEY, v text)"),
        1 => format!("DROP TABLE IF EXISTS {table}"),
        2 => format!(
            "DROP TABLE IF EXISTS {table}; CREATE TABLE {table} AS SELECT n id, \
                      repeat('x', 200) v FROM generate_series(1, 3000) n"
        ),
        3 => "DELETE FROM big WHERE id > (SELECT max(id) * 0.7 FROM big)".to_owned(),
        4 => "VACUUM big".to_owned(),
        5 => "VACUUM FULL account".to_owned(),
        6 => "TRUNCATE copied".to_owned(),
        7 => "INSERT INTO copied SELECT * FROM big LIMIT 2000".to_owned(),
        8 => "DROP INDEX IF EXISTS extra".to_owned(),
        9 => "CREATE INDEX IF NOT EXISTS extra ON big (filler)".to_owned(),
        10 => format!("UPDATE big SET filler = 'u{chance}' WHERE id % 97 = {some}"),
        11 => format!(
            "INSERT INTO big (filler) SELECT md5(n::text) FROM generate_series(1, {}) n",
            some * 40
        ),
        12 => "CREATE UNLOGGED TABLE IF NOT EXISTS scrap AS SELECT 1 n".to_owned(),
        13 => "CHECKPOINT".to_owned(),
        14 => "VACUUM FREEZE".to_owned(),
        _ => format!("SELECT count(*) FROM big WHERE id % 7 = {}", some % 7),
    };
    one.split("; ").map(str::to_owned).collect()
}

pub(crate) fn none_misses_a_page() {
    let folder = scratch();
    let server = Server::new(folder.path(), KEEP);
    server.run(LEDGER);
    server.run(&[
        "CREATE TABLE big (id bigserial PRIMARY KEY, filler text)",
        "INSERT INTO big (filler) SELECT repeat(md5(n::text), 9) FROM generate_series(1, 20000) n",
        "CREATE TABLE copied (LIKE big)",
    ]);
    let mut vault = Vault::new(folder.path());
    vault.back_up(&server);
    let seed = std::env::var("BACKSTAY_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    let version: u32 = server.one("SHOW server_version_num").parse().unwrap();
    let has_strategies = version >= 150_000;
    let mut chance: u64 = seed;
    for round in 0..ROUNDS {
        let mut connection = server.open();
        for number in 0..25 {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            for sql in statement(chance >> 33, number) {
                connection.query(&sql).unwrap_or_else(|e| panic!("seed {seed}, {sql}: {e}"));
            }
            connection.query(&booking(round * 25 + number)).unwrap();
        }
        // Before 15 there is one way only: the files are copied.
        let strategy = |name| if has_strategies { format!(" STRATEGY {name}") } else { "".into() };
        let make = |name| format!("CREATE DATABASE made{}", strategy(name));
        match round % 3 {
            0 => server.run(&[&make("FILE_COPY")]),
            1 => server.run(&["DROP DATABASE made", &make("WAL_LOG")]),
            _ => server.run(&["DROP DATABASE made"]),
        }
        drop(connection);
        require_equal(&compared(&vault, &server));
        let outcome = vault.back_up(&server);
        assert!(is_by_log(&outcome), "{:?}", outcome.note);
        assert_eq!(outcome.backup.skipped, []);
        assert_equal(&vault, &server, folder.path(), &outcome);
    }
    let digest = "SELECT md5(string_agg(big::text, ',' ORDER BY id)) FROM big";
    let said = (server.one(DIGEST), server.one(digest));
    drop(server);
    let restored = vault.restore(folder.path(), "back", Target::Latest);
    assert_eq!((restored.one(DIGEST), restored.one(digest)), said);
    crate::base::amcheck(&restored);
}

pub(crate) fn little_is_read() {
    let folder = scratch();
    let server = Server::new(folder.path(), KEEP);
    server.run(LEDGER);
    server.run(&[
        "CREATE TABLE big (id bigserial PRIMARY KEY, filler text)",
        "INSERT INTO big (filler) SELECT repeat(md5(n::text), 9) FROM generate_series(1, 90000) n",
        "VACUUM FREEZE",
    ]);
    let mut vault = Vault::new(folder.path());
    let first = vault.back_up(&server).backup.statistics.bytes_read;
    server.run(&["UPDATE big SET filler = 'changed' WHERE id % 1000 = 0"]);
    let second = vault.back_up(&server);
    let read = second.backup.statistics.bytes_read;
    assert!(is_by_log(&second) && read * 4 < first, "{read} of {first}: {:?}", second.note);
    // Without what this machine remembers of the parent, pages are compared with the parent's.
    server.run(&["UPDATE big SET filler = 'again' WHERE id % 1000 = 1"]);
    let third = vault.back_up_with(&server, None).unwrap();
    assert!(third.backup.statistics.bytes_read > 3 * read);
    assert_equal(&vault, &server, folder.path(), &third);
}

pub(crate) fn the_archive_is_read_where_the_server_has_let_go() {
    let folder = scratch();
    let settings = "max_wal_size = 32MB\nmin_wal_size = 32MB\nwal_recycle = off";
    let server = Server::new(folder.path(), settings);
    server.run(LEDGER);
    let mut vault = Vault::new(folder.path());
    let first = vault.back_up(&server);
    let start = Position::parse(&first.backup.subject.position).unwrap().start;
    let turn = |number: u64| {
        (0..10).for_each(|n| server.run(&[&booking(number * 10 + n)]));
        server.run(&["SELECT pg_switch_wal()", "CHECKPOINT"]);
    };
    let segment = SegmentName { timeline: 1, start: start.segment_start(16 << 20) };
    let first_name = server.data.join("pg_wal").join(segment.file_name(16 << 20));
    while_streaming(&vault, &server, |streaming| {
        (0..4).for_each(turn);
        let end = server.position();
        streaming.wait(|e| matches!(e, Event::Stored { upto, .. } if *upto >= end));
    })
    .unwrap();
    server.run(&["CHECKPOINT", "CHECKPOINT"]);
    assert!(!first_name.exists(), "the server still has {}", first_name.display());
    let second = vault.back_up(&server);
    assert!(is_by_log(&second), "{:?}", second.note);
    assert_equal(&vault, &server, folder.path(), &second);
    // With neither the archive nor the server's own, everything is read, and that is said.
    server.run(&["SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"]);
    (4..12).for_each(turn);
    server.run(&["CHECKPOINT", "CHECKPOINT"]);
    let third = vault.back_up(&server);
    let note = third.note.clone().unwrap();
    assert!(note.contains("neither at the server nor archived"), "{note}");
    assert_equal(&vault, &server, folder.path(), &third);
}

pub(crate) fn another_past_is_noticed() {
    let folder = scratch();
    let server = Server::new(folder.path(), KEEP);
    server.run(LEDGER);
    server.run(&["CHECKPOINT"]);
    server.kill();
    // A snapshot of the machine, from before the backup.
    let data = folder.path().join("data");
    let snapshot = folder.path().join("snapshot");
    let copy = |from: &Path, to: &Path| {
        let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(status.unwrap().success());
    };
    copy(&data, &snapshot);
    let server = Server::start(folder.path(), &data, &[]);
    (0..60).for_each(|number| server.run(&[&booking(number)]));
    let mut vault = Vault::new(folder.path());
    vault.back_up(&server);
    server.kill();
    // The machine goes back to it, on the same timeline, and does other things.
    fs::rename(&data, folder.path().join("gone")).unwrap();
    copy(&snapshot, &data);
    let server = Server::start(folder.path(), &data, &[]);
    (500..900).for_each(|number| server.run(&[&booking(number)]));
    // So that what is stored of the log does not overlap with what will be.
    server.run(&["SELECT pg_switch_wal()", "CHECKPOINT"]);
    let outcome = vault.back_up(&server);
    let note = outcome.note.clone().unwrap();
    assert!(note.contains("its past is another"), "{note}");
    assert_equal(&vault, &server, folder.path(), &outcome);
}

pub(crate) fn minimal_logging_is_noticed() {
    let folder = scratch();
    let server = Server::new(folder.path(), KEEP);
    server.run(LEDGER);
    let mut vault = Vault::new(folder.path());
    vault.back_up(&server);
    let data = server.data.clone();
    server.stop();
    let server = Server::start(folder.path(), &data, &["wal_level=minimal", "max_wal_senders=0"]);
    server.run(&["CREATE TABLE quiet AS SELECT generate_series(1, 5000) n"]);
    server.stop();
    let server = Server::start(folder.path(), &data, &[]);
    let outcome = vault.back_up(&server);
    let note = outcome.note.clone().unwrap();
    assert!(note.contains("of a kind that we don't know"), "{note}");
    assert_equal(&vault, &server, folder.path(), &outcome);
}

pub(crate) fn hint_bits_alone_are_no_change() {
    let folder = scratch();
    let server = Server::without_checksums(folder.path(), KEEP);
    server.run(LEDGER);
    (0..300).for_each(|number| server.run(&[&booking(number)]));
    let mut vault = Vault::new(folder.path());
    vault.back_up(&server);
    // Readers mark rows as committed, without a word in the log.
    server.run(&["SELECT count(*) FROM booking", "CHECKPOINT"]);
    (300..310).for_each(|number| server.run(&[&booking(number)]));
    let outcome = vault.back_up(&server);
    assert!(is_by_log(&outcome), "{:?}", outcome.note);
    let digest = server.one(DIGEST);
    drop(server);
    let restored = vault.restore(folder.path(), "back", Target::Latest);
    assert_eq!(restored.one(DIGEST), digest);
    crate::base::amcheck(&restored);
}
