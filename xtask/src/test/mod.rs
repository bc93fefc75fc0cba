//! `test`: named steps, one after the other, and a last line that counts. A step is a file in
//! `steps` and a line in its list.

mod count;
mod debian;
pub(crate) mod needs;
mod step;
mod steps;

use std::time::Instant;

use crate::flags::Flags;
use count::Counts;
use step::{Step, When};

/// What became of a step.
struct Ran {
    name: &'static str,
    counts: Counts,
    seconds: f64,
    note: String,
}

/// Runs the steps. The last line printed is `N passed, N failed`.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let flags = Flags::read(arguments, &["--all", "--install", "--list"], &["--only"])?;
    let only = flags.values("--only");
    if let Some(unknown) = only.iter().find(|name| !steps::ALL.iter().any(|s| s.name == **name)) {
        return Err(format!("there is no step {unknown:?}; --list shows them"));
    }
    if flags.has("--list") {
        print!("{}", list());
        return Ok(());
    }
    let all = flags.has("--all");
    if flags.has("--install") && !all {
        return Err("--install goes with --all".to_string());
    }
    let wanted: Vec<&Step> = steps::ALL
        .iter()
        .filter(|step| match only.is_empty() {
            true => all || step.when == When::Always,
            false => only.contains(&step.name),
        })
        .collect();
    if flags.has("--install") {
        let needs: Vec<&needs::Needs> = wanted.iter().map(|step| &step.needs).collect();
        debian::install(&needs)?;
    }
    // Where everything is supposed to be there, what is not there is a failure.
    let strict = flags.has("--install") || std::env::var("CI").is_ok_and(|ci| ci == "true");
    let ran: Vec<Ran> = wanted.iter().map(|step| perform(step, strict)).collect();
    println!("\n{}", table(&ran));
    let total = ran.iter().fold(Counts::default(), |sum, ran| sum.plus(ran.counts));
    if total.skipped > 0 {
        println!("{} skipped", total.skipped);
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 { Ok(()) } else { Err(String::new()) }
}

fn perform(step: &Step, strict: bool) -> Ran {
    println!("\n=== {}: {}", step.name, step.about);
    let start = Instant::now();
    let missing = step.needs.missing();
    let (counts, note) = if missing.is_empty() {
        match (step.run)() {
            Ok(counts) => (counts, String::new()),
            Err(message) => {
                println!("{message}");
                let first = message.lines().next().unwrap_or_default().to_string();
                (Counts { failed: 1, ..Counts::default() }, first)
            }
        }
    } else {
        let note = format!("needs {}", missing.join(", "));
        println!("skipped: {note}");
        // Where everything is supposed to be there, a skip is a hole nobody would notice.
        let failed = u64::from(strict);
        (Counts { failed, skipped: 1 - failed, passed: 0 }, note)
    };
    let ran = Ran { name: step.name, counts, seconds: start.elapsed().as_secs_f64(), note };
    println!("--- {}: {} in {:.1} s", ran.name, ran.result(), ran.seconds);
    ran
}

impl Ran {
    fn result(&self) -> &'static str {
        let Counts { passed, failed, skipped } = self.counts;
        match (failed, skipped > 0 && passed == 0) {
            (0, true) => "skipped",
            (0, false) => "passed",
            _ => "FAILED",
        }
    }
}

/// What became of each step and how long it took; at last, all of them together.
fn table(ran: &[Ran]) -> String {
    let line = |ran: &Ran| {
        let Counts { passed, failed, .. } = ran.counts;
        let (result, seconds) = (ran.result(), ran.seconds);
        let text = format!(
            "{:<10} {result:<8} {passed:>6} passed {failed:>4} failed {seconds:>8.1} s  {}",
            ran.name, ran.note
        );
        text.trim_end().to_string()
    };
    let seconds: f64 = ran.iter().map(|ran| ran.seconds).sum();
    let all = format!("{:<46}{seconds:>8.1} s", "all steps");
    ran.iter().map(line).chain([all]).collect::<Vec<_>>().join("\n")
}

fn list() -> String {
    let mut out = String::new();
    for step in steps::ALL {
        let when = if step.when == When::Always { "always" } else { "--all" };
        out += &format!("{:<10} {when:<7} {}\n", step.name, step.about);
        let needs = step.needs.words();
        if !needs.is_empty() {
            out += &format!("{:18} needs {needs}\n", "");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use needs::Needs;

    fn step(needs: Needs, run: fn() -> Result<Counts, String>) -> Step {
        Step { name: "x", about: "a step", when: When::All, needs, run }
    }

    #[test]
    fn a_missing_need_is_a_skip_and_a_failure_where_everything_is_supposed_to_be_there() {
        let needs = || Needs { paths: &["no/such/path"], ..Needs::NOTHING };
        let never = || -> Result<Counts, String> { Err("it ran".to_string()) };
        let ran = perform(&step(needs(), never), false);
        assert_eq!((ran.counts.failed, ran.counts.skipped), (0, 1));
        assert!(ran.note.contains("no/such/path"), "{}", ran.note);
        let ran = perform(&step(needs(), never), true);
        assert_eq!((ran.counts.failed, ran.counts.skipped), (1, 0));
    }

    #[test]
    fn a_step_that_breaks_counts_as_a_failure() {
        let ran = perform(&step(Needs::NOTHING, || Err("broken\nmore".to_string())), false);
        assert_eq!((ran.counts.failed, ran.note.as_str()), (1, "broken"));
        assert!(table(&[ran]).contains("FAILED"));
    }

    #[test]
    fn the_table_says_how_long_each_step_took_and_all_of_them() {
        let ran = |name, seconds| Ran { name, counts: Counts::ONE, seconds, note: String::new() };
        let table = table(&[ran("one", 2.25), ran("two", 10.0)]);
        let lines: Vec<&str> = table.lines().collect();
        let ends: Vec<bool> =
            lines.iter().zip(["2.2 s", "10.0 s", "12.2 s"]).map(|(l, e)| l.ends_with(e)).collect();
        assert_eq!(ends, [true; 3], "{table}");
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{table}");
    }
}
