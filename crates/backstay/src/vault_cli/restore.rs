//! `restore`: brings a backup, a path or a file back.

use super::opening::{RepositoryArgs, Which, protect_memory, readers, take_descriptors};
use super::output::{Output, hex, moment, rate, size, timed, with_progress};
use super::{CliResult, EXIT_FOUND};
use clap::Args;
use serde::Serialize;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use vault::VaultError;
use vault::chain::Backup;
use vault::restore::{Action, Change, Plan, RestoreCounters, RestoreReport, RestoreRequest};

/// Bring a backup, a path or a file back.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    #[command(flatten)]
    pub(crate) which: Which,
    /// The path within the backup; all of it where none is given.
    #[arg(default_value = "")]
    pub(crate) path: String,
    /// The directory that receives it. What lies there and is right is not written again.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["in_place", "stdout"])]
    pub(crate) target: Option<PathBuf>,
    /// Restore to where it was; what is replaced is set aside beside it.
    #[arg(long, conflicts_with_all = ["target", "stdout"])]
    pub(crate) in_place: bool,
    /// Write the file to standard output.
    #[arg(long, conflicts_with = "target")]
    pub(crate) stdout: bool,
    /// A database: up to everything that was acknowledged.
    #[arg(long, conflicts_with_all = ["to_time", "to_lsn", "to_transaction", "stdout"])]
    pub(crate) latest: bool,
    /// A database: up to this position of its log, as `0/3000148`.
    #[arg(long, value_name = "LSN", conflicts_with_all = ["to_time", "to_transaction", "stdout"])]
    pub(crate) to_lsn: Option<String>,
    /// A database: up to the commit of this transaction, with it.
    #[arg(long, value_name = "XID", conflicts_with_all = ["to_time", "stdout"])]
    pub(crate) to_transaction: Option<u32>,
    /// A database: where a tablespace goes, as `OID=DIR`; else it goes where it was.
    #[arg(long, value_name = "OID=DIR")]
    pub(crate) tablespace: Vec<String>,
    /// A database: restore the log that it needs, too, so that the server needs neither this
    /// program nor a key to start.
    #[arg(long)]
    pub(crate) with_log: bool,
    /// Only say what would change.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Make device nodes too.
    #[arg(long)]
    pub(crate) devices: bool,
    /// Restored files belong to whoever restores; the default for anyone but root.
    #[arg(long)]
    pub(crate) no_owners: bool,
}

#[derive(Serialize)]
struct Statement {
    backup: u64,
    source: String,
    root: String,
    position: String,
    time: String,
    target: String,
    dry_run: bool,
    files: u64,
    directories: u64,
    bytes: u64,
    files_changed: u64,
    bytes_written: u64,
    set_aside: u64,
    set_aside_at: Option<String>,
    verified: &'static str,
    synced: bool,
    took_ms: u64,
    notes: Vec<(String, String)>,
    notes_more: u64,
    /// Of a dry run.
    plan: Option<Planned>,
}

/// What a dry run says that would change.
#[derive(Serialize)]
struct Planned {
    make: u64,
    rewrite: u64,
    adjust: u64,
    set_aside: u64,
    remove: u64,
    changes: Vec<PlannedChange>,
    changes_more: u64,
}

#[derive(Serialize)]
struct PlannedChange {
    path: String,
    action: &'static str,
}

impl Planned {
    fn of(plan: &Plan) -> Planned {
        let count = |action| plan.counts.get(&action).copied().unwrap_or_default();
        let change = |change: &Change| PlannedChange {
            path: String::from_utf8_lossy(&change.path).into_owned(),
            action: change.action.word(),
        };
        Planned {
            make: count(Action::Make),
            rewrite: count(Action::Rewrite),
            adjust: count(Action::Adjust),
            set_aside: count(Action::SetAside),
            remove: count(Action::Remove),
            changes: plan.listed.iter().map(change).collect(),
            changes_more: plan.more(),
        }
    }

    fn text(&self) -> String {
        let Planned { make, rewrite, adjust, set_aside, remove, .. } = self;
        let mut text = format!(
            "\n  would make {make}, rewrite {rewrite}, adjust {adjust}, set aside {set_aside}, \
             remove {remove}"
        );
        for PlannedChange { path, action } in &self.changes {
            let path = if path.is_empty() { "." } else { path };
            text += &format!("\n    {action} {path}");
        }
        if self.changes_more > 0 {
            text += &format!("\n    and {} more changes", self.changes_more);
        }
        text
    }
}

/// Runs the command.
///
/// # Errors
/// Where the restore could not begin, or a file for standard output is lost.
pub(crate) fn run(args: &RestoreArgs, output: Output) -> CliResult {
    protect_memory();
    take_descriptors();
    let repository = args.opening.open()?;
    if super::restore_postgres::is_meant(args, &repository) {
        return super::restore_postgres::run(args, &repository, output);
    }
    let (seq, backup) = args.which.find(&repository)?;
    let blobs = repository.blobs()?;
    if args.stdout {
        let mut out = super::stdout::lock();
        vault::restore::to_stream(&blobs, backup, args.path.as_bytes(), &mut out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (target, set_aside) = places(args, backup)?;
    let counters = Arc::new(RestoreCounters::default());
    let request = RestoreRequest {
        path: args.path.as_bytes().to_vec(),
        target,
        set_aside: set_aside.clone(),
        dry_run: args.dry_run,
        owners: !args.no_owners && rustix::process::geteuid().is_root(),
        devices: args.devices,
        workers: readers(),
        counters: Arc::clone(&counters),
    };
    let done = || counters.bytes.load(Ordering::Relaxed);
    let work = || timed(|| vault::restore::run(&blobs, backup, &request));
    let total = vault::restore::totals(&blobs, backup, &request.path)?.bytes;
    let (report, took) = with_progress(total, done, work);
    let report = report?;
    let incomplete = !report.is_complete();
    output.show(&statement(seq, backup, &request, report, took), text);
    Ok(if incomplete { ExitCode::from(EXIT_FOUND) } else { ExitCode::SUCCESS })
}

/// Where it goes, and where what it replaces goes.
fn places(args: &RestoreArgs, backup: &Backup) -> Result<(PathBuf, Option<PathBuf>), VaultError> {
    if let Some(target) = &args.target {
        return Ok((target.clone(), None));
    }
    if backup.kind != vault::chain::SourceKind::Directory {
        let what = "a command's output has no place of its own; give --target or --stdout";
        return Err(VaultError::Refused(what.to_owned()));
    }
    let origin = PathBuf::from(&backup.origin);
    if fs::metadata(&origin).is_ok_and(|m| m.file_type().is_block_device()) {
        let what = format!(
            "{} is a block device: in its place there would be a file. Give --target, or write \
             --stdout to the device",
            origin.display()
        );
        return Err(VaultError::Refused(what));
    }
    let parent = |path: &Path| {
        let found = path.parent().map(PathBuf::from);
        found.ok_or_else(|| VaultError::Refused("give --target for this path".to_owned()))
    };
    let is_directory = matches!(backup.top.kind, vault::tree::EntryKind::Directory { .. });
    let inner = args.path.trim_matches('/');
    let mut target = match (is_directory, inner.is_empty()) {
        (true, true) => origin.clone(),
        (true, false) => origin.join(inner),
        (false, _) => parent(&origin)?,
    };
    if is_directory && !inner.is_empty() && !target.is_dir() {
        target = parent(&target)?;
    }
    parent(&origin)?;
    Ok((target, Some(new_aside(&origin))))
}

/// A new place beside what is replaced. A restore that is begun again within a second must not
/// meet what the one before it set aside.
pub(crate) fn new_aside(place: &Path) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stamp = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    let name = format!("{name}.replaced-{stamp}");
    let mut aside = place.with_file_name(&name);
    let mut number = 2;
    while fs::symlink_metadata(&aside).is_ok() {
        aside = place.with_file_name(format!("{name}-{number}"));
        number += 1;
    }
    aside
}

fn statement(
    seq: u64,
    backup: &Backup,
    request: &RestoreRequest,
    report: RestoreReport,
    took: Duration,
) -> Statement {
    Statement {
        backup: seq,
        source: backup.source.clone(),
        root: hex(&backup.subject.root),
        position: backup.subject.position.clone(),
        time: moment(backup.subject.begun_ms),
        target: request.target.display().to_string(),
        dry_run: request.dry_run,
        files: report.totals.files,
        directories: report.totals.directories,
        bytes: report.totals.bytes,
        files_changed: report.files_changed,
        bytes_written: report.bytes_written,
        set_aside: report.set_aside,
        set_aside_at: request
            .set_aside
            .as_ref()
            .filter(|_| report.set_aside > 0 || report.plan.counts.contains_key(&Action::SetAside))
            .map(|path| path.display().to_string()),
        verified: "the signature, the Merkle path of every entry, the seal and identity of every \
                   chunk read or kept",
        synced: report.synced,
        took_ms: took.as_millis() as u64,
        plan: request.dry_run.then(|| Planned::of(&report.plan)),
        notes: report.notes.into_iter().map(|note| (note.path, note.what)).collect(),
        notes_more: report.notes_more,
    }
}

fn text(s: &Statement) -> String {
    let took = Duration::from_millis(s.took_ms);
    let verb = if s.dry_run { "Would restore" } else { "Restored" };
    let mut text = format!(
        "{verb} backup {} of {} ({}) to {}\n  {} files, {}; {} files differed or were missing, \
         {} written in {:.2} s ({})\n  root {}\n  verified: {}",
        s.backup,
        s.source,
        s.time,
        s.target,
        s.files,
        size(s.bytes),
        s.files_changed,
        size(s.bytes_written),
        took.as_secs_f64(),
        rate(s.bytes, took),
        s.root,
        s.verified,
    );
    if s.synced {
        text += "\n  on disk: yes, the file system was synced";
    }
    match (&s.set_aside_at, s.dry_run) {
        (Some(place), true) => text += &format!("\n  would set aside in {place}"),
        (Some(place), false) => {
            text += &format!("\n  {} entries set aside in {place}", s.set_aside);
        }
        (None, _) => {}
    }
    if let Some(plan) = &s.plan {
        text += &plan.text();
    }
    for (path, what) in &s.notes {
        text += &format!("\n  not as it was: {path}: {what}");
    }
    if s.notes_more > 0 {
        text += &format!("\n  and {} more", s.notes_more);
    }
    text
}
