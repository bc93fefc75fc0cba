//! Integration tests. This binary is the test runner, and, called with other words, the launcher,
//! the guard and the programs under them: everything runs as real processes. `measure` prints how
//! long things take on this machine.

mod addresses;
mod bench;
mod faults;
mod frames;
mod launching;
mod measure;
mod memory;
mod program;
mod subject;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("launcher") => bench::run_launcher(&args[2..]),
        Some("guard") => bench::run_guard(&args[2..]),
        Some("keeper") => bench::run_keeper(&args[2..]),
        Some("in-namespace") => addresses::run_in_namespace(&args[2], &args[3]),
        Some("measure") => measure::run(),
        Some("program") => program::run(&args[2..]),
        _ => run_tests(),
    }
}

fn run_tests() -> ExitCode {
    let mut trials = Vec::new();
    for cgroups in bench::modes() {
        let mode = if cgroups { "cgroups" } else { "process_groups" };
        for (name, run) in addresses::all(cgroups) {
            trials.push(Trial::test(format!("{mode}::{name}"), run));
        }
        for case in drivers::contract::cases(&subject::Programs) {
            let run = move || {
                let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
                Ok((case.run)(&mut bench, &subject::Programs)?)
            };
            trials.push(Trial::test(format!("contract::{mode}::{}", case.name), run));
        }
        for (name, run) in faults::all()
            .into_iter()
            .chain(frames::all())
            .chain(launching::all())
            .chain(memory::all())
        {
            let run = move || run(cgroups).map_err(Failed::from);
            trials.push(Trial::test(format!("{mode}::{name}"), run));
        }
    }
    let mut args = Arguments::from_args();
    // Each test runs three and more processes with deadlines of milliseconds.
    args.test_threads = args.test_threads.or(Some(2));
    libtest_mimic::run(&args, trials).exit_code()
}
