//! Keeps a `vault run` alive beside the agent: a child that is started again when it ends, ends
//! with the agent, and whose word on its jobs is kept for `status` and `/metrics`.
//!
//! The agent itself makes no backup and reads no repository. The child is another process, begins
//! below everything else in priority (`--supervised`), and is the first that a machine short of
//! memory kills. Its standard input is a pipe that nothing is written to: it closes with the agent,
//! however that ends, and the child ends then.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;

use super::shared::lock;
use crate::api::VaultMetrics;

/// Longest line that is read from the child.
const LINE_MAX: u64 = 1 << 20;
/// Most jobs that are kept of what it says.
pub const JOBS_MAX: usize = 256;
/// Pause before it is started again; it doubles with each end.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// One that ran so long had begun well: the pause is short again.
const WELL: Duration = Duration::from_secs(600);
/// How long the child may take to end with the agent.
pub const END_WAIT: Duration = Duration::from_secs(2);

/// What is run.
#[derive(Debug, Clone)]
pub struct VaultOptions {
    /// The schedule.
    pub schedule: PathBuf,
    /// The program; its command line is ours.
    pub program: PathBuf,
    /// The node's data directory, so that it can ask the cluster.
    pub data: PathBuf,
}

/// A job, as the child tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What is done.
    pub job: String,
    /// To which source; none for the whole repository.
    pub source: Option<String>,
    /// When it may begin next, Unix milliseconds.
    pub next_ms: Option<i64>,
    /// Why then.
    pub why: String,
    /// When its last run that ended well began.
    pub last_ms: Option<i64>,
    /// Failures since.
    pub failures: u32,
    /// What the last run found wrong, or why it failed.
    pub trouble: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Outlook {
    outlook: Vec<Job>,
}

/// What is known of the child.
#[derive(Debug, Default)]
struct Known {
    is_wanted: bool,
    pid: Option<u32>,
    starts: u64,
    /// How the last one ended.
    last_end: Option<String>,
    jobs: Vec<Job>,
    jobs_more: usize,
}

/// What is known of the child, for those who show it.
#[derive(Debug, Clone, Default)]
pub struct VaultRun(Arc<Mutex<Known>>);

impl VaultRun {
    /// For `status`; null where none is wanted.
    #[must_use]
    pub fn shown(&self) -> Value {
        let known = lock(&self.0);
        if !known.is_wanted {
            return Value::Null;
        }
        json!({
            "pid": known.pid, "starts": known.starts, "last_end": known.last_end,
            "jobs": known.jobs, "jobs_more": known.jobs_more
        })
    }

    /// For `/metrics`.
    pub fn fill(&self, metrics: &VaultMetrics) {
        let known = lock(&self.0);
        if !known.is_wanted {
            return;
        }
        metrics.run_wanted.set(1);
        metrics.run_up.set(i64::from(known.pid.is_some()));
        metrics.run_starts.set(known.starts as i64);
        for job in &known.jobs {
            let source = job.source.clone().unwrap_or_default();
            let labels = [("job", job.job.clone()), ("source", source)];
            metrics.job_failures.get_or_create_owned(&labels).set(i64::from(job.failures));
            if let Some(last_ms) = job.last_ms {
                let seconds = last_ms as f64 / 1e3;
                metrics.job_last_success.get_or_create_owned(&labels).set(seconds);
            }
        }
    }

    /// Takes in a line of the child.
    fn hear(&self, line: &[u8]) {
        // Its other lines say what begins and ends: the outlook that follows says the same.
        let Ok(Outlook { outlook }) = serde_json::from_slice(line) else { return };
        let mut known = lock(&self.0);
        known.jobs_more = outlook.len().saturating_sub(JOBS_MAX);
        known.jobs = outlook.into_iter().take(JOBS_MAX).collect();
    }
}

/// The pause before a start: it doubles with each end, and is short again after a long run.
#[derive(Debug)]
struct BackOff(Duration);

impl BackOff {
    fn after(&mut self, ran: Duration) -> Duration {
        if ran >= WELL {
            self.0 = PAUSE_MIN;
        }
        let pause = self.0;
        self.0 = (self.0 * 2).min(PAUSE_MAX);
        pause
    }
}

/// Keeps the child alive until it is told to stop, and ends it then.
pub async fn keep(options: VaultOptions, run: VaultRun, mut stop: watch::Receiver<bool>) {
    lock(&run.0).is_wanted = true;
    let mut back_off = BackOff(PAUSE_MIN);
    loop {
        let began = Instant::now();
        let end = once(&options, &run, &mut stop).await;
        if *stop.borrow() {
            return;
        }
        let pause = back_off.after(began.elapsed());
        tracing::warn!(%end, pause_s = pause.as_secs(), "`vault run` ended; it is started again");
        {
            let mut known = lock(&run.0);
            (known.pid, known.last_end) = (None, Some(end));
        }
        tokio::select! {
            () = told(&mut stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Waits until it is told to stop. Nobody who could tell any more is the same.
async fn told(stop: &mut watch::Receiver<bool>) {
    _ = stop.wait_for(|stop| *stop).await;
}

/// One life of the child: how it ended.
async fn once(options: &VaultOptions, run: &VaultRun, stop: &mut watch::Receiver<bool>) -> String {
    let mut child = match start(options) {
        Ok(child) => child,
        Err(error) => return format!("it could not be started: {error}"),
    };
    {
        let mut known = lock(&run.0);
        known.starts += 1;
        known.pid = child.id();
    }
    // The pipe is held here for as long as the child lives.
    let held = child.stdin.take();
    let said = child.stdout.take();
    let listening = async {
        if let Some(said) = said {
            listen(said, run).await;
        }
        std::future::pending::<()>().await;
    };
    let status = tokio::select! {
        status = child.wait() => status,
        () = listening => return "nobody listens to it".to_owned(),
        () = told(stop) => {
            drop(held);
            end(&mut child).await;
            return "it was told to".to_owned();
        }
    };
    drop(held);
    match status {
        Ok(status) => format!("it ended with {status}"),
        Err(error) => format!("nobody knows how it ended: {error}"),
    }
}

fn start(options: &VaultOptions) -> std::io::Result<Child> {
    let mut command = Command::new(&options.program);
    command.args(["vault", "run", "--supervised", "--schedule"]).arg(&options.schedule);
    command.env("BACKSTAY_DATA", &options.data);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command.kill_on_drop(true).spawn()
}

/// Its standard input is closed by now, and it has a signal: runs under way are broken off. What
/// they stored is used again.
async fn end(child: &mut Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // One that has just ended needs no signal.
        _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(END_WAIT, child.wait()).await.is_err() {
        tracing::warn!("`vault run` did not end in time and is killed");
        if let Err(error) = child.kill().await {
            tracing::warn!(%error, "`vault run` could not be killed");
        }
    }
}

/// Reads its lines until it closes its output. What is longer than a line may be is passed over.
async fn listen(said: ChildStdout, run: &VaultRun) {
    let mut said = BufReader::new(said);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut said).take(LINE_MAX).read_until(b'\n', &mut line).await;
        match read {
            Ok(0) => return,
            Ok(_) => run.hear(&line),
            Err(error) => {
                tracing::warn!(%error, "what `vault run` says can't be read");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn program(folder: &Path, text: &str) -> VaultOptions {
        let program = folder.join("program");
        // Another test's fork may hold the file open for writing a moment longer than we do.
        let partial = folder.join("partial");
        std::fs::write(&partial, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&partial, &program).unwrap();
        VaultOptions { schedule: folder.join("vault.toml"), program, data: folder.to_owned() }
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[test]
    fn the_pause_doubles_and_is_short_again_after_a_long_run() {
        let mut back_off = BackOff(PAUSE_MIN);
        let short = Duration::from_secs(3);
        let pauses: Vec<u64> = (0..10).map(|_| back_off.after(short).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(back_off.after(WELL), PAUSE_MIN);
    }

    #[test]
    fn the_newest_outlook_is_kept_and_other_lines_are_passed_over() {
        let run = VaultRun::default();
        assert_eq!(run.shown(), Value::Null, "none is wanted");
        lock(&run.0).is_wanted = true;
        let job = |failures: u32| {
            json!({
                "job": "backup", "source": "s", "next_ms": 5, "why": "due", "last_ms": null,
                "last_took_ms": 0, "runs": 0, "failures": failures, "trouble": null
            })
        };
        for line in [
            json!({ "outlook": [job(1)] }).to_string(),
            json!({ "outlook": [job(2)] }).to_string(),
            json!({ "job": "backup of s", "event": "begins" }).to_string(),
            "{\"outlook\": [{".to_owned(),
        ] {
            run.hear(line.as_bytes());
        }
        assert_eq!(run.shown()["jobs"][0]["failures"], 2);
        let many: Vec<Value> = (0..JOBS_MAX as u32 + 3).map(job).collect();
        run.hear(json!({ "outlook": many }).to_string().as_bytes());
        let shown = run.shown();
        assert_eq!(shown["jobs"].as_array().map(Vec::len), Some(JOBS_MAX));
        assert_eq!(shown["jobs_more"], 3);
    }

    #[tokio::test]
    async fn one_that_ends_is_started_again_and_the_last_ends_with_the_agent() {
        let folder = tempfile::tempdir().unwrap();
        // It lives until its standard input closes; the first one ends at once.
        let text = format!(
            "echo x >> {0}/starts\n[ $(wc -l < {0}/starts) -gt 1 ] || exit 7\nexec cat",
            folder.path().display()
        );
        let options = program(folder.path(), &text);
        let (run, (stop, stopped)) = (VaultRun::default(), watch::channel(false));
        let keeping = tokio::spawn(keep(options, run.clone(), stopped));
        until("a second start", || run.shown()["starts"] == 2).await;
        assert!(run.shown()["last_end"].as_str().is_some_and(|end| end.contains('7')));
        let pid = run.shown()["pid"].as_u64().unwrap();
        stop.send_replace(true);
        keeping.await.unwrap();
        let proc = format!("/proc/{pid}/cmdline");
        assert_eq!(std::fs::read(proc).unwrap_or_default(), b"", "it lives on");
    }

    #[tokio::test]
    async fn one_that_ignores_signals_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let text = format!("trap '' TERM\ntouch {}\nwhile :; do sleep 1; done", ready.display());
        let options = program(folder.path(), &text);
        let (run, (stop, stopped)) = (VaultRun::default(), watch::channel(false));
        let keeping = tokio::spawn(keep(options, run.clone(), stopped));
        until("it runs", || ready.exists()).await;
        let pid = run.shown()["pid"].as_u64().unwrap();
        stop.send_replace(true);
        keeping.await.unwrap();
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[tokio::test]
    async fn one_that_is_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (data, schedule) = (folder.path().to_owned(), folder.path().join("vault.toml"));
        let options = VaultOptions { schedule, program: data.join("none"), data };
        let (run, (stop, stopped)) = (VaultRun::default(), watch::channel(false));
        let keeping = tokio::spawn(keep(options, run.clone(), stopped));
        until("it is told", || run.shown()["last_end"].is_string()).await;
        assert_eq!(run.shown()["pid"], Value::Null);
        stop.send_replace(true);
        keeping.await.unwrap();
    }
}
