//! What the launcher does beside the contract: health-check commands, users, limits, orphans.

use drivers::contract::{Bench, Habit, Subject, name, process_resource};
use drivers::protocol::{Asked, Event, Refusal, Request, Role, Status, Why};
use model::ResourceSpec;
use model::spec::{HealthSpec, LimitsSpec, Probe, ProcessSpec, Ready};

use crate::bench;
use crate::faults::Run;
use crate::subject::{self, Programs, program};

pub(crate) fn all() -> Vec<(&'static str, Run)> {
    vec![
        ("commands_of_health_checks_run_and_are_bounded", commands_of_health_checks),
        ("probed_readiness_is_the_agents_word", probed_readiness),
        ("a_delay_makes_ready", a_delay_makes_ready),
        ("a_program_not_ready_in_time_is_stopped", not_ready_in_time),
        ("a_program_runs_as_the_user_specified", runs_as_the_user),
        ("an_orphan_that_hides_its_origin_is_found_when_its_instance_is_stopped", hidden_orphan),
        ("an_older_specification_is_refused", older_specification),
        ("limits_are_set", limits_are_set),
    ]
}

fn check(fine: bool, what: &str) -> Result<(), String> {
    if fine { Ok(()) } else { Err(what.to_owned()) }
}

fn plain(bench: &Bench) -> ResourceSpec {
    Programs.resource(&Habit::Plain { ticks: bench.file("ticks") })
}

fn shell(script: &str) -> ProcessSpec {
    ProcessSpec { command: vec!["/bin/sh".into(), "-c".into(), script.into()], ..program(&[]) }
}

fn commands_of_health_checks(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let mut spec = plain(&bench);
    for script in ["exit 0", "echo it is broken; exit 4", "sleep 60 & sleep 60", "kill -9 $$"] {
        spec.health.push(HealthSpec {
            probe: Probe::Exec(vec!["/bin/sh".into(), "-c".into(), script.into()]),
            every_ms: 1_000,
            timeout_ms: 300,
            failures: 1,
            active_only: false,
        });
    }
    spec.health.push(HealthSpec {
        probe: Probe::Exec(vec!["/no/such/check".into()]),
        ..spec.health[0].clone()
    });
    bench.specify("x", spec)?;
    let ask = |bench: &Bench, index| bench.send(&Request::ExecProbe { resource: name("x"), index });
    let refused = |e: &Event| matches!(e, Event::Refused { asked: Asked::ExecProbe, .. });
    ask(&bench, 0)?;
    bench.expect("not running", refused)?;
    bench.run("x", Role::Standby, 1)?;
    ask(&bench, 99)?;
    bench.expect("no such check", refused)?;
    let want = [
        (0, None),
        (1, Some("status 4: it is broken")),
        (2, Some("took too long")),
        (3, Some("signal 9")),
        (4, Some("running the program failed")),
    ];
    for (index, part) in want {
        ask(&bench, index)?;
        let event = bench.expect(
            "a result",
            |e| matches!(e, Event::ProbeResult { index: i, .. } if *i == index),
        )?;
        let Event::ProbeResult { failure, .. } = event else { return Err("no result".into()) };
        let fine = match (&failure, part) {
            (None, None) => true,
            (Some(text), Some(part)) => text.contains(part),
            _ => false,
        };
        check(fine, &format!("{index}: {failure:?}"))?;
    }
    ask(&bench, 2)?;
    bench.ask_stop("x", 1)?;
    bench.expect("the check goes with its instance", |e| {
        matches!(e, Event::ProbeResult { index: 2, failure: Some(_), .. })
    })?;
    let gone = |e: &Event| matches!(e, Event::Stopped(_));
    if !bench.seen.iter().any(gone) {
        bench.expect("stopped", gone)?;
    }
    Ok(())
}

fn probed_readiness(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let mut spec = plain(&bench);
    let process = subject::of(&mut spec);
    process.ready = Ready::Probe;
    bench.specify("x", spec)?;
    bench.ask_start("x", Role::Active, 1)?;
    bench.expect("started", |e| matches!(e, Event::Started { .. }))?;
    let early = bench.settle()?.iter().any(|e| matches!(e, Event::Ready { .. }));
    check(!early, "not before the agent says so")?;
    bench.send(&Request::Ready { resource: name("x"), epoch: drivers::contract::epoch(1) })?;
    bench.expect("ready", |e| matches!(e, Event::Ready { .. }))?;
    bench.expect("active", |e| matches!(e, Event::Active { .. })).map(drop)
}

fn a_delay_makes_ready(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let mut spec = plain(&bench);
    let process = subject::of(&mut spec);
    process.ready = Ready::DelayMs(100);
    bench.specify("x", spec)?;
    bench.ask_start("x", Role::Standby, 1)?;
    bench.expect("started", |e| matches!(e, Event::Started { .. }))?;
    let started = drivers::sys::now();
    bench.expect("ready", |e| matches!(e, Event::Ready { .. }))?;
    // The event of the start may have been on its way for some of the time.
    let waited = drivers::sys::now().since(started);
    check(waited.as_ms() >= 50, &format!("after {waited}"))
}

fn not_ready_in_time(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let mut spec = Programs.resource(&Habit::NotifiesWhen { exists: bench.file("never") });
    let process = subject::of(&mut spec);
    process.start_ms = 100;
    bench.specify("x", spec)?;
    bench.ask_start("x", Role::Active, 1)?;
    let fine = |e: &Event| matches!(e, Event::Stopped(gone) if gone.why == Why::NotReady);
    bench.expect("stopped as not ready", fine).map(drop)
}

/// As root: a user of its own. As an ordinary user: a refusal that says why.
fn runs_as_the_user(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let root = rustix::process::geteuid().is_root();
    let user = if root { "65534" } else { "root" };
    let who = ProcessSpec {
        user: Some(user.into()),
        ..shell("id -u; id -g; id -G; test -w \"$BACKSTAY_SOCKET\" && echo reachable")
    };
    bench.specify("x", process_resource(who))?;
    bench.ask_start("x", Role::Standby, 1)?;
    if !root {
        let fine = |e: &Event| match e {
            Event::Refused { why: Refusal::Host(text), .. } => text.contains("uid 0"),
            _ => false,
        };
        return bench.expect("a refusal", fine).map(drop);
    }
    let exited = bench.expect("exited", |e| matches!(e, Event::Exited(_)))?;
    let Event::Exited(gone) = exited else { return Err("no exit".into()) };
    let mut lines = gone.output_tail.lines();
    let ids: Vec<&str> = lines.by_ref().take(3).collect();
    check(ids.iter().all(|id| *id == "65534"), &gone.output_tail)?;
    Ok(())
}

/// A daemon that left its session and threw away its environment: only the launcher, to which
/// it fell, can know whose it is.
fn hidden_orphan(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let pid_file = bench.file("pid");
    let daemon = format!("echo $$ > {}; exec sleep 100", pid_file.display());
    let script = format!("(env -i setsid /bin/sh -c '{daemon}' &) ; exec sleep 100");
    let spec = ProcessSpec { stop_ms: 50, ..shell(&script) };
    bench.specify("y", plain(&bench))?;
    let other = bench.run("y", Role::Standby, 1)?;
    bench.specify("x", process_resource(spec))?;
    bench.run("x", Role::Standby, 1)?;
    let mut pid = None;
    for _ in 0..5_000 {
        let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
        pid = text.trim().parse::<i32>().ok();
        if pid.is_some() {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
    let pid = pid.ok_or("the daemon never ran")?;
    bench.ask_stop("x", 1)?;
    bench.expect("stopped", |e| matches!(e, Event::Stopped(_)))?;
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok();
    let process = stat.and_then(|stat| drivers::process::table::parse_stat(&stat));
    check(process.is_none_or(|p| p.dead), "the daemon is gone when that is said")?;
    let alive = drivers::process::table::started(other as i32).is_some();
    check(alive, "the other instance is left alone")
}

fn older_specification(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    bench.specify("x", plain(&bench))?;
    bench.specify("y", plain(&bench))?;
    let resources = std::collections::BTreeMap::new();
    bench.send(&Request::Specify { version: 1, resources })?;
    bench.expect("a refusal", |e| {
        matches!(e, Event::Refused { why: Refusal::OldSpecification { known: 2 }, .. })
    })?;
    bench.run("x", Role::Standby, 1).map(drop)
}

/// By cgroup where its controllers are there, else by limits of the process.
fn limits_are_set(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let file = "/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/memory.max";
    let script = format!("ulimit -v; cat {file} 2>/dev/null; exit 6");
    let limits = LimitsSpec { memory_bytes: Some(1 << 30), ..LimitsSpec::default() };
    bench.specify("x", process_resource(ProcessSpec { limits, ..shell(&script) }))?;
    bench.ask_start("x", Role::Standby, 1)?;
    let exited = bench.expect("exited", |e| matches!(e, Event::Exited(_)))?;
    let Event::Exited(gone) = exited else { return Err("no exit".into()) };
    let by_process = gone.output_tail.lines().any(|line| line == "1048576");
    let by_cgroup = gone.output_tail.lines().any(|line| line == "1073741824");
    check(gone.status == Status::Code(6) && (by_process || by_cgroup), &gone.output_tail)
}
