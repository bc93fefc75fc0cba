//! `vault copy`: copies backups to another repository, checked on the way.

use super::CliResult;
use super::opening::{RepositoryArgs, host, workers};
use super::output::{Output, size};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use vault::backup::{BackupRequest, Counters, Parent};
use vault::keys::access::read_key_file;
use vault::repository::Repository;
use vault::source::copy::CopySource;

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
    let mut copied = Vec::new();
    for (seq, backup) in &from.state().backups {
        let is_wanted = args.backup.is_empty() || args.backup.contains(seq);
        let is_there = to
            .state()
            .backups
            .values()
            .any(|b| b.source == backup.source && b.subject.root == backup.subject.root);
        if !is_wanted || is_there {
            continue;
        }
        let source = CopySource::new(from.blobs()?, backup.clone());
        let request = BackupRequest {
            name: backup.source.clone(),
            host: host(),
            source: &source,
            parent: Parent::None,
            workers: workers(),
            before: None,
            after: None,
            block_memory: None,
            counters: Arc::new(Counters::default()),
        };
        let outcome = vault::backup::run(&mut to, &request)?;
        copied.push(Copied {
            backup: *seq,
            to_backup: outcome.seq,
            bytes: outcome.backup.totals.bytes,
            stored: outcome.backup.statistics.bytes_stored,
        });
    }
    output.show(&copied, |copied| {
        let mut lines: Vec<String> = copied
            .iter()
            .map(|c| {
                let (bytes, stored) = (size(c.bytes), size(c.stored));
                format!("backup {} is now {} there: {bytes}, {stored} new", c.backup, c.to_backup)
            })
            .collect();
        lines.push(format!("{} backups copied", copied.len()));
        lines.join("\n")
    });
    Ok(ExitCode::SUCCESS)
}
