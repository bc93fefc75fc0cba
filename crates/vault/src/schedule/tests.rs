//! The machine against cases, and against chance.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// A Sunday at midnight.
const BEGIN: i64 = 1_795_305_600_000;

fn key(kind: Kind, source: &str) -> JobKey {
    let source = (!source.is_empty()).then(|| source.to_owned());
    JobKey { kind, source }
}

fn job(kind: Kind, source: &str, when: &str) -> Job {
    let (key, when) = (key(kind, source), When::parse(when).unwrap());
    Job { key, when, window: None, only: None }
}

/// A machine with its clock and what it has done.
struct Rig {
    machine: Machine,
    ms: i64,
    zone: TimeZone,
}

impl Rig {
    fn new(jobs: Vec<Job>, past: BTreeMap<JobKey, Past>) -> Rig {
        let zone = TimeZone::UTC;
        let plan = Plan { jobs, at_once: 1 };
        let machine = Machine::new(plan, past, &Now { ms: BEGIN, zone: &zone });
        Rig { machine, ms: BEGIN, zone }
    }

    fn step(&mut self, event: Event) -> Vec<String> {
        let now = Now { ms: self.ms, zone: &self.zone };
        let actions = self.machine.step(&now, event);
        let started = |action: &Action| match action {
            Action::Start(key) => Some(key.to_string()),
            Action::Remember => None,
        };
        // What begins is remembered first.
        let starts = actions.iter().filter_map(started).collect::<Vec<_>>();
        assert!(starts.is_empty() || actions[0] == Action::Remember);
        starts
    }

    fn at(&mut self, ms: i64) -> Vec<String> {
        self.ms = BEGIN + ms;
        self.step(Event::Look)
    }

    fn end(&mut self, kind: Kind, source: &str, outcome: Outcome) -> Vec<String> {
        self.step(Event::Ended(key(kind, source), outcome))
    }

    fn done(&mut self, kind: Kind, source: &str) -> Vec<String> {
        self.end(kind, source, Outcome::Done)
    }
}

fn failed() -> Outcome {
    Outcome::Failed("no".to_owned())
}

/// A backup of `a` every six hours, on a standby.
fn on_standby() -> Rig {
    let only = Some(Place::parse("standby of r").unwrap());
    Rig::new(vec![Job { only, ..job(Kind::Backup, "a", "every 6h") }], BTreeMap::new())
}

/// What the cluster says: this machine's turn, and when anybody did it last.
fn seen(turn: Option<u32>, done_ms: Option<i64>) -> Event {
    let place = Place::parse("standby of r").unwrap();
    let done = done_ms.map(|ms| (key(Kind::Backup, "a"), BEGIN + ms));
    Event::Cluster(Some(Seen {
        turns: turn.map(|turn| (place, turn)).into_iter().collect(),
        done: done.into_iter().collect(),
    }))
}

#[test]
fn a_job_with_a_place_runs_there_and_waits_for_a_cluster_that_is_silent() {
    let mut rig = on_standby();
    let why = |rig: &Rig| {
        let now = Now { ms: rig.ms, zone: &rig.zone };
        rig.machine.outlook(&now)[0].why
    };
    assert_eq!((rig.at(0), why(&rig)), (vec![], Why::NoCluster));
    assert_eq!((rig.step(seen(None, None)), why(&rig)), (vec![], Why::Elsewhere));
    assert_eq!(rig.step(seen(Some(0), None)), ["backup of a"]);
    rig.done(Kind::Backup, "a");
    assert_eq!(rig.step(Event::Cluster(None)), [""; 0]);
    assert_eq!((rig.at(6 * HOUR), why(&rig)), (vec![], Why::NoCluster));
    assert_eq!(rig.step(seen(Some(0), Some(0))), ["backup of a"]);
}

#[test]
fn whoever_takes_over_goes_on_where_the_last_one_was() {
    let mut rig = on_standby();
    rig.at(5 * HOUR);
    assert_eq!(rig.step(seen(Some(0), Some(0))), [""; 0], "another node did it five hours ago");
    assert_eq!(rig.at(6 * HOUR), ["backup of a"]);
    let mut late = on_standby();
    late.at(20 * HOUR);
    assert_eq!(late.step(seen(Some(0), Some(0))), ["backup of a"], "missed, and made up");
    late.done(Kind::Backup, "a");
    assert_eq!(late.at(25 * HOUR), [""; 0], "once");
}

#[test]
fn a_later_turn_comes_only_where_nobody_else_did_it() {
    let mut rig = on_standby();
    rig.step(seen(Some(1), Some(0)));
    assert_eq!(rig.at(6 * HOUR), [""; 0], "the first one's turn");
    rig.ms = BEGIN + 6 * HOUR + TURN_MS - 1;
    assert_eq!(rig.step(seen(Some(1), Some(6 * HOUR))), [""; 0]);
    assert_eq!(rig.at(6 * HOUR + TURN_MS), [""; 0], "the first one did it");
    assert_eq!(rig.at(12 * HOUR), [""; 0]);
    assert_eq!(rig.at(12 * HOUR + TURN_MS), ["backup of a"], "the first one is dead");
    let mut new = on_standby();
    new.at(20 * HOUR);
    assert_eq!(new.step(seen(Some(2), Some(0))), [""; 0], "it has just become one");
    assert_eq!(new.at(20 * HOUR + 2 * TURN_MS), ["backup of a"]);
}

#[test]
fn a_failure_here_is_forgotten_when_another_did_it_and_clocks_ahead_hinder_nothing() {
    let mut rig = on_standby();
    assert_eq!(rig.step(seen(Some(0), None)), ["backup of a"]);
    rig.end(Kind::Backup, "a", failed());
    assert_eq!(rig.machine.past()[&key(Kind::Backup, "a")].failures, 1);
    rig.at(HOUR / 120);
    rig.step(seen(Some(0), Some(900 * DAY)));
    assert_eq!(rig.machine.past()[&key(Kind::Backup, "a")].failures, 0);
    assert_eq!(rig.at(6 * HOUR), [""; 0], "it counts as of when it was heard");
    assert_eq!(rig.at(6 * HOUR + HOUR / 120), ["backup of a"]);
}

#[test]
fn what_never_ran_runs_at_once_backups_first_and_one_at_a_time() {
    let mut rig = Rig::new(
        vec![
            job(Kind::Verify, "", "every 1d"),
            job(Kind::Prove, "a", "every 1d"),
            job(Kind::Backup, "b", "every 1h"),
            job(Kind::Backup, "a", "every 1h"),
        ],
        BTreeMap::new(),
    );
    assert_eq!(rig.at(0), ["backup of a"]);
    assert_eq!(rig.at(1), [""; 0]);
    assert_eq!(rig.done(Kind::Backup, "a"), ["backup of b"]);
    assert_eq!(rig.done(Kind::Backup, "b"), ["prove of a"]);
    assert_eq!(rig.done(Kind::Prove, "a"), ["verify"]);
    assert_eq!(rig.done(Kind::Verify, ""), [""; 0]);
    assert_eq!(rig.at(HOUR - 1), [""; 0]);
    assert_eq!(rig.at(HOUR), ["backup of a"]);
}

#[test]
fn a_missed_run_is_made_up_once() {
    let long_ago = Past { done_ms: Some(BEGIN - 40 * DAY), ..Past::default() };
    let past = [(key(Kind::Backup, "a"), long_ago)].into();
    let mut rig = Rig::new(vec![job(Kind::Backup, "a", "at 02:30")], past);
    assert_eq!(rig.at(HOUR), ["backup of a"]);
    assert_eq!(rig.done(Kind::Backup, "a"), [""; 0]);
    // The next one is the next by the plan, and not one of the 39 others.
    assert_eq!(rig.at(2 * HOUR), [""; 0]);
    assert_eq!(rig.at(5 * HOUR / 2), ["backup of a"]);
}

#[test]
fn failures_are_tried_again_after_longer_and_longer_pauses() {
    let mut rig = Rig::new(vec![job(Kind::Backup, "a", "every 1d")], BTreeMap::new());
    let mut at = 0;
    assert_eq!(rig.at(at), ["backup of a"]);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        assert_eq!(rig.end(Kind::Backup, "a", failed()), [""; 0]);
        let now = Now { ms: rig.ms, zone: &rig.zone };
        let next = rig.machine.next_look_ms(&now).unwrap() - BEGIN;
        assert_eq!(rig.machine.outlook(&now)[0].why, Why::BackOff);
        pauses.push((next - at) / BACK_OFF_MIN_MS);
        assert_eq!(rig.at(next - 1), [""; 0]);
        assert_eq!(rig.at(next), ["backup of a"]);
        at = next;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    rig.done(Kind::Backup, "a");
    let past = &rig.machine.past()[&key(Kind::Backup, "a")];
    assert_eq!((past.failures, past.runs, past.trouble.clone()), (0, 1, None));
    // From the beginning of the run that went well.
    assert_eq!(rig.at(at + DAY - 1), [""; 0]);
    assert_eq!(rig.at(at + DAY), ["backup of a"]);
}

#[test]
fn a_window_is_waited_for_and_a_proof_waits_for_a_backup() {
    let mut backup = job(Kind::Backup, "a", "every 1h");
    backup.window = Some(Window::parse("22:00-23:00").unwrap());
    let mut rig = Rig::new(vec![backup, job(Kind::Prove, "a", "every 1h")], BTreeMap::new());
    assert_eq!(rig.at(0), [""; 0]);
    let now = Now { ms: BEGIN, zone: &rig.zone };
    let outlook = rig.machine.outlook(&now);
    assert_eq!((outlook[0].next_ms, outlook[0].why), (Some(BEGIN + 22 * HOUR), Why::Window));
    assert_eq!((outlook[1].next_ms, outlook[1].why), (None, Why::NoBackup));
    assert_eq!(rig.at(22 * HOUR - 1), [""; 0]);
    assert_eq!(rig.at(22 * HOUR), ["backup of a"]);
    rig.ms += HOUR;
    assert_eq!(rig.done(Kind::Backup, "a"), ["prove of a"]);
    rig.done(Kind::Prove, "a");
    // Due, and outside of the window.
    assert_eq!(rig.at(24 * HOUR), ["prove of a"]);
    rig.done(Kind::Prove, "a");
    assert_eq!(rig.at(46 * HOUR), ["backup of a"]);
}

#[test]
fn a_run_that_was_broken_off_counts_as_failed() {
    let past = Past { running_since_ms: Some(BEGIN - 5), ..Past::default() };
    let past = [(key(Kind::Backup, "a"), past)].into();
    let mut rig = Rig::new(vec![job(Kind::Backup, "a", "every 1h")], past);
    assert_eq!(rig.at(0), [""; 0]);
    assert_eq!(rig.at(BACK_OFF_MIN_MS), ["backup of a"]);
}

#[test]
fn what_was_found_is_remembered_and_stopping_begins_nothing() {
    let jobs = vec![job(Kind::Verify, "", "every 1h"), job(Kind::Backup, "a", "every 1h")];
    let mut rig = Rig::new(jobs, BTreeMap::new());
    assert_eq!(rig.at(0), ["backup of a"]);
    let found = Outcome::Found("x".repeat(9000));
    assert_eq!(rig.end(Kind::Backup, "a", found), ["verify"]);
    let past = &rig.machine.past()[&key(Kind::Backup, "a")];
    assert_eq!((past.runs, past.trouble.as_ref().unwrap().len()), (1, 500));
    assert_eq!(rig.step(Event::Stop), [""; 0]);
    assert_eq!(rig.done(Kind::Verify, ""), [""; 0]);
    assert_eq!(rig.at(DAY), [""; 0]);
    assert!(rig.machine.is_idle());
}

#[test]
fn a_clock_that_was_ahead_stops_nothing_for_longer_than_a_period() {
    let mut rig = Rig::new(vec![job(Kind::Backup, "a", "every 1h")], BTreeMap::new());
    assert_eq!(rig.at(365 * DAY), ["backup of a"]);
    rig.done(Kind::Backup, "a");
    assert_eq!(rig.at(0), [""; 0]);
    assert_eq!(rig.at(HOUR - 1), [""; 0]);
    assert_eq!(rig.at(HOUR), ["backup of a"]);
}

/// One move of chance.
#[derive(Clone, Debug)]
enum Move {
    Wait(i64),
    Jump(i64),
    End(usize, u8),
    Restart,
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        8 => (0..3 * HOUR).prop_map(Move::Wait),
        1 => (-400 * DAY..400 * DAY).prop_map(Move::Jump),
        8 => (0..4usize, 0..4u8).prop_map(|(which, how)| Move::End(which, how)),
        1 => Just(Move::Restart),
    ]
}

fn any_job() -> impl Strategy<Value = Job> {
    let kinds = prop_oneof![Just(Kind::Backup), Just(Kind::Prove), Just(Kind::Verify)];
    let whens = prop_oneof![
        Just("every 10m"),
        Just("every 7h"),
        Just("at 02:30"),
        Just("at wed 13:00"),
        Just("every 3d"),
    ];
    let windows = prop_oneof![3 => Just(None), 1 => Just(Some("22:00-06:00"))];
    (kinds, 0..3usize, whens, windows).prop_map(|(kind, source, when, window)| {
        let source = if kind == Kind::Verify { "" } else { ["a", "b", "c"][source] };
        let window = window.map(|w| Window::parse(w).unwrap());
        Job { window, ..job(kind, source, when) }
    })
}

/// A world around a machine that holds it to its rules.
struct World {
    machine: Machine,
    plan: Plan,
    ms: i64,
    zone: TimeZone,
    running: Vec<JobKey>,
    /// Failures in a row, and when the last was; forgotten when the clock jumps.
    failed: BTreeMap<JobKey, (u32, i64)>,
    /// When the last run that ended well began; likewise.
    done: BTreeMap<JobKey, i64>,
    began: BTreeMap<JobKey, i64>,
}

impl World {
    fn step(&mut self, event: Event) {
        let now = Now { ms: self.ms, zone: &self.zone };
        for action in self.machine.step(&now, event) {
            let Action::Start(key) = action else { continue };
            assert!(self.running.iter().all(|r| r.source != key.source), "two of one source");
            self.running.push(key.clone());
            assert!(self.running.len() <= self.plan.at_once);
            let job = self.plan.jobs.iter().find(|job| job.key == key).unwrap();
            assert!(job.window.is_none_or(|w| w.contains(&now)), "outside of its window");
            if let Some((failures, at)) = self.failed.get(&key) {
                let doubled = BACK_OFF_MIN_MS << failures.saturating_sub(1).min(20);
                assert!(self.ms >= at + doubled.min(BACK_OFF_MAX_MS), "no back-off");
            }
            if let Some(done) = self.done.get(&key) {
                // So a missed run is made up once: the next is a period after it.
                assert!(self.ms >= job.when.after(*done, &self.zone), "too soon");
            }
            self.began.insert(key, self.ms);
        }
        // Nothing that may begin is left waiting.
        let next = self.machine.next_look_ms(&now);
        assert!(next.is_none_or(|next| next > self.ms));
    }

    fn end(&mut self, which: usize, how: u8) {
        if self.running.is_empty() {
            return;
        }
        let key = self.running.remove(which % self.running.len());
        let outcome = match how {
            0 => failed(),
            1 => Outcome::Found("some".to_owned()),
            _ => Outcome::Done,
        };
        if how == 0 {
            let failures = self.failed.get(&key).map_or(1, |(n, _)| n + 1);
            self.failed.insert(key.clone(), (failures, self.ms));
        } else {
            self.failed.remove(&key);
            if let Some(began) = self.began.get(&key) {
                self.done.insert(key.clone(), *began);
            }
        }
        self.step(Event::Ended(key, outcome));
    }

    fn go(&mut self, m: &Move) {
        match m {
            Move::Wait(ms) => self.ms += ms,
            Move::Jump(ms) => {
                self.ms += ms;
                (self.failed, self.done) = Default::default();
                self.began.clear();
            }
            Move::End(which, how) => return self.end(*which, *how),
            Move::Restart => {
                let now = Now { ms: self.ms, zone: &self.zone };
                let past = self.machine.past().clone();
                self.machine = Machine::new(self.plan.clone(), past, &now);
                for key in self.running.drain(..) {
                    let failures = self.failed.get(&key).map_or(1, |(n, _)| n + 1);
                    self.failed.insert(key, (failures, self.ms));
                }
            }
        }
        self.step(Event::Look);
    }
}

proptest! {
    #[test]
    fn the_rules_hold_whatever_happens(
        jobs in prop::collection::vec(any_job(), 1..7),
        at_once in 1..4usize,
        moves in prop::collection::vec(any_move(), 0..120),
    ) {
        let jobs: BTreeMap<JobKey, Job> = jobs.into_iter().map(|j| (j.key.clone(), j)).collect();
        let plan = Plan { jobs: jobs.into_values().collect(), at_once };
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let machine = Machine::new(plan.clone(), BTreeMap::new(), &Now { ms: BEGIN, zone: &zone });
        let mut world = World {
            machine,
            plan,
            ms: BEGIN,
            zone,
            running: Vec::new(),
            failed: BTreeMap::new(),
            done: BTreeMap::new(),
            began: BTreeMap::new(),
        };
        world.step(Event::Look);
        for m in &moves {
            world.go(m);
        }
        // Whatever the clock did: with runs that end well, everything runs again within its
        // longest period (a week) and a day for its window.
        let settled = world.ms;
        (world.failed, world.done) = Default::default();
        world.began.clear();
        let mut seen = std::collections::BTreeSet::new();
        while world.ms < settled + 9 * DAY {
            while !world.running.is_empty() {
                world.end(0, 2);
            }
            seen.extend(world.began.keys().cloned());
            world.ms += HOUR / 2;
            world.step(Event::Look);
        }
        let has_backup = |key: &JobKey| {
            key.kind != Kind::Prove || seen.iter().any(|s| s.source == key.source)
        };
        for job in &world.plan.jobs {
            prop_assert!(seen.contains(&job.key) || !has_backup(&job.key), "{} never ran", job.key);
        }
    }
}
