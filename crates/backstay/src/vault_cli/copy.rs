//! `vault copy`: copies backups to another repository, checked on the way.

use super::CliResult;
use super::opening::{RepositoryArgs, host, workers};
use super::output::{Output, moment, size};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use vault::copy::CopyRequest;
use vault::keys::access::read_key_file;
use vault::repository::Repository;

/// Copy backups to another repository, checked on the way. What is there already is left out.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    /// The repository that receives them.
    #[arg(long, value_name = "PLACE")]
    pub(crate) to: String,
    /// Its key file; the same one where none is given.
    #[arg(long, value_name = "FILE")]
    pub(crate) to_key: Option<PathBuf>,
    /// Only this backup; may be given more than once.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) backup: Vec<u64>,
}

#[derive(Serialize)]
struct Copied {
    backup: u64,
    to_backup: u64,
    time: String,
    bytes: u64,
    stored: u64,
}

/// Runs the command.
///
/// # Errors
/// Where a backup cannot be read whole: nothing is recorded for it.
pub(crate) fn run(args: &CopyArgs, output: Output) -> CliResult {
    let from = args.opening.open()?;
    let key = args.to_key.as_ref().unwrap_or(&args.opening.key);
    let identity = match args.to_key {
        None => args.opening.identity()?,
        Some(_) => read_key_file(key)?,
    };
    let mut options = args.opening.options()?;
    options.expect = None;
    let mut to = Repository::open(vault::store::location::open(&args.to)?, &identity, options)?;
    let request = CopyRequest { wanted: &args.backup, host: host(), workers: workers() };
    let copied: Vec<Copied> = vault::copy::run(&from, &mut to, &request)?
        .into_iter()
        .map(|(seq, outcome)| Copied {
            backup: seq,
            to_backup: outcome.seq,
            time: moment(outcome.backup.subject.begun_ms),
            bytes: outcome.backup.totals.bytes,
            stored: outcome.backup.statistics.bytes_stored,
        })
        .collect();
    output.show(&copied, |copied| {
        let mut lines: Vec<String> = copied
            .iter()
            .map(|c| {
                let (bytes, stored) = (size(c.bytes), size(c.stored));
                let (backup, there, time) = (c.backup, c.to_backup, &c.time);
                format!("backup {backup} of {time} is now {there} there: {bytes}, {stored} new")
            })
            .collect();
        lines.push(format!("{} backups copied", copied.len()));
        lines.join("\n")
    });
    Ok(ExitCode::SUCCESS)
}
