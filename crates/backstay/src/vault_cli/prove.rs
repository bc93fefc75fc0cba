//! `vault prove`: writes a proof that a file was in a backup.

use super::CliResult;
use super::opening::{RepositoryArgs, Which};
use super::output::Output;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use vault::VaultError;
use vault::proof::prove;

/// Prove to a third party that a file was in a backup.
#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    #[command(flatten)]
    pub(crate) which: Which,
    /// The file's path within the backup.
    pub(crate) path: String,
    /// Where the proof is written; standard output where none is given.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Runs the command. The proof is JSON in either output.
///
/// # Errors
/// Where the file is not in the backup.
pub(crate) fn run(args: &ProveArgs, _output: Output) -> CliResult {
    let repository = args.opening.open()?;
    let (seq, _) = args.which.find(&repository)?;
    let proof = prove(&repository, &repository.blobs()?, seq, args.path.as_bytes())?;
    proof.check()?;
    let json = serde_json::to_string_pretty(&proof).expect("a proof always encodes");
    match &args.out {
        None => println!("{json}"),
        Some(path) => {
            std::fs::write(path, json).map_err(VaultError::file("write", path.clone()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
