//! One run of `vault run`: command lines of this program, one after the other, each a child.
//! A run that dies takes nothing with it, and what it does can be done by hand.

use super::EXIT_FOUND;
use super::opening::RepositoryArgs;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use vault::schedule::{Order, Outcome};

/// How much of what a child says is kept.
const TAIL_BYTES: usize = 4096;
/// How long the end of it is waited for once the child has ended.
const TAIL_PATIENCE: Duration = Duration::from_secs(2);

/// Children at work; each leads a group of its own, so that a signal from a terminal does not
/// reach it.
#[derive(Default)]
pub(crate) struct Children(Mutex<BTreeSet<u32>>);

impl Children {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends them all, with what they began.
    pub(crate) fn kill(&self) {
        for id in self.lock().iter() {
            if let Some(pid) = i32::try_from(*id).ok().and_then(Pid::from_raw) {
                // One that has just ended needs no signal.
                let _ = kill_process_group(pid, Signal::TERM);
            }
        }
    }
}

/// Carries out a run. Each child holds one of the locks while it lives.
pub(crate) fn carry_out(
    opening: &RepositoryArgs,
    orders: &[Order],
    locks: Vec<File>,
    children: &Children,
) -> Outcome {
    let mut found = Vec::new();
    for (order, lock) in orders.iter().zip(locks) {
        match one(opening, order, lock, children) {
            Outcome::Done => {}
            Outcome::Found(what) => found.push(what),
            failed @ Outcome::Failed(_) => return failed,
        }
    }
    if found.is_empty() { Outcome::Done } else { Outcome::Found(found.join("; ")) }
}

fn one(opening: &RepositoryArgs, order: &Order, lock: File, children: &Children) -> Outcome {
    let failed = |error: std::io::Error| Outcome::Failed(format!("it could not begin: {error}"));
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return failed(error),
    };
    let mut command = Command::new(program);
    command.args(&order.words);
    command.env("BACKSTAY_REPOSITORY", &opening.repository);
    command.env("BACKSTAY_KEY_FILE", &opening.key);
    command.env("BACKSTAY_STATE_DIR", &opening.state_dir);
    let cluster = &opening.cluster;
    command.env("BACKSTAY_VAULT_CLUSTER", if cluster.cluster { "1" } else { "0" });
    if cluster.cluster {
        command.env("BACKSTAY_DATA", &cluster.data);
        let api: Vec<String> = cluster.api.iter().map(ToString::to_string).collect();
        let credential = cluster.credential.as_ref().map(|path| path.as_os_str().to_owned());
        let api = (!api.is_empty()).then(|| api.join(",").into());
        for (name, value) in [("BACKSTAY_CREDENTIAL", credential), ("BACKSTAY_API", api)] {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }
    // Its standard input is the lock: it lives as long as the child.
    command.stdin(lock).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return failed(error),
    };
    let id = child.id();
    children.lock().insert(id);
    let outcome = wait(child);
    children.lock().remove(&id);
    outcome
}

fn wait(mut child: Child) -> Outcome {
    let (out, err) = (tail_of(child.stdout.take()), tail_of(child.stderr.take()));
    let status = child.wait();
    // What it began may hold its output open for longer than it lived.
    let hear = |tail: Receiver<String>| tail.recv_timeout(TAIL_PATIENCE).unwrap_or_default();
    let (said, complained) = (hear(out), hear(err));
    match status {
        Ok(status) if status.success() => Outcome::Done,
        Ok(status) if status.code() == Some(i32::from(EXIT_FOUND)) => {
            Outcome::Found(one_line(&format!("{complained}\n{said}")))
        }
        Ok(status) => Outcome::Failed(match one_line(&complained) {
            text if text.is_empty() => status.to_string(),
            text => text,
        }),
        Err(error) => Outcome::Failed(format!("nobody knows how it ended: {error}")),
    }
}

/// The end of what a stream says, once it is closed.
fn tail_of(stream: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (tail_in, tail) = channel();
    thread::spawn(move || {
        let mut kept = VecDeque::new();
        let mut buffer = [0; TAIL_BYTES];
        let Some(mut stream) = stream else { return };
        // A stream that breaks has ended.
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            kept.extend(&buffer[..length]);
            let too_many = kept.len().saturating_sub(TAIL_BYTES);
            kept.drain(..too_many);
        }
        let bytes: Vec<u8> = kept.into();
        // Nobody waits for it any more where it took too long.
        let _ = tail_in.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    tail
}

fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}
