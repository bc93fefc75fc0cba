//! `vault compare`: compares live data with a backup, to the bit.

use super::opening::{RepositoryArgs, Which};
use super::output::{Output, hex};
use super::{CliResult, EXIT_FOUND};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::process::ExitCode;
use vault::chain::Backup;
use vault::postgres::ConnInfo;
use vault::postgres::equality::{self, Equality};
use vault::repository::Repository;
use vault::source::Source;
use vault::source::directory::DirectorySource;
use vault::source::image::ImageSource;

/// Compare live data with a backup, to the bit: a directory, or a running database server.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    #[command(flatten)]
    pub(crate) which: Which,
    /// The live directory, file or disk image; where the backup came from if none is given.
    pub(crate) path: Option<PathBuf>,
    /// A running server on this machine, primary or standby, as `host=/run/postgresql
    /// user=postgres`: its pages are compared with the backup's.
    #[arg(long, value_name = "CONNECTION", conflicts_with_all = ["path", "exclude"])]
    pub(crate) postgres: Option<String>,
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
    if let Some(connection) = &args.postgres {
        return server(&repository, (seq, backup), connection, output);
    }
    let path = args.path.clone().unwrap_or_else(|| PathBuf::from(&backup.origin));
    let is_device = std::fs::metadata(&path).is_ok_and(|m| m.file_type().is_block_device());
    let source: Box<dyn Source> = match is_device {
        true => Box::new(ImageSource::new(&path, None)?),
        false => Box::new(DirectorySource::new(&path, &args.exclude, false)?),
    };
    let found = vault::compare::compare(&repository.blobs()?, backup, &*source, &path)?;
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

#[derive(Serialize)]
struct ServerShown {
    equal: bool,
    backup: u64,
    live_root: String,
    backup_root: String,
    timeline: u32,
    upto: String,
    equal_pages: u64,
    changed_pages: u64,
    unwritten_pages: u64,
    settled_pages: u64,
    not_compared: BTreeMap<&'static str, u64>,
    differences: Vec<(String, String)>,
    differences_more: u64,
    no_checkpoint: Option<String>,
}

fn server(
    repository: &Repository,
    (seq, backup): (u64, &Backup),
    connection: &str,
    output: Output,
) -> CliResult {
    let found = equality::compare(repository, backup, &ConnInfo::parse(connection)?)?;
    let equal = found.is_equal();
    let Equality { equal_pages, changed_pages, unwritten_pages, settled_pages, .. } = found;
    let shown = ServerShown {
        equal,
        backup: seq,
        live_root: hex(&found.live),
        backup_root: hex(&found.backup),
        timeline: found.timeline,
        upto: found.upto.to_string(),
        equal_pages,
        changed_pages,
        unwritten_pages,
        settled_pages,
        not_compared: found.not_compared,
        differences: found.differences,
        differences_more: found.differences_more,
        no_checkpoint: found.no_checkpoint,
    };
    output.show(&shown, server_text);
    Ok(if equal { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FOUND) })
}

fn server_text(shown: &ServerShown) -> String {
    let mut text = match shown.equal {
        true => format!("equal: no page differs from backup {}", shown.backup),
        false => format!("NOT equal to backup {}", shown.backup),
    };
    text += &format!(
        "\n  {} pages are at the backup's position; over them\n    live root   {}\n    backup root \
         {}\n  {} pages changed since, each as the log of timeline {} says, which was read up to \
         {}\n  {} of them are younger than the server's last checkpoint and not on its disk yet\n  \
         {} changes that the checkpoint had written are on its disk",
        shown.equal_pages,
        shown.live_root,
        shown.backup_root,
        shown.changed_pages + shown.unwritten_pages,
        shown.timeline,
        shown.upto,
        shown.unwritten_pages,
        shown.settled_pages,
    );
    let not: Vec<String> =
        shown.not_compared.iter().map(|(what, n)| format!("{n} {what}")).collect();
    if !not.is_empty() {
        text += &format!("\n  not compared, as they have no position: {}", not.join(", "));
    }
    if let Some(why) = &shown.no_checkpoint {
        text += &format!(
            "\n  the server made no checkpoint, what it had not written yet is not compared: {why}"
        );
    }
    for (path, what) in &shown.differences {
        text += &format!("\n  {path}: {what}");
    }
    if shown.differences_more > 0 {
        text += &format!("\n  and {} more", shown.differences_more);
    }
    text
}
