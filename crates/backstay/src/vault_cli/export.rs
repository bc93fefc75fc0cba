//! `vault export`: writes a backup as a plain tar.

use super::CliResult;
use super::opening::{RepositoryArgs, Which};
use super::output::Output;
use clap::Args;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use vault::VaultError;

/// Write a backup as a plain tar.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    #[command(flatten)]
    pub(crate) which: Which,
    /// The path within the backup; all of it where none is given.
    #[arg(default_value = "")]
    pub(crate) path: String,
    /// Where the tar is written; standard output where none is given.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Runs the command. The tar is the output in either form.
///
/// # Errors
/// Where a part of the backup is lost or the output fails.
pub(crate) fn run(args: &ExportArgs, _output: Output) -> CliResult {
    let repository = args.opening.open()?;
    let (_, backup) = args.which.find(&repository)?;
    let blobs = repository.blobs()?;
    let path = args.path.as_bytes();
    match &args.out {
        None => {
            vault::export::to_tar(&blobs, backup, path, super::stdout::lock())?;
        }
        Some(name) => {
            let failed = |action| VaultError::file(action, name.clone());
            let file = std::fs::File::create(name).map_err(failed("create"))?;
            let mut out = BufWriter::new(file);
            vault::export::to_tar(&blobs, backup, path, &mut out)?;
            out.flush().map_err(failed("write"))?;
            out.get_ref().sync_all().map_err(failed("sync"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
