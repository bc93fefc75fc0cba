//! `vault cleanup`: gives back the room of what nothing needs.

use super::CliResult;
use super::opening::{DeletionArgs, RepositoryArgs};
use super::output::{Output, size};
use clap::Args;
use serde::Serialize;
use vault::cleanup::{CleanupReport, CleanupRequest};
use vault::store::Protection;

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
    objects_refused: u64,
    freed_bytes: u64,
    objects_marked: u64,
    packs_rewritten: u64,
    waiting: Vec<String>,
    /// Why what was deleted still takes room; none where it does not.
    kept_by_store: Option<String>,
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
    let kept_by_store = match report.deleted {
        0 => None,
        _ => kept(&repository.store().protection()?),
    };
    let shown = Shown {
        kept_by_store,
        runs_declared_dead: report.fenced,
        objects_deleted: report.deleted,
        objects_spared: report.spared,
        objects_refused: report.refused,
        freed_bytes: report.freed_bytes,
        objects_marked: report.marked,
        packs_rewritten: report.repacked,
        waiting: report.waiting,
    };
    output.show(&shown, text);
    super::cluster::end(&mut repository)
}

/// A bucket with versions hides what is deleted, and keeps it.
fn kept(protection: &Protection) -> Option<String> {
    let until = match protection {
        Protection::Locked { days, .. } => format!("for {days} days from its writing, and then "),
        _ => String::new(),
    };
    protection.keeps_deleted().then(|| {
        format!(
            "the bucket keeps what was deleted as old versions: {until}until a lifecycle rule for \
             noncurrent versions removes them"
        )
    })
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
    if shown.objects_refused > 0 {
        text += &format!(
            "\n{} objects the store does not let go of yet: a later clean-up tries again",
            shown.objects_refused
        );
    }
    if let Some(kept) = &shown.kept_by_store {
        text += &format!("\n{kept}");
    }
    for waiting in &shown.waiting {
        text += &format!("\n{waiting}");
    }
    text
}
