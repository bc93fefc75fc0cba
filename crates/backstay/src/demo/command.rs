//! `backstay demo`: its arguments.

use std::process::ExitCode;

use clap::Args;
use model::Profile;

use super::children;
use super::options::{DemoOptions, Fault, Plant, RUNS_MAX};

/// Shows a service survive: three nodes on loopback, an order every 5 ms, one fault after another.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Print one JSON object instead of progress and table
    #[arg(long)]
    json: bool,
    /// How often each fault is made
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(RUNS_MAX)))]
    runs: u32,
    /// Which faults, in this order; all where absent
    #[arg(long, value_enum, value_name = "FAULT", value_delimiter = ',')]
    faults: Vec<Fault>,
    /// The cluster's profile
    #[arg(long, value_name = "PROFILE", default_value_t = Profile::Lan)]
    profile: Profile,
    /// Leave logs and records where they are
    #[arg(long)]
    keep: bool,
    /// Plant a fault, to see that the demo notices
    #[arg(long, value_enum, hide = true)]
    plant: Option<Plant>,
    /// Used by the demo for its own processes
    #[arg(long, hide = true, num_args = 2.., allow_hyphen_values = true, value_name = "WORD")]
    tied: Vec<String>,
}

/// Runs the demo.
#[must_use]
pub fn run(args: DemoArgs) -> ExitCode {
    if !args.tied.is_empty() {
        return children::run_tied(&args.tied);
    }
    let mut faults: Vec<Fault> = Vec::new();
    for fault in args.faults {
        // Naming one twice is no second run.
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    if faults.is_empty() {
        faults = Fault::ALL.to_vec();
    }
    super::run::run(&DemoOptions {
        profile: args.profile,
        runs: args.runs,
        faults,
        json: args.json,
        keep: args.keep,
        plant: args.plant,
    })
}
