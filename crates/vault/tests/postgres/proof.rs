//! Proof of restore, tablespaces, and damage that must be found before any restore.

use crate::cluster::{DIGEST, LEDGER, Server, Vault, booking, give, owner, programs, scratch};
use crate::log::while_streaming;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use vault::postgres::recovery::{Log, RecoverRequest, Target, recover};
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
    let (code, said) = command_line(&vault, &[&restore[..], &["--dry-run"]].concat());
    assert!(code == 0 && said.contains("Would restore"), "{said}");
    let (code, said) = command_line(&vault, &restore);
    assert!(code == 0 && said.contains("what it replaced is in"), "{said}");
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
    let (_, said) = command_line(&vault, &["vault", "status"]);
    assert!(said.contains("log stored up to 0/"), "{said}");
    // A file of a database's backup is a file like any other.
    let (code, said) = command_line(&vault, &["restore", "data/PG_VERSION", "--stdout"]);
    assert!(code == 0 && said.trim().parse::<u32>().is_ok(), "{said}");
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
