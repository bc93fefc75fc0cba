//! Counts what passed and what failed, from the words of the programs that test.

use std::process::Command;

use crate::shell;

/// How many passed, failed and were skipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Passed.
    pub(crate) passed: u64,
    /// Failed.
    pub(crate) failed: u64,
    /// Not run, with a reason said.
    pub(crate) skipped: u64,
}

impl Counts {
    /// One thing that passed.
    pub(crate) const ONE: Counts = Counts { passed: 1, failed: 0, skipped: 0 };

    /// Both together.
    pub(crate) fn plus(self, other: Counts) -> Counts {
        Counts {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

/// Whose words are read. Each knows one line, so that what a test prints can't be taken for the
/// other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    /// `test result: ok. 5 passed; 0 failed; 0 ignored; …`, once for each binary.
    CargoTest,
    /// `Summary [   0.028s] 5 tests run: 5 passed (1 slow), 0 skipped`, once.
    Nextest,
    /// `5 passed, 0 failed`, as the last line: our own programs.
    Ours,
}

impl Words {
    /// The counts of a line that has some.
    fn counts(self, line: &str) -> Option<Counts> {
        let line = line.trim();
        match self {
            Words::CargoTest => {
                let (_, rest) = line.strip_prefix("test result: ")?.split_once(". ")?;
                Some(numbers(rest.split(';')))
            }
            Words::Nextest => {
                let (_, rest) = line.strip_prefix("Summary [")?.split_once("run: ")?;
                Some(numbers(rest.split(',')))
            }
            Words::Ours => {
                let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
                Some(Counts {
                    passed: passed.parse().ok()?,
                    failed: failed.parse().ok()?,
                    skipped: 0,
                })
            }
        }
    }
}

/// `5 passed (1 slow)`, `1 timed out`, `0 ignored` …
fn numbers<'a>(parts: impl Iterator<Item = &'a str>) -> Counts {
    let mut counts = Counts::default();
    for part in parts {
        let Some((number, what)) = part.trim().split_once(' ') else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match what.split([' ', '(']).next().unwrap_or_default() {
            "passed" => counts.passed += number,
            "failed" | "timed" | "exec" => counts.failed += number,
            "skipped" | "ignored" => counts.skipped += number,
            _ => {}
        }
    }
    counts
}

/// Runs a program that tests, shows what it prints, and counts. A program that fails without a
/// failed test, or passes without a word about tests, is a failure of its own.
pub(crate) fn run(command: &mut Command, words: Words) -> Result<Counts, String> {
    let name = shell::words(command);
    println!("$ {name}");
    let mut total = Counts::default();
    let mut seen = false;
    let status = shell::watch(command, |line| {
        if let Some(counts) = words.counts(line) {
            seen = true;
            total = if words == Words::Ours { counts } else { total.plus(counts) };
        }
    })?;
    if status.success() && !seen {
        return Err(format!("{name} said nothing about tests"));
    }
    if !status.success() && total.failed == 0 {
        println!("{name} ended with {status}, though no test failed");
        total.failed = 1;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64, skipped: u64) -> Option<Counts> {
        Some(Counts { passed, failed, skipped })
    }

    #[test]
    fn the_lines_of_each_program_are_understood_and_no_others() {
        let slow = "     Summary [  61.028s] 9 tests run: 5 passed (2 slow, 1 leaky), 2 failed, \
                    1 timed out, 1 exec failed, 3 skipped";
        let leaky = "     Summary [   0.1s] 1 test run: 0 passed, 1 failed (1 due to being leaky)";
        let plain = "     Summary [   0.028s] 5 tests run: 5 passed, 0 skipped";
        let ok = "test result: ok. 27 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
        let failed = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured";
        let cases = [
            (Words::CargoTest, ok, counts(27, 0, 1)),
            (Words::CargoTest, failed, counts(3, 2, 0)),
            (Words::CargoTest, "running 27 tests", None),
            (Words::CargoTest, plain, None),
            (Words::Nextest, plain, counts(5, 0, 0)),
            (Words::Nextest, slow, counts(5, 4, 3)),
            (Words::Nextest, leaky, counts(0, 1, 0)),
            (Words::Nextest, ok, None),
            (Words::Ours, "120 passed, 3 failed", counts(120, 3, 0)),
            (Words::Ours, "seed 5: 120 passed, 3 failed", None),
            (Words::Ours, "all passed", None),
        ];
        for (words, line, expect) in cases {
            assert_eq!(words.counts(line), expect, "{words:?} {line}");
        }
    }

    fn shell(script: &str) -> Result<Counts, String> {
        run(Command::new("sh").args(["-c", script]), Words::Ours)
    }

    #[test]
    fn a_silent_success_and_a_failure_without_failed_tests_are_failures() {
        assert_eq!(shell("echo 1 passed, 0 failed; echo 2 passed, 0 failed").ok(), counts(2, 0, 0));
        assert!(shell("true").is_err());
        assert_eq!(shell("echo 2 passed, 0 failed; exit 1").ok(), counts(2, 1, 0));
        assert_eq!(shell("echo 2 passed, 3 failed; exit 1").ok(), counts(2, 3, 0));
    }
}
