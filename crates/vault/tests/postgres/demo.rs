//! `demo vault`: it shows what it says, in both forms, and leaves nothing behind, however it ends.

use crate::cluster::scratch;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the demonstration promises; a busy machine gets twice the time.
const PROMISED: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(120);

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("demo").args(words).env("TMPDIR", folder).stdin(Stdio::null());
    command
}

/// What is in its directory for temporary files, and which processes work there.
fn left(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<String> = names.map(|path| path.display().to_string()).collect();
    for entry in fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap()) {
        // One that ends meanwhile works nowhere.
        let place = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if place.starts_with(folder) {
            found.push(format!("process {:?} in {}", entry.file_name(), place.display()));
        }
    }
    found
}

/// Plays it to its end; the steps that its table must have, in this order, and in their results.
fn plays(words: &[&str], steps: &[(&str, &str)]) {
    let folder = scratch();
    let begun = Instant::now();
    let output = command(folder.path(), words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{errors}");
    assert!(begun.elapsed() < 2 * PROMISED, "{:?}", begun.elapsed());
    assert!(said.ends_with(" s; nothing was left behind\n"), "{said}");
    let mut lines = said.lines();
    for (step, result) in steps {
        let has = |line: &str| line.trim_start().starts_with(step) && line.contains(result);
        assert!(lines.any(has), "`{step}` with `{result}` in\n{said}");
    }
    assert_eq!(left(folder.path()), [""; 0], "{said}");
}

pub(crate) fn with_a_directory() {
    plays(
        &["--directory"],
        &[
            ("ledger", "200 accounts, 60000 bookings"),
            ("first backup, while a client writes", " new"),
            ("second backup, while it writes on", " new"),
            ("client", " bookings meanwhile"),
            ("mistake", "every third account emptied"),
            ("third backup, with the mistake", " new"),
            ("a bit flipped, verify", "pack"),
            ("flipped back, verify", "every byte, intact"),
            ("restored to before the mistake", "a second before: backup "),
            ("live data equals the backup", "one Merkle root: "),
        ],
    );
}

pub(crate) fn with_a_database() {
    plays(
        &[],
        &[
            ("ledger", "PostgreSQL: 10000 accounts, 100000 bookings"),
            ("base backup, while a client books", " new"),
            ("increment, while it books on", " new"),
            ("mistake, and in the archive", "every third account deleted"),
            ("a bit flipped, verify", ""),
            ("newest log removed, verify", ""),
            ("put back, verify", "every byte, intact"),
            ("restored files equal the backup", "one Merkle root "),
            ("restored to before the mistake", " files"),
            ("opened and checked", "equal to the oracle"),
        ],
    );
}

fn start(folder: &Path, words: &[&str]) -> Child {
    let mut command = command(folder, words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The room that a demonstration made, once this is in it.
fn wait_for(folder: &Path, child: &Child, what: &str) {
    let room = folder.join(format!("backstay-demo-vault-{}", child.id()));
    let begun = Instant::now();
    while !room.join(what).exists() {
        assert!(begun.elapsed() < PATIENCE, "no {what} in {}", room.display());
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Told to end at this moment, it ends at once, says so, and nothing is left.
fn ends(words: &[&str], what: &str, signal: Signal) {
    let folder = scratch();
    let child = start(folder.path(), words);
    wait_for(folder.path(), &child, what);
    let begun = Instant::now();
    send(&child, signal);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(128 + signal.as_raw()), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was left behind"));
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(left(folder.path()), [""; 0], "after {signal:?} at {what}");
}

pub(crate) fn a_signal_leaves_nothing() {
    for (what, signal) in [("ledger", Signal::INT), ("repository/packs", Signal::TERM)] {
        ends(&["--directory"], what, signal);
    }
}

pub(crate) fn a_signal_leaves_no_server() {
    // Where the data directory is made, where the server runs, where another one opens what was
    // restored.
    for (what, signal) in [
        ("data/global", Signal::INT),
        ("server/.s.PGSQL.5432", Signal::INT),
        ("rehearsal", Signal::TERM),
    ] {
        ends(&[], what, signal);
    }
}

/// What a killed demonstration leaves is gone after the next, its server too; one that lives is
/// left alone.
pub(crate) fn the_next_removes_what_a_killed_one_left() {
    let folder = scratch();
    let mut killed = start(folder.path(), &[]);
    wait_for(folder.path(), &killed, "server/.s.PGSQL.5432");
    let living = start(folder.path(), &["--directory"]);
    wait_for(folder.path(), &living, "ledger");
    send(&killed, Signal::KILL);
    killed.wait().unwrap();
    // Its server lives on.
    let stays = left(folder.path());
    assert!(stays.iter().any(|what| what.starts_with("process ")), "{stays:?}");
    let next = start(folder.path(), &["--directory"]).wait_with_output().unwrap();
    assert_eq!(next.status.code(), Some(0), "{next:?}");
    let living = living.wait_with_output().unwrap();
    assert_eq!(living.status.code(), Some(0), "{living:?}");
    assert_eq!(left(folder.path()), [""; 0]);
}
