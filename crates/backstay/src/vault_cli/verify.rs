//! `vault verify`: says what of a repository can be restored.

use super::opening::{RepositoryArgs, readers};
use super::output::{Output, rate, size, timed, with_progress};
use super::{CliResult, EXIT_FOUND};
use clap::Args;
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vault::VaultError;
use vault::error::explain;
use vault::verify::{Depth, VerifyRequest};

/// Say what of the repository can be restored.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    /// Read every byte of every pack.
    #[arg(long)]
    pub(crate) bytes: bool,
    /// Read every byte of one share of the packs, as `3/30`; `day/30` takes the day's share.
    #[arg(long, value_name = "PART/OF", conflicts_with = "bytes")]
    pub(crate) part: Option<String>,
}

#[derive(Serialize)]
struct Shown {
    intact: bool,
    freshness: &'static str,
    records: u64,
    backups: u64,
    packs_read: u64,
    bytes_read: u64,
    chunks_read: u64,
    damaged_backups: Vec<u64>,
    findings: Vec<String>,
    findings_more: u64,
    took_ms: u64,
}

/// Runs the command.
///
/// # Errors
/// Where the repository cannot be opened or the store fails.
pub(crate) fn run(args: &VerifyArgs, output: Output) -> CliResult {
    let mut repository = args.opening.open()?;
    let depth = match &args.part {
        Some(text) => part(text, repository.now_ms())?,
        None if args.bytes => Depth::Bytes,
        None => Depth::Structure,
    };
    let bytes_read = Arc::new(AtomicU64::new(0));
    let request = VerifyRequest {
        depth,
        workers: readers(),
        bytes_read: Arc::clone(&bytes_read),
        memory: Some(args.opening.state_dir.clone()),
    };
    let done = || bytes_read.load(Ordering::Relaxed);
    let (report, took) =
        with_progress(0, done, || timed(|| vault::verify::run(&repository, &request)));
    let report = report?;
    let shown = Shown {
        intact: report.is_intact(),
        freshness: if report.fresh {
            "contains the newest head remembered"
        } else {
            "not provable"
        },
        records: report.records,
        backups: report.backups,
        packs_read: report.packs_read,
        bytes_read: report.bytes_read,
        chunks_read: report.chunks_read,
        damaged_backups: report.damaged_backups.clone(),
        findings: report.findings.iter().map(ToString::to_string).collect(),
        findings_more: report.findings_more,
        took_ms: took.as_millis() as u64,
    };
    output.show(&shown, text);
    // Whoever may only look verifies, too, and tells nobody.
    if shown.intact
        && let Err(error) = vault::cluster::commit(&mut repository)
    {
        match error {
            VaultError::NotRecorded { .. } => eprintln!("warning: {}", explain(&error)),
            error => return Err(error),
        }
    }
    Ok(if shown.intact { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FOUND) })
}

fn part(text: &str, now_ms: i64) -> Result<Depth, VaultError> {
    let bad = || VaultError::Refused(format!("`{text}` is no part; write 3/30 or day/30"));
    let (part, of) = text.split_once('/').ok_or_else(bad)?;
    let of: u32 = of.parse().ok().filter(|of| *of > 0).ok_or_else(bad)?;
    let part = match part {
        "day" => (now_ms.div_euclid(86_400_000) % i64::from(of)) as u32,
        number => number.parse().ok().filter(|part| *part < of).ok_or_else(bad)?,
    };
    Ok(Depth::Part { part, of })
}

fn text(shown: &Shown) -> String {
    let mut text = format!(
        "{} backups, {} records; read {} packs, {} chunks, {} ({})\n  freshness: {}",
        shown.backups,
        shown.records,
        shown.packs_read,
        shown.chunks_read,
        size(shown.bytes_read),
        rate(shown.bytes_read, Duration::from_millis(shown.took_ms)),
        shown.freshness,
    );
    for finding in &shown.findings {
        text += &format!("\n  {finding}");
    }
    if shown.findings_more > 0 {
        text += &format!("\n  and {} more", shown.findings_more);
    }
    match (shown.intact, shown.damaged_backups.is_empty()) {
        (true, _) => text += "\nintact",
        (false, true) => text += "\nDAMAGED, and every backup can still be restored",
        (false, false) => {
            let list: Vec<String> = shown.damaged_backups.iter().map(ToString::to_string).collect();
            text += &format!("\nDAMAGED; backups that lost something: {}", list.join(", "));
        }
    }
    text
}
