//! `fuzz`: every decoder against inputs that grow by what they reach, through libFuzzer. Where
//! what is found is kept, and how it is tried, is in docs/reliability.md.

mod build;
mod keep;
mod prove;
mod report;
mod run;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::flags::Flags;
use build::{Fuzzer, Target};
use run::{Bound, Ran};

/// Targets that run at once; more than the machine has cores only wait.
const JOBS_MAX: u64 = 64;
/// How long a target runs where nothing else is said, in seconds.
const SECONDS: u64 = 10;

/// Reads the arguments, builds, runs, and tells.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let plain = ["--json", "--keep", "--list", "--prove"];
    let flags = Flags::read(arguments, &plain, &["--target", "--inputs", "--seconds", "--jobs"])?;
    let bound = match (flags.number("--inputs")?, flags.number("--seconds")?) {
        (Some(_), Some(_)) => return Err("--inputs or --seconds, not both".to_owned()),
        (Some(inputs), None) => Bound::Inputs(inputs),
        (None, seconds) => Bound::Seconds(seconds.unwrap_or(SECONDS)),
    };
    let jobs = flags.number("--jobs")?.unwrap_or_else(cores).clamp(1, JOBS_MAX);
    let fuzzer = build::build()?;
    let targets = chosen(&fuzzer, &flags.values("--target"))?;
    if flags.has("--list") {
        targets.iter().for_each(|target| println!("{:<18} {}", target.name, target.about));
        return Ok(());
    }
    if flags.has("--prove") {
        return prove::prove(&fuzzer);
    }
    if flags.has("--keep") {
        return targets.iter().try_for_each(|target| keep::keep(&fuzzer, target));
    }
    let ran = all(&fuzzer, &targets, bound, jobs as usize)?;
    match flags.has("--json") {
        true => println!("{}", report::json(&ran)),
        false => println!("{}", report::table(&ran)),
    }
    let crashed: Vec<&str> =
        ran.iter().filter(|ran| ran.failed()).map(|ran| ran.name.as_str()).collect();
    if crashed.is_empty() { Ok(()) } else { Err(format!("failed: {}", crashed.join(", "))) }
}

/// What `test --all` does: the set-up finds a planted bug, and every target passes its corpus and
/// a few seconds of new inputs. The targets that passed and that failed.
pub(crate) fn check(seconds: u64) -> Result<(u64, u64), String> {
    let fuzzer = build::build()?;
    prove::prove(&fuzzer)?;
    let ran = all(&fuzzer, &fuzzer.targets, Bound::Seconds(seconds), cores() as usize)?;
    println!("{}", report::table(&ran));
    let failed = ran.iter().filter(|ran| ran.failed()).count();
    // The proof counts as one.
    Ok(((ran.len() - failed) as u64 + 1, failed as u64))
}

fn cores() -> u64 {
    thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

fn chosen(fuzzer: &Fuzzer, names: &[&str]) -> Result<Vec<Target>, String> {
    if names.is_empty() {
        return Ok(fuzzer.targets.clone());
    }
    let find = |name: &&str| {
        let found = fuzzer.targets.iter().find(|target| target.name == **name).cloned();
        found.ok_or_else(|| format!("there is no target {name:?}; --list shows them"))
    };
    names.iter().map(find).collect()
}

/// Runs targets, `jobs` at once; the results are in the targets' order.
fn all(fuzzer: &Fuzzer, targets: &[Target], bound: Bound, jobs: usize) -> Result<Vec<Ran>, String> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<Ran, String>)>> = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs.min(targets.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(target) = targets.get(at) else { return };
                    let ran = run::run(fuzzer, target, bound);
                    done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((at, ran));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, ran)| ran).collect()
}
