//! How long things take on this machine; prints, asserts nothing.

use std::process::ExitCode;

use drivers::contract::{Bench, Habit, Subject, epoch};
use drivers::protocol::{Event, Role};
use drivers::sys;
use model::Span;
use rustix::process::Signal;

use crate::bench;
use crate::subject::Programs;

/// Repetitions of each.
const TIMES: u64 = 30;

pub(crate) fn run() -> ExitCode {
    for cgroups in bench::modes() {
        if let Err(error) = measure(cgroups) {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn show(what: &str, mut spans: Vec<Span>) {
    spans.sort();
    let at = |q: usize| spans[(spans.len() - 1) * q / 100];
    println!(
        "{what}: p50 {} µs, p90 {} µs, max {} µs",
        at(50).as_us(),
        at(90).as_us(),
        at(100).as_us()
    );
}

fn cpu_ticks(pid: u32) -> Result<u64, String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|e| e.to_string())?;
    let rest = stat.rsplit(')').next().ok_or("stat")?;
    let field: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| field[at].parse::<u64>().map_err(|e| e.to_string());
    Ok(number(11)? + number(12)?)
}

fn measure(cgroups: bool) -> Result<(), String> {
    println!("cgroups: {cgroups}");
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let habit = Habit::ChangesRoles { ticks: bench.file("ticks") };
    bench.specify("x", Programs.resource(&habit))?;
    let (mut starts, mut promotes, mut exits, mut lapses) = (vec![], vec![], vec![], vec![]);
    for round in 0..TIMES {
        let counter = round * 2 + 1;
        let from = sys::now();
        bench.ask_start("x", Role::Standby, counter)?;
        let started = bench.expect("started", |e| matches!(e, Event::Started { .. }))?;
        starts.push(sys::now().since(from));
        let Event::Started { pid, .. } = started else { return Err("no pid".into()) };
        // The first tick is late where the program has yet to connect; that is not measured.
        bench.ask_promote("x", counter)?;
        bench.expect("active", |e| matches!(e, Event::Active { .. }))?;
        bench.ask_demote("x", counter)?;
        bench.expect("standby", |e| matches!(e, Event::Standby { .. }))?;
        let from = sys::now();
        bench.ask_promote("x", counter + 1)?;
        bench.expect(
            "active",
            |e| matches!(e, Event::Active { epoch: e, .. } if *e == epoch(counter + 1)),
        )?;
        promotes.push(sys::now().since(from));
        bench.wait_for_ticks(&bench.file("ticks"))?;
        if round % 3 == 0 {
            let end = bench.drop_lease().ok_or("a lease")?;
            bench.expect("stopped", |e| matches!(e, Event::Stopped(_)))?;
            let begun = end.before(Span::from_ms(200));
            let last = Bench::last_tick(&bench.file("ticks")).ok_or("ticks")?;
            lapses.push(last.since(begun));
            bench.hold_lease();
        } else {
            let from = sys::now();
            Bench::signal(pid, Signal::KILL)?;
            bench.expect("exited", |e| matches!(e, Event::Exited(_)))?;
            exits.push(sys::now().since(from));
        }
    }
    show("start asked to program running", starts);
    show("promote asked to active (guard armed, program answered)", promotes);
    show("killed to evidence received", exits);
    show("end - k to the last act", lapses);
    let pids = [bench.guard_pid(), bench.launcher_pid()];
    let before = [cpu_ticks(pids[0])?, cpu_ticks(pids[1])?];
    bench.run("x", Role::Standby, TIMES * 2 + 2)?;
    bench.ask_promote("x", TIMES * 2 + 2)?;
    std::thread::sleep(std::time::Duration::from_secs(10));
    for (name, at) in [("guard", 0), ("launcher", 1)] {
        let ticks = cpu_ticks(pids[at])? - before[at];
        println!(
            "{name}: {ticks} hundredths of a second of processor time in 10 s with one active \
             instance"
        );
    }
    Ok(())
}
