//! Planted faults: whatever dies, hangs or lies, nothing is active past its lease, nothing is
//! called gone that isn't, and standbys are left alone.

use std::path::{Path, PathBuf};

use drivers::contract::{Bench, Habit, Subject, WAIT, epoch, name};
use drivers::guard::Statement;
use drivers::lease::InstanceLease;
use drivers::process::table;
use drivers::protocol::{Event, Gone, Phase, Refusal, Request, Role, Status, Why};
use drivers::sys;
use model::{Moment, Span};
use rustix::process::Signal;

use crate::bench;
use crate::subject::{self, Programs};

/// How long the programs that ignore the signal are waited for: longer than the lease.
const STOP_MS: u64 = 1_500;
/// How old the word of a guard without launcher may be.
const CLEAR: Span = Span::from_ms(1_000);

pub(crate) type Run = fn(bool) -> Result<(), String>;

macro_rules! table {
    ($($case:ident),* $(,)?) => {
        pub(crate) fn all() -> Vec<(&'static str, Run)> {
            vec![$((stringify!($case), $case as Run)),*]
        }
    };
}

table! {
    a_lease_not_renewed_stops_the_active_instance_before_its_end_and_no_standby,
    a_program_s_own_lease_file_says_no_before_it_is_killed,
    a_lost_guard_stops_active_instances,
    a_stopped_guard_does_not_keep_anything_active,
    a_lost_launcher_makes_the_guard_stop_active_instances,
    what_loses_launcher_and_guard_at_once_ends_with_them,
    a_stopped_launcher_does_not_keep_anything_active,
    without_a_guard_nothing_becomes_active,
    without_a_lease_nothing_becomes_active,
    an_absurd_lease_is_none,
    the_guard_alone_stops_what_an_earlier_lease_covered,
    the_launcher_alone_stops_what_an_earlier_lease_covered,
    a_lease_page_that_is_cut_is_no_lease,
    what_the_launcher_cannot_stop_is_handed_to_the_guard,
    what_cannot_be_killed_is_no_evidence_but_an_alarm,
    what_cannot_be_killed_reboots_where_that_is_allowed,
    the_next_launcher_kills_what_the_last_one_left_and_burns_its_epochs,
    a_lost_agent_changes_nothing_while_the_lease_lasts,
    two_launchers_never_serve_one_directory,
    a_second_guard_ends_and_the_first_one_stays_on_duty,
    a_frozen_guard_is_followed_by_another,
    a_guard_that_froze_while_nothing_was_active_is_followed_too,
    the_hardware_watchdog_is_fed_and_disarmed,
    a_launcher_told_to_end_stops_everything,
    a_planted_fault_does_break_fencing,
    a_guard_told_to_end_stops_what_it_has_armed,
    a_launcher_that_cannot_stop_everything_says_so,
    a_launcher_does_not_serve_beside_what_it_cannot_kill,
}

pub(crate) fn check(fine: bool, what: &str) -> Result<(), String> {
    if fine { Ok(()) } else { Err(what.to_owned()) }
}

pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
    let end = std::time::Instant::now() + WAIT;
    while std::time::Instant::now() < end {
        if let Some(found) = look() {
            return Ok(found);
        }
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
    Err(format!("{what} did not come"))
}

/// Whether a process runs; a corpse does not.
fn is_running(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| table::parse_stat(&stat))
        .is_some_and(|process| !process.dead)
}

fn wait_until_dead(pid: u32) -> Result<(), String> {
    until("the end of a program", || (!is_running(pid)).then_some(()))
}

fn stopped(bench: &mut Bench) -> Result<Gone, String> {
    match bench.expect("stopped", |e| matches!(e, Event::Stopped(_)))? {
        Event::Stopped(gone) => Ok(gone),
        other => Err(format!("{other:?}")),
    }
}

fn refused(bench: &mut Bench) -> Result<Refusal, String> {
    match bench.expect("a refusal", |e| matches!(e, Event::Refused { .. }))? {
        Event::Refused { why, .. } => Ok(why),
        other => Err(format!("{other:?}")),
    }
}

/// An active instance `x` under epoch 1.1 that ticks, and a standby `y`.
pub(crate) struct Two {
    pub(crate) x: u32,
    y: u32,
    ticks: PathBuf,
}

pub(crate) fn two(bench: &mut Bench) -> Result<Two, String> {
    let ticks = bench.file("ticks");
    let plain = |ticks: &Path| {
        let mut spec = Programs.resource(&Habit::IgnoresStop { ticks: ticks.to_owned() });
        let process = subject::of(&mut spec);
        process.stop_ms = STOP_MS;
        spec
    };
    bench.specify("x", plain(&ticks))?;
    bench.specify("y", plain(&bench.file("other")))?;
    let y = bench.run("y", Role::Standby, 1)?;
    let x = bench.run("x", Role::Active, 1)?;
    bench.wait_for_ticks(&ticks)?;
    Ok(Two { x, y, ticks })
}

fn never_past(two: &Two, end: Moment) -> Result<(), String> {
    wait_until_dead(two.x)?;
    let last = Bench::last_tick(&two.ticks).ok_or("it never ran")?;
    if last >= end {
        return Err(format!("it acted {} after its lease", last.since(end)));
    }
    Ok(())
}

fn statements(bench: &Bench) -> Result<String, String> {
    std::fs::read_to_string(bench.run_dir.statements()).map_err(|e| e.to_string())
}

fn a_lease_not_renewed_stops_the_active_instance_before_its_end_and_no_standby(
    cgroups: bool,
) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let two = two(&mut bench)?;
    let end = bench.drop_lease().ok_or("a lease")?;
    let gone = stopped(&mut bench)?;
    check(gone.why == Why::LeaseEnd && gone.evidence.epoch == epoch(1), "evidence for x")?;
    check(gone.evidence.resource == name("x"), "the active one")?;
    never_past(&two, end)?;
    check(is_running(two.y), "the standby is left alone")?;
    let burnt = |e: &Event| matches!(e, Event::Burnt { empty: true, .. });
    if !bench.seen.iter().any(burnt) {
        bench.expect("the guard's word", burnt)?;
    }
    let text = statements(&bench)?;
    let line = text.lines().find_map(Statement::parse).ok_or("a statement")?;
    check(line.resource == "x" && line.epoch == epoch(1) && line.empty, "it names all")?;
    check(line.guard == gone.evidence.guard && line.cause == "lease-end", "and why")?;
    // The guard began before the launcher's own second line would have.
    bench.hold_lease();
    bench.ask_start("x", Role::Active, 1)?;
    check(refused(&mut bench)? == Refusal::BurntEpoch, "the epoch is burnt")?;
    bench.run("x", Role::Active, 2).map(drop)
}

fn a_program_s_own_lease_file_says_no_before_it_is_killed(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let two = two(&mut bench)?;
    let lease = InstanceLease::open_writable(&bench.run_dir.instance_lease(&name("x")))
        .map_err(|e| e.to_string())?;
    check(lease.allows(epoch(1), sys::now()), "it may act")?;
    check(lease.renew(epoch(1), 1, sys::now() + Span::from_ms(5_000)), "renewed")?;
    bench.ask_stop("x", 1)?;
    until("the revocation", || (lease.lease_end() == Moment::ZERO).then_some(()))?;
    check(is_running(two.x), "revoked while it still runs: it ignores the signal")?;
    check(!lease.renew(epoch(1), 1, sys::now() + Span::from_ms(5_000)), "not revived")?;
    bench.drop_lease();
    check(stopped(&mut bench)?.why == Why::LeaseEnd, "the lease cuts the wait short")
}

fn a_lost_guard_stops_active_instances(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let two = two(&mut bench)?;
    Bench::signal(bench.guard_pid(), Signal::KILL)?;
    bench.expect("the loss", |e| matches!(e, Event::GuardLost))?;
    let gone = stopped(&mut bench)?;
    check(gone.why == Why::GuardLost && gone.evidence.epoch == epoch(1), "evidence")?;
    check(!is_running(two.x) && is_running(two.y), "the active one, not the standby")?;
    bench.ask_start("x", Role::Active, 2)?;
    check(refused(&mut bench)? == Refusal::NoGuard, "nothing new without a guard")?;
    bench.guard.take().ok_or("a guard")?.wait().map_err(|e| e.to_string())?;
    bench.start_guard()?;
    bench.run("x", Role::Active, 2).map(drop)
}

fn a_stopped_guard_does_not_keep_anything_active(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let two = two(&mut bench)?;
    Bench::signal(bench.guard_pid(), Signal::STOP)?;
    let end = bench.drop_lease().ok_or("a lease")?;
    let gone = stopped(&mut bench)?;
    check(matches!(gone.why, Why::LeaseEnd | Why::GuardLost), "by the second line")?;
    never_past(&two, end)?;
    check(is_running(two.y), "the standby is left alone")
}

fn a_lost_launcher_makes_the_guard_stop_active_instances(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let two = two(&mut bench)?;
    Bench::signal(bench.launcher_pid(), Signal::KILL)?;
    wait_until_dead(two.x)?;
    // The lease is held all the while: it was not its end that stopped the program.
    until("the statement", || {
        statements(&bench).ok().filter(|text| text.contains("cause=launcher-lost"))
    })?;
    check(is_running(two.y), "the standby is left to the next launcher")?;
    let clear = |bench: &Bench| bench.page.is_clear(sys::now(), CLEAR).then_some(());
    until("the guard's word that nothing is left", || clear(&bench))?;
    bench.launcher.take().ok_or("a launcher")?.wait().map_err(|e| e.to_string())?;
    bench.start_launcher()?;
    check(!is_running(two.y), "which kills it before it serves")?;
    bench.reconnect()?;
    until("a guard on duty", || clear(&bench).is_none().then_some(()))
}

fn what_loses_launcher_and_guard_at_once_ends_with_them(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let mut pids = Vec::new();
    for (resource, role) in [("x", Role::Active), ("y", Role::Standby)] {
        bench
            .specify(resource, Programs.resource(&Habit::Plain { ticks: bench.file(resource) }))?;
        pids.push(bench.run(resource, role, 1)?);
    }
    bench.wait_for_ticks(&bench.file("x"))?;
    Bench::signal(bench.guard_pid(), Signal::STOP)?;
    Bench::signal(bench.launcher_pid(), Signal::KILL)?;
    pids.into_iter().try_for_each(wait_until_dead)?;
    Bench::signal(bench.guard_pid(), Signal::KILL)?;
    bench.guard.take().ok_or("a guard")?.wait().map_err(|e| e.to_string())?;
    bench.guard = Some((bench.options.guard)(&bench.options).spawn().map_err(|e| e.to_string())?);
    // It never covered anything, so it can't say that nothing is left: given time enough to.
    let deadline = sys::now() + CLEAR;
    while sys::now() < deadline {
        check(
            !bench.page.is_clear(sys::now(), CLEAR),
            "a later guard does not speak for an earlier",
        )?;
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    Ok(())
}

fn a_stopped_launcher_does_not_keep_anything_active(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let two = two(&mut bench)?;
    Bench::signal(bench.launcher_pid(), Signal::STOP)?;
    let end = bench.drop_lease().ok_or("a lease")?;
    never_past(&two, end)?;
    check(is_running(two.y), "the standby is left alone")?;
    let text = until("the statement", || {
        statements(&bench).ok().filter(|text| text.contains("empty=true"))
    })?;
    check(text.contains("resource=x epoch=1.1"), &text)?;
    Bench::signal(bench.launcher_pid(), Signal::CONT)?;
    check(stopped(&mut bench)?.evidence.epoch == epoch(1), "it tells when it wakes")
}

fn without_a_guard_nothing_becomes_active(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let habit = Habit::ChangesRoles { ticks: bench.file("ticks") };
    bench.specify("x", Programs.resource(&habit))?;
    bench.specify("y", Programs.resource(&Habit::Plain { ticks: bench.file("other") }))?;
    bench.run("x", Role::Standby, 1)?;
    // Stopped, not dead: the launcher must not wait for it for ever.
    Bench::signal(bench.guard_pid(), Signal::STOP)?;
    bench.ask_promote("x", 2)?;
    check(refused(&mut bench)? == Refusal::NoGuard, "no promotion")?;
    bench.ask_start("y", Role::Active, 2)?;
    check(refused(&mut bench)? == Refusal::NoGuard, "no start")?;
    let events = bench.settle()?;
    let fine = events.iter().any(|e| {
        matches!(e, Event::Instances { running, .. }
            if running.iter().all(|i| i.role == Role::Standby && i.resource == name("x")))
    });
    check(fine, "the standby stays, the other never ran")?;
    check(Bench::last_tick(&bench.file("ticks")).is_none(), "nothing acted")?;
    check(Bench::last_tick(&bench.file("other")).is_none(), "nothing at all")
}

fn without_a_lease_nothing_becomes_active(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let habit = Habit::ChangesRoles { ticks: bench.file("ticks") };
    bench.specify("x", Programs.resource(&habit))?;
    bench.run("x", Role::Standby, 1)?;
    bench.drop_lease();
    bench.page.set_lease(1, None);
    bench.ask_promote("x", 2)?;
    check(refused(&mut bench)? == Refusal::NoLease, "refused")?;
    bench.hold_lease();
    bench.ask_promote("x", 2)?;
    bench.expect("active", |e| matches!(e, Event::Active { .. })).map(drop)
}

fn an_absurd_lease_is_none(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let two = two(&mut bench)?;
    bench.drop_lease();
    bench.page.set_lease(1, Some(sys::now() + Span::from_ms(3_600_000)));
    check(stopped(&mut bench)?.why == Why::LeaseEnd, "as if there were none")?;
    check(!is_running(two.x), "gone")?;
    bench.ask_start("x", Role::Active, 2)?;
    check(refused(&mut bench)? == Refusal::NoLease, "nor can anything start")
}

/// The whole machine stood still past the lease's end, and the agent woke first and got the next
/// lease before guard and launcher looked: what they see is a page with a lease in force.
fn next_lease(bench: &mut Bench) -> Moment {
    bench.drop_lease();
    let end = sys::now() + Span::from_ms(8_000);
    bench.page.set_lease(2, Some(end));
    end
}

fn the_guard_alone_stops_what_an_earlier_lease_covered(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let two = two(&mut bench)?;
    Bench::signal(bench.launcher_pid(), Signal::STOP)?;
    let end = next_lease(&mut bench);
    let seen = until("the kill", || (!is_running(two.x)).then(sys::now))?;
    Bench::signal(bench.launcher_pid(), Signal::CONT)?;
    check(seen < end, "because of the lease's number, not its end")?;
    check(stopped(&mut bench)?.evidence.epoch == epoch(1), "the launcher agrees when it wakes")
}

fn the_launcher_alone_stops_what_an_earlier_lease_covered(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &["--plant=no-fencing".to_owned()])?;
    let two = two(&mut bench)?;
    let end = next_lease(&mut bench);
    check(stopped(&mut bench)?.why == Why::LeaseEnd, "stopped")?;
    check(!is_running(two.x) && sys::now() < end, "because of the lease's number")
}

fn a_lease_page_that_is_cut_is_no_lease(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let two = two(&mut bench)?;
    bench.drop_lease();
    let end = sys::now() + Span::from_ms(8_000);
    bench.page.set_lease(1, Some(end));
    // Whoever may write to the page may do this.
    let page = std::fs::File::options().write(true).open(bench.run_dir.lease_page());
    page.and_then(|page| page.set_len(0)).map_err(|e| e.to_string())?;
    check(stopped(&mut bench)?.why == Why::LeaseEnd, "as if there were none")?;
    check(!is_running(two.x) && is_running(two.y) && sys::now() < end, "at once, and only that")?;
    check(is_running(bench.launcher_pid()) && is_running(bench.guard_pid()), "both live on")
}

fn what_the_launcher_cannot_stop_is_handed_to_the_guard(cgroups: bool) -> Result<(), String> {
    let stuck = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (file, reboot) = (stuck.path().join("stuck"), stuck.path().join("reboot"));
    let plant = format!("--plant=unkillable={}", file.display());
    let guard = [plant.clone(), format!("--reboot={}", reboot.display())];
    let (_dir, mut bench) = bench::start(cgroups, &[plant], &guard)?;
    two(&mut bench)?;
    std::fs::write(&file, b"").map_err(|e| e.to_string())?;
    // A planned stop, with the lease in force throughout.
    bench.ask_stop("x", 1)?;
    let alarm = |e: &Event| matches!(e, Event::GuardAlarm { epoch: e, .. } if *e == epoch(1));
    bench.expect("the guard's alarm", alarm)?;
    check(reboot.exists(), "after it called for the reboot")?;
    check(statements(&bench)?.contains("cause=stop-failed"), "and it says why")?;
    std::fs::remove_file(&file).map_err(|e| e.to_string())?;
    check(stopped(&mut bench)?.evidence.epoch == epoch(1), "evidence once it is gone")
}

fn what_cannot_be_killed_is_no_evidence_but_an_alarm(cgroups: bool) -> Result<(), String> {
    let stuck = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = stuck.path().join("stuck");
    let plant = [format!("--plant=unkillable={}", file.display())];
    let (_dir, mut bench) = bench::start(cgroups, &plant, &plant)?;
    two(&mut bench)?;
    std::fs::write(&file, b"").map_err(|e| e.to_string())?;
    bench.drop_lease();
    bench.expect(
        "the guard's alarm",
        |e| matches!(e, Event::GuardAlarm { epoch: e, .. } if *e == epoch(1)),
    )?;
    let failed = |e: &Event| matches!(e, Event::StopFailed { epoch: e, .. } if *e == epoch(1));
    if !bench.seen.iter().any(failed) {
        bench.expect("the launcher's", failed)?;
    }
    let events = bench.settle()?;
    let listed = events.iter().any(|e| {
        matches!(e, Event::Instances { running, .. }
            if running.iter().any(|i| i.phase == Phase::Unkillable))
    });
    check(listed, "the list says so")?;
    let claimed = bench.seen.iter().any(|e| {
        matches!(e, Event::Stopped(_) | Event::Exited(_) | Event::Burnt { empty: true, .. })
    });
    check(!claimed && !statements(&bench)?.contains("empty=true"), "nobody claims it is gone")?;
    std::fs::remove_file(&file).map_err(|e| e.to_string())?;
    check(stopped(&mut bench)?.evidence.epoch == epoch(1), "until it is")
}

fn what_cannot_be_killed_reboots_where_that_is_allowed(cgroups: bool) -> Result<(), String> {
    let stuck = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (file, reboot) = (stuck.path().join("stuck"), stuck.path().join("reboot"));
    let plant = format!("--plant=unkillable={}", file.display());
    let guard = [plant.clone(), format!("--reboot={}", reboot.display())];
    let (_dir, mut bench) = bench::start(cgroups, &[plant], &guard)?;
    two(&mut bench)?;
    std::fs::write(&file, b"").map_err(|e| e.to_string())?;
    check(!reboot.exists(), "not while all is well")?;
    bench.drop_lease();
    until("the reboot", || reboot.exists().then_some(()))?;
    std::fs::remove_file(&file).map_err(|e| e.to_string())
}

fn the_next_launcher_kills_what_the_last_one_left_and_burns_its_epochs(
    cgroups: bool,
) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let two = two(&mut bench)?;
    // Neither is there to clean up: what is left is the next launcher's work.
    Bench::signal(bench.guard_pid(), Signal::STOP)?;
    Bench::signal(bench.launcher_pid(), Signal::KILL)?;
    bench.launcher.take().ok_or("a launcher")?.wait().map_err(|e| e.to_string())?;
    check(is_running(two.x) && is_running(two.y), "both outlive it")?;
    bench.start_launcher()?;
    check(!is_running(two.x) && !is_running(two.y), "both are gone before it serves")?;
    Bench::signal(bench.guard_pid(), Signal::CONT)?;
    bench.expect("the guard", |e| matches!(e, Event::GuardBack { .. }))?;
    let habit = Habit::Plain { ticks: two.ticks.clone() };
    bench.specify("x", Programs.resource(&habit))?;
    bench.ask_start("x", Role::Active, 1)?;
    check(refused(&mut bench)? == Refusal::BurntEpoch, "under its epoch nothing runs again")?;
    bench.run("x", Role::Active, 2).map(drop)
}

fn a_lost_agent_changes_nothing_while_the_lease_lasts(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let two = two(&mut bench)?;
    bench.client = None;
    bench.wait_for_ticks(&two.ticks)?;
    bench.reconnect()?;
    let events = bench.settle()?;
    let Some(Event::Instances { running, .. }) = events.last() else { return Err("list".into()) };
    let x = running.iter().find(|i| i.resource == name("x")).ok_or("x")?;
    check(x.pid == two.x && x.phase == Phase::Active, "as it was")?;
    // A second agent replaces the first, which is told.
    let old = bench.client.take();
    bench.reconnect()?;
    drop(old);
    check(matches!(bench.settle()?.last(), Some(Event::Instances { .. })), "the new one is heard")
}

fn two_launchers_never_serve_one_directory(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let two = two(&mut bench)?;
    let mut second = (bench.options.launcher)(&bench.options)
        .stderr(std::process::Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let status = second.wait().map_err(|e| e.to_string())?;
    check(!status.success(), "the second one leaves")?;
    check(is_running(two.x) && is_running(two.y), "and has killed nothing")
}

fn a_second_guard_ends_and_the_first_one_stays_on_duty(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let two = two(&mut bench)?;
    let first = bench.page.guard_incarnation();
    let mut second = (bench.options.guard)(&bench.options)
        .stderr(std::process::Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let ended = until("the second one's end", || second.try_wait().transpose());
    if ended.is_err() {
        second.kill().and_then(|()| second.wait()).map_err(|e| e.to_string())?;
    }
    check(!ended?.map_err(|e| e.to_string())?.success(), "it says that it is not needed")?;
    check(bench.page.guard_incarnation() == first, "the page is the first one's")?;
    check(is_running(two.x) && is_running(two.y), "nothing was stopped")
}

fn a_frozen_guard_is_followed_by_another(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    two(&mut bench)?;
    let frozen = bench.guard_pid();
    let mut first = bench.guard.take().ok_or("a guard")?;
    Bench::signal(frozen, Signal::STOP)?;
    let followed = bench.start_guard();
    Bench::signal(frozen, Signal::KILL)?;
    first.wait().map_err(|e| e.to_string())?;
    followed
}

/// While nothing is active nobody watches the frozen one; the next one knocks until it is let in.
fn a_guard_that_froze_while_nothing_was_active_is_followed_too(
    cgroups: bool,
) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let frozen = bench.guard_pid();
    let mut first = bench.guard.take().ok_or("a guard")?;
    Bench::signal(frozen, Signal::STOP)?;
    let followed = bench.start_guard();
    let lost = bench.seen.iter().any(|e| matches!(e, Event::GuardLost));
    Bench::signal(frozen, Signal::KILL)?;
    first.wait().map_err(|e| e.to_string())?;
    followed?;
    check(lost, "the frozen one was given up")?;
    two(&mut bench).map(drop)
}

fn the_hardware_watchdog_is_fed_and_disarmed(cgroups: bool) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let device = dir.path().join("watchdog");
    std::fs::write(&device, b"").map_err(|e| e.to_string())?;
    let args = [format!("--watchdog={}", device.display())];
    let (_dir, mut bench) = bench::start(cgroups, &[], &args)?;
    let fed = || std::fs::read_to_string(&device).ok().filter(|text| text.starts_with('f'));
    until("the first feeding", fed)?;
    Bench::signal(bench.guard_pid(), Signal::TERM)?;
    let status = bench.guard.take().ok_or("a guard")?.wait().map_err(|e| e.to_string())?;
    check(status.success(), "the guard left in order")?;
    check(fed().is_some_and(|text| text.ends_with('V')), "and disarmed it")
}

fn a_launcher_told_to_end_stops_everything(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let ticks = bench.file("ticks");
    bench.specify("x", Programs.resource(&Habit::Plain { ticks: ticks.clone() }))?;
    let pid = bench.run("x", Role::Active, 1)?;
    bench.wait_for_ticks(&ticks)?;
    Bench::signal(bench.launcher_pid(), Signal::TERM)?;
    let gone = stopped(&mut bench)?;
    check(gone.why == Why::Shutdown && gone.status == Status::Code(0), "asked, not killed")?;
    let status = bench.launcher.take().ok_or("a launcher")?.wait().map_err(|e| e.to_string())?;
    check(status.success() && !is_running(pid), "all is gone when it leaves")
}

fn a_planted_fault_does_break_fencing(cgroups: bool) -> Result<(), String> {
    let plant = ["--plant=no-fencing".to_owned()];
    let (_dir, mut bench) = bench::start(cgroups, &plant, &plant)?;
    let two = two(&mut bench)?;
    let end = bench.drop_lease().ok_or("a lease")?;
    // This proves that the other tests would notice.
    until("an act past the lease", || Bench::last_tick(&two.ticks).filter(|at| *at > end))?;
    bench.send(&Request::Stop {
        resource: name("x"),
        number: drivers::contract::NUMBER,
        epoch: Some(epoch(1)),
        reason: String::new(),
        at_once: false,
    })
}

fn a_guard_told_to_end_stops_what_it_has_armed(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let two = two(&mut bench)?;
    // The launcher does not see it: the guard does this by itself.
    Bench::signal(bench.launcher_pid(), Signal::STOP)?;
    Bench::signal(bench.guard_pid(), Signal::TERM)?;
    let status = bench.guard.take().ok_or("a guard")?.wait().map_err(|e| e.to_string())?;
    check(status.success() && !is_running(two.x), "nothing active outlives it")?;
    check(statements(&bench)?.contains("cause=guard-leaves"), "and it says so")?;
    check(is_running(two.y), "the standby is left alone")
}

fn a_launcher_that_cannot_stop_everything_says_so(cgroups: bool) -> Result<(), String> {
    let stuck = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = stuck.path().join("stuck");
    let plant = [format!("--plant=unkillable={}", file.display())];
    let (_dir, mut bench) = bench::start(cgroups, &plant, &[])?;
    two(&mut bench)?;
    std::fs::write(&file, b"").map_err(|e| e.to_string())?;
    Bench::signal(bench.launcher_pid(), Signal::TERM)?;
    bench.expect("the failure", |e| matches!(e, Event::StopFailed { .. }))?;
    let status = bench.launcher.take().ok_or("a launcher")?.wait().map_err(|e| e.to_string())?;
    check(!status.success(), "it leaves with an error")?;
    let claimed = bench.seen.iter().any(|e| matches!(e, Event::Stopped(_)));
    check(!claimed, "and without evidence")
}

fn a_launcher_does_not_serve_beside_what_it_cannot_kill(cgroups: bool) -> Result<(), String> {
    let stuck = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = stuck.path().join("stuck");
    let plant = [format!("--plant=unkillable={}", file.display())];
    let (_dir, mut bench) = bench::start(cgroups, &plant, &[])?;
    Bench::signal(bench.launcher_pid(), Signal::KILL)?;
    bench.launcher.take().ok_or("a launcher")?.wait().map_err(|e| e.to_string())?;
    std::fs::write(&file, b"").map_err(|e| e.to_string())?;
    let mut next = (bench.options.launcher)(&bench.options).spawn().map_err(|e| e.to_string())?;
    let status = next.wait().map_err(|e| e.to_string())?;
    check(!status.success(), "it leaves with an error")
}
