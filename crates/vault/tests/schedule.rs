//! `vault run`, as an operator has it: a program with a schedule, a book and children. The
//! binary is also the vault's command line, so that it runs itself.

#[path = "common/command_line.rs"]
mod command_line;
#[path = "common/mod.rs"]
mod common;
#[path = "schedule/damage.rs"]
mod damage;
#[path = "schedule/disk.rs"]
mod disk;
#[path = "schedule/images.rs"]
mod images;
#[path = "schedule/init.rs"]
mod init;
#[path = "schedule/keys.rs"]
mod keys;
#[path = "schedule/liar.rs"]
mod liar;
#[path = "schedule/secrets.rs"]
mod secrets;

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const TESTS: &[(&str, fn())] = &[
    ("what_is_due_is_done_once_and_shown", what_is_due_is_done_once_and_shown),
    ("status_says_what_was_done_in_all_its_forms", status_says_what_was_done_in_all_its_forms),
    ("a_failed_run_is_told_and_hinders_no_other", a_failed_run_is_told_and_hinders_no_other),
    ("damage_is_told_by_the_run_that_finds_it", damage_is_told_by_the_run_that_finds_it),
    ("two_machines_on_one_repository_hurt_nothing", two_machines_on_one_repository_hurt_nothing),
    ("beside_what_a_killed_runner_left_none_begins", beside_what_a_killed_runner_left_none_begins),
    ("a_signal_lets_the_run_under_way_end", a_signal_lets_the_run_under_way_end),
    ("the_paper_and_the_shares_are_tested_on_a_schedule", keys::tested_on_a_schedule),
    ("keys_are_split_combined_rotated_and_revoked", keys::split_combined_rotated_and_revoked),
    ("a_store_that_lies_is_refused", init::a_store_that_lies_is_refused),
    (
        "a_store_that_keeps_its_promises_gets_a_repository",
        init::a_store_that_keeps_its_promises_gets_a_repository,
    ),
    (
        "a_restore_onto_a_full_disk_goes_on_once_there_is_room",
        disk::a_restore_onto_a_full_disk_goes_on_once_there_is_room,
    ),
    (
        "a_backup_with_a_full_disk_goes_on_once_there_is_room",
        disk::a_backup_with_a_full_disk_goes_on_once_there_is_room,
    ),
    ("a_removed_newest_backup_is_missed", damage::a_removed_newest_backup_is_missed),
    ("a_flipped_bit_of_a_pack_is_named", damage::a_flipped_bit_of_a_pack_is_named),
    ("reread_reads_what_seems_unchanged", damage::reread_reads_what_seems_unchanged),
    ("no_key_shows_in_what_commands_say", secrets::no_key_shows_in_what_commands_say),
    ("a_running_backup_shows_no_key", secrets::a_running_backup_shows_no_key),
    ("a_crash_leaves_no_core_dump", secrets::a_crash_leaves_no_core_dump),
    ("an_image_is_backed_up_by_hand_and_on_schedule", images::by_hand_and_on_schedule),
];

fn main() -> ExitCode {
    if command_line::is_wanted() {
        return command_line::run();
    }
    let trial = |(name, test): &(&'static str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok::<(), Failed>(())
        })
    };
    libtest_mimic::run(&Arguments::from_args(), TESTS.iter().map(trial).collect()).exit_code()
}

/// A machine with a repository, and something to back up.
struct Machine {
    folder: tempfile::TempDir,
    repository: PathBuf,
    key: PathBuf,
}

impl Machine {
    fn new() -> Machine {
        Machine::with(&["vault", "init"])
    }

    fn with(init: &[&str]) -> Machine {
        let machine = Machine::without_repository();
        assert!(machine.say(init).status.success());
        machine
    }

    fn without_repository() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let (repository, key) = (folder.path().join("repository"), folder.path().join("key"));
        let machine = Machine { folder, repository, key };
        machine.data("one");
        machine
    }

    /// Another machine with the same repository and key.
    fn beside(&self) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let machine =
            Machine { folder, repository: self.repository.clone(), key: self.key.clone() };
        machine.data("two");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self, text: &str) {
        fs::create_dir_all(self.path("data")).unwrap();
        fs::write(self.path("data/file"), text.repeat(1000)).unwrap();
    }

    fn schedule(&self, text: &str) {
        let text = text.replace("DATA", &self.path("data").display().to_string());
        fs::write(self.path("vault.toml"), text).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(words).stdin(Stdio::null());
        command.env("BACKSTAY_REPOSITORY", &self.repository);
        command.env("BACKSTAY_KEY_FILE", &self.key);
        command.env("BACKSTAY_STATE_DIR", self.path("state"));
        if words.contains(&"run") || words.contains(&"status") {
            command.arg("--schedule").arg(self.path("vault.toml"));
        }
        command
    }

    fn say(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn once(&self) -> (i32, String) {
        let output = self.say(&["vault", "run", "--once"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), text + &errors)
    }

    fn start(&self) -> Runner {
        let mut command = self.command(&["vault", "run"]);
        Runner(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn status(&self) -> Value {
        let output = self.say(&["vault", "status", "--json"]);
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{why}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn job(&self, job: &str) -> Value {
        let status = self.status();
        let jobs = status["jobs"].as_array().unwrap();
        jobs.iter().find(|row| row["job"] == job).unwrap().clone()
    }
}

/// A `vault run` that ends with its test.
struct Runner(Child);

impl Runner {
    fn signal(&self) {
        let pid = rustix::process::Pid::from_raw(self.0.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    fn finish(mut self) -> Option<i32> {
        let mut status = None;
        until("the runner ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // One that has ended needs no end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

const ALL: &str = "[limits]\nread_kib = 1048576\nprocessor_percent = 100\n\
    [[source]]\nname = \"data\"\npath = \"DATA\"\nbackup = \"every 1h\"\nprove = \"every 1d\"\n\
    [key_test]\nwhen = \"every 1d\"\n[verify]\nwhen = \"every 1d\"\nparts = 1\n\
    [cleanup]\nwhen = \"every 1d\"\nkeep_daily = 7\n";

fn what_is_due_is_done_once_and_shown() {
    let machine = Machine::new();
    machine.schedule(ALL);
    let (code, text) = machine.once();
    assert_eq!(code, 0, "{text}");
    let done: Vec<&str> =
        text.lines().filter_map(|l| l.split_once("  ")?.1.strip_suffix(": done")).collect();
    let all = ["backup of data", "prove of data", "key-test", "verify", "cleanup"];
    assert_eq!(done, all, "{text}");
    // It is not due again.
    assert_eq!(machine.once(), (0, String::new()));
    let status = machine.status();
    assert_eq!(status["sources"][0]["proven"], status["sources"][0]["newest"]);
    for row in status["jobs"].as_array().unwrap() {
        let (next, last) = (row["next_ms"].as_i64().unwrap(), row["last_ms"].as_i64().unwrap());
        let period = if row["job"] == "backup" { 3_600_000 } else { 86_400_000 };
        assert_eq!((next - last, &row["why"], &row["runs"]), (period, &"due".into(), &1.into()));
    }
    let metrics = machine.say(&["vault", "status", "--metrics"]);
    let metrics = String::from_utf8(metrics.stdout).unwrap();
    for line in [
        "backstay_vault_job_runs_total{job=\"backup\",source=\"data\"} 1",
        "backstay_vault_job_failures{job=\"cleanup\",source=\"\"} 0",
        "# TYPE backstay_vault_job_next_seconds gauge",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
    let text = machine.say(&["vault", "status"]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("backup of data: next 20"));
}

/// Bytes of everything below a directory.
fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let bytes = |entry: fs::DirEntry| match entry.metadata().unwrap() {
        meta if meta.is_dir() => bytes_below(&entry.path()),
        meta => meta.len(),
    };
    entries.map(bytes).sum()
}

/// The value of a metric with these labels; none where it is not told.
fn metric(metrics: &str, name: &str) -> Option<f64> {
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(' ')?.parse().unwrap());
    let mut found = metrics.lines().filter_map(value);
    let value = found.next();
    assert_eq!(found.next(), None, "{name} is told twice");
    value
}

/// What `vault status` says in its three forms.
fn forms(machine: &Machine) -> (Value, String, String) {
    let say = |form: &[&str]| {
        let output = machine.say(&[&["vault", "status"], form].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    (machine.status(), say(&[]), say(&["--metrics"]))
}

fn back_up_data(machine: &Machine) -> Value {
    let data = machine.path("data").display().to_string();
    let output = machine.say(&["backup", "--json", "--name", "data", &data]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Bytes that neither repeat nor compress.
fn noise(mut seed: u64, length: usize) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

const MIB: u64 = 1 << 20;

fn status_says_what_was_done_in_all_its_forms() {
    let machine = Machine::with(&["vault", "init", "--wait-hours", "0"]);
    let place = machine.path("locking").display().to_string();
    let locked = ["vault", "init", "--object-lock", "30", "--repository", &place];
    // A directory locks nothing.
    let refused = machine.say(&locked);
    assert!(!refused.status.success() && !Path::new(&place).exists(), "{refused:?}");
    fs::write(machine.path("data/file"), noise(1, MIB as usize)).unwrap();
    let first = back_up_data(&machine);
    let (status, text, metrics) = forms(&machine);
    let row = &status["sources"][0];
    assert_eq!((&row["restore"], &row["proven"]), (&Value::Null, &Value::Null));
    assert!(text.contains("\n  a restore now: not known: no proof yet\n"), "{text}");
    assert!(text.contains("\n  no object lock\n"), "{text}");
    assert_eq!(metric(&metrics, "backstay_vault_object_lock_days"), Some(0.0));
    assert_eq!(
        metric(&metrics, "backstay_vault_newest_proven_seconds{source=\"data\"}"),
        Some(0.0)
    );
    assert_eq!(metric(&metrics, "backstay_vault_restore_estimate_seconds{source=\"data\"}"), None);
    let proof = machine.say(&["vault", "prove-restore", "--json"]);
    let proof: Value = serde_json::from_slice(&proof.stdout).unwrap();
    // Three times as much; what was there is not stored again.
    fs::write(machine.path("data/more"), noise(2, 2 * MIB as usize)).unwrap();
    let second = back_up_data(&machine);
    let (status, text, metrics) = forms(&machine);
    let row = &status["sources"][0];
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} in {status}"));
    let took_ms = number(&proof["restore_ms"]);
    let restore = serde_json::json!({
        "estimate_ms": took_ms * 3, "bytes": 3 * MIB, "log_bytes": 0,
        "proof_of": first["backup"], "proof_took_ms": took_ms, "proof_bytes": MIB,
        "proof_log_bytes": 0,
    });
    assert_eq!(row["restore"], restore);
    let written = number(&first["bytes_stored"]) + number(&second["bytes_stored"]);
    assert!((3 * MIB..4 * MIB).contains(&written), "{written}");
    for (key, expect) in [
        ("backups", 2),
        ("newest", number(&second["backup"])),
        ("newest_bytes", 3 * MIB),
        ("proven", number(&first["backup"])),
        ("proven_took_ms", took_ms),
        ("protected_bytes", 4 * MIB),
        ("written_bytes", written),
    ] {
        assert_eq!(number(&row[key]), expect, "{key} in {status}");
    }
    assert_eq!(number(&status["stored_bytes"]), bytes_below(&machine.repository));
    metrics_say_the_same(&status, &metrics);
    let shown = |ms: u64| format!("{:.1} s", ms as f64 / 1000.0);
    let line = format!(
        "  a restore now: about {} for 3.00 MiB, by the proof of {}: 1.00 MiB in {}",
        shown(took_ms * 3),
        first["backup"],
        shown(took_ms)
    );
    assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    let saved = (1.0 - written as f64 / (4 * MIB) as f64) * 100.0;
    let said = text.lines().find(|l| l.starts_with("  its backups hold 4.00 MiB and wrote 3."));
    let said = said.unwrap_or_else(|| panic!("{text}")).rsplit(", ").next().unwrap();
    let said: f64 = said.strip_suffix(" % saved").unwrap().parse().unwrap();
    assert!((saved - said).abs() <= 0.1, "{said} and {saved}");
    savings_are_not_guessed(&machine, 3 * MIB);
    all_of_it_is_documented(&machine);
}

fn metrics_say_the_same(status: &Value, metrics: &str) {
    let row = &status["sources"][0];
    let seconds = |value: &Value| Some(value.as_f64().unwrap() / 1000.0);
    for (name, expect) in [
        ("newest_backup_seconds", seconds(&row["newest_ms"])),
        ("newest_backup_bytes", row["newest_bytes"].as_f64()),
        ("newest_proven_seconds", seconds(&row["proven_ms"])),
        ("proof_took_seconds", seconds(&row["proven_took_ms"])),
        ("restore_estimate_seconds", seconds(&row["restore"]["estimate_ms"])),
        ("protected_bytes", row["protected_bytes"].as_f64()),
        ("written_bytes", row["written_bytes"].as_f64()),
        ("log_marked_seconds", None),
        ("log_lag_bytes", None),
    ] {
        let name = format!("backstay_vault_{name}{{source=\"data\"}}");
        assert_eq!(metric(metrics, &name), expect, "{name} in {metrics}");
    }
    let stored = status["stored_bytes"].as_f64();
    assert_eq!(metric(metrics, "backstay_vault_stored_bytes"), stored);
}

/// Where a backup is gone on which others build, what they wrote is not all that they hold.
fn savings_are_not_guessed(machine: &Machine, bytes: u64) {
    // The newest proven one is never forgotten.
    assert!(machine.say(&["vault", "prove-restore"]).status.success());
    let forget = machine.say(&["vault", "forget", "--keep-last", "1"]);
    assert!(forget.status.success(), "{forget:?}");
    // It stays for a while, and counts while it does.
    let status = machine.status();
    assert_eq!(status["forgotten"], 1);
    assert_eq!(status["sources"][0]["protected_bytes"], bytes + MIB);
    until("what was forgotten is gone", || {
        assert!(machine.say(&["vault", "cleanup"]).status.success());
        machine.status()["forgotten"] == 0
    });
    let (status, text, metrics) = forms(machine);
    let row = &status["sources"][0];
    assert_eq!((&row["written_bytes"], &row["protected_bytes"]), (&Value::Null, &bytes.into()));
    assert!(text.contains("what they alone take is not known"), "{text}");
    assert_eq!(metric(&metrics, "backstay_vault_written_bytes{source=\"data\"}"), None);
}

const REFERENCE: &str = include_str!("../../../docs/reference/vault-status.md");
/// What only a node's agent tells, by a clock that all nodes share.
const OF_AGENTS: [&str; 2] =
    ["backstay_vault_newest_backup_age_seconds", "backstay_vault_newest_proof_age_seconds"];

/// Every key and metric is in the reference, and every metric there is told.
fn all_of_it_is_documented(machine: &Machine) {
    machine.schedule(ALL);
    assert_eq!(machine.once().0, 0);
    let (status, _, metrics) = forms(machine);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let nested = keys(&status["sources"][0]["restore"]);
    let mut all: Vec<String> = nested.iter().map(|key| format!("restore.{key}")).collect();
    let rows = [&status, &status["sources"][0], &status["jobs"][0]];
    all.extend(rows.into_iter().flat_map(keys));
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let told: Vec<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
    all.extend(told.iter().map(|name| (*name).to_owned()));
    assert!(all.len() > 40, "{all:?}");
    for name in all {
        assert!(REFERENCE.contains(&format!("`{name}`")), "{name} is not in the reference");
    }
    let quoted = REFERENCE.split('`').skip(1).step_by(2);
    for name in quoted.filter(|name| name.starts_with("backstay_vault_")) {
        assert!(told.contains(&name) || OF_AGENTS.contains(&name), "nobody tells {name}");
    }
}

fn a_failed_run_is_told_and_hinders_no_other() {
    let machine = Machine::new();
    machine.schedule(
        "[[source]]\nname = \"bad\"\ncommand = \"echo half; exit 9\"\nbackup = \"every 1h\"\n\
         [[source]]\nname = \"good\"\npath = \"DATA\"\nbackup = \"every 1h\"\n",
    );
    let (code, text) = machine.once();
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("backup of bad: FAILED") && text.contains("exit 9"), "{text}");
    assert!(text.contains("backup of good: done"), "{text}");
    let row = machine.job("backup");
    assert_eq!((&row["failures"], &row["why"]), (&1.into(), &"back-off".into()), "{row}");
    assert!(row["trouble"].as_str().unwrap().contains("not recorded"), "{row}");
    // It waits before it tries again.
    assert_eq!(machine.once(), (0, String::new()));
    assert_eq!(machine.job("backup")["failures"], 1);
}

fn damage_is_told_by_the_run_that_finds_it() {
    let machine = Machine::new();
    machine.schedule(ALL);
    assert!(machine.say(&["backup", "--name", "data", "/etc/hostname"]).status.success());
    let pack = fs::read_dir(machine.repository.join("packs")).unwrap();
    let mut packs = pack.map(|e| e.unwrap().path());
    let pack = packs.find(|p| p.is_file()).or_else(|| deeper(&machine.repository.join("packs")));
    let pack = pack.unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[60] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let (_, text) = machine.once();
    assert!(text.contains("verify: done, and SOMETHING IS WRONG"), "{text}");
    let row = machine.job("verify");
    assert_eq!((&row["runs"], &row["failures"]), (&1.into(), &0.into()), "{row}");
    assert!(row["trouble"].as_str().unwrap().contains("DAMAGED"), "{row}");
}

/// A file in a directory below.
fn deeper(folder: &Path) -> Option<PathBuf> {
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_file() {
            return Some(path);
        }
        open.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
    }
    None
}

fn two_machines_on_one_repository_hurt_nothing() {
    let one = Machine::new();
    let two = one.beside();
    for (machine, name) in [(&one, "one"), (&two, "two")] {
        machine.schedule(&format!(
            "[[source]]\nname = \"{name}\"\npath = \"DATA\"\nbackup = \"every 1s\"\n\
             prove = \"every 2s\"\n[verify]\nwhen = \"every 1s\"\nparts = 1\n\
             [cleanup]\nwhen = \"every 1s\"\nkeep_last = 2\n",
        ));
    }
    let (a, b) = (one.start(), two.start());
    for round in 0..6 {
        for machine in [&one, &two] {
            machine.data(&format!("{round}"));
            let runs = machine.job("cleanup")["runs"].as_u64().unwrap();
            until("cleanups go on", || machine.job("cleanup")["runs"].as_u64().unwrap() > runs);
        }
    }
    for runner in [&a, &b] {
        runner.signal();
    }
    assert_eq!((a.finish(), b.finish()), (Some(0), Some(0)));
    for (machine, name) in [(&one, "one"), (&two, "two")] {
        let status = machine.status();
        for row in status["jobs"].as_array().unwrap() {
            assert_eq!((&row["failures"], &row["trouble"]), (&0.into(), &Value::Null), "{row}");
        }
        let back = machine.path("back");
        let words = ["restore", "--source", name, "--target", back.to_str().unwrap()];
        assert!(
            machine
                .say(&["backup", "--name", name, machine.path("data").to_str().unwrap()])
                .status
                .success()
        );
        assert!(machine.say(&words).status.success());
        assert_eq!(fs::read(back.join("file")).unwrap(), "5".repeat(1000).into_bytes());
    }
    assert!(one.say(&["vault", "verify", "--bytes"]).status.success());
}

/// A schedule whose backup says that it has begun, and lasts until it is let go.
fn held(machine: &Machine) -> (PathBuf, PathBuf) {
    let (begun, gate) = (machine.path("begun"), machine.path("gate"));
    let made = Command::new("mkfifo").arg(&gate).status().unwrap();
    assert!(made.success());
    machine.schedule(&format!(
        "[[source]]\nname = \"held\"\ncommand = \"touch {}; cat {}\"\nbackup = \"every 1d\"\n",
        begun.display(),
        gate.display(),
    ));
    (begun, gate)
}

fn let_go(gate: &Path) {
    fs::OpenOptions::new().write(true).open(gate).unwrap().write_all(b"all\n").unwrap();
}

fn beside_what_a_killed_runner_left_none_begins() {
    let machine = Machine::new();
    let (begun, gate) = held(&machine);
    let runner = machine.start();
    until("the backup begins", || begun.exists());
    assert_eq!(machine.job("backup")["why"], "running");
    let (code, text) = machine.once();
    assert!(code == 1 && text.contains("another `vault run` works"), "{text}");
    drop(runner);
    let (code, text) = machine.once();
    assert!(code == 1 && text.contains("a run that it began goes on"), "{text}");
    let_go(&gate);
    let mut said = (1, String::new());
    until("the orphan ends", || {
        said = machine.once();
        said.0 == 0
    });
    // What was broken off counts as failed, and is tried again after a pause.
    assert_eq!(said.1, "");
    let row = machine.job("backup");
    assert_eq!((&row["failures"], &row["why"]), (&1.into(), &"back-off".into()), "{row}");
}

fn a_signal_lets_the_run_under_way_end() {
    let machine = Machine::new();
    let (begun, gate) = held(&machine);
    let runner = machine.start();
    until("the backup begins", || begun.exists());
    runner.signal();
    let_go(&gate);
    assert_eq!(runner.finish(), Some(0));
    let row = machine.job("backup");
    assert_eq!((&row["runs"], &row["failures"]), (&1.into(), &0.into()), "{row}");
}
