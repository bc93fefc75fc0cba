//! Launcher and guard as this very binary.

use std::path::Path;
use std::process::{Command, ExitCode};

use drivers::contract::{Bench, BenchOptions};
use drivers::guard::{self, GuardOptions, Reboot};
use drivers::launcher::{self, LauncherOptions};
use drivers::plant::Plants;
use drivers::process::cgroup::{CgroupChoice, CgroupRoot, root_name};
use drivers::run_dir::RunDir;
use model::{NodeName, Span, Timers};
use tempfile::TempDir;

/// Fast enough for short tests, slow enough for busy machines.
const TIMERS: Timers = Timers::derive(20, 800, 200);

/// With cgroups where this machine lets us, and always without.
pub(crate) fn modes() -> Vec<bool> {
    let name = format!("backstay-test-{}", std::process::id());
    match CgroupRoot::prepare(&CgroupChoice::Auto, &name) {
        Ok(Some(root)) => {
            root.remove_self().expect("an empty cgroup goes");
            vec![true, false]
        }
        _ => {
            eprintln!("no writable cgroup (v2) here: the tests with cgroups are left out");
            vec![false]
        }
    }
}

/// Where a bench stands; what a launcher that was killed left there goes with it.
pub(crate) struct Place {
    dir: TempDir,
    cgroups: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.cgroups {
            return;
        }
        let name = root_name(node().as_str(), &self.dir.path().join("run"));
        let cleared = CgroupRoot::prepare(&CgroupChoice::Auto, &name).and_then(|root| {
            let Some(root) = root else { return Ok(()) };
            root.whole()?.kill()?;
            // What was killed takes a moment to go.
            for _ in 0..1_000 {
                if root.whole()?.is_empty()? {
                    break;
                }
                std::thread::park_timeout(std::time::Duration::from_millis(1));
            }
            root.remove_self()
        });
        if let Err(error) = cleared {
            eprintln!("the cgroup {name} stays: {error}");
        }
    }
}

/// Starts a bench in a fresh directory, which goes with the first value: bind it first, so that
/// it goes last.
pub(crate) fn start(
    cgroups: bool,
    launcher_args: &[String],
    guard_args: &[String],
) -> Result<(Place, Bench), String> {
    let dir = tempfile::Builder::new().prefix("bs").tempdir().map_err(|e| e.to_string())?;
    let options = BenchOptions {
        dir: dir.path().to_owned(),
        launcher: |o| command("launcher", o, &o.launcher_args),
        guard: |o| command("guard", o, &o.guard_args),
        cgroups,
        timers: TIMERS,
        launcher_args: launcher_args.to_vec(),
        guard_args: guard_args.to_vec(),
    };
    let place = Place { dir, cgroups };
    let bench = Bench::start(options)?;
    Ok((place, bench))
}

fn command(what: &str, options: &BenchOptions, args: &[String]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    let mode = if options.cgroups { "cgroups" } else { "process-groups" };
    command.arg(what).arg(&options.dir).arg(mode).args(args);
    command
}

fn plants(args: &[String]) -> Plants {
    let values = args.iter().filter_map(|a| a.strip_prefix("--plant="));
    Plants::parse(values).expect("a planted fault")
}

fn value<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    args.iter().find_map(|a| a.strip_prefix(name)?.strip_prefix('='))
}

fn node() -> NodeName {
    NodeName::new("a").expect("a good name")
}

pub(crate) fn run_launcher(args: &[String]) -> ExitCode {
    let dir = Path::new(&args[0]);
    let run_dir = RunDir::new(dir.join("run"));
    let longest = Span::from_ms(10_000);
    let mut options = LauncherOptions::new(node(), run_dir, dir.join("log"), TIMERS, longest);
    options.plants = plants(args);
    let exe = std::env::current_exe().expect("this binary").to_string_lossy().into_owned();
    options.keeper = vec![exe, "keeper".into()];
    if args[1] != "cgroups" {
        options.cgroups = CgroupChoice::Off;
    }
    done("launcher", launcher::run(options).map_err(|e| format!("{e}: {e:?}")))
}

pub(crate) fn run_guard(args: &[String]) -> ExitCode {
    let run_dir = RunDir::new(Path::new(&args[0]).join("run"));
    let mut options = GuardOptions::new(node(), run_dir, TIMERS, Span::from_ms(10_000));
    options.plants = plants(args);
    options.kill_limit = Span::from_ms(300);
    options.watchdog = value(args, "--watchdog").map(Into::into);
    if let Some(file) = value(args, "--allocations") {
        crate::memory::write_down_allocations(file.as_ref());
    }
    if let Some(file) = value(args, "--reboot") {
        options.reboot = Reboot::StandIn(file.into());
    }
    done("guard", guard::run(options).map_err(|e| format!("{e}: {e:?}")))
}

pub(crate) fn run_keeper(args: &[String]) -> ExitCode {
    let at = args[0].parse().expect("an address at an interface");
    done("keeper", drivers::address::keeper::run(at).map_err(|e| format!("{e}: {e:?}")))
}

fn done(what: &str, result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{what}: {error}");
            ExitCode::FAILURE
        }
    }
}
