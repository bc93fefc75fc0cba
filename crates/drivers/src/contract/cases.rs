//! What every driver is held to.

use std::path::Path;

use model::ResourceSpec;
use model::spec::{LimitsSpec, ProcessSpec, ResourceKind};

use super::bench::{Bench, epoch, name, until};
use super::habit::{Ability, Habit, Subject};
use crate::protocol::{Event, Gone, Phase, Refusal, Role, Status, Why};
use crate::sys;

/// One case: its name is the sentence it proves.
pub struct Case {
    /// That sentence.
    pub name: &'static str,
    /// What it takes of the driver; where a driver lacks it, the case says nothing about it.
    pub takes: Ability,
    /// Runs it.
    pub run: fn(&mut Bench, &dyn Subject) -> Result<(), String>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! table {
    ($($case:ident: $takes:ident),* $(,)?) => {
        /// All cases that a driver with these abilities is held to.
        #[must_use]
        pub fn cases(subject: &dyn Subject) -> Vec<Case> {
            let all =
                vec![$(Case { name: stringify!($case), takes: Ability::$takes, run: $case }),*];
            all.into_iter().filter(|case| subject.has(case.takes)).collect()
        }
    };
}

table! {
    what_is_started_runs_and_what_is_stopped_is_gone: Activity,
    a_second_start_tells_the_first_one_again: Activity,
    nothing_unspecified_is_started: Activity,
    a_stop_of_what_does_not_run_is_evidence_and_burns_the_epoch: Activity,
    a_standby_is_promoted_and_demoted_on_its_socket: Roles,
    a_failed_promotion_ends_in_evidence: Roles,
    an_unanswered_promotion_ends_in_evidence: Program,
    without_a_socket_a_promotion_restarts: Program,
    an_exit_is_seen_with_status_and_last_words: Program,
    a_child_left_behind_is_gone_before_the_exit_is_told: Program,
    a_program_that_ignores_the_stop_signal_is_killed: Program,
    a_stop_during_the_start_stops_it: Program,
    old_and_burnt_epochs_are_refused: Roles,
    readiness_waits_for_the_program: Program,
    a_program_that_is_missing_is_told_by_name: Program,
    output_is_in_the_log: Program,
    environment_and_limits_are_what_was_specified: Program,
    a_new_agent_finds_everything_as_it_was: Activity,
}

fn check(fine: bool, what: &str) -> Result<(), String> {
    if fine { Ok(()) } else { Err(what.to_owned()) }
}

fn program(spec: &mut ResourceSpec) -> Result<&mut ProcessSpec, String> {
    match &mut spec.kind {
        ResourceKind::Process(process) => Ok(process),
        other => Err(format!("{other:?}")),
    }
}

/// Waits until an active instance does what active ones do.
fn acts(subject: &dyn Subject, ticks: &Path) -> Result<(), String> {
    let from = sys::now();
    until("an act", || subject.last_act(ticks).filter(|at| *at > from)).map(drop)
}

fn plain(bench: &Bench) -> Habit {
    Habit::Plain { ticks: bench.file("ticks") }
}

fn stopped(bench: &mut Bench) -> Result<Gone, String> {
    match bench.expect("stopped", |e| matches!(e, Event::Stopped(_)))? {
        Event::Stopped(gone) => Ok(gone),
        other => Err(format!("{other:?}")),
    }
}

fn exited(bench: &mut Bench) -> Result<Gone, String> {
    match bench.expect("exited", |e| matches!(e, Event::Exited(_)))? {
        Event::Exited(gone) => Ok(gone),
        other => Err(format!("{other:?}")),
    }
}

fn refused(bench: &mut Bench) -> Result<Refusal, String> {
    match bench.expect("a refusal", |e| matches!(e, Event::Refused { .. }))? {
        Event::Refused { why, .. } => Ok(why),
        other => Err(format!("{other:?}")),
    }
}

fn is_gone(pid: u32) -> bool {
    crate::process::table::started(pid as i32).is_none()
}

fn what_is_started_runs_and_what_is_stopped_is_gone(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    bench.specify("x", subject.resource(&plain(bench)))?;
    let pid = bench.run("x", Role::Active, 1)?;
    acts(subject, &bench.file("ticks"))?;
    bench.ask_stop("x", 1)?;
    let gone = stopped(bench)?;
    check(gone.status == Status::Code(0), "it left in order")?;
    check(gone.why == Why::Asked("the test asks".into()), "the reason is kept")?;
    check(gone.evidence.epoch == epoch(1) && gone.evidence.guard != 0, "the evidence names all")?;
    check(gone.evidence.role == Role::Active, "it was active")?;
    check(is_gone(pid), "its process is gone")
}

fn a_second_start_tells_the_first_one_again(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    bench.specify("x", subject.resource(&plain(bench)))?;
    let pid = bench.run("x", Role::Active, 1)?;
    let again = bench.run("x", Role::Active, 1)?;
    check(pid == again, "the same process is told")?;
    bench.ask_start("x", Role::Active, 2)?;
    check(refused(bench)? == Refusal::AlreadyRunning, "a new epoch does not relabel it")?;
    bench.ask_start("x", Role::Standby, 1)?;
    check(refused(bench)? == Refusal::AlreadyRunning, "nor does another role")
}

fn nothing_unspecified_is_started(bench: &mut Bench, _subject: &dyn Subject) -> Result<(), String> {
    bench.ask_start("x", Role::Active, 1)?;
    check(refused(bench)? == Refusal::NotSpecified, "refused for that reason")
}

fn a_stop_of_what_does_not_run_is_evidence_and_burns_the_epoch(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    bench.specify("x", subject.resource(&plain(bench)))?;
    bench.ask_stop("x", 4)?;
    check(stopped(bench)?.evidence.epoch == epoch(4), "the epoch asked about")?;
    bench.ask_start("x", Role::Active, 4)?;
    check(refused(bench)? == Refusal::BurntEpoch, "the evidence is not taken back")?;
    bench.run("x", Role::Active, 5).map(drop)
}

fn a_standby_is_promoted_and_demoted_on_its_socket(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    let ticks = bench.file("ticks");
    bench.specify("x", subject.resource(&Habit::ChangesRoles { ticks: ticks.clone() }))?;
    let pid = bench.run("x", Role::Standby, 1)?;
    check(subject.last_act(&ticks).is_none(), "a standby does not act")?;
    bench.ask_promote("x", 2)?;
    bench.expect("active", |e| matches!(e, Event::Active { epoch: e, .. } if *e == epoch(2)))?;
    acts(subject, &ticks)?;
    bench.ask_demote("x", 2)?;
    bench.expect("standby", |e| matches!(e, Event::Standby { epoch: e, .. } if *e == epoch(2)))?;
    bench.ask_promote("x", 2)?;
    check(refused(bench)? == Refusal::BurntEpoch, "the epoch was given up")?;
    bench.ask_promote("x", 3)?;
    bench.expect("active", |e| matches!(e, Event::Active { epoch: e, .. } if *e == epoch(3)))?;
    check(!is_gone(pid), "it was the same process all along")
}

fn a_failed_promotion_ends_in_evidence(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    bench.specify("x", subject.resource(&Habit::FailsToPromote))?;
    bench.run("x", Role::Standby, 1)?;
    bench.ask_promote("x", 2)?;
    let words = subject.refusal();
    bench.expect(
        "its own words",
        |e| matches!(e, Event::PromoteFailed { reason, .. } if reason.contains(words)),
    )?;
    let gone = stopped(bench)?;
    check(gone.evidence.epoch == epoch(2), "for the new epoch")?;
    let with = matches!(&gone.why, Why::PromoteFailed(reason) if reason.contains(words));
    check(with, "with the reason")
}

fn an_unanswered_promotion_ends_in_evidence(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    let mut spec = subject.resource(&Habit::NeverAnswers);
    program(&mut spec)?.promote_ms = 200;
    bench.specify("x", spec)?;
    bench.run("x", Role::Standby, 1)?;
    bench.ask_promote("x", 2)?;
    bench.expect("a failure", |e| matches!(e, Event::PromoteFailed { .. }))?;
    check(stopped(bench)?.evidence.epoch == epoch(2), "evidence for the new epoch")
}

fn without_a_socket_a_promotion_restarts(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    bench.specify("x", subject.resource(&plain(bench)))?;
    let standby = bench.run("x", Role::Standby, 1)?;
    bench.ask_promote("x", 2)?;
    bench.expect("active", |e| matches!(e, Event::Active { epoch: e, .. } if *e == epoch(2)))?;
    let ended = |e: &Event| matches!(e, Event::Stopped(_) | Event::Exited(_));
    check(!bench.seen.iter().any(ended), "to the agent it is one instance throughout")?;
    check(is_gone(standby), "the standby is gone")?;
    bench.ask_demote("x", 2)?;
    check(stopped(bench)?.evidence.epoch == epoch(2), "a demotion stops")
}

fn an_exit_is_seen_with_status_and_last_words(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    bench.specify("x", subject.resource(&Habit::LeavesAtOnce { code: 3 }))?;
    bench.ask_start("x", Role::Active, 1)?;
    let gone = exited(bench)?;
    check(gone.status == Status::Code(3) && gone.why == Why::ItsOwn, "status and cause")?;
    check(gone.output_tail.contains("goodbye"), "its last words")?;
    bench.ask_start("x", Role::Active, 1)?;
    check(refused(bench)? == Refusal::BurntEpoch, "a restart needs a new epoch")
}

fn a_child_left_behind_is_gone_before_the_exit_is_told(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    let ticks = bench.file("ticks");
    bench.specify("x", subject.resource(&Habit::LeavesChild { ticks: ticks.clone() }))?;
    bench.ask_start("x", Role::Active, 1)?;
    let gone = exited(bench)?;
    // Time enough for a child that is still there to show it.
    bench.specify("y", subject.resource(&Habit::LeavesAtOnce { code: 0 }))?;
    bench.ask_start("y", Role::Standby, 1)?;
    exited(bench)?;
    let last = subject.last_act(&ticks).ok_or("the child never ran")?;
    check(last <= gone.evidence.at, "the child did nothing after the evidence")?;
    check(gone.status == Status::Code(3), "the leader's status")
}

fn a_program_that_ignores_the_stop_signal_is_killed(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    let ticks = bench.file("ticks");
    let mut spec = subject.resource(&Habit::IgnoresStop { ticks: ticks.clone() });
    program(&mut spec)?.stop_ms = 100;
    bench.specify("x", spec)?;
    bench.run("x", Role::Active, 1)?;
    acts(subject, &ticks)?;
    bench.ask_stop("x", 1)?;
    let gone = stopped(bench)?;
    check(gone.status == Status::Signal(9), "killed")?;
    check(gone.why == Why::Asked("the test asks".into()), "for the reason that was given")
}

fn a_stop_during_the_start_stops_it(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    let never = Habit::NotifiesWhen { exists: bench.file("never") };
    bench.specify("x", subject.resource(&never))?;
    bench.ask_start("x", Role::Active, 1)?;
    bench.ask_stop("x", 1)?;
    stopped(bench)?;
    bench.ask_start("x", Role::Active, 2)?;
    bench.expect("started", |e| matches!(e, Event::Started { .. }))?;
    bench.ask_stop("x", 2)?;
    stopped(bench)?;
    let ready = bench.seen.iter().any(|e| matches!(e, Event::Ready { .. } | Event::Active { .. }));
    check(!ready, "it never was ready or active")
}

fn old_and_burnt_epochs_are_refused(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    let habit = Habit::ChangesRoles { ticks: bench.file("ticks") };
    bench.specify("x", subject.resource(&habit))?;
    bench.run("x", Role::Standby, 5)?;
    let stale = Refusal::StaleEpoch { highest: epoch(5) };
    bench.ask_promote("x", 4)?;
    check(refused(bench)? == stale, "an old promotion")?;
    bench.ask_stop("x", 4)?;
    check(refused(bench)? == stale, "an old stop")?;
    bench.ask_demote("x", 4)?;
    check(refused(bench)? == stale, "an old demotion")?;
    bench.ask_promote("x", 6)?;
    bench.expect("active", |e| matches!(e, Event::Active { .. }))?;
    bench.ask_stop("x", 6)?;
    stopped(bench)?;
    bench.ask_start("x", Role::Active, 6)?;
    check(refused(bench)? == Refusal::BurntEpoch, "a burnt one")?;
    bench.ask_start("x", Role::Standby, 6)?;
    bench.expect("a standby", |e| matches!(e, Event::Ready { .. }))?;
    bench.ask_start("x", Role::Active, 5)?;
    check(refused(bench)? == (Refusal::StaleEpoch { highest: epoch(6) }), "an old start")
}

fn readiness_waits_for_the_program(bench: &mut Bench, subject: &dyn Subject) -> Result<(), String> {
    let file = bench.file("go");
    bench.specify("x", subject.resource(&Habit::NotifiesWhen { exists: file.clone() }))?;
    bench.ask_start("x", Role::Active, 1)?;
    bench.expect("started", |e| matches!(e, Event::Started { .. }))?;
    let events = bench.settle()?;
    let early = events.iter().any(|e| matches!(e, Event::Ready { .. } | Event::Active { .. }));
    check(!early, "not ready before it says so")?;
    let starting = events.iter().any(|e| {
        matches!(e, Event::Instances { running, .. }
            if running.iter().all(|i| i.phase == Phase::Starting && !i.ready))
    });
    check(starting, "the list says the same")?;
    std::fs::write(&file, b"").map_err(|e| e.to_string())?;
    bench.expect("ready", |e| matches!(e, Event::Ready { .. }))?;
    bench.expect("active", |e| matches!(e, Event::Active { .. })).map(drop)
}

fn a_program_that_is_missing_is_told_by_name(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    bench.specify("x", subject.resource(&Habit::Missing))?;
    bench.ask_start("x", Role::Active, 1)?;
    match stopped(bench)?.why {
        Why::StartFailed(text) => check(text.contains("/no/such/program"), &text),
        other => Err(format!("{other:?}")),
    }
}

fn output_is_in_the_log(bench: &mut Bench, subject: &dyn Subject) -> Result<(), String> {
    bench.specify("x", subject.resource(&Habit::LeavesAtOnce { code: 0 }))?;
    bench.ask_start("x", Role::Standby, 1)?;
    exited(bench)?;
    let path = bench.file("log").join("x.log");
    until("the output in the log", || {
        std::fs::read_to_string(&path).ok().filter(|text| text.contains("goodbye"))
    })
    .map(drop)
}

fn environment_and_limits_are_what_was_specified(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    let to = bench.file("env");
    let mut spec = subject.resource(&Habit::ShowsEnvironment { to: to.clone() });
    let process = program(&mut spec)?;
    process.environment.insert("COLOUR".into(), "blue".into());
    process.limits = LimitsSpec { open_files: Some(77), ..LimitsSpec::default() };
    bench.specify("x", spec)?;
    bench.run("x", Role::Active, 7)?;
    let text = until("the environment", || {
        std::fs::read_to_string(&to).ok().filter(|text| text.contains("end of it"))
    })?;
    let socket = bench.run_dir.instance_socket(&name("x"));
    for line in [
        "COLOUR=blue",
        "BACKSTAY_RESOURCE=x",
        "BACKSTAY_ROLE=active",
        "BACKSTAY_EPOCH=1.7",
        &format!("BACKSTAY_SOCKET={}", socket.display()),
        "open files 77",
        "open descriptors 0 1 2",
    ] {
        check(text.lines().any(|l| l == line), &format!("{line} is missing in {text}"))?;
    }
    check(!text.contains("CARGO"), "nothing of the launcher's own environment")
}

fn a_new_agent_finds_everything_as_it_was(
    bench: &mut Bench,
    subject: &dyn Subject,
) -> Result<(), String> {
    bench.specify("x", subject.resource(&plain(bench)))?;
    let pid = bench.run("x", Role::Active, 3)?;
    bench.ask_stop("y", 9)?;
    stopped(bench)?;
    bench.reconnect()?;
    let events = bench.settle()?;
    let Some(Event::Instances { running, gone, .. }) = events.last() else {
        return Err("no list".into());
    };
    let [x] = running.as_slice() else { return Err(format!("{running:?}")) };
    let same = x.pid == pid && x.epoch == epoch(3) && x.role == Role::Active && x.ready;
    check(same && x.phase == Phase::Active, "the instance as it was")?;
    let y = gone.iter().any(|g| g.evidence.resource == name("y") && g.evidence.epoch == epoch(9));
    check(y, "and the evidence of what does not run")
}
