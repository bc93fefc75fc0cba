//! Runs one target and reads what libFuzzer says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::{Fuzzer, Target};

/// Longest that one input may take, in seconds; libFuzzer counts no smaller ones.
const INPUT_SECONDS_MAX: u64 = 5;
/// Most memory of the whole process, in MiB.
const MEMORY_MIB_MAX: u64 = 1_024;

/// When to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// After so many inputs.
    Inputs(u64),
    /// After so long.
    Seconds(u64),
}

/// What became of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ran {
    /// Its name.
    pub(super) name: String,
    /// What libFuzzer counted.
    pub(super) said: Said,
    /// Inputs that it kept because they fault, slow or take too much memory.
    pub(super) crashes: Vec<PathBuf>,
    /// Why the program ended, where it did not end well.
    pub(super) error: Option<String>,
}

impl Ran {
    /// Whether anything is wrong. A run without inputs has shown nothing.
    pub(super) fn failed(&self) -> bool {
        self.error.is_some() || !self.crashes.is_empty() || self.said.inputs == 0
    }
}

/// The numbers of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Inputs tried.
    pub(super) inputs: u64,
    /// Inputs a second.
    pub(super) rate: u64,
    /// Edges of the code that were reached.
    pub(super) coverage: u64,
    /// Inputs in the corpus.
    pub(super) corpus: u64,
}

/// Directories of a target: where it grows, what it is given, what it faults at.
pub(super) struct Places {
    /// The corpus that grows from run to run.
    pub(super) grown: PathBuf,
    /// Its own seeds.
    pub(super) seeds: PathBuf,
    /// The corpus that is kept in the repository.
    pub(super) kept: PathBuf,
    /// Inputs at which it faults.
    pub(super) crashes: PathBuf,
}

impl Places {
    /// Those of a target; they are made where they are missing.
    pub(super) fn of(target: &str) -> Result<Places, String> {
        let own = crate::shell::target_directory().join("fuzz").join(target);
        let places = Places {
            grown: own.join("corpus"),
            seeds: own.join("seeds"),
            kept: crate::root().join("fuzz/corpus").join(target),
            crashes: own.join("crashes"),
        };
        for path in [&places.grown, &places.seeds, &places.kept, &places.crashes] {
            let made = fs::create_dir_all(path);
            made.map_err(|error| format!("can't make {}: {error}", path.display()))?;
        }
        Ok(places)
    }
}

/// Runs a target until its bound, or its first fault.
pub(super) fn run(fuzzer: &Fuzzer, target: &Target, bound: Bound) -> Result<Ran, String> {
    let places = Places::of(&target.name)?;
    let before = files(&places.crashes)?;
    let mut command = fuzzer.command(&target.name);
    command.env("BACKSTAY_FUZZ_SEEDS", &places.seeds);
    command.args([&places.grown, &places.kept, &places.seeds]);
    limits(&mut command, target.input_max, &places.crashes);
    match bound {
        Bound::Inputs(inputs) => command.arg(format!("-runs={inputs}")),
        Bound::Seconds(seconds) => command.arg(format!("-max_total_time={seconds}")),
    };
    let output = command.output().map_err(|error| format!("can't run the fuzzer: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let mut crashes = files(&places.crashes)?;
    crashes.retain(|path| !before.contains(path));
    let error = (!output.status.success()).then(|| {
        let last: Vec<&str> = text.lines().rev().take(20).collect();
        eprintln!("{}:\n{}", target.name, last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        format!("ended with {}", output.status)
    });
    Ok(Ran { name: target.name.clone(), said: said(&text), crashes, error })
}

/// The limits of every run.
pub(super) fn limits(command: &mut Command, input_max: u64, crashes: &Path) {
    command.args([
        format!("-max_len={input_max}"),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
        format!("-artifact_prefix={}/", crashes.display()),
        "-print_final_stats=1".to_owned(),
        // What a decoder prints about an input is nobody's.
        "-close_fd_mask=1".to_owned(),
        "-reload=0".to_owned(),
    ]);
}

/// The files of a directory, in order.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("can't list {}: {error}", directory.display());
    let entries = fs::read_dir(directory).map_err(failed)?;
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|e| e.path())).collect();
    let mut paths = paths.map_err(failed)?;
    paths.sort();
    Ok(paths)
}

/// The numbers in what libFuzzer prints.
fn said(text: &str) -> Said {
    let mut said = Said::default();
    for line in text.lines() {
        if let Some(inputs) = number(line, "stat::number_of_executed_units:") {
            said.inputs = inputs;
        }
        if let Some(rate) = number(line, "stat::average_exec_per_sec:") {
            said.rate = rate;
        }
        if let Some(coverage) = number(line, " cov:") {
            said.coverage = coverage;
        }
        if let Some(corpus) = number(line, " corp:") {
            said.corpus = corpus;
        }
    }
    said
}

/// The number after a word: `cov: 12`, `corp: 3/40b`.
fn number(line: &str, word: &str) -> Option<u64> {
    let (_, rest) = line.split_once(word)?;
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_run_are_read_from_its_words() {
        let text = "#2\tINITED cov: 5 ft: 5 corp: 1/1b exec/s: 0 rss: 30Mb\n\
                    #99\tDONE   cov: 12 ft: 40 corp: 7/90b lim: 4 exec/s: 33 rss: 31Mb\n\
                    stat::number_of_executed_units: 99\nstat::average_exec_per_sec:     33\n";
        assert_eq!(said(text), Said { inputs: 99, rate: 33, coverage: 12, corpus: 7 });
        assert_eq!(said("nothing"), Said::default());
    }

    #[test]
    fn a_run_without_inputs_has_shown_nothing() {
        let name = String::from("x");
        let ran = Ran { name, said: Said::default(), crashes: Vec::new(), error: None };
        assert!(ran.failed());
        let said = Said { inputs: 1, ..Said::default() };
        assert!(!Ran { said, ..ran.clone() }.failed());
        assert!(Ran { said, error: Some("it ended".to_owned()), ..ran }.failed());
    }
}
