//! `restore` of a database: to a point in time, a position, a transaction, or all of it.

use super::opening::{RepositoryArgs, parse_moment, readers};
use super::output::{Output, hex, moment, rate, size, timed, with_progress};
use super::restore::RestoreArgs;
use super::{CliResult, EXIT_FOUND};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use vault::chain::SourceKind;
use vault::postgres::recovery::{Choice, Log, Plan, RecoverRequest, Target, plan, recover};
use vault::postgres::{Lsn, is_unfinished};
use vault::repository::Repository;
use vault::restore::RestoreCounters;
use vault::{Result, VaultError};

#[derive(Serialize)]
struct Statement {
    backup: u64,
    source: String,
    root: String,
    position: String,
    time: String,
    target: String,
    point: String,
    timeline: u32,
    log_upto: String,
    dry_run: bool,
    files: u64,
    bytes: u64,
    replaced_at: Option<String>,
    verified: &'static str,
    took_ms: u64,
    notes: Vec<(String, String)>,
}

/// Whether the arguments ask for a database at a point, and not for files of a backup.
pub(crate) fn is_meant(args: &RestoreArgs, repository: &Repository) -> bool {
    if args.latest || args.to_lsn.is_some() || args.to_transaction.is_some() {
        return true;
    }
    let newest = || repository.state().newest(args.which.source.as_deref()).map(|(_, b)| b.kind);
    args.which.to_time.is_some() && args.path.is_empty() && newest() == Some(SourceKind::Postgres)
}

/// Restores a database.
///
/// # Errors
/// Where the point cannot be reached; nothing was written then.
pub(crate) fn run(args: &RestoreArgs, repository: &Repository, output: Output) -> CliResult {
    let choice = Choice { source: args.which.source.clone(), backup: args.which.backup };
    let plan = plan(repository, &choice, target(args)?)?;
    let place = args.target.clone().unwrap_or_else(|| PathBuf::from(&plan.backup.origin));
    if args.target.is_none() && !place.is_absolute() {
        let what = "the server sent this backup over the replication protocol, from where no one \
                    here knows: say with --target where it goes";
        return Err(VaultError::Refused(what.to_owned()));
    }
    let place = std::path::absolute(&place).map_err(VaultError::file("find", place))?;
    let counters = Arc::new(RestoreCounters::default());
    let request = RecoverRequest {
        target: place.clone(),
        spaces: spaces(&args.tablespace)?,
        log: match args.with_log {
            true => Log::Fetched,
            false => Log::Command(restore_command(&args.opening, &plan.backup.source)?),
        },
        owners: !args.no_owners && rustix::process::geteuid().is_root(),
        workers: readers(),
        counters: Arc::clone(&counters),
    };
    if args.dry_run {
        output.show(&statement(&plan, &place, None, None, Duration::ZERO), text);
        return Ok(ExitCode::SUCCESS);
    }
    let replaced = if args.in_place { set_aside(repository, &plan, &place)? } else { None };
    let done = || counters.bytes.load(Ordering::Relaxed);
    let work = || timed(|| recover(repository, &plan, &request));
    let (report, took) = with_progress(plan.backup.totals.bytes, done, work);
    let report = report?;
    let incomplete = !report.is_complete();
    output.show(&statement(&plan, &place, replaced, Some(report), took), text);
    Ok(if incomplete { ExitCode::from(EXIT_FOUND) } else { ExitCode::SUCCESS })
}

fn target(args: &RestoreArgs) -> Result<Target> {
    if let Some(time) = &args.which.to_time {
        return Ok(Target::Time(parse_moment(time)?.as_microsecond()));
    }
    if let Some(lsn) = &args.to_lsn {
        let parsed = Lsn::parse(lsn);
        let bad = || VaultError::Refused(format!("`{lsn}` is no position; one is 0/3000148"));
        return Ok(Target::Lsn(parsed.ok_or_else(bad)?));
    }
    Ok(args.to_transaction.map_or(Target::Latest, Target::Transaction))
}

fn spaces(pairs: &[String]) -> Result<BTreeMap<String, PathBuf>> {
    let pair = |text: &String| {
        let bad = || VaultError::Refused(format!("`{text}` is not OID=DIR"));
        let (number, place) = text.split_once('=').ok_or_else(bad)?;
        let place = std::path::absolute(place).map_err(VaultError::file("find", place))?;
        Ok((number.to_owned(), place))
    };
    pairs.iter().map(pair).collect()
}

/// The command with which the server fetches its log from here.
fn restore_command(opening: &RepositoryArgs, source: &str) -> Result<String> {
    let quoted = |text: &str| {
        // The server expands `%`, and the shell all but single quotes.
        format!("'{}'", text.replace('%', "%%").replace('\'', "'\\''"))
    };
    let absolute = |path: &Path| {
        let found = std::path::absolute(path).map_err(VaultError::file("find", path))?;
        Ok::<String, VaultError>(quoted(&found.to_string_lossy()))
    };
    let program = std::env::current_exe().map_err(VaultError::file("find", "this program"))?;
    let place = match opening.repository.contains("://") {
        true => quoted(&opening.repository),
        false => absolute(Path::new(&opening.repository))?,
    };
    let mut words = vec![absolute(&program)?, "vault wal get".to_owned()];
    words.push(format!("--repository {place} --source {}", quoted(source)));
    words.push(format!("--state-dir {}", absolute(&opening.state_dir)?));
    match (&opening.recovery_key, opening.share.is_empty()) {
        (Some(path), _) => words.push(format!("--recovery-key {}", absolute(path)?)),
        (None, true) => words.push(format!("--key {}", absolute(&opening.key)?)),
        (None, false) => {
            for share in &opening.share {
                words.push(format!("--share {}", absolute(share)?));
            }
        }
    }
    words.push("%f \"%p\"".to_owned());
    Ok(words.join(" "))
}

/// Moves the data directory aside that the restored one replaces.
fn set_aside(repository: &Repository, plan: &Plan, place: &Path) -> Result<Option<String>> {
    if is_running(place) {
        return Err(VaultError::Refused(format!(
            "a server runs on {}: stop it first. Nothing was written",
            place.display()
        )));
    }
    vault::verify::require_chunks(&repository.blobs()?, b"", &plan.backup.top)?;
    // A restore that was broken off had set aside what it replaces; it goes on where it ended.
    if !place.exists() || is_unfinished(place) {
        return Ok(None);
    }
    let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stamp = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    let aside = place.with_file_name(format!("{name}.replaced-{stamp}"));
    fs::rename(place, &aside).map_err(VaultError::file("set aside", place))?;
    Ok(Some(aside.display().to_string()))
}

/// Whether the process that a data directory names lives.
fn is_running(place: &Path) -> bool {
    let pid = fs::read_to_string(place.join("postmaster.pid")).unwrap_or_default();
    let pid = pid.lines().next().unwrap_or_default().trim().to_owned();
    !pid.is_empty() && Path::new("/proc").join(pid).exists()
}

fn statement(
    plan: &Plan,
    place: &Path,
    replaced_at: Option<String>,
    report: Option<vault::restore::RestoreReport>,
    took: Duration,
) -> Statement {
    let backup = &plan.backup;
    Statement {
        backup: plan.seq,
        source: backup.source.clone(),
        root: hex(&backup.subject.root),
        position: backup.subject.position.clone(),
        time: moment(backup.subject.begun_ms),
        target: place.display().to_string(),
        point: match plan.target {
            Target::Latest => "everything that was acknowledged".to_owned(),
            Target::Time(time_us) => moment(time_us.div_euclid(1000)),
            Target::Lsn(lsn) => lsn.to_string(),
            Target::Transaction(xid) => format!("the commit of transaction {xid}"),
        },
        timeline: plan.timeline,
        log_upto: plan.upto.to_string(),
        dry_run: report.is_none(),
        files: backup.totals.files,
        bytes: backup.totals.bytes,
        replaced_at,
        verified: "the signature, the Merkle path of every entry, the seal and identity of every \
                   chunk, and that the log is there unbroken up to the point",
        took_ms: took.as_millis() as u64,
        notes: report
            .map(|r| r.notes.into_iter().map(|note| (note.path, note.what)).collect())
            .unwrap_or_default(),
    }
}

fn text(s: &Statement) -> String {
    let took = Duration::from_millis(s.took_ms);
    let verb = if s.dry_run { "Would restore" } else { "Restored" };
    let mut text = format!(
        "{verb} base backup {} of {} ({}) to {}\n  {} files, {} in {:.2} s ({})\n  root {}\n  \
         start the server: it replays the log of timeline {} up to {}, to {}\n  verified: {}",
        s.backup,
        s.source,
        s.time,
        s.target,
        s.files,
        size(s.bytes),
        took.as_secs_f64(),
        rate(s.bytes, took),
        s.root,
        s.timeline,
        s.log_upto,
        s.point,
        s.verified,
    );
    if let Some(place) = &s.replaced_at {
        text += &format!("\n  what it replaced is in {place}");
    }
    for (path, what) in &s.notes {
        text += &format!("\n  not as it was: {path}: {what}");
    }
    text
}
