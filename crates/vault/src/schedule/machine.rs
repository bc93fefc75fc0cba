//! Decides which job begins now. Pure: events and the time in, actions out.
//!
//! Rules: one source is in at most one run, and so is the repository as a whole. A job that was
//! missed is made up once, however often it was missed. A job that failed is due still, and tried
//! again after a pause that doubles. A clock that was ahead counts as of now, so that nothing
//! waits for a time that was never to come. A proof waits for the source's first backup. A job
//! with a place in a cluster runs where the cluster says, and counts as done where anybody did it;
//! while nobody can be asked, it waits.

use super::place::{Seen, TURN_MS};
use super::{Job, JobKey, Kind, Now, Past};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The pause after a first failure; it doubles with each.
pub const BACK_OFF_MIN_MS: i64 = 60_000;
/// The longest pause after failures.
pub const BACK_OFF_MAX_MS: i64 = 3_600_000;
/// Characters of what went wrong that are remembered.
const TROUBLE_CHARS_MAX: usize = 500;
/// Jobs remembered that are in the plan no more.
const GONE_MAX: usize = 1000;

/// What is to be done, and how much of it at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The jobs; no key twice.
    pub jobs: Vec<Job>,
    /// Runs under way at once, at least one.
    pub at_once: usize,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Done,
    /// It was done, and something is wrong: damage found, files that could not be taken.
    Found(String),
    /// It could not be done.
    Failed(String),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing but time.
    Look,
    /// A run ended.
    Ended(JobKey, Outcome),
    /// The cluster was asked; nothing where it did not answer.
    Cluster(Option<Seen>),
    /// Nothing new is to begin.
    Stop,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Remember the past durably, before anything that follows.
    Remember,
    /// Begin this job.
    Start(JobKey),
}

/// Why a job begins when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It is under way.
    Running,
    /// It never ran.
    First,
    /// By its plan.
    Due,
    /// It failed, and is tried again after a pause.
    BackOff,
    /// Its part of the day has not begun.
    Window,
    /// There is no backup that could be proven.
    NoBackup,
    /// Another node's turn comes first.
    Turn,
    /// Another node does it.
    Elsewhere,
    /// The cluster does not say where it is to be done.
    NoCluster,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Running => "running",
            Why::First => "it never ran",
            Why::Due => "by the plan",
            Why::BackOff => "again, after a failure",
            Why::Window => "when its window opens",
            Why::NoBackup => "waits for the first backup",
            Why::Turn => "after another node's turn",
            Why::Elsewhere => "another node does it",
            Why::NoCluster => "waits for the cluster, which does not answer",
        })
    }
}

/// What will become of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Which.
    pub key: JobKey,
    /// When it may begin: now, or later, or, where nothing, not before something else happened.
    pub next_ms: Option<i64>,
    /// Why then.
    pub why: Why,
    /// What is remembered of it.
    pub past: Past,
}

/// When a job begins.
struct Start {
    /// By its plan, or by the pause after a failure: the earlier goes first.
    due_ms: i64,
    /// When it may.
    ms: i64,
    why: Why,
}

/// The state of all jobs.
#[derive(Clone, Debug)]
pub struct Machine {
    plan: Plan,
    past: BTreeMap<JobKey, Past>,
    running: BTreeSet<JobKey>,
    stopping: bool,
    /// What was read is not what is remembered now.
    changed: bool,
    /// What the cluster said last; nothing while it does not answer.
    seen: Option<Seen>,
    /// Since when this is the machine's knowledge: turns are counted from there.
    since_ms: i64,
}

impl Machine {
    /// Goes on from what is remembered. A run that was under way then counts as failed.
    pub fn new(plan: Plan, past: BTreeMap<JobKey, Past>, now: &Now<'_>) -> Machine {
        let (mut past, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            past.into_iter().partition(|(key, _)| plan.jobs.iter().any(|job| job.key == *key));
        past.extend(gone.into_iter().take(GONE_MAX));
        let mut changed = false;
        for past in past.values_mut().filter(|p| p.running_since_ms.is_some()) {
            changed = true;
            fail(past, "it was broken off: the program or the machine ended".to_owned(), now.ms);
        }
        Machine {
            plan,
            past,
            running: BTreeSet::new(),
            stopping: false,
            changed,
            seen: None,
            since_ms: now.ms,
        }
    }

    /// What is to be remembered.
    pub fn past(&self) -> &BTreeMap<JobKey, Past> {
        &self.past
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Takes an event, and says what to do, in this order.
    pub fn step(&mut self, now: &Now<'_>, event: Event) -> Vec<Action> {
        let mut changed = std::mem::take(&mut self.changed) | self.settle_clock(now);
        match event {
            Event::Look => {}
            Event::Stop => self.stopping = true,
            Event::Cluster(seen) => changed |= self.see(seen, now),
            Event::Ended(key, outcome) => changed |= self.end(&key, outcome, now),
        }
        let mut starts = Vec::new();
        while let Some(key) = self.choose(now) {
            self.past.entry(key.clone()).or_default().running_since_ms = Some(now.ms);
            self.running.insert(key.clone());
            starts.push(Action::Start(key));
        }
        if changed || !starts.is_empty() {
            starts.insert(0, Action::Remember);
        }
        starts
    }

    /// A past that lies in the future was written by a clock that was wrong.
    fn settle_clock(&mut self, now: &Now<'_>) -> bool {
        let mut changed = false;
        for past in self.past.values_mut() {
            let times = [&mut past.done_ms, &mut past.failed_ms, &mut past.running_since_ms];
            for ms in times.into_iter().flatten().filter(|ms| **ms > now.ms) {
                *ms = now.ms;
                changed = true;
            }
        }
        changed
    }

    /// Takes in what the cluster says. Whether what is remembered changed.
    ///
    /// What others did is no failure of ours any more. Their clocks may be ahead.
    pub fn see(&mut self, seen: Option<Seen>, now: &Now<'_>) -> bool {
        let turns = |seen: &Option<Seen>| seen.as_ref().map(|seen| seen.turns.clone());
        if turns(&seen) != turns(&self.seen) {
            self.since_ms = now.ms;
        }
        self.seen = seen.map(|mut seen| {
            seen.done.values_mut().for_each(|ms| *ms = (*ms).min(now.ms));
            seen
        });
        let mut changed = false;
        for (key, done_ms) in self.seen.iter().flat_map(|seen| &seen.done) {
            let failed = self.past.get_mut(key).filter(|past| past.failed_ms < Some(*done_ms));
            if let Some(past) = failed.filter(|past| past.failed_ms.is_some()) {
                (past.failures, past.failed_ms, past.trouble) = (0, None, None);
                changed = true;
            }
        }
        changed
    }

    /// When a job was last done: here, or, where it has a place in the cluster, by anybody.
    fn done_ms(&self, job: &Job) -> Option<i64> {
        let here = self.past.get(&job.key).and_then(|past| past.done_ms);
        let seen = self.seen.as_ref().filter(|_| job.only.is_some());
        here.max(seen.and_then(|seen| seen.done.get(&job.key)).copied())
    }

    /// How much later than others this machine does a job, or why it does not.
    fn turn(&self, job: &Job) -> Result<i64, Why> {
        let Some(place) = &job.only else { return Ok(0) };
        let seen = self.seen.as_ref().ok_or(Why::NoCluster)?;
        let turn = seen.turns.get(place).ok_or(Why::Elsewhere)?;
        Ok(i64::from(*turn).saturating_mul(TURN_MS))
    }

    fn end(&mut self, key: &JobKey, outcome: Outcome, now: &Now<'_>) -> bool {
        if !self.running.remove(key) {
            return false;
        }
        let past = self.past.entry(key.clone()).or_default();
        let trouble = match outcome {
            Outcome::Failed(why) => {
                fail(past, why, now.ms);
                return true;
            }
            Outcome::Found(what) => Some(shortened(what)),
            Outcome::Done => None,
        };
        let began = past.running_since_ms.take().unwrap_or(now.ms);
        *past = Past {
            done_ms: Some(began),
            took_ms: now.ms.saturating_sub(began).max(0) as u64,
            runs: past.runs.saturating_add(1),
            trouble,
            ..Past::default()
        };
        true
    }

    /// Whether nothing more may begin.
    fn is_full(&self) -> bool {
        self.stopping || self.running.len() >= self.plan.at_once.max(1)
    }

    /// Whether nobody works on what the job works on.
    fn is_free(&self, job: &Job) -> bool {
        !self.running.iter().any(|running| running.source == job.key.source)
    }

    /// The job that begins next, where one may begin now.
    fn choose(&self, now: &Now<'_>) -> Option<JobKey> {
        if self.is_full() {
            return None;
        }
        let starts = self.plan.jobs.iter().filter(|job| self.is_free(job));
        let starts = starts.filter_map(|job| Some((self.start(job, now).ok()?, &job.key)));
        let ready = starts.filter(|(start, _)| start.ms <= now.ms);
        ready.min_by_key(|(start, key)| (start.due_ms, *key)).map(|(_, key)| key.clone())
    }

    /// When a job begins, or why it is not known.
    fn start(&self, job: &Job, now: &Now<'_>) -> Result<Start, Why> {
        let nothing = Past::default();
        let past = self.past.get(&job.key).unwrap_or(&nothing);
        if job.key.kind == Kind::Prove && !self.has_backup(&job.key.source) {
            return Err(Why::NoBackup);
        }
        let turn_ms = self.turn(job)?;
        let (mut due_ms, mut why) = match self.done_ms(job) {
            None if turn_ms > 0 => (self.since_ms, Why::First),
            None => (now.ms, Why::First),
            Some(done_ms) => (job.when.after(done_ms, now.zone), Why::Due),
        };
        if turn_ms > 0 {
            // Whoever has just become one of the standbys lets the others try first, too.
            (due_ms, why) = (due_ms.max(self.since_ms).saturating_add(turn_ms), Why::Turn);
        }
        if let Some(failed_ms) = past.failed_ms {
            let retry_ms = failed_ms.saturating_add(back_off_ms(past.failures));
            if retry_ms > due_ms {
                (due_ms, why) = (retry_ms, Why::BackOff);
            }
        }
        let mut ms = due_ms.max(now.ms);
        let then = Now { ms, zone: now.zone };
        if let Some(window) = job.window.filter(|w| !w.contains(&then)) {
            (ms, why) = (window.opens_ms(&then), Why::Window);
        }
        Ok(Start { due_ms, ms, why })
    }

    /// Whether a proof has something to prove, as far as is known here.
    fn has_backup(&self, source: &Option<String>) -> bool {
        let key = JobKey { kind: Kind::Backup, source: source.clone() };
        let is_ours = self.plan.jobs.iter().any(|job| job.key == key);
        let is_known = self.seen.as_ref().is_some_and(|seen| seen.done.contains_key(&key));
        !is_ours || is_known || self.past.get(&key).is_some_and(|past| past.done_ms.is_some())
    }

    /// When something may begin next, if nothing else happens; for whoever waits.
    pub fn next_look_ms(&self, now: &Now<'_>) -> Option<i64> {
        if self.is_full() {
            return None;
        }
        let waiting = self.plan.jobs.iter().filter(|job| self.is_free(job));
        waiting.filter_map(|job| Some(self.start(job, now).ok()?.ms)).min()
    }

    /// What will become of each job, in the order of the plan.
    pub fn outlook(&self, now: &Now<'_>) -> Vec<Outlook> {
        let one = |job: &Job| {
            let (next_ms, why) = match self.start(job, now) {
                _ if self.running.contains(&job.key) => (None, Why::Running),
                Ok(start) => (Some(start.ms), start.why),
                Err(why) => (None, why),
            };
            let past = self.past.get(&job.key).cloned().unwrap_or_default();
            Outlook { key: job.key.clone(), next_ms, why, past }
        };
        self.plan.jobs.iter().map(one).collect()
    }
}

fn fail(past: &mut Past, why: String, now_ms: i64) {
    past.running_since_ms = None;
    past.failures = past.failures.saturating_add(1);
    past.failed_ms = Some(now_ms);
    past.trouble = Some(shortened(why));
}

fn shortened(text: String) -> String {
    text.chars().take(TROUBLE_CHARS_MAX).collect()
}

/// The pause after so many failures in a row.
fn back_off_ms(failures: u32) -> i64 {
    let doubled = failures.saturating_sub(1).min(20);
    (BACK_OFF_MIN_MS << doubled).min(BACK_OFF_MAX_MS)
}
