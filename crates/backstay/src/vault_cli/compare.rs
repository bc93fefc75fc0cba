//! `vault compare`: compares live data with a backup, to the bit.

use super::opening::{RepositoryArgs, Which};
use super::output::{Output, hex};
use super::{CliResult, EXIT_FOUND};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use vault::source::directory::DirectorySource;

/// Compare live data with a backup, to the bit.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    #[command(flatten)]
    pub(crate) which: Which,
    /// The live directory; where the backup came from if none is given.
    pub(crate) path: Option<PathBuf>,
    /// What the backup left out.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
}

#[derive(Serialize)]
struct Shown {
    equal: bool,
    backup: u64,
    live_root: String,
    backup_root: String,
    differences: Vec<(String, String)>,
    differences_more: u64,
    unreadable: Vec<(String, String)>,
}

/// Runs the command.
///
/// # Errors
/// Where either side cannot be read as a whole.
pub(crate) fn run(args: &CompareArgs, output: Output) -> CliResult {
    let repository = args.opening.open()?;
    let (seq, backup) = args.which.find(&repository)?;
    let path = args.path.clone().unwrap_or_else(|| PathBuf::from(&backup.origin));
    let source = DirectorySource::new(&path, &args.exclude, false)?;
    let found = vault::compare::compare(&repository.blobs()?, backup, &source, &path)?;
    let shown = Shown {
        equal: found.is_equal(),
        backup: seq,
        live_root: hex(&found.live),
        backup_root: hex(&found.backup),
        differences: found.differences,
        differences_more: found.differences_more,
        unreadable: found.skipped,
    };
    output.show(&shown, text);
    Ok(if shown.equal { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FOUND) })
}

fn text(shown: &Shown) -> String {
    if shown.equal {
        return format!("equal: both have root {}", shown.live_root);
    }
    let mut text = format!(
        "NOT equal to backup {}\n  live root   {}\n  backup root {}",
        shown.backup, shown.live_root, shown.backup_root
    );
    for (path, what) in shown.differences.iter().chain(&shown.unreadable) {
        let path = if path.is_empty() { "." } else { path };
        text += &format!("\n  {path}: {what}");
    }
    if shown.differences_more > 0 {
        text += &format!("\n  and {} more", shown.differences_more);
    }
    text
}
