//! Proof of restore, tablespaces, and damage that must be found before any restore.

use crate::cluster::{DIGEST, LEDGER, Server, Vault, booking, give, owner, programs, scratch};
use crate::directory::said_as_json;
use crate::log::while_streaming;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use vault::postgres::recovery::{Log, RecoverRequest, Target, recover};
use vault::postgres::{Lsn, Position};
use vault::restore::RestoreCounters;
use vault::verify::Depth;
use vault::wal::stream::Event;

/// A program that is told of the repository, the key, and the server's programs.
pub(crate) fn command_line_of(vault: &Vault, program: impl AsRef<OsStr>) -> Command {
    let key = vault.place.with_file_name("key");
    if !key.exists() {
        vault::keys::access::write_key_file(&key, &vault.identity).unwrap();
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let paths = programs().into_iter().chain(std::env::split_paths(&paths));
    let mut command = Command::new(program);
    command
        .env("BACKSTAY_REPOSITORY", &vault.place)
        .env("BACKSTAY_KEY_FILE", key)
        .env("BACKSTAY_STATE_DIR", &vault.state)
        .env("PATH", std::env::join_paths(paths).unwrap());
    command
}

/// Runs our own command line and returns its exit code and what it said.
pub(crate) fn command_line(vault: &Vault, words: &[&str]) -> (i32, String) {
    let program = std::env::current_exe().unwrap();
    let output = command_line_of(vault, program).args(words).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

pub(crate) fn only_what_restores_is_proven() {
    let folder = scratch();
    let server = Server::new(folder.path(), "");
    server.run(LEDGER);
    let space = folder.path().join("space");
    fs::create_dir(&space).unwrap();
    give(&space);
    server.run(&[
        &format!("CREATE TABLESPACE extra LOCATION '{}'", space.display()),
        "CREATE TABLE there TABLESPACE extra AS SELECT generate_series(1, 5000) n",
    ]);
    let mut vault = Vault::new(folder.path());
    vault.back_up(&server);
    while_streaming(&vault, &server, |streaming| {
        (0..20).for_each(|number| server.run(&[&booking(number)]));
        let end = server.position();
        streaming.wait(|e| matches!(e, Event::Stored { upto, .. } if *upto >= end));
    })
    .unwrap();
    let digest = server.one(DIGEST);
    server.kill();
    let sum = "SELECT sum(balance) = 0 FROM account";
    let (code, said) = command_line(&vault, &["vault", "status"]);
    assert!(code == 0 && said.contains("none was ever PROVEN"), "{said}");
    let prove = ["vault", "prove-restore", "--scratch", folder.path().to_str().unwrap(), "--query"];
    let (code, said) = command_line(&vault, &[&prove[..], &["SELECT 1 = 2"]].concat());
    assert!(code == 1 && said.contains("NOT proven"), "{said}");
    assert!(vault.reopen().state().proven.is_empty());
    let (code, said) = command_line(&vault, &[&prove[..], &[sum]].concat());
    assert!(code == 0 && said.contains("PROVEN"), "{said}");
    // Not every package has all of a server's programs: then it is said.
    let has = |program: &str| programs().unwrap().join(program).exists();
    let amcheck = if has("pg_amcheck") { "pg_amcheck" } else { "amcheck of indexes" };
    assert_eq!(said.contains("NOT checked"), !has("pg_checksums"), "{said}");
    for checked in [amcheck, "page's checksum", "digest", sum] {
        assert!(said.contains(checked), "{checked}: {said}");
    }
    let (_, said) = command_line(&vault, &["vault", "status"]);
    assert!(said.contains("newest proven: "), "{said}");
    // Tablespaces go where they are told to.
    let plan = vault.plan(Target::Latest).unwrap();
    let number = fs::read_dir(folder.path().join("data/pg_tblspc")).unwrap().next().unwrap();
    let number = number.unwrap().file_name().into_string().unwrap();
    let place = folder.path().join("back");
    fs::create_dir(&place).unwrap();
    let request = RecoverRequest {
        target: place.join("data"),
        spaces: BTreeMap::from([(number, place.join("space"))]),
        log: Log::Fetched,
        owners: owner().is_some(),
        workers: 2,
        counters: Arc::new(RestoreCounters::default()),
    };
    recover(&vault.reopen(), &plan, &request).unwrap();
    fs::remove_dir_all(&space).unwrap();
    let restored = Server::start(&place, &place.join("data"), &[]);
    assert_eq!(restored.one("SELECT count(*) FROM there"), "5000");
    assert_eq!(restored.one(DIGEST), digest);
    // What holds anything is not restored into.
    assert!(recover(&vault.reopen(), &plan, &request).is_err());
}

fn status_of(vault: &Vault) -> serde_json::Value {
    let program = std::env::current_exe().unwrap();
    let output = command_line_of(vault, program).args(["vault", "status", "--json"]).output();
    serde_json::from_slice(&output.unwrap().stdout).unwrap()
}

/// Streams until this many bookings are in the repository.
fn book(vault: &Vault, server: &Server, bookings: std::ops::Range<u64>) {
    while_streaming(vault, server, |streaming| {
        bookings.clone().for_each(|number| server.run(&[&booking(number)]));
        let end = server.position();
        streaming.wait(|e| matches!(e, Event::Stored { upto, .. } if *upto >= end));
    })
    .unwrap();
}

pub(crate) fn status_says_what_a_restore_takes() {
    let folder = scratch();
    let server = Server::new(folder.path(), "");
    server.run(LEDGER);
    let mut vault = Vault::new(folder.path());
    let backup = vault.back_up(&server).backup;
    book(&vault, &server, 0..20);
    let prove = ["vault", "prove-restore", "--scratch", folder.path().to_str().unwrap()];
    let (code, said) = command_line(&vault, &prove);
    assert_eq!(code, 0, "{said}");
    let proven = status_of(&vault);
    book(&vault, &server, 20..400);
    let end = server.position();
    let status = status_of(&vault);
    let row = &status["sources"][0];
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_else(|| panic!("{status}"));
    // From where the backup's replay begins to what is signed to be stored.
    let upto_of = |status: &serde_json::Value| {
        let text = status["sources"][0]["log_upto"].as_str().unwrap();
        Lsn::parse(text.strip_suffix(" on timeline 1").unwrap()).unwrap()
    };
    let start = Position::parse(&backup.subject.position).unwrap().start;
    let (before, upto) = (upto_of(&proven).0 - start.0, upto_of(&status).0 - start.0);
    assert!(upto > before + 10_000 && start.0 + upto >= end.0, "{before} {upto} {end}");
    let restore = &row["restore"];
    assert_eq!(number(&restore["proof_log_bytes"]), before);
    assert_eq!(number(&restore["log_bytes"]), upto);
    assert_eq!(number(&restore["bytes"]), backup.totals.bytes);
    let (measured, took_ms) =
        (number(&restore["proof_bytes"]) + before, number(&restore["proof_took_ms"]));
    assert!(took_ms > 0 && number(&row["proven_took_ms"]) == took_ms);
    let estimate_ms = took_ms * (backup.totals.bytes + upto) / measured;
    assert_eq!(number(&restore["estimate_ms"]), estimate_ms);
    let logs = bytes_in(&vault.place.join("wal"));
    assert_eq!(number(&row["log_stored_bytes"]), logs);
    assert_eq!(number(&status["stored_log_bytes"]), logs);
    let folders = ["chain", "keys", "packs", "index", "wal"];
    let all: u64 = folders.iter().map(|name| bytes_in(&vault.place.join(name))).sum();
    assert_eq!(number(&status["stored_bytes"]), all);
    // The stream saw all of it stored; nobody has asked the server since.
    assert_eq!(number(&row["log_lag_bytes"]), 0);
    assert!(number(&row["log_seen_ms"]) <= number(&status["now_ms"]));
    let (_, text) = command_line(&vault, &["vault", "status"]);
    for part in [" and ", " of log, by the proof of ", "; 0 B behind its server, seen "] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (_, metrics) = command_line(&vault, &["vault", "status", "--metrics"]);
    let seconds = estimate_ms as f64 / 1000.0;
    for line in [
        format!("backstay_vault_restore_estimate_seconds{{source=\"ledger\"}} {seconds}"),
        format!("backstay_vault_log_stored_bytes{{source=\"ledger\"}} {logs}"),
        format!("backstay_vault_stored_log_bytes {logs}"),
        format!("backstay_vault_stored_bytes {all}"),
        "backstay_vault_log_lag_bytes{source=\"ledger\"} 0".to_owned(),
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
    // Another machine does not know how far ahead the server is, and says so.
    fs::remove_dir_all(&vault.state).unwrap();
    let (_, text) = command_line(&vault, &["vault", "status"]);
    assert!(text.contains("how far its server is ahead is not known"), "{text}");
    assert_eq!(status_of(&vault)["sources"][0]["log_lag_bytes"], serde_json::Value::Null);
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

fn scratch_in(folder: &std::path::Path, name: &str) -> std::path::PathBuf {
    let place = folder.join(name);
    fs::create_dir(&place).unwrap();
    place
}

pub(crate) fn the_command_line_restores_in_place() {
    let folder = scratch();
    let server = Server::new(folder.path(), "");
    let socket = server.socket.display().to_string();
    let vault = Vault::new(folder.path());
    server.run(LEDGER);
    let connection = format!("host={socket} user=postgres");
    let words = ["backup", "--postgres", &connection, "--name", "ledger"];
    let (code, said) = command_line(&vault, &words);
    assert!(code == 0 && said.contains("position postgresql"), "{said}");
    let digest = server.one(DIGEST);
    server.run(&["DROP TABLE booking"]);
    let restore = ["restore", "--latest", "--in-place", "--with-log"];
    let (code, said) = command_line(&vault, &restore);
    assert!(code == 1 && said.contains("stop it first"), "{said}");
    let data = server.data.clone();
    server.kill();
    let _ = fs::remove_file(data.join("postmaster.pid"));
    let dry_run = [&restore[..], &["--dry-run"]].concat();
    let (code, said) = command_line(&vault, &dry_run);
    assert!(code == 0 && said.contains("Would restore"), "{said}");
    assert!(said.contains("\n  position postgresql "), "{said}");
    for part in ["would set aside", "would write", "log from 0/"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let planned = said_as_json(&vault, &dry_run);
    assert!(data.join("base").exists(), "a dry run moves nothing: {planned}");
    let done = said_as_json(&vault, &restore);
    require_statement(&vault, &data, &planned, &done);
    let server = Server::start(folder.path(), &data, &[]);
    assert_eq!(server.one(DIGEST), digest);
    // A copy elsewhere opens, too: its log goes with it.
    let other = Vault::new(&scratch_in(folder.path(), "other"));
    let key = folder.path().join("other/key");
    vault::keys::access::write_key_file(&key, &other.identity).unwrap();
    let place = other.place.to_str().unwrap();
    let words = ["vault", "copy", "--to", place, "--to-key", key.to_str().unwrap()];
    let (code, said) = command_line(&vault, &words);
    assert_eq!(code, 0, "{said}");
    let report = other.verify(Depth::Bytes);
    assert!(report.is_intact() && report.backups == 1, "{report:?}");
    assert!(other.plan(Target::Latest).is_ok());
    // A point in time is looked for from the original's time on, not from the copy's.
    let ended_ms = other.reopen().state().newest(None).unwrap().1.subject.ended_ms;
    let error = other.plan(Target::Time(ended_ms * 1000)).unwrap_err().to_string();
    assert!(error.contains("no transaction that ended after"), "{error}");
    let (_, said) = command_line(&vault, &["vault", "status"]);
    assert!(said.contains("log stored up to 0/"), "{said}");
    // A file of a database's backup is a file like any other.
    let (code, said) = command_line(&vault, &["restore", "data/PG_VERSION", "--stdout"]);
    assert!(code == 0 && said.trim().parse::<u32>().is_ok(), "{said}");
}

/// The statement says what was restored, and it is what the dry run said before.
fn require_statement(vault: &Vault, data: &Path, planned: &Value, done: &Value) {
    let repository = vault.reopen();
    let (seq, backup) = repository.state().newest(None).unwrap();
    let root: String = backup.subject.root.iter().map(|b| format!("{b:02x}")).collect();
    let totals = backup.totals;
    for said in [planned, done] {
        assert_eq!((&said["backup"], &said["root"]), (&seq.into(), &root.clone().into()));
        assert_eq!(said["position"], backup.subject.position);
        assert_eq!((&said["files"], &said["bytes"]), (&totals.files.into(), &totals.bytes.into()));
        assert!(said["verified"].as_str().unwrap().contains("the log is there unbroken"), "{said}");
        assert_eq!(said["target"], data.display().to_string());
    }
    let plan = &planned["plan"];
    assert_eq!((&plan["sets_aside"], &done["plan"]), (&planned["target"], &Value::Null));
    assert_eq!((&plan["goes_on"], &plan["log_restored"]), (&false.into(), &true.into()));
    assert_eq!(plan["places"][0]["place"], planned["target"]);
    let aside = Path::new(done["replaced_at"].as_str().unwrap());
    assert!(aside.join("PG_VERSION").exists(), "{done}");
    // The log that was counted is the log that lies there now.
    let log = fs::read_dir(data.join("pg_wal/backstay")).unwrap();
    let bytes: Vec<u64> = log.map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(plan["log_segments"], bytes.len() as u64, "{plan}");
    assert_eq!(plan["log_bytes"], bytes.iter().sum::<u64>(), "{plan}");
    let bytes = tree_bytes(data) - bytes.iter().sum::<u64>();
    let planned = plan["places"][0]["bytes"].as_u64().unwrap();
    // Beside it lie the label, the signal and the settings of the recovery.
    assert!((planned..planned + (32 << 10)).contains(&bytes), "{planned} planned, {bytes} there");
}

/// Bytes of all files below a directory.
fn tree_bytes(place: &Path) -> u64 {
    let entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    let bytes = |path: std::path::PathBuf| match path.is_dir() {
        true => tree_bytes(&path),
        false => fs::symlink_metadata(path).unwrap().len(),
    };
    entries.map(bytes).sum()
}

pub(crate) fn a_damaged_increment_is_found() {
    let folder = scratch();
    let server = Server::new(folder.path(), "");
    server.run(LEDGER);
    let mut vault = Vault::new(folder.path());
    vault.back_up(&server);
    let packs = |vault: &Vault| -> Vec<_> {
        fs::read_dir(vault.place.join("packs")).unwrap().map(|e| e.unwrap().path()).collect()
    };
    let before = packs(&vault);
    (0..100).for_each(|number| server.run(&[&booking(number)]));
    server.run(&["CHECKPOINT"]);
    let second = vault.back_up(&server).seq;
    let mut new = packs(&vault);
    new.retain(|path| !before.contains(path));
    server.run(&[&booking(100)]);
    let third = vault.back_up(&server).seq;
    drop(server);
    assert!(!new.is_empty());
    for pack in new {
        let bytes = fs::read(&pack).unwrap();
        let mut altered = bytes.clone();
        altered[bytes.len() / 3] ^= 1;
        fs::write(&pack, altered).unwrap();
        // What stands on a damaged increment is damaged, and said before any restore.
        let report = vault.verify(Depth::Bytes);
        assert!(report.damaged_backups.contains(&second), "{report:?}");
        let (code, said) = command_line(&vault, &["vault", "verify", "--bytes"]);
        let name = pack.file_name().unwrap().to_str().unwrap();
        assert!(code == 3 && said.contains(name), "{name}: {said}");
        assert!(said.contains(&format!("lost something: {second}")), "{said}");
        fs::write(&pack, bytes).unwrap();
    }
    // A pack of the first backup, which both increments stand on.
    let largest = before.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let bytes = fs::read(largest).unwrap();
    let mut altered = bytes.clone();
    altered[20] ^= 1;
    fs::write(largest, altered).unwrap();
    let report = vault.verify(Depth::Bytes);
    assert!(report.damaged_backups.contains(&second), "{report:?}");
    assert!(report.damaged_backups.contains(&third), "{report:?}");
    let (code, said) = command_line(&vault, &["vault", "verify", "--bytes"]);
    let name = largest.file_name().unwrap().to_str().unwrap();
    assert!(code == 3 && said.contains(name), "{name}: {said}");
    assert!(said.contains(&format!("{second}, {third}")), "{said}");
}
