//! `restore` of a database: to a point in time, a position, a transaction, or all of it.

use super::opening::{RepositoryArgs, parse_moment, readers};
use super::output::{Output, hex, moment, rate, size, timed, with_progress};
use super::restore::{RestoreArgs, new_aside};
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
use vault::postgres::{Lsn, Preview, preview};
use vault::repository::Repository;
use vault::restore::RestoreCounters;
use vault::tree::Totals;
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
    /// Of a dry run.
    plan: Option<Planned>,
}

/// What a dry run says that would be done.
#[derive(Serialize)]
struct Planned {
    goes_on: bool,
    sets_aside: Option<String>,
    places: Vec<PlannedPlace>,
    log_from: String,
    log_segments: u64,
    log_bytes: u64,
    log_restored: bool,
}

#[derive(Serialize)]
struct PlannedPlace {
    place: String,
    files: u64,
    bytes: u64,
}

impl Planned {
    fn of(plan: &Plan, seen: &Preview, log_restored: bool) -> Planned {
        let place = |(place, totals): &(PathBuf, Totals)| PlannedPlace {
            place: place.display().to_string(),
            files: totals.files,
            bytes: totals.bytes,
        };
        Planned {
            goes_on: seen.goes_on,
            sets_aside: seen.sets_aside.as_ref().map(|path| path.display().to_string()),
            places: seen.places.iter().map(place).collect(),
            log_from: format!("{} on timeline {}", seen.log_from, plan.position.timeline),
            log_segments: seen.log_segments,
            log_bytes: seen.log_bytes,
            log_restored,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(place) = &self.sets_aside {
            text += &format!("\n  would set aside {place}, beside itself");
        }
        if self.goes_on {
            text += "\n  would go on with the restore that was broken off there";
        }
        for PlannedPlace { place, files, bytes } in &self.places {
            text += &format!("\n  would write {files} files, {} to {place}", size(*bytes));
        }
        let how = match self.log_restored {
            true => "restored, too",
            false => "fetched by the server as it recovers",
        };
        let (from, count, bytes) = (&self.log_from, self.log_segments, size(self.log_bytes));
        text + &format!("\n  log from {from}: {count} segments, {bytes}, {how}")
    }
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
    if args.in_place {
        require_stopped(&place)?;
    }
    // What the restore refuses is refused before anything is moved aside for it.
    let look = || preview(repository, &plan, &request, args.in_place);
    let seen = (args.dry_run || args.in_place).then(look).transpose()?;
    if let (true, Some(seen)) = (args.dry_run, &seen) {
        let planned = Planned::of(&plan, seen, args.with_log);
        let statement = Statement {
            plan: Some(planned),
            ..statement(&plan, &place, None, None, Duration::ZERO)
        };
        output.show(&statement, text);
        return Ok(ExitCode::SUCCESS);
    }
    let replaced = match seen.and_then(|seen| seen.sets_aside) {
        Some(place) => Some(set_aside(&place)?),
        None => None,
    };
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

fn require_stopped(place: &Path) -> Result<()> {
    if is_running(place) {
        return Err(VaultError::Refused(format!(
            "a server runs on {}: stop it first. Nothing was written",
            place.display()
        )));
    }
    Ok(())
}

/// Moves the data directory aside that the restored one replaces.
fn set_aside(place: &Path) -> Result<String> {
    let aside = new_aside(place);
    fs::rename(place, &aside).map_err(VaultError::file("set aside", place))?;
    Ok(aside.display().to_string())
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
        plan: None,
    }
}

fn text(s: &Statement) -> String {
    let took = Duration::from_millis(s.took_ms);
    let verb = if s.dry_run { "Would restore" } else { "Restored" };
    let mut text = format!(
        "{verb} base backup {} of {} ({}) to {}\n  {} files, {} in {:.2} s ({})\n  root {}\n  \
         position {}\n  start the server: it replays the log of timeline {} up to {}, to {}\n  \
         verified: {}",
        s.backup,
        s.source,
        s.time,
        s.target,
        s.files,
        size(s.bytes),
        took.as_secs_f64(),
        rate(s.bytes, took),
        s.root,
        s.position,
        s.timeline,
        s.log_upto,
        s.point,
        s.verified,
    );
    if let Some(place) = &s.replaced_at {
        text += &format!("\n  what it replaced is in {place}");
    }
    if let Some(plan) = &s.plan {
        text += &plan.text();
    }
    for (path, what) in &s.notes {
        text += &format!("\n  not as it was: {path}: {what}");
    }
    text
}
