//! The program under test: it does what its arguments say, at most for two minutes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use drivers::sys;

/// No program outlives its test by more.
const LIFE: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(1);

pub(crate) fn run(args: &[String]) -> ExitCode {
    let args: BTreeMap<&str, &str> =
        args.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let signals = sys::signal_fd(&[libc::SIGTERM]).expect("signals");
    let get = |name: &str| args.get(name).copied();
    if get("--ignore-stop").is_some() {
        rustix::process::set_parent_process_death_signal(None).expect("an orphan's life");
    }
    if get("--session").is_some() {
        rustix::process::setsid().expect("a session");
    }
    if let Some(to) = get("--env") {
        show_environment(Path::new(to));
    }
    if let Some(ticks) = get("--child-ticks") {
        leave_child(ticks);
    }
    if let Some(code) = get("--leave") {
        println!("goodbye");
        return ExitCode::from(code.parse::<u8>().expect("a status"));
    }
    let active = Arc::new(AtomicBool::new(env("BACKSTAY_ROLE") == "active"));
    if let Some(how) = get("--talk") {
        let (how, active) = (how.to_owned(), Arc::clone(&active));
        std::thread::spawn(move || talk(&how, &active));
    }
    let ticks = get("--ticks").map(|path| {
        File::options().create(true).truncate(false).write(true).open(path).expect("ticks")
    });
    let mut notify = get("--notify-when");
    let end = Instant::now() + LIFE;
    while Instant::now() < end {
        if let Some(file) = &ticks
            && active.load(Ordering::Acquire)
        {
            file.write_all_at(&sys::now().0.to_le_bytes(), 0).expect("a tick");
        }
        if notify.is_some_and(|path| Path::new(path).exists()) {
            notify = None;
            let socket = UnixDatagram::unbound().expect("a socket");
            socket.send_to(b"STATUS=up\nREADY=1", env("NOTIFY_SOCKET")).expect("notified");
        }
        let told = sys::read_signal(&signals).expect("signals");
        if told.is_some() && get("--ignore-stop").is_none() {
            return ExitCode::SUCCESS;
        }
        std::thread::park_timeout(TICK);
    }
    ExitCode::FAILURE
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn show_environment(to: &Path) {
    let mut text = String::new();
    for (name, value) in std::env::vars() {
        text.push_str(&format!("{name}={value}\n"));
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    text.push_str(&format!("open files {}\n", limit.unwrap_or(0)));
    // The last is the one that lists the directory, the one before it the signals'.
    let mut open: Vec<u32> = std::fs::read_dir("/proc/self/fd")
        .expect("descriptors")
        .map(|e| e.expect("one").file_name().to_string_lossy().parse().expect("a number"))
        .collect();
    open.sort_unstable();
    let own: Vec<String> = open[..open.len() - 2].iter().map(u32::to_string).collect();
    text.push_str(&format!("open descriptors {}\nend of it\n", own.join(" ")));
    std::fs::write(to, text).expect("written");
}

/// Leaves once the child has ticked, so that the test sees a child that did run.
fn leave_child(ticks: &str) {
    let exe = std::env::current_exe().expect("this binary");
    let child = Command::new(exe)
        .args(["program", "--session", "yes", "--ignore-stop", "yes", "--ticks", ticks])
        .env("BACKSTAY_ROLE", "active")
        .spawn()
        .expect("a child");
    drop(child);
    while std::fs::metadata(ticks).map_or(0, |m| m.len()) < 8 {
        std::thread::park_timeout(TICK);
    }
}

fn talk(how: &str, active: &AtomicBool) {
    let mut stream = UnixStream::connect(env("BACKSTAY_SOCKET")).expect("connected");
    let lines = BufReader::new(stream.try_clone().expect("a reader")).lines();
    for line in lines {
        let Ok(line) = line else { return };
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let promote = value["event"] == "promote";
        let answer = match how {
            "mute" => continue,
            "fail" => r#"{"event":"failed","reason":"not today"}"#.to_owned(),
            _ if promote => format!(r#"{{"event":"active","epoch":{}}}"#, value["epoch"]),
            _ => r#"{"event":"standby"}"#.to_owned(),
        };
        active.store(promote && how == "yes", Ordering::Release);
        writeln!(stream, "{answer}").expect("answered");
    }
}
