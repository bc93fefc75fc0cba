//! A running server compared with a backup: no difference where there is none, whatever the
//! server did, and each planted one named by its file and page.

use crate::cluster::{LEDGER, Server, Vault, booking, scratch};
use crate::proof::command_line;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use vault::postgres::equality::{Equality, compare};

const PAGE: u64 = 8192;
const KEEP: &str = "wal_keep_size = 1GB";
/// A table with an index of every kind, a sequence, and what is not logged.
const KINDS: &[&str] = &[
    "CREATE TABLE kinds (id serial PRIMARY KEY, n int, tags int[], at point, words text)",
    "CREATE INDEX ON kinds USING hash (n)",
    "CREATE INDEX ON kinds USING gin (tags)",
    "CREATE INDEX ON kinds USING gist (at)",
    "CREATE INDEX ON kinds USING spgist (words)",
    "CREATE INDEX ON kinds USING brin (id)",
    "CREATE UNLOGGED TABLE scrap AS SELECT n FROM generate_series(1, 5000) n",
    "CREATE SEQUENCE loose",
];

fn fill(from: u32, to: u32) -> String {
    format!(
        "INSERT INTO kinds (n, tags, at, words) SELECT n % 1000, ARRAY[n % 7, n % 50, n], \
         point(n % 100, n / 100), md5(n::text) FROM generate_series({from}, {to}) n"
    )
}

/// The newest backup and the server.
pub(crate) fn compared(vault: &Vault, server: &Server) -> Equality {
    let repository = vault.reopen();
    let (_, backup) = repository.state().newest(None).unwrap();
    compare(&repository, backup, &server.info()).unwrap()
}

#[track_caller]
pub(crate) fn require_equal(found: &Equality) {
    assert!(found.is_equal(), "{found:#?}");
}

fn with_kinds(settings: &str, folder: &std::path::Path) -> (Server, Vault) {
    let server = Server::new(folder, settings);
    server.run(LEDGER);
    server.run(KINDS);
    server.run(&[&fill(1, 20_000), "SELECT nextval('loose')"]);
    let mut vault = Vault::new(folder);
    vault.back_up(&server);
    (server, vault)
}

pub(crate) fn whatever_a_server_does() {
    // Without checksums hints are in no record.
    for has_checksums in [true, false] {
        let folder = scratch();
        let (server, mut vault) = match has_checksums {
            true => with_kinds(KEEP, folder.path()),
            false => {
                let server = Server::without_checksums(folder.path(), KEEP);
                server.run(LEDGER);
                server.run(KINDS);
                server.run(&[&fill(1, 20_000)]);
                let mut vault = Vault::new(folder.path());
                vault.back_up(&server);
                (server, vault)
            }
        };
        let found = compared(&vault, &server);
        require_equal(&found);
        assert!(found.equal_pages > 2000, "{found:?}");
        for round in 0..4 {
            let (from, to) = (round * 10_000, round * 10_000 + 9_000);
            server.run(&[
                &format!("UPDATE kinds SET n = n + 1, words = words || 'x' WHERE id % 5 = {round}"),
                &format!("DELETE FROM kinds WHERE id % 9 = {round}"),
                &fill(30_000 + from, 30_000 + to),
                "SELECT count(*) FROM kinds WHERE n = 77",
                "SET enable_seqscan = off",
                "SELECT count(*) FROM kinds WHERE n = 77",
                "SELECT count(*) FROM kinds WHERE at <@ box '(0,0),(50,50)'",
                "SELECT count(*) FROM kinds WHERE words = 'none'",
                "SELECT nextval('loose') FROM generate_series(1, 50)",
                "INSERT INTO scrap SELECT n FROM generate_series(1, 2000) n",
            ]);
            if round % 2 == 1 {
                server.run(&["VACUUM kinds"]);
            }
            let found = compared(&vault, &server);
            require_equal(&found);
            assert!(found.changed_pages > 500 && found.settled_pages > 500, "{found:?}");
        }
        while_others_work(&server, || require_equal(&compared(&vault, &server)));
        server.run(&["DROP TABLE kinds", "CREATE TABLE young AS SELECT 1", "CHECKPOINT"]);
        require_equal(&compared(&vault, &server));
        vault.repository = vault.reopen();
        vault.back_up(&server);
        let found = compared(&vault, &server);
        require_equal(&found);
        assert!(found.equal_pages > 500 && found.live != [0; 32], "{found:?}");
    }
}

/// Does something three times while relations and databases come and go.
fn while_others_work(server: &Server, check: impl Fn()) {
    let ended = AtomicBool::new(false);
    // Before 15 files are copied, and told of afterwards; later ones can do that, too.
    let version: u32 = server.one("SHOW server_version_num").parse().unwrap();
    let ways = ["CREATE DATABASE short", "CREATE DATABASE short STRATEGY FILE_COPY"];
    let make = ways[usize::from(version >= 150_000)];
    std::thread::scope(|scope| {
        let works = scope.spawn(|| {
            let mut rounds = 0;
            while !ended.load(Ordering::Relaxed) {
                server.run(&[
                    "CREATE TABLE brief AS SELECT n FROM generate_series(1, 3000) n",
                    "DELETE FROM brief WHERE n > 500",
                    "VACUUM brief",
                    make,
                    "DROP TABLE brief",
                    "DROP DATABASE short",
                ]);
                rounds += 1;
            }
            rounds
        });
        (0..3).for_each(|_| check());
        ended.store(true, Ordering::Relaxed);
        assert!(works.join().unwrap() > 0);
    });
}

/// The file of a relation.
fn file_of(server: &Server, relation: &str) -> (PathBuf, String) {
    let path = server.one(&format!("SELECT pg_relation_filepath('{relation}')"));
    (server.data.join(&path), format!("data/{path}"))
}

fn read(path: &PathBuf, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fs::File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
    bytes
}

fn write(path: &PathBuf, at: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

/// The only difference there is.
#[track_caller]
fn only_difference(vault: &Vault, server: &Server, path: &str, words: &[&str]) {
    let found = compared(vault, server);
    assert!(!found.is_equal());
    let [(at, what)] = &found.differences[..] else { panic!("{:?}", found.differences) };
    assert_eq!(at, path);
    assert!(words.iter().all(|word| what.contains(word)), "{what}");
}

/// Who may not order a checkpoint compares what is on disk, and hears that. The command line says
/// the same, by its exit code, too.
fn said_by_the_command_line(
    vault: &Vault,
    server: &Server,
    (file, path): (&PathBuf, &str),
    [old, new]: [&[u8]; 2],
) {
    server.run(&["CREATE ROLE reader LOGIN IN ROLE pg_monitor"]);
    let mut reader = server.info();
    reader.user = "reader".to_owned();
    let repository = vault.reopen();
    let (_, backup) = repository.state().newest(None).unwrap();
    let found = compare(&repository, backup, &reader).unwrap();
    require_equal(&found);
    assert!(found.no_checkpoint.is_some_and(|why| why.contains("CHECKPOINT")));
    let connection = format!("host={} user=postgres", server.socket.display());
    let words = ["vault", "compare", "--postgres", &connection];
    let (code, said) = command_line(vault, &words);
    assert!(code == 0 && said.contains("equal: no page differs from backup"), "{said}");
    write(file, 0, old);
    let (code, said) = command_line(vault, &words);
    assert!(code == 3 && said.contains(&format!("{path}: page 0 is of ")), "{code} {said}");
    write(file, 0, new);
}

pub(crate) fn every_planted_difference_is_named() {
    let folder = scratch();
    let (server, vault) = with_kinds(KEEP, folder.path());
    // From here on nothing is written but by this test.
    server.run(&["CHECKPOINT"]);
    require_equal(&compared(&vault, &server));
    for (relation, page, at) in
        [("kinds", 3, 8000), ("kinds_pkey", 2, 7000), ("kinds_at_idx", 4, 8000)]
    {
        let (file, path) = file_of(&server, relation);
        let place = page * PAGE + at;
        let byte = read(&file, place, 1);
        write(&file, place, &[byte[0] ^ 1]);
        let words = [&format!("page {page} at "), "differs in 1 bytes"];
        only_difference(&vault, &server, &path, &words.map(|w| w as &str));
        write(&file, place, &byte);
        require_equal(&compared(&vault, &server));
    }
    // An old page comes back: sound in itself, and as the backup has it.
    let (file, path) = file_of(&server, "kinds");
    let old = read(&file, 0, PAGE as usize);
    server.run(&["UPDATE kinds SET words = 'new' WHERE id = 1", "CHECKPOINT"]);
    require_equal(&compared(&vault, &server));
    let new = read(&file, 0, PAGE as usize);
    assert!(new != old);
    write(&file, 0, &old);
    only_difference(&vault, &server, &path, &["page 0 is of ", "write was lost"]);
    write(&file, 0, &vec![0; PAGE as usize]);
    only_difference(&vault, &server, &path, &["page 0 is of 0/0", "write was lost"]);
    write(&file, 0, &new);
    // A page that no record made.
    let end = fs::metadata(&file).unwrap().len();
    write(&file, end, &old);
    only_difference(&vault, &server, &path, &["the log does not name that change"]);
    OpenOptions::new().write(true).open(&file).unwrap().set_len(end).unwrap();
    // A later position alone is no difference: hints can bring one. With a change that no record
    // made it is.
    let other = read(&file, 5 * PAGE, PAGE as usize);
    write(&file, 5 * PAGE, &new[..8]);
    require_equal(&compared(&vault, &server));
    write(&file, 5 * PAGE + 8100, &[other[8100] ^ 1]);
    only_difference(&vault, &server, &path, &["page 5", "the log does not name that change"]);
    write(&file, 5 * PAGE, &[0xff; 8]);
    only_difference(&vault, &server, &path, &["page 5", "the log ends at"]);
    write(&file, 5 * PAGE, &other);
    // The first write of a page that the backup has not.
    server.run(&[&fill(30_000, 33_000), "CHECKPOINT"]);
    let grown = fs::metadata(&file).unwrap().len();
    assert!(grown > end + 3 * PAGE, "{end} {grown}");
    // Servers make room for some pages more.
    let filled = |at: &u64| read(&file, *at, PAGE as usize) != vec![0; PAGE as usize];
    let at = (end / PAGE..grown / PAGE).map(|page| page * PAGE).rfind(filled).unwrap();
    let last = read(&file, at, PAGE as usize);
    write(&file, at, &vec![0; PAGE as usize]);
    only_difference(&vault, &server, &path, &["is of 0/0, and the log changed it at", "lost"]);
    write(&file, at, &last);
    said_by_the_command_line(&vault, &server, (&file, &path), [&old, &new]);
    // A file that is gone.
    let (file, path) = file_of(&server, "kinds_n_idx");
    fs::rename(&file, file.with_extension("aside")).unwrap();
    let found = compared(&vault, &server);
    assert!(!found.is_equal() && found.differences.iter().all(|(at, _)| *at == path), "{found:?}");
    fs::rename(file.with_extension("aside"), &file).unwrap();
    require_equal(&compared(&vault, &server));
}

pub(crate) fn primary_standby_and_backup_are_equal() {
    let folder = scratch();
    let (primary, mut vault) = with_kinds(KEEP, folder.path());
    let standby = vault.standby_of(&primary, folder.path());
    standby.wait_for("SELECT pg_is_in_recovery()");
    // At rest: one root on all three sides.
    let settle = || {
        primary.run(&["CHECKPOINT"]);
        let end = primary.position();
        standby.wait_for(&format!("SELECT pg_last_wal_replay_lsn() >= '{end}'"));
        standby.run(&["CHECKPOINT"]);
    };
    settle();
    let (one, other) = (compared(&vault, &primary), compared(&vault, &standby));
    require_equal(&one);
    require_equal(&other);
    assert_eq!((one.live, one.equal_pages), (other.live, other.equal_pages));
    // Under way: neither differs, whatever either has written.
    for round in 0..3 {
        primary.run(&[&fill(40_000, 45_000), &booking(round), "VACUUM kinds"]);
        require_equal(&compared(&vault, &primary));
        require_equal(&compared(&vault, &standby));
    }
    settle();
    require_equal(&compared(&vault, &standby));
    // A page of the standby's that is not the primary's.
    vault.repository = vault.reopen();
    vault.back_up(&primary);
    settle();
    let (file, path) = file_of(&standby, "kinds");
    let byte = read(&file, 10 * PAGE + 8100, 1);
    write(&file, 10 * PAGE + 8100, &[byte[0] ^ 4]);
    only_difference(&vault, &standby, &path, &["page 10", "differs in 1 bytes"]);
    write(&file, 10 * PAGE + 8100, &byte);
    // After a promotion the two have one past and not one future.
    standby.run(&["SELECT pg_promote()"]);
    let repository = vault.reopen();
    let (_, backup) = repository.state().newest(None).unwrap();
    let error = compare(&repository, backup, &standby.info()).unwrap_err().to_string();
    assert!(error.contains("timeline 2"), "{error}");
    let elsewhere = scratch();
    let stranger = Server::new(elsewhere.path(), "");
    let error = compare(&repository, backup, &stranger.info()).unwrap_err().to_string();
    assert!(error.contains("this server is system"), "{error}");
}
