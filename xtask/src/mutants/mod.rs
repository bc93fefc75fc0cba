//! `mutants`: a seeded sample of what cargo-mutants would change in the code that decides and in
//! the log, tried against their tests. docs/reliability.md says what came of it.

mod sample;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::flags::Flags;
use crate::shell;

/// What is mutated.
const PACKAGES: [&str; 2] = ["backstay-brain", "backstay-journal"];
/// What runs nowhere but in tests: planted bugs, the disk of tests, the door for the fuzzer.
const LEFT_OUT: [&str; 3] = [
    "crates/brain/src/plant.rs",
    "crates/journal/src/fuzzing.rs",
    "crates/journal/src/memory_disk.rs",
];
/// Mutants of a sample where nothing else is said.
const SAMPLE: u64 = 300;
/// Mutants that are tried at once; each has its own copy of the tree and its own build.
const JOBS_MAX: u64 = 8;
/// The share of the sample's viable mutants that has to be caught, in percent.
const CAUGHT_PERCENT_MIN: u64 = 85;

/// One round: which mutants, whose tests, and which of them.
struct Round {
    name: &'static str,
    about: &'static str,
    /// Where the mutants lie that this round tries.
    mutated: &'static str,
    /// Whose tests run; none: those of the crate that was changed.
    tests: &'static [&'static str],
    profile: &'static str,
    /// For every build and every test.
    cargo: &'static [&'static str],
    /// For the tests.
    test: &'static [&'static str],
    /// The longest that the tests of a mutant may take, where nothing else is said.
    seconds_max: u64,
}

const ROUNDS: [Round; 3] = [
    Round {
        name: "brain",
        about: "brain's own tests",
        mutated: "crates/brain/",
        tests: &[],
        profile: "mutants",
        cargo: &["--lib"],
        test: &[],
        seconds_max: 60,
    },
    Round {
        name: "journal",
        about: "the log's own tests",
        mutated: "crates/journal/",
        tests: &[],
        profile: "mutants",
        cargo: &["--tests"],
        test: &[],
        seconds_max: 60,
    },
    Round {
        name: "above",
        about: "one node without I/O, and simulated clusters without planted bugs",
        mutated: "crates/",
        tests: &["backstay-kernel", "backstay-sim"],
        profile: "mutants-above",
        cargo: &["--test=it"],
        // What plants bugs of its own looks for those.
        test: &["--skip=plants::", "--skip=rules::", "--skip=blind::", "--skip=shrinking::"],
        seconds_max: 180,
    },
];

/// What became of the mutants of a round.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Counts {
    caught: Vec<String>,
    timeout: Vec<String>,
    unviable: Vec<String>,
    missed: Vec<String>,
}

/// Draws the sample, plays the rounds, and tells who survived both.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let valued = ["--sample", "--seed", "--jobs", "--seconds"];
    let flags = Flags::read(arguments, &["--list", "--again"], &valued)?;
    let jobs = flags.number("--jobs")?.unwrap_or(1).clamp(1, JOBS_MAX);
    if !shell::works("cargo", &["mutants", "--version"]) {
        return Err("cargo-mutants is missing: cargo install cargo-mutants --locked".to_owned());
    }
    let count = flags.number("--sample")?.unwrap_or(SAMPLE) as usize;
    let seed = flags.number("--seed")?.unwrap_or(1);
    let all = all()?;
    let mut names = sample::sample(&all, count, seed);
    println!("{} of {} mutants, seed {seed}", names.len(), all.len());
    if flags.has("--again") {
        // Tests were added since: what was caught stays caught, the others are tried once more.
        let survivors = survivors_before()?;
        names.retain(|name| survivors.contains(name));
        println!("{} of them survived the last time", names.len());
    }
    if flags.has("--list") {
        names.iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    let sampled = names.len() as u64;
    let mut unviable = 0;
    for round in &ROUNDS {
        let (mut tried, passed): (Vec<String>, Vec<String>) =
            names.into_iter().partition(|name| name.starts_with(round.mutated));
        names = passed;
        if tried.is_empty() {
            continue;
        }
        let seconds = flags.number("--seconds")?.unwrap_or(round.seconds_max);
        let counts = play(round, &all, &tried, jobs, seconds)?;
        println!(
            "{}: {} caught, {} timed out, {} unviable, {} missed",
            round.about,
            counts.caught.len(),
            counts.timeout.len(),
            counts.unviable.len(),
            counts.missed.len()
        );
        unviable += counts.unviable.len() as u64;
        tried = counts.missed;
        names.append(&mut tried);
    }
    keep_survivors(&names)?;
    names.iter().for_each(|name| println!("survived: {name}"));
    let (missed, viable) = (names.len() as u64, sampled - unviable);
    let percent = (viable - missed) * 100 / viable.max(1);
    println!("{} of {viable} viable mutants caught: {percent} %", viable - missed);
    if percent >= CAUGHT_PERCENT_MIN || flags.has("--again") {
        return Ok(());
    }
    Err(format!("{CAUGHT_PERCENT_MIN} % have to be caught"))
}

/// The names of all mutants, in cargo-mutants' order.
fn all() -> Result<Vec<String>, String> {
    let mut command = mutants();
    command.args(["--list", "--json"]);
    let output = command.output().map_err(|error| format!("can't list mutants: {error}"))?;
    if !output.status.success() {
        return Err(format!("can't list mutants: {}", String::from_utf8_lossy(&output.stderr)));
    }
    sample::names(&output.stdout)
}

fn mutants() -> Command {
    let mut command = shell::cargo(&["mutants", "--colors=never"]);
    command.args(PACKAGES.iter().flat_map(|name| ["--package", name]));
    command.args(LEFT_OUT.iter().flat_map(|path| ["--exclude", path]));
    command
}

fn directory() -> PathBuf {
    shell::target_directory().join("mutants")
}

fn play(
    round: &Round,
    all: &[String],
    names: &[String],
    jobs: u64,
    seconds: u64,
) -> Result<Counts, String> {
    let directory = directory().join(round.name);
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    fs::create_dir_all(&directory).map_err(failed)?;
    let before = directory.join("mutants.out");
    // Left over from an earlier run, or not there.
    let _ = fs::remove_dir_all(&before);
    fs::create_dir_all(&before).map_err(failed)?;
    let others: Vec<&str> = all.iter().filter(|name| !names.contains(name)).map(|n| &**n).collect();
    // Whatever is not to be tried counts as caught before: that is matched by whole names, where
    // patterns let some kinds of mutant through.
    fs::write(before.join("caught.txt"), others.join("\n")).map_err(failed)?;
    let mut command = mutants();
    command.arg("--iterate").arg("--output").arg(&directory);
    command.arg(format!("--profile={}", round.profile));
    command.args(["--no-times", &format!("--jobs={jobs}")]);
    command.arg(format!("--timeout={seconds}"));
    command.args(round.tests.iter().flat_map(|name| ["--test-package", name]));
    if !round.tests.is_empty() {
        // Its own look at the unchanged tree is at the changed crate, not at those whose tests run.
        unchanged(round)?;
        command.arg("--baseline=skip");
    }
    command.args(round.cargo.iter().map(|argument| format!("--cargo-arg={argument}")));
    if !round.test.is_empty() {
        command.args(["--", "--"]).args(round.test);
    }
    // A build of another tree must not end up in this one's.
    command.env_remove("CARGO_TARGET_DIR");
    let status = shell::watch(&mut command, |_| {})?;
    let counts = read(&before)?;
    // Survivors and endless loops are statuses of their own; anything else is a fault.
    match status.code() {
        Some(0 | 2 | 3) => Ok(counts),
        _ => Err(format!("cargo-mutants ended with {status}")),
    }
}

/// The tests of a round pass while nothing is changed: else they would seem to catch everything.
fn unchanged(round: &Round) -> Result<(), String> {
    let mut command = shell::cargo(&["test", &format!("--profile={}", round.profile)]);
    command.args(round.tests.iter().flat_map(|name| ["--package", name]));
    command.args(round.cargo).arg("--").args(round.test);
    shell::run(&mut command)
}

fn read(directory: &std::path::Path) -> Result<Counts, String> {
    let list = |name: &str| {
        let path = directory.join(name);
        let text = fs::read_to_string(&path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok::<_, String>(text.lines().map(str::to_owned).collect())
    };
    Ok(Counts {
        caught: list("caught.txt")?,
        timeout: list("timeout.txt")?,
        unviable: list("unviable.txt")?,
        missed: list("missed.txt")?,
    })
}

fn survivors_before() -> Result<Vec<String>, String> {
    let path = directory().join("survivors.txt");
    let text = fs::read_to_string(&path);
    let text = text.map_err(|error| format!("no run before this one: {error}"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn keep_survivors(names: &[String]) -> Result<(), String> {
    let path = directory().join("survivors.txt");
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}
