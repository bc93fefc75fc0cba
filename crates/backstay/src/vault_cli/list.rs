//! `vault list`: lists backups, or what one holds.

use super::CliResult;
use super::opening::{RepositoryArgs, Which};
use super::output::{Output, hex, moment, size};
use clap::Args;
use comfy_table::Table;
use serde::Serialize;
use std::fmt;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use vault::VaultError;
use vault::chain::Copied;
use vault::tree::{Entry, EntryKind, Step, Walk, find_path};

/// List backups, or, with a path (`/` for all), what one holds.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    #[command(flatten)]
    pub(crate) which: Which,
    /// The path within the backup.
    pub(crate) path: Option<String>,
    /// Only entries whose name contains this.
    #[arg(long, value_name = "TEXT", requires = "path")]
    pub(crate) find: Option<String>,
}

#[derive(Serialize)]
struct Row {
    backup: u64,
    source: String,
    host: String,
    begun: String,
    files: u64,
    bytes: u64,
    stored: u64,
    parent: Option<u64>,
    copied: Option<CopyRow>,
    proven: bool,
    skipped: u64,
    root: String,
}

/// Of what a backup is a copy.
#[derive(Serialize)]
pub(crate) struct CopyRow {
    repository: String,
    backup: u64,
    time: String,
}

impl CopyRow {
    pub(crate) fn of(copied: &Copied) -> CopyRow {
        CopyRow {
            repository: hex(&copied.repository),
            backup: copied.record,
            time: moment(copied.time_ms),
        }
    }
}

impl fmt::Display for CopyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CopyRow { repository, backup, time } = self;
        write!(f, "a copy, made {time}, of backup {backup} of repository {repository}")
    }
}

/// Runs the command.
///
/// # Errors
/// Where a part of what is listed is lost.
pub(crate) fn run(args: &ListArgs, output: Output) -> CliResult {
    let repository = args.opening.open()?;
    if let Some(path) = &args.path {
        let (_, backup) = args.which.find(&repository)?;
        let blobs = repository.blobs()?;
        let entry = find_path(&blobs, &backup.top, path.as_bytes())?;
        let walk = Walk::new(&blobs, path.trim_matches('/').as_bytes(), &entry);
        return entries(walk, args.find.as_deref(), output);
    }
    let state = repository.state();
    let wanted = |source: &str| args.which.source.as_ref().is_none_or(|s| s == source);
    let backups = state.backups.iter().filter(|(_, b)| wanted(&b.source));
    let rows: Vec<Row> = backups
        .map(|(seq, b)| Row {
            backup: *seq,
            source: b.source.clone(),
            host: b.host.clone(),
            begun: moment(b.subject.begun_ms),
            files: b.totals.files,
            bytes: b.totals.bytes,
            stored: b.statistics.bytes_stored,
            parent: b.subject.parent,
            copied: b.subject.copied.as_ref().map(CopyRow::of),
            proven: state.proven.contains_key(seq),
            skipped: b.skipped.len() as u64 + b.skipped_more,
            root: hex(&b.subject.root),
        })
        .collect();
    output.show(&rows, table);
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &Vec<Row>) -> String {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["backup", "source", "host", "begun", "files", "size", "new", "root"]);
    for row in rows {
        table.add_row([
            row.backup.to_string(),
            row.source.clone(),
            row.host.clone(),
            match row.copied {
                Some(_) => format!("{} (copy)", row.begun),
                None => row.begun.clone(),
            },
            row.files.to_string(),
            size(row.bytes),
            size(row.stored),
            row.root[..16].to_owned(),
        ]);
    }
    table.to_string()
}

#[derive(Serialize)]
struct Line<'a> {
    path: &'a str,
    kind: &'static str,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: String,
    bytes: Option<u64>,
}

/// One line an entry, written as they are read: a million of them need no memory.
fn entries(walk: Walk<'_>, find: Option<&str>, output: Output) -> CliResult {
    let mut out = BufWriter::new(super::stdout::lock());
    let failed = || VaultError::file("write", "the output");
    for step in walk {
        match step {
            Step::Entry { path, entry } => {
                let name = String::from_utf8_lossy(&entry.name);
                if find.is_some_and(|text| !name.contains(text)) {
                    continue;
                }
                let path = String::from_utf8_lossy(&path);
                let written = match output {
                    Output::Json => {
                        let line = serde_json::to_string(&line(&path, &entry));
                        writeln!(out, "{}", line.expect("a line always encodes"))
                    }
                    Output::Text => writeln!(out, "{}", text(&line(&path, &entry))),
                };
                written.map_err(failed())?;
            }
            Step::Leave { .. } => {}
            Step::Lost { error, .. } => return Err(error),
        }
    }
    out.flush().map_err(failed())?;
    Ok(ExitCode::SUCCESS)
}

fn line<'a>(path: &'a str, entry: &Entry) -> Line<'a> {
    let (kind, bytes) = match &entry.kind {
        EntryKind::File { size_bytes, .. } => ("file", Some(*size_bytes)),
        EntryKind::Directory { .. } => ("directory", None),
        EntryKind::Symlink { .. } => ("link", None),
        EntryKind::HardLink { .. } => ("further name", None),
        EntryKind::Fifo => ("pipe", None),
        EntryKind::Socket => ("socket", None),
        EntryKind::CharDevice { .. } => ("character device", None),
        EntryKind::BlockDevice { .. } => ("block device", None),
    };
    let meta = &entry.meta;
    let mtime = moment(meta.mtime_s.saturating_mul(1000));
    Line { path, kind, mode: meta.mode, uid: meta.uid, gid: meta.gid, mtime, bytes }
}

fn text(line: &Line<'_>) -> String {
    let bytes = line.bytes.map_or(String::new(), |b| b.to_string());
    let path = if line.path.is_empty() { "." } else { line.path };
    format!(
        "{:<9} {:04o} {:>5}:{:<5} {:>12} {} {path}",
        line.kind, line.mode, line.uid, line.gid, bytes, line.mtime
    )
}
