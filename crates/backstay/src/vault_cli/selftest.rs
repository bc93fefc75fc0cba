//! `vault selftest`: tries whether a place is safe for a repository.

use super::CliResult;
use super::output::Output;
use clap::Args;
use serde::Serialize;
use std::process::ExitCode;
use vault::store::{location, selftest};

/// Try whether a place is safe for a repository.
#[derive(Debug, Args)]
pub(crate) struct SelftestArgs {
    /// A directory, or s3://bucket/prefix.
    pub(crate) place: String,
    /// The credentials must not delete: probes stay behind and deletion is not tried.
    #[arg(long)]
    pub(crate) append_only: bool,
}

#[derive(Serialize)]
struct Shown {
    place: String,
    safe: bool,
}

/// Runs the command.
///
/// # Errors
/// Naming the promise that the store breaks.
pub(crate) fn run(args: &SelftestArgs, output: Output) -> CliResult {
    let store = location::create(&args.place)?;
    selftest::run(&*store, !args.append_only)?;
    let shown = Shown { place: store.describe(), safe: true };
    output.show(&shown, |s| format!("{} keeps what a repository needs of a store", s.place));
    Ok(ExitCode::SUCCESS)
}
