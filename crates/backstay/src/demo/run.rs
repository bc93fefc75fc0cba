//! The demo from beginning to end, and that it leaves nothing behind.

use std::error::Error;
use std::process::ExitCode;

use super::children::{self, Leftovers};
use super::error::DemoError;
use super::judge::judge;
use super::options::{DemoOptions, Fault};
use super::premises::Premises;
use super::progress::Progress;
use super::stage::{Played, Stage};
use super::summary::{FaultSummary, Judged, Summary};
use super::{interrupt, table};
use crate::stdout;

/// Runs the demo. Call it once in a process, from its main thread. The exit status is 0 only
/// where nothing was lost, doubled or active twice, and nothing was left behind.
#[must_use]
pub fn run(options: &DemoOptions) -> ExitCode {
    let progress = Progress::new(options.json);
    let result = prepare(options).and_then(|premises| perform(premises, options, &progress));
    progress.end();
    let left = children::clean_up();
    if let Ok(summary) = &result {
        show(summary, options.json);
    }
    tell_leftovers(&left);
    match result {
        Ok(summary) if summary.is_clean() && left.is_none() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(DemoError::Interrupted) => interrupt::exit_code(),
        Err(error) => {
            tell_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Draws directory and addresses; from then on everything is taken down however the demo ends.
fn prepare(options: &DemoOptions) -> Result<Premises, DemoError> {
    interrupt::watch()?;
    let premises = Premises::draw()?;
    children::own(premises.dir(), options.keep);
    if options.keep {
        eprintln!("logs and records stay in {}", premises.dir().display());
    }
    Ok(premises)
}

fn perform(
    premises: Premises,
    options: &DemoOptions,
    progress: &Progress,
) -> Result<Summary, DemoError> {
    let profile = options.profile;
    progress.doing(&format!("starting three nodes, profile {profile}"));
    let mut stage = Stage::set(premises, options)?;
    progress.done(&format!("three nodes, profile {profile}, an order every 5 ms"));
    let mut played = Vec::new();
    for run in 1..=options.runs {
        for fault in &options.faults {
            let of = if options.runs > 1 { format!("run {run}: ") } else { String::new() };
            progress.doing(&format!("{of}{}", fault.story()));
            let act = stage.play(*fault)?;
            let figures = judge(stage.service.records()?, act.window, act.freeze.as_ref());
            let outage = figures.outage.as_ms_f64();
            progress.done(&format!("{of}{}: {outage:.1} ms without an order", fault.as_str()));
            played.push(act);
        }
    }
    progress.doing("settling what is unknown, and judging");
    stage.service.finish()?;
    summarise(&mut stage, &played, options)
}

/// Judges everything again, now that every order is settled.
fn summarise(
    stage: &mut Stage,
    played: &[Played],
    options: &DemoOptions,
) -> Result<Summary, DemoError> {
    let records = stage.service.records()?;
    let judged = |act: &Played| Judged {
        fault: act.fault,
        figures: judge(records, act.window, act.freeze.as_ref()),
        evidence: act.evidence.clone(),
        phases: act.phases,
    };
    let of = |fault: &Fault| {
        let runs: Vec<Judged> = played.iter().filter(|p| p.fault == *fault).map(judged).collect();
        FaultSummary::of(&runs)
    };
    let faults = options.faults.iter().filter_map(of).collect();
    Ok(Summary { profile: options.profile, runs: options.runs, faults })
}

fn show(summary: &Summary, json: bool) {
    if json {
        match serde_json::to_string(summary) {
            Ok(text) => stdout::print(format_args!("{text}\n")),
            Err(error) => eprintln!("backstay: the figures can't be printed: {error}"),
        }
    } else {
        stdout::print(format_args!("{}\n", table::render(summary)));
    }
}

fn tell_leftovers(left: &Leftovers) {
    for pid in &left.processes {
        eprintln!("backstay: process {pid} of the demo does not die; end it by hand");
    }
    for path in left.cgroups.iter().chain(&left.directory) {
        eprintln!("backstay: {} can't be removed; remove it by hand", path.display());
    }
}

fn tell_error(error: &DemoError) {
    eprintln!("backstay: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
