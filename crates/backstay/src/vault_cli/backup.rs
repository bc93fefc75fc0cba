//! `backup`: backs up a directory, a file, a command's output, a database or a disk image.

use super::cluster;
use super::opening::{RepositoryArgs, host, protect_memory, workers};
use super::output::{Output, hex, rate, size, timed, with_progress};
use super::{CliResult, EXIT_FOUND};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use vault::backup::{BackupOutcome, BackupRequest, Counters, Parent, Since};
use vault::postgres::{ConnInfo, PostgresSource, ReplicatedSource};
use vault::source::Source;
use vault::source::command::CommandSource;
use vault::source::directory::DirectorySource;
use vault::source::image::{DirtyMap, ImageSource};
use vault::{Result, VaultError};

/// Back up a directory, a file, a command's output, a database or a disk image.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    /// The directory or file.
    #[arg(required_unless_present_any = ["command", "postgres", "image"])]
    #[arg(conflicts_with = "command")]
    pub(crate) path: Option<PathBuf>,
    /// A shell command whose standard output is backed up. If it fails, so does the backup.
    #[arg(long, value_name = "COMMAND", requires = "name")]
    pub(crate) command: Option<String>,
    /// A PostgreSQL server on this machine, as `host=/run/postgresql port=5432 user=postgres`:
    /// a base backup of its data directory, with the log that it needs.
    #[arg(long, value_name = "CONNECTION", requires = "name",
        conflicts_with_all = ["command", "path", "exclude", "one_file_system"])]
    pub(crate) postgres: Option<String>,
    /// The server sends its files over the replication protocol: for one whose data directory is
    /// out of reach. The role needs the right to replicate only; every backup reads everything.
    #[arg(long, requires = "postgres")]
    pub(crate) over_replication: bool,
    /// A raw disk image or a block device that nobody writes meanwhile: read in blocks of 64 KiB,
    /// of which those that changed are stored.
    #[arg(long, value_name = "PATH",
        conflicts_with_all = ["command", "path", "postgres", "exclude", "one_file_system"])]
    pub(crate) image: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) dirty: DirtyArgs,
    /// The source's name in the repository; the path where none is given.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Leave out what fits: a name anywhere, or, with a slash, a path from the top.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// Stay on the file system of the directory.
    #[arg(long)]
    pub(crate) one_file_system: bool,
    /// Read every file, whatever its metadata says.
    #[arg(long)]
    pub(crate) reread: bool,
    /// Run before the backup; a failure fails it.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) before: Option<String>,
    /// Run after the backup, whatever happened; a failure fails it.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) after: Option<String>,
}

/// What a hypervisor says of what changed in an image.
#[derive(Debug, Args)]
pub(crate) struct DirtyArgs {
    /// What may have changed in the image since the backup of `--since`; the rest is not read.
    /// What `nbdinfo --json --map=qemu:dirty-bitmap:NAME URI` prints, or lines: `size BYTES`, an
    /// `OFFSET LENGTH` for each stretch, `end`. It is read after the hook `--before`.
    #[arg(long, value_name = "MAP", requires_all = ["image", "since"], conflicts_with = "reread")]
    pub(crate) dirty: Option<PathBuf>,
    /// The backup with which the map begins, by number or root; it must be the newest.
    #[arg(long, value_name = "BACKUP", requires = "dirty")]
    pub(crate) since: Option<String>,
    /// How many percent of the blocks that the map calls clean are read all the same and compared
    /// with that backup. One that changed fails the backup.
    #[arg(long, value_name = "PERCENT", default_value_t = 1, requires = "dirty",
        value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) verify_sample: u8,
}

impl DirtyArgs {
    fn map(&self) -> Option<DirtyMap> {
        let path = self.dirty.clone()?;
        Some(DirtyMap { path, sample_percent: self.verify_sample })
    }

    /// With which backup the source is compared.
    fn parent(&self, reread: bool) -> Result<Parent> {
        match &self.since {
            None if reread => Ok(Parent::None),
            None => Ok(Parent::Newest),
            Some(text) => Since::parse(text).map(Parent::Since).ok_or_else(|| {
                VaultError::Refused(format!(
                    "`{text}` is neither the number nor the root of a backup; `backstay vault \
                     list` shows both"
                ))
            }),
        }
    }
}

#[derive(Serialize)]
struct Shown {
    backup: u64,
    source: String,
    root: String,
    position: String,
    note: Option<String>,
    parent: Option<u64>,
    files: u64,
    directories: u64,
    bytes: u64,
    files_read: u64,
    bytes_read: u64,
    bytes_stored: u64,
    took_ms: u64,
    skipped: Vec<(String, String)>,
    skipped_more: u64,
    head: String,
    /// Whether the cluster remembers it; none where no cluster is asked.
    remembered: Option<bool>,
}

/// Runs the command.
///
/// # Errors
/// Where nothing could be recorded.
pub(crate) fn run(args: &BackupArgs, output: Output) -> CliResult {
    protect_memory();
    let (source, name) = source(args)?;
    let parent = args.dirty.parent(args.reread)?;
    let mut repository = args.opening.open_whoever_is_silent()?;
    let counters = Arc::new(Counters::default());
    let request = BackupRequest {
        name,
        host: host(),
        source: &*source,
        parent,
        workers: workers(),
        before: args.before.clone(),
        after: args.after.clone(),
        block_memory: Some(args.opening.state_dir.clone()),
        counters: Arc::clone(&counters),
    };
    let done = || counters.bytes_read.load(Ordering::Relaxed);
    let work = || timed(|| vault::backup::run(&mut repository, &request));
    let (outcome, took) = with_progress(0, done, work);
    let outcome = outcome?;
    if let Some(warning) = &outcome.warning {
        eprintln!("warning: the next backup will take longer: {warning}");
    }
    let told = cluster::tell(&mut repository);
    let mut shown = shown(&outcome, took, repository.chain().head.to_string());
    shown.remembered = *told.as_ref().unwrap_or(&Some(false));
    let is_wrong = !shown.skipped.is_empty() || shown.remembered == Some(false);
    output.show(&shown, text);
    // The backup is made; that the repository is not what the cluster remembers comes last.
    told?;
    Ok(if is_wrong { ExitCode::from(EXIT_FOUND) } else { ExitCode::SUCCESS })
}

fn source(args: &BackupArgs) -> Result<(Box<dyn Source>, String)> {
    if let (Some(command), Some(name)) = (&args.command, &args.name) {
        return Ok((Box::new(CommandSource::new(command, name)), name.clone()));
    }
    if let (Some(connection), Some(name)) = (&args.postgres, &args.name) {
        let info = ConnInfo::parse(connection)?;
        let source: Box<dyn Source> = match args.over_replication {
            true => Box::new(ReplicatedSource::new(info, name)?),
            false => Box::new(PostgresSource::new(info, name)?),
        };
        return Ok((source, name.clone()));
    }
    let path = args.image.as_ref().or(args.path.as_ref());
    let path = path.ok_or_else(|| VaultError::Refused("say what to back up".to_owned()))?;
    let path = std::path::absolute(path).map_err(VaultError::file("find", path.clone()))?;
    let name = args.name.clone().unwrap_or_else(|| path.display().to_string());
    let source: Box<dyn Source> = match args.image {
        Some(_) => Box::new(ImageSource::new(&path, args.dirty.map())?),
        None => Box::new(DirectorySource::new(&path, &args.exclude, args.one_file_system)?),
    };
    Ok((source, name))
}

fn shown(outcome: &BackupOutcome, took: Duration, head: String) -> Shown {
    let BackupOutcome { seq, backup, .. } = outcome;
    Shown {
        backup: *seq,
        source: backup.source.clone(),
        root: hex(&backup.subject.root),
        position: backup.subject.position.clone(),
        note: outcome.note.clone(),
        parent: backup.subject.parent,
        files: backup.totals.files,
        directories: backup.totals.directories,
        bytes: backup.totals.bytes,
        files_read: backup.statistics.files_read,
        bytes_read: backup.statistics.bytes_read,
        bytes_stored: backup.statistics.bytes_stored,
        took_ms: took.as_millis() as u64,
        skipped: backup.skipped.iter().map(|s| (s.path.clone(), s.why.clone())).collect(),
        skipped_more: backup.skipped_more,
        head,
        remembered: None,
    }
}

fn text(shown: &Shown) -> String {
    let took = Duration::from_millis(shown.took_ms);
    let mut text = format!(
        "Backup {} of {}: {} files, {}\n  read {} files, {} ({}); stored {} in {:.2} s\n  \
         root {}\n  head {}",
        shown.backup,
        shown.source,
        shown.files,
        size(shown.bytes),
        shown.files_read,
        size(shown.bytes_read),
        rate(shown.bytes_read, took),
        size(shown.bytes_stored),
        took.as_secs_f64(),
        shown.root,
        shown.head,
    );
    text += match shown.remembered {
        None => "",
        Some(true) => ", remembered by the cluster",
        Some(false) => ", NOT remembered by the cluster",
    };
    if !shown.position.is_empty() {
        text += &format!("\n  position {}", shown.position);
    }
    if let Some(note) = &shown.note {
        text += &format!("\n  {note}");
    }
    for (path, why) in &shown.skipped {
        text += &format!("\n  not as it was: {path}: {why}");
    }
    if shown.skipped_more > 0 {
        text += &format!("\n  and {} more", shown.skipped_more);
    }
    text
}
