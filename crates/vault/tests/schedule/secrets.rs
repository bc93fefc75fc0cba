//! Keys are in nothing that a command says, in no environment, on no command line, in no core
//! dump, and in no memory that can be swapped out.

use super::{Machine, Runner, held, until};
use age::secrecy::ExposeSecret;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use vault::keys::access::{read_key_file, recovery_from_text};
use vault::repository::{OpenOptions, Repository};
use vault::store::local::LocalStore;

/// A secret in one of its forms, and what it is.
#[derive(Clone)]
struct Needle {
    what: String,
    bytes: Vec<u8>,
}

/// Words of a key that nothing may show together; an error names the one that is mistyped.
const WORDS: usize = 4;

/// The secrets of a machine's repository, in every form in which they might show.
struct Secrets {
    needles: Vec<Needle>,
}

impl Secrets {
    fn add(&mut self, what: &str, bytes: impl Into<Vec<u8>>) {
        self.needles.push(Needle { what: what.to_owned(), bytes: bytes.into() });
    }

    fn add_raw(&mut self, what: &str, bytes: &[u8; 32]) {
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        self.add(what, *bytes);
        self.add(&format!("{what} in hexadecimal"), hex.to_uppercase());
        self.add(&format!("{what} in hexadecimal"), hex);
        // As Rust prints bytes.
        self.add(&format!("{what} as numbers"), format!("{bytes:?}").replace(['[', ']'], ""));
    }

    fn add_words(&mut self, what: &str, text: &str) {
        let words: Vec<&str> = text.split_whitespace().collect();
        for words in words.windows(WORDS) {
            self.add(what, words.join(" "));
        }
        let key = recovery_from_text(text);
        if let Ok(key) = key {
            self.add(what, key.to_string().expose_secret());
        }
    }

    /// Everything that opens this repository.
    fn of(machine: &Machine, words: &str) -> Secrets {
        let mut secrets = Secrets { needles: Vec::new() };
        let identity = read_key_file(&machine.key).unwrap();
        secrets.add("the machine's key", identity.to_string().expose_secret());
        secrets.add_words("the recovery key", words);
        let store = std::sync::Arc::new(LocalStore::open(&machine.repository));
        let repository = Repository::open(store, &identity, OpenOptions::default()).unwrap();
        let ring = repository.ring();
        secrets.add_raw("the key of the chunk ids", ring.chunk_id_key());
        for epoch in 0..=ring.epoch() {
            let keys = ring.at(epoch).unwrap();
            secrets.add_raw(&format!("the master key of epoch {epoch}"), keys.master.expose());
            secrets.add_raw(&format!("the seed of epoch {epoch}"), keys.signing_seed.expose());
        }
        secrets
    }

    /// Which of them these bytes hold.
    fn found_in(&self, haystack: &[u8]) -> Vec<&str> {
        let holds = |n: &&Needle| find(haystack, &n.bytes);
        self.needles.iter().filter(holds).map(|n| n.what.as_str()).collect()
    }

    fn assert_not_in(&self, place: &str, haystack: &[u8]) {
        assert_eq!(self.found_in(haystack), Vec::<&str>::new(), "{place}");
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut rest = haystack;
    // By the first byte: megabytes of memory are looked through.
    while let Some(at) = rest.iter().position(|b| *b == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// A repository whose recovery key is known here.
pub(crate) fn machine() -> (Machine, String) {
    let machine = Machine::without_repository();
    let made = machine.say(&["vault", "init", "--json"]);
    assert!(made.status.success());
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    (machine, made["recovery_key"].as_str().unwrap().to_owned())
}

fn everything(output: &Output) -> Vec<u8> {
    [output.stdout.as_slice(), output.stderr.as_slice()].concat()
}

/// Files with keys of every kind that does not fit.
fn wrong_keys(machine: &Machine, words: &str) -> Vec<Vec<String>> {
    let write = |name: &str, text: &str| {
        let path = machine.path(name);
        fs::write(&path, text).unwrap();
        let rights = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, rights).unwrap();
        path.display().to_string()
    };
    let own = fs::read_to_string(&machine.key).unwrap();
    let mistyped = |text: &str| {
        let at = text.len() - 3;
        let other = if &text[at..=at] == "Q" { "P" } else { "Q" };
        format!("{}{other}{}\n", &text[..at], &text[at + 1..])
    };
    let list: Vec<&str> = words.split(' ').collect();
    let with = |at: usize, word: &str| {
        let mut list = list.clone();
        list[at] = word;
        list.join(" ")
    };
    let swapped = [&[list[1], list[0]], &list[2..]].concat().join(" ");
    let open = write("open", &own);
    let rights = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(&open, rights).unwrap();
    let recovery =
        |name: &str, text: String| vec![format!("--recovery-key={}", write(name, &text))];
    let stranger = age::x25519::Identity::generate();
    vec![
        vec![format!("--key={}", write("mistyped", &mistyped(own.trim_end())))],
        vec![format!(
            "--key={}",
            write("truncated", own.trim_end().trim_end_matches(char::is_alphanumeric))
        )],
        vec![format!("--key={open}")],
        vec![format!("--key={}", write("stranger", stranger.to_string().expose_secret()))],
        recovery("unknown", with(3, "xyzzy")),
        recovery("wrong", with(3, if list[3] == "zoo" { "zone" } else { "zoo" })),
        recovery(
            "several",
            with(3, "zoo").replacen(list[5], "abandon", 1).replacen(list[7], "zone", 1),
        ),
        recovery("swapped", swapped),
        recovery("short", list[1..].join(" ")),
        recovery("age", mistyped(recovery_from_text(words).unwrap().to_string().expose_secret())),
        vec![format!("--share={}", write("share", words))],
    ]
}

/// Commands that come through, and what they say; then each wrong key, and what is said of it.
pub(crate) fn no_key_shows_in_what_commands_say() {
    let (machine, words) = machine();
    let data = machine.path("data").display().to_string();
    let paper = machine.path("paper");
    fs::write(&paper, &words).unwrap();
    let paper = format!("--recovery-key={}", paper.display());
    let back = machine.path("back").display().to_string();
    let mut said = Vec::new();
    let mut say = |words: &[&str]| {
        let mut command = machine.command(words);
        let output = command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full").output();
        let output = output.unwrap();
        said.push((words.join(" "), everything(&output)));
        output.status.success()
    };
    for words in [
        &["backup", "--name", "data", &data][..],
        &["vault", "key", "rotate"],
        &["backup", "--name", "data", &data, "--json"],
        &["vault", "list"],
        &["vault", "verify", "--bytes"],
        &["vault", "key", "test"],
        &["vault", "key", "test", &paper],
        &["restore", "--source", "data", "--target", &back],
        &["vault", "forget", "--keep-last", "1"],
        &["vault", "cleanup", "--json"],
    ] {
        assert!(say(words), "{words:?}");
    }
    let secrets = Secrets::of(&machine, &words);
    for wrong in wrong_keys(&machine, &words) {
        let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
        for command in [&["vault", "key", "test"][..], &["backup", "--name", "data", &data]] {
            assert!(!say(&[command, &wrong].concat()), "{wrong:?} opened the repository");
        }
    }
    for (words, text) in &said {
        assert!(!text.is_empty(), "`{words}` says nothing");
        secrets.assert_not_in(words, text);
    }
    // What prints keys on purpose shows that they would be found.
    let split = machine.say(&["vault", "key", "recovery", "--label", "second", "--json"]);
    let printed: serde_json::Value = serde_json::from_slice(&split.stdout).unwrap();
    let mut second = Secrets { needles: Vec::new() };
    second.add_words("the second key", printed["texts"][0].as_str().unwrap());
    assert!(second.found_in(&split.stdout).len() > 8);
}

/// A backup under way, which lasts until it is let go.
struct Held {
    secrets: Secrets,
    runner: Runner,
    gate: std::path::PathBuf,
    _machine: Machine,
}

impl Drop for Held {
    fn drop(&mut self) {
        // A command outlives a backup that was killed. Where none waits, none has to be let go.
        let write = OFlags::WRONLY | OFlags::NONBLOCK;
        let _ = rustix::fs::open(&self.gate, write, Mode::empty());
    }
}

/// In the environment of the command, to be found where it is looked for.
const MARKER: &str = "a-word-that-every-core-dump-shows";

fn backup_under_way(folder: &Path) -> Held {
    let (machine, words) = machine();
    let secrets = Secrets::of(&machine, &words);
    let (begun, gate) = held(&machine);
    let line = format!("touch {}; cat {}", begun.display(), gate.display());
    // By a shell that lets it have core dumps.
    let backup = machine.command(&["backup", "--name", "held", "--command", &line]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"]).arg(backup.get_program());
    command.args(backup.get_args()).envs(backup.get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.env("MARKER", MARKER).current_dir(folder).stdin(Stdio::null());
    let runner = Runner(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    until("the backup begins", || begun.exists());
    Held { secrets, runner, gate, _machine: machine }
}

/// One mapping of a process: its bytes, and what the kernel says of it.
struct Mapping {
    name: String,
    flags: Vec<String>,
    bytes: Vec<u8>,
}

/// The writable memory of a process, as a core dump would hold it.
fn memory_of(id: u32) -> std::io::Result<Vec<Mapping>> {
    let memory = File::open(format!("/proc/{id}/mem"))?;
    let smaps = fs::read_to_string(format!("/proc/{id}/smaps"))?;
    let mut mappings = Vec::new();
    let mut range = None;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if first == "VmFlags:" {
            let (from, upto, name): (u64, u64, String) = range.take().unwrap();
            let flags: Vec<String> = words.map(str::to_owned).collect();
            let mut bytes = vec![0; (upto - from) as usize];
            // Guard pages and the kernel's own give nothing.
            if flags.iter().any(|f| f == "rd") && memory.read_exact_at(&mut bytes, from).is_ok() {
                mappings.push(Mapping { name, flags, bytes });
            }
        } else if let Some((from, upto)) = first.split_once('-') {
            let parse = |text| u64::from_str_radix(text, 16).unwrap();
            range = Some((parse(from), parse(upto), line.to_owned()));
        }
    }
    Ok(mappings)
}

pub(crate) fn a_running_backup_shows_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut held = backup_under_way(folder.path());
    let id = held.runner.0.id();
    for what in ["environ", "cmdline"] {
        let bytes = fs::read(format!("/proc/{id}/{what}")).unwrap();
        assert!(find(&bytes, if what == "environ" { MARKER.as_bytes() } else { b"--name" }));
        held.secrets.assert_not_in(what, &bytes);
    }
    for thread in fs::read_dir(format!("/proc/{id}/task")).unwrap() {
        let name = fs::read(thread.unwrap().path().join("comm")).unwrap();
        held.secrets.assert_not_in("the name of a thread", &name);
    }
    match memory_of(id) {
        Ok(mappings) => look_through(&held.secrets, &mappings),
        // Nobody but root looks into a process that leaves no core dump.
        Err(error) => {
            assert!(!rustix::process::geteuid().is_root(), "{error}");
            assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
            println!("SKIPPED: the memory of a running backup is root's to see");
        }
    }
    super::let_go(&held.gate);
    until("the backup ends", || held.runner.0.try_wait().unwrap().is_some_and(|s| s.success()));
}

/// The keys are in locked memory, and nowhere else.
fn look_through(secrets: &Secrets, mappings: &[Mapping]) {
    let is_locked = |mapping: &&Mapping| mapping.flags.iter().any(|flag| flag == "lo");
    let locked: Vec<u8> = mappings.iter().filter(is_locked).flat_map(|m| m.bytes.clone()).collect();
    let raw = |n: &&Needle| n.bytes.len() == 32 && !n.what.contains("hexadecimal");
    for needle in secrets.needles.iter().filter(raw) {
        assert!(find(&locked, &needle.bytes), "{} is not in locked memory", needle.what);
    }
    let all: usize = mappings.iter().map(|mapping| mapping.bytes.len()).sum();
    assert!(mappings.iter().any(|m| find(&m.bytes, MARKER.as_bytes())), "{all} bytes");
    let mut strays = Vec::new();
    for mapping in mappings.iter().filter(|mapping| !is_locked(mapping)) {
        strays.extend(
            secrets
                .found_in(&mapping.bytes)
                .iter()
                .map(|what| format!("{what} in {}", mapping.name)),
        );
    }
    assert_eq!(strays, Vec::<String>::new());
}

/// Whether a process that dies here leaves its memory: a shell that kills itself.
fn crashes_are_dumped(folder: &Path) -> bool {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -c unlimited && kill -ABRT $$"]).current_dir(folder);
    shell.env("MARKER", MARKER).status().unwrap().core_dumped()
}

pub(crate) fn a_crash_leaves_no_core_dump() {
    let folder = tempfile::tempdir().unwrap();
    let mut held = backup_under_way(folder.path());
    let pid = Pid::from_child(&held.runner.0);
    let limits = fs::read_to_string(format!("/proc/{}/limits", held.runner.0.id())).unwrap();
    let limit = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(limit.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{limit}");
    if !crashes_are_dumped(folder.path()) {
        println!("SKIPPED: no crash is dumped here");
        return;
    }
    let dumps = || {
        let files = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path());
        files.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("core"))
    };
    // A shell's dump shows what it was given.
    let shells: Vec<_> = dumps().collect();
    if let [dump] = &shells[..] {
        assert!(find(&fs::read(dump).unwrap(), MARKER.as_bytes()));
        fs::remove_file(dump).unwrap();
    }
    // Even one that an administrator allows to be dumped is not.
    let all = Rlimit { current: None, maximum: None };
    if let Err(error) = rustix::process::prlimit(Some(pid), Resource::Core, all) {
        println!("SKIPPED: core dumps may not be allowed to a running process: {error}");
    }
    rustix::process::kill_process(pid, Signal::ABORT).unwrap();
    let mut status = None;
    until("the backup dies", || {
        status = held.runner.0.try_wait().unwrap();
        status.is_some()
    });
    let status = status.unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
    assert_eq!(dumps().count(), 0);
}
