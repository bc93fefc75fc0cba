//! `vault cleanup`: gives back the room of what nothing needs.

use super::CliResult;
use super::opening::{DeletionArgs, RepositoryArgs};
use super::output::{Output, size};
use clap::Args;
use serde::Serialize;
use vault::cleanup::{CleanupReport, CleanupRequest};

/// Give back the room of what nothing needs. Safe beside running backups: what is not needed
/// is marked first and deleted by a later run.
#[derive(Debug, Args)]
pub(crate) struct CleanupArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    #[command(flatten)]
    pub(crate) deletion: DeletionArgs,
}

#[derive(Serialize)]
struct Shown {
    runs_declared_dead: u64,
    objects_deleted: u64,
    objects_spared: u64,
    freed_bytes: u64,
    objects_marked: u64,
    packs_rewritten: u64,
    waiting: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// Where what backups need cannot be told, or the deletion key is needed.
pub(crate) fn run(args: &CleanupArgs, output: Output) -> CliResult {
    let deletion = args.deletion.read()?;
    let mut repository = args.opening.open()?;
    let request = CleanupRequest { deletion: deletion.as_ref(), ..CleanupRequest::default() };
    let report: CleanupReport = vault::cleanup::run(&mut repository, &request)?;
    let shown = Shown {
        runs_declared_dead: report.fenced,
        objects_deleted: report.deleted,
        objects_spared: report.spared,
        freed_bytes: report.freed_bytes,
        objects_marked: report.marked,
        packs_rewritten: report.repacked,
        waiting: report.waiting,
    };
    output.show(&shown, text);
    super::cluster::end(&mut repository)
}

fn text(shown: &Shown) -> String {
    let mut text = format!(
        "deleted {} objects ({}), spared {}, marked {} for later, rewrote {} packs",
        shown.objects_deleted,
        size(shown.freed_bytes),
        shown.objects_spared,
        shown.objects_marked,
        shown.packs_rewritten,
    );
    if shown.runs_declared_dead > 0 {
        text += &format!("\n{} runs showed no life and were ended", shown.runs_declared_dead);
    }
    for waiting in &shown.waiting {
        text += &format!("\n{waiting}");
    }
    text
}
