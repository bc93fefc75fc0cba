//! Runs many seeds and says what they met: `seeds --count N --seed S --plant NAME --class NAME`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use brain::plant::Plant;
use sim::fault::Fault;
use sim::search::{Bound, search};
use sim::shrink::SHRINK_RUNS_MAX;
use sim::{Class, Coverage, Outcome, Request, run, shrink};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads at most, so that a machine stays usable.
const THREADS_MAX: usize = 2;
/// From so many seeds on, everything must have happened.
const COVERED_FROM: u64 = 2_000;

#[derive(Debug, Clone)]
struct Arguments {
    count: u64,
    seed: u64,
    class: Option<Class>,
    plant: Option<Plant>,
    only: Option<BTreeSet<u32>>,
    faults: Option<Vec<Fault>>,
    search: Option<u64>,
    busy: bool,
    trace: bool,
    json: bool,
    threads: usize,
}

fn usage() -> String {
    let classes: Vec<&str> = Class::ALL.into_iter().map(Class::name).collect();
    let plants: Vec<String> = Plant::ALL.into_iter().map(|p| format!("{p:?}")).collect();
    format!(
        "seeds --count N [--seed FIRST] [--class CLASS] [--plant NAME] [--only N,N…|none] \
         [--faults FAULT,FAULT…] [--search DISTURBANCES] \
         [--busy] [--trace] [--json] [--threads 1|2]\nclasses: {}\nplants: {}",
        classes.join(" "),
        plants.join(" ")
    )
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments {
        count: 100,
        seed: 0,
        class: None,
        plant: None,
        only: None,
        faults: None,
        search: None,
        busy: false,
        trace: false,
        json: false,
        threads: THREADS_MAX,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text} is no number"));
        match word.as_str() {
            "--count" => parsed.count = number(value()?)?,
            "--seed" => parsed.seed = number(value()?)?,
            "--threads" => parsed.threads = (number(value()?)? as usize).clamp(1, THREADS_MAX),
            "--class" | "--classes" => {
                let name = value()?;
                parsed.class = Some(Class::named(&name).ok_or(format!("no class {name}"))?);
            }
            "--plant" => {
                let name = value()?;
                let known = Plant::ALL.into_iter().find(|p| format!("{p:?}") == name);
                parsed.plant = Some(known.ok_or(format!("no planted bug {name}"))?);
            }
            "--only" => {
                let list = value()?;
                let numbers = list.split(',').filter(|number| *number != "none");
                let number = |text: &str| {
                    text.parse().map_err(|_| format!("{text} is no number of a disturbance"))
                };
                parsed.only = Some(numbers.map(number).collect::<Result<_, String>>()?);
            }
            "--faults" => {
                let list = value()?;
                let fault = |name: &str| Fault::named(name).ok_or(format!("no fault {name}"));
                parsed.faults = Some(list.split(',').map(fault).collect::<Result<_, String>>()?);
            }
            "--search" => parsed.search = Some(number(value()?)?),
            "--busy" => parsed.busy = true,
            "--trace" => parsed.trace = true,
            "--json" => parsed.json = true,
            _ => return Err(usage()),
        }
    }
    Ok(parsed)
}

#[derive(Default)]
struct Total {
    coverage: Coverage,
    simulated: u64,
    busy: f64,
    steps: u64,
    runs: u64,
    slowest: (u64, u64),
    /// Over all runs, in whatever order they ended: builds that do the same have the same.
    hash: [u8; 32],
    failed: Vec<(Request, Outcome)>,
}

fn work(arguments: &Arguments, next: &AtomicU64, total: &Mutex<Total>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= arguments.seed.saturating_add(arguments.count) {
            return;
        }
        let began = processor_seconds();
        let mut request = Request {
            class: arguments.class,
            plant: arguments.plant,
            only: arguments.only.clone(),
            faults: arguments.faults.clone(),
            busy: arguments.busy,
            printed: arguments.trace,
            ..Request::default()
        };
        let mut outcome = run(seed, request.clone());
        if outcome.violation.is_some() {
            request.printed = false;
            if request.only.is_none()
                && let Some((_, fewest)) = shrink(seed, &request, SHRINK_RUNS_MAX)
            {
                request = fewest;
            }
            // Once more, now with its trace: the same seed is the same run.
            outcome = run(seed, Request { traced: true, ..request.clone() });
        }
        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
        total.busy += processor_seconds() - began;
        total.runs += 1;
        total.simulated += outcome.simulated;
        total.steps += outcome.steps;
        total.slowest = total.slowest.max((outcome.recovered, seed));
        total.coverage.add(&outcome.coverage);
        let hash = blake3::hash(format!("{seed} {}", outcome.hash).as_bytes());
        total.hash.iter_mut().zip(hash.as_bytes()).for_each(|(sum, byte)| *sum ^= byte);
        if outcome.violation.is_some() {
            if !arguments.json {
                report(&request, &outcome);
            }
            total.failed.push((request, outcome));
        }
    }
}

/// What this thread has used of a processor: others share the machine.
fn processor_seconds() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

fn command(request: &Request, outcome: &Outcome) -> String {
    let mut text = format!(
        "cargo run -p backstay-sim --bin seeds -- --count 1 --seed {} --class {}",
        outcome.seed,
        outcome.class.name()
    );
    if let Some(plant) = request.plant {
        text += &format!(" --plant {plant:?}");
    }
    if let Some(faults) = &request.faults {
        let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
        text += &format!(" --faults {}", names.join(","));
    }
    if let Some(only) = &request.only {
        let numbers: Vec<String> = only.iter().map(u32::to_string).collect();
        let list = if numbers.is_empty() { "none".to_owned() } else { numbers.join(",") };
        text += &format!(" --only {list}");
    }
    if request.busy {
        text += " --busy";
    }
    text + " --trace"
}

fn report(request: &Request, outcome: &Outcome) {
    let Some((violation, at)) = &outcome.violation else { return };
    for line in &outcome.lines {
        println!("{line}");
    }
    for (number, what) in &outcome.disturbances {
        println!("disturbance {number}: {what}");
    }
    println!(
        "seed {} ({}) broke {} at {:.6} ms: {}\n  {}\n",
        outcome.seed,
        outcome.class.name(),
        violation.rule,
        *at as f64 / 1e6,
        violation.what,
        command(request, outcome)
    );
}

fn summary(arguments: &Arguments, total: &Total, missing: &[&str], wall: f64) {
    let simulated = total.simulated as f64 / 1e9;
    let rate = simulated / total.busy.max(1e-9);
    if arguments.json {
        let coverage: Vec<_> = total.coverage.all().collect();
        let failed: Vec<_> = total
            .failed
            .iter()
            .filter_map(|(request, o)| {
                let (violation, at) = o.violation.as_ref()?;
                Some(serde_json::json!({
                    "seed": o.seed,
                    "class": o.class.name(),
                    "rule": violation.rule,
                    "what": violation.what,
                    "at_ms": *at as f64 / 1e6,
                    "replay": command(request, o),
                    "disturbances": o.disturbances,
                    "last": o.lines,
                }))
            })
            .collect();
        let coverage: serde_json::Map<String, serde_json::Value> =
            coverage.into_iter().map(|(what, n)| (what.to_owned(), n.into())).collect();
        let object = serde_json::json!({
            "seeds": total.runs,
            "simulated_hours": simulated / 3_600.0,
            "simulated_seconds_per_cpu_second": rate,
            "wall_seconds": wall,
            "events": total.steps,
            "slowest_recovery_ms": total.slowest.0 / 1_000_000,
            "hash": blake3::Hash::from_bytes(total.hash).to_hex().as_str(),
            "coverage": coverage,
            "never_happened": missing,
            "violations": failed,
        });
        return println!("{object}");
    }
    println!(
        "{} seeds, {:.1} simulated hours in {wall:.1} s: {rate:.0} simulated seconds per \
         processor second, {:.1} million events; slowest recovery {} ms (seed {})",
        total.runs,
        simulated / 3_600.0,
        total.steps as f64 / 1e6,
        total.slowest.0 / 1_000_000,
        total.slowest.1
    );
    println!("hash of all runs: {}", blake3::Hash::from_bytes(total.hash).to_hex());
    for (what, count) in total.coverage.all() {
        println!("  {what:32} {count}");
    }
    if !missing.is_empty() {
        println!("never happened: {}", missing.join(", "));
    }
    println!("{} violations", total.failed.len());
    // A counter that stayed at zero is a failure too: something was not tried.
    let failed = total.failed.len() + missing.len();
    let passed = (total.runs as usize).saturating_sub(total.failed.len());
    println!("{passed} passed, {failed} failed");
}

/// All paths of a small model instead of seeds.
fn exhaustive(arguments: &Arguments, disturbances: u64) -> ExitCode {
    let disturbances = u32::try_from(disturbances).unwrap_or(u32::MAX);
    let bound = Bound { ticks: 14, disturbances, elections: 2 };
    let found = search(arguments.plant, bound);
    println!(
        "{} steps, {} takeovers within {} ticks, {} disturbances and {} elections",
        found.steps, found.takeovers, bound.ticks, bound.disturbances, bound.elections
    );
    let Some((violation, path)) = found.broken else { return ExitCode::SUCCESS };
    println!("{} broken: {}\n{}", violation.rule, violation.what, path.join("\n"));
    ExitCode::FAILURE
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    };
    std::panic::set_hook(Box::new(|panic| {
        let seed = sim::run::current_seed();
        eprintln!("seed {seed} made the code under test panic: {panic}");
    }));
    let began = Instant::now();
    if let Some(disturbances) = arguments.search {
        return exhaustive(&arguments, disturbances);
    }
    let next = AtomicU64::new(arguments.seed);
    let total = Mutex::new(Total::default());
    let threads = if arguments.trace { 1 } else { arguments.threads };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&arguments, &next, &total));
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    let whole = arguments.class.is_none() && arguments.count >= COVERED_FROM;
    let missing = if whole { total.coverage.missing() } else { Vec::new() };
    summary(&arguments, &total, &missing, began.elapsed().as_secs_f64());
    if total.failed.is_empty() && missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
