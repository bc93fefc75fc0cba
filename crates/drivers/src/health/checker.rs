//! Asks all checks of one instance again and again, and tells when it changes between healthy
//! and unhealthy.

use std::time::Duration;

use model::ResourceName;
use model::spec::{HealthSpec, Probe};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::exec::ExecProbes;
use super::{probe_http, probe_tcp};
use crate::protocol::Role;

/// How often is asked where the specification says nothing.
const EVERY_MS: u64 = 1_000;
/// How long an answer may take where the specification says nothing.
const TIMEOUT_MS: u64 = 1_000;
/// Most bytes of a reason.
const REASON_BYTES_MAX: usize = 512;
/// Results waiting for the checker: one per check is all there can be between two looks.
const RESULTS_MAX: usize = model::spec::HEALTH_MAX;

/// The instance that is checked.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Its resource.
    pub resource: ResourceName,
    /// Its checks; all must pass.
    pub checks: Vec<HealthSpec>,
}

/// A change of health. The first one comes when every check that applies has passed once
/// (healthy), or one has failed too often (unhealthy).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// All checks that apply to the instance's role pass.
    Healthy,
    /// At least one failed too often in a row.
    Unhealthy {
        /// The first such check, from 0.
        check: u32,
        /// What it said last.
        reason: String,
    },
}

/// What one check found, after so many failures in a row.
#[derive(Debug)]
struct Found {
    check: usize,
    state: State,
}

/// What is known of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Nothing yet, or not often enough.
    Unknown,
    /// The role is not asked.
    Exempt,
    /// It passes.
    Passing,
    /// It failed too often in a row.
    Failing(String),
}

/// A running set of checks; dropping it ends them.
#[derive(Debug)]
pub struct Checker {
    tasks: JoinSet<()>,
}

impl Checker {
    /// Begins to ask. Must be called inside a tokio runtime. `role` is the instance's, as it
    /// changes; changes of health go to `changes`, and wait there until they are taken.
    #[must_use]
    pub fn start(
        watched: Watched,
        role: &watch::Receiver<Role>,
        exec: &ExecProbes,
        changes: mpsc::Sender<Change>,
    ) -> Checker {
        let mut tasks = JoinSet::new();
        let (found, results) = mpsc::channel(RESULTS_MAX);
        let count = watched.checks.len();
        for (at, check) in watched.checks.into_iter().enumerate() {
            let asking = Asking {
                resource: watched.resource.clone(),
                at,
                check,
                role: role.clone(),
                exec: exec.clone(),
                found: found.clone(),
            };
            tasks.spawn(asking.run());
        }
        tasks.spawn(judge(count, results, changes));
        Checker { tasks }
    }

    /// Whether all of it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.tasks.is_empty()
    }
}

/// One check and what it needs.
struct Asking {
    resource: ResourceName,
    at: usize,
    check: HealthSpec,
    role: watch::Receiver<Role>,
    exec: ExecProbes,
    found: mpsc::Sender<Found>,
}

impl Asking {
    async fn run(mut self) {
        let or = |ms, default| Duration::from_millis(if ms == 0 { default } else { ms });
        let every = or(self.check.every_ms, EVERY_MS);
        let timeout = or(self.check.timeout_ms, TIMEOUT_MS);
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0u32;
        let mut told = State::Unknown;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = self.role.changed() => match changed {
                    // A new role counts from nothing.
                    Ok(()) => (failures, told) = (0, State::Unknown),
                    Err(_) => return,
                },
            }
            let exempt = self.check.active_only && *self.role.borrow() == Role::Standby;
            let state = if exempt {
                failures = 0;
                State::Exempt
            } else {
                let asked = tokio::time::timeout(timeout, self.ask()).await;
                let result = asked.unwrap_or_else(|_| {
                    Err(format!("no answer within {} ms", timeout.as_millis()))
                });
                judge_one(result, &mut failures, self.check.failures)
            };
            if state == State::Unknown || state == told {
                continue;
            }
            told = state.clone();
            if self.found.send(Found { check: self.at, state }).await.is_err() {
                return;
            }
        }
    }

    async fn ask(&self) -> Result<(), String> {
        match &self.check.probe {
            Probe::Tcp(target) => probe_tcp(target).await,
            Probe::Http(url) => probe_http(url).await,
            Probe::Exec(_) => self.exec.probe(&self.resource, self.at as u32).await,
        }
    }
}

fn judge_one(result: Result<(), String>, failures: &mut u32, most: u32) -> State {
    match result {
        Ok(()) => {
            *failures = 0;
            State::Passing
        }
        Err(mut reason) => {
            *failures = failures.saturating_add(1);
            if *failures < most.max(1) {
                return State::Unknown;
            }
            let cut = reason.floor_char_boundary(REASON_BYTES_MAX);
            reason.truncate(cut);
            State::Failing(reason)
        }
    }
}

async fn judge(checks: usize, mut results: mpsc::Receiver<Found>, changes: mpsc::Sender<Change>) {
    let mut states = vec![State::Unknown; checks];
    let mut last = None;
    loop {
        let now = verdict(&states);
        if let Some(now) = now
            && !same_side(last.as_ref(), &now)
        {
            last = Some(now.clone());
            if changes.send(now).await.is_err() {
                return;
            }
        }
        let Some(found) = results.recv().await else { return };
        states[found.check] = found.state;
    }
}

fn same_side(last: Option<&Change>, now: &Change) -> bool {
    matches!(
        (last, now),
        (Some(Change::Healthy), Change::Healthy)
            | (Some(Change::Unhealthy { .. }), Change::Unhealthy { .. })
    )
}

/// What all checks together say; nothing while one of them has not said anything.
fn verdict(states: &[State]) -> Option<Change> {
    for (check, state) in states.iter().enumerate() {
        if let State::Failing(reason) = state {
            return Some(Change::Unhealthy { check: check as u32, reason: reason.clone() });
        }
    }
    (!states.contains(&State::Unknown)).then_some(Change::Healthy)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::protocol::{Event, Request};

    fn check(probe: Probe, failures: u32, active_only: bool) -> HealthSpec {
        HealthSpec { probe, every_ms: 5, timeout_ms: 500, failures, active_only }
    }

    fn watched(checks: Vec<HealthSpec>) -> Watched {
        Watched { resource: ResourceName::new("x").unwrap(), checks }
    }

    #[test]
    fn single_failures_do_not_count_and_a_success_begins_anew() {
        let mut failures = 0;
        let no = || Err("no".to_owned());
        assert_eq!(judge_one(no(), &mut failures, 3), State::Unknown);
        assert_eq!(judge_one(no(), &mut failures, 3), State::Unknown);
        assert_eq!(judge_one(Ok(()), &mut failures, 3), State::Passing);
        assert_eq!(judge_one(no(), &mut failures, 3), State::Unknown);
        assert_eq!(judge_one(no(), &mut failures, 3), State::Unknown);
        assert_eq!(judge_one(no(), &mut failures, 3), State::Failing("no".into()));
        assert_eq!(judge_one(Err("é".repeat(900)), &mut 0, 0), State::Failing("é".repeat(256)));
    }

    #[tokio::test]
    async fn changes_are_told_once_and_name_the_check() {
        let asks = Arc::new(AtomicU32::new(0));
        let (events, mut waiting) = mpsc::unbounded_channel();
        let seen = Arc::clone(&asks);
        let asker = move |request: &Request| {
            // Passes for four questions, then fails.
            let failure = (seen.fetch_add(1, Ordering::Relaxed) >= 4).then(|| "broken".to_owned());
            let Request::ExecProbe { resource, index } = request.clone() else { panic!() };
            events.send(Event::ProbeResult { resource, index, failure }).map_err(|e| e.to_string())
        };
        let exec = ExecProbes::new(Arc::new(asker));
        let answering = exec.clone();
        let launcher = tokio::spawn(async move {
            while let Some(event) = waiting.recv().await {
                answering.on_event(&event);
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let checks = vec![
            check(Probe::Tcp(target), 1, false),
            check(Probe::Exec(vec!["/x".into()]), 2, false),
        ];
        let (_role, role) = watch::channel(Role::Active);
        let (sender, mut changes) = mpsc::channel(4);
        let checker = Checker::start(watched(checks), &role, &exec, sender);
        assert_eq!(changes.recv().await, Some(Change::Healthy));
        let unhealthy = Change::Unhealthy { check: 1, reason: "broken".into() };
        assert_eq!(changes.recv().await, Some(unhealthy));
        assert!(asks.load(Ordering::Relaxed) >= 6, "after two failures in a row");
        assert!(checker.is_running());
        drop(checker);
        assert_eq!(changes.recv().await, None, "and nothing after it ended");
        launcher.abort();
    }

    #[tokio::test]
    async fn a_standby_is_not_asked_what_only_actives_answer() {
        let exec = ExecProbes::new(Arc::new(|_: &Request| Err("never asked".to_owned())));
        let checks = vec![check(Probe::Exec(vec!["/x".into()]), 1, true)];
        let (role, watching) = watch::channel(Role::Standby);
        let (sender, mut changes) = mpsc::channel(4);
        let _checker = Checker::start(watched(checks), &watching, &exec, sender);
        assert_eq!(changes.recv().await, Some(Change::Healthy));
        role.send(Role::Active).unwrap();
        let unhealthy = Change::Unhealthy { check: 0, reason: "never asked".into() };
        assert_eq!(changes.recv().await, Some(unhealthy));
        role.send(Role::Standby).unwrap();
        assert_eq!(changes.recv().await, Some(Change::Healthy));
    }
}
