//! `vault status`: per source, what there is and what a restore would take.

use super::CliResult;
use super::opening::{RepositoryArgs, schedule_file};
use super::output::{Output, ago, hex, moment, size};
use super::schedule_status::{self, JobRow, escaped};
use clap::Args;
use model::vault::RepositoryId;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vault::repository::{Freshness, Repository};
use vault::summary::{Estimate, SourceSummary, summarize};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Per source: newest backup, newest proven one, sizes; keys, marks and runs under way.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    /// As Prometheus metrics.
    #[arg(long)]
    pub(crate) metrics: bool,
    /// The schedule whose next runs are shown, where there is one.
    #[arg(long, value_name = "FILE", default_value_os_t = schedule_file())]
    pub(crate) schedule: PathBuf,
}

#[derive(Serialize)]
struct SourceRow {
    source: String,
    backups: u64,
    newest: u64,
    newest_ms: i64,
    newest_bytes: u64,
    newest_files: u64,
    incomplete: bool,
    proven: Option<u64>,
    proven_ms: Option<i64>,
    proven_took_ms: Option<u64>,
    restore: Option<EstimateRow>,
    protected_bytes: u64,
    written_bytes: Option<u64>,
    log_upto: Option<String>,
    log_marked_ms: Option<i64>,
    log_stored_bytes: Option<u64>,
    log_lag_bytes: Option<u64>,
    log_seen_ms: Option<i64>,
}

/// What a restore now would take, and the proof that says so.
#[derive(Serialize)]
struct EstimateRow {
    estimate_ms: u64,
    bytes: u64,
    log_bytes: u64,
    proof_of: u64,
    proof_took_ms: u64,
    proof_bytes: u64,
    proof_log_bytes: u64,
}

#[derive(Serialize)]
struct Shown {
    repository: String,
    location: String,
    head: String,
    freshness: &'static str,
    append_only: bool,
    object_lock: String,
    object_lock_days: Option<u32>,
    object_lock_until_ms: Option<i64>,
    signing_key: String,
    keys_locked_in_memory: bool,
    stored_bytes: u64,
    stored_log_bytes: u64,
    protected_bytes: u64,
    sources: Vec<SourceRow>,
    runs: Vec<(String, String, i64)>,
    marks: u64,
    forgotten: u64,
    keys: Vec<(String, String, String)>,
    jobs: Vec<JobRow>,
    now_ms: i64,
}

/// Runs the command.
///
/// # Errors
/// Where the repository cannot be opened.
pub(crate) fn run(args: &StatusArgs, output: Output) -> CliResult {
    let repository = args.opening.open()?;
    let jobs = {
        let (id, now_ms) = (RepositoryId(repository.ring().repository), repository.now_ms());
        schedule_status::jobs(&args.opening, &args.schedule, id, now_ms)?
    };
    let shown = gather(&repository, &args.opening.state_dir, jobs)?;
    match args.metrics {
        true => println!("{}", metrics(&shown)),
        false => output.show(&shown, text),
    }
    Ok(ExitCode::SUCCESS)
}

fn gather(repository: &Repository, memory: &Path, jobs: Vec<JobRow>) -> vault::Result<Shown> {
    let state = repository.state();
    let summary = summarize(repository, memory)?;
    let (protection, now_ms) = (repository.store().protection()?, repository.now_ms());
    let object_lock_days = protection.days();
    let runs = state.runs.values().map(|r| (r.source.clone(), r.host.clone(), r.time_ms));
    let keys = state
        .keys
        .iter()
        .map(|k| (k.holder.word().to_owned(), k.label.clone(), k.recipient.clone()));
    Ok(Shown {
        repository: repository.id(),
        location: repository.store().describe(),
        head: repository.chain().head.to_string(),
        freshness: match repository.freshness() {
            Freshness::Contains(_) => "contains the newest head remembered",
            Freshness::NotProvable => "not provable",
        },
        append_only: state.is_append_only(),
        object_lock: protection.to_string(),
        object_lock_days,
        object_lock_until_ms: locked_until(now_ms, object_lock_days),
        signing_key: state.verifying_keys.values().last().map_or(String::new(), |k| hex(k)),
        keys_locked_in_memory: repository.ring().is_locked(),
        stored_bytes: summary.stored_bytes,
        stored_log_bytes: summary.stored_log_bytes,
        protected_bytes: state.protected().map(|(_, b)| b.totals.bytes).sum(),
        sources: summary.sources.into_iter().map(SourceRow::of).collect(),
        runs: runs.collect(),
        marks: state.marks.len() as u64,
        forgotten: state.forgotten.len() as u64,
        keys: keys.collect(),
        jobs,
        now_ms,
    })
}

/// Up to when what is written now stays.
fn locked_until(now_ms: i64, days: Option<u32>) -> Option<i64> {
    let days = days.filter(|days| *days > 0)?;
    Some(now_ms.saturating_add(i64::from(days) * DAY_MS))
}

impl SourceRow {
    fn of(s: SourceSummary) -> SourceRow {
        let log = s.log.as_ref();
        let lag = log.and_then(|log| log.lag);
        SourceRow {
            proven: s.proven.map(|(seq, _)| seq),
            proven_ms: s.proven.map(|(_, proof)| proof.time_ms),
            proven_took_ms: s.proven.map(|(_, proof)| proof.took_ms),
            restore: s.restore.map(EstimateRow::of),
            log_upto: log.map(|log| format!("{} on timeline {}", log.upto, log.timeline)),
            log_marked_ms: log.map(|log| log.marked_ms),
            log_stored_bytes: log.map(|log| log.stored_bytes),
            log_lag_bytes: lag.map(|lag| lag.bytes()),
            log_seen_ms: lag.map(|lag| lag.seen_ms),
            source: s.source,
            backups: s.backups,
            newest: s.newest,
            newest_ms: s.newest_ms,
            newest_bytes: s.newest_bytes,
            newest_files: s.newest_files,
            incomplete: s.incomplete,
            protected_bytes: s.protected_bytes,
            written_bytes: s.written_bytes,
        }
    }
}

impl EstimateRow {
    fn of(e: Estimate) -> EstimateRow {
        EstimateRow {
            estimate_ms: e.took_ms,
            bytes: e.bytes,
            log_bytes: e.log_bytes,
            proof_of: e.proof_of,
            proof_took_ms: e.proof.took_ms,
            proof_bytes: e.proof.bytes,
            proof_log_bytes: e.proof.log_bytes,
        }
    }
}

fn text(s: &Shown) -> String {
    let mut text = format!(
        "Repository {} at {}{}\n  head {} ({})\n  signing key {}\n  {}",
        s.repository,
        s.location,
        if s.append_only { ", append-only" } else { "" },
        s.head,
        s.freshness,
        s.signing_key,
        stored(s),
    );
    text += &match s.object_lock_until_ms {
        Some(until) => {
            format!("\n  {}: what is written now until {}", s.object_lock, moment(until))
        }
        None => format!("\n  {}", s.object_lock),
    };
    if !s.keys_locked_in_memory {
        text += "\n  keys are NOT locked in memory: this user may not lock memory (ulimit -l)";
    }
    for row in &s.sources {
        text += &source_text(row, s.now_ms);
    }
    for (source, host, time_ms) in &s.runs {
        text += &format!("\nrunning: {source} on {host}, last sign {}", ago(s.now_ms, *time_ms));
    }
    for (holder, label, recipient) in &s.keys {
        text += &format!("\nkey: {holder} `{label}` {recipient}");
    }
    if s.marks + s.forgotten > 0 {
        text += &format!("\nwaiting: {} forgotten backups, {} marks", s.forgotten, s.marks);
    }
    text += &schedule_status::text(&s.jobs, s.now_ms);
    text
}

/// What all of it takes. Logs are no part of what the backups save: they are stored once.
fn stored(s: &Shown) -> String {
    let of_backups = s.stored_bytes.saturating_sub(s.stored_log_bytes);
    let mut text = format!(
        "stored {} for {} of backups{}",
        size(of_backups),
        size(s.protected_bytes),
        saved(s.protected_bytes, of_backups),
    );
    if s.stored_log_bytes > 0 {
        let (log, all) = (size(s.stored_log_bytes), size(s.stored_bytes));
        text += &format!(", and {log} of logs: {all} in all");
    }
    text
}

/// What is saved, where anything is.
fn saved(protected_bytes: u64, stored_bytes: u64) -> String {
    if protected_bytes <= stored_bytes {
        return String::new();
    }
    let share = 1.0 - stored_bytes as f64 / protected_bytes as f64;
    // Nothing is saved whole: rounding must not say so.
    format!(", {:.1} % saved", (share * 1000.0).floor() / 10.0)
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

fn source_text(row: &SourceRow, now_ms: i64) -> String {
    let mut text = format!(
        "\n{}: newest backup {} {}, {} files, {}; {} backups",
        row.source,
        row.newest,
        ago(now_ms, row.newest_ms),
        row.newest_files,
        size(row.newest_bytes),
        row.backups,
    );
    text += &match (row.proven, row.proven_ms, row.proven_took_ms) {
        (Some(seq), Some(at), Some(took)) => {
            format!("\n  newest proven: {seq}, {}, restored in {}", moment(at), seconds(took))
        }
        _ => "\n  none was ever PROVEN by a restore".to_owned(),
    };
    text += &restore_text(row);
    text += &log_text(row, now_ms);
    text += &match row.written_bytes {
        Some(written) => format!(
            "\n  its backups hold {} and wrote {}{}",
            size(row.protected_bytes),
            size(written),
            saved(row.protected_bytes, written),
        ),
        None => format!(
            "\n  its backups hold {}; what they alone take is not known, as earlier ones are \
             gone: see the whole repository above",
            size(row.protected_bytes),
        ),
    };
    if row.incomplete {
        text += "\n  the newest is INCOMPLETE: it could not take everything";
    }
    text
}

fn restore_text(row: &SourceRow) -> String {
    let all = |bytes: u64, log_bytes: u64| match log_bytes {
        0 => size(bytes),
        _ => format!("{} and {} of log", size(bytes), size(log_bytes)),
    };
    match &row.restore {
        Some(e) => format!(
            "\n  a restore now: about {} for {}, by the proof of {}: {} in {}",
            seconds(e.estimate_ms),
            all(e.bytes, e.log_bytes),
            e.proof_of,
            all(e.proof_bytes, e.proof_log_bytes),
            seconds(e.proof_took_ms),
        ),
        None if row.proven.is_some() => {
            "\n  a restore now: not known: what was proven was empty".to_owned()
        }
        None => "\n  a restore now: not known: no proof yet".to_owned(),
    }
}

fn log_text(row: &SourceRow, now_ms: i64) -> String {
    let (Some(upto), Some(marked_ms)) = (&row.log_upto, row.log_marked_ms) else {
        return String::new();
    };
    let mut text = format!("\n  log stored up to {upto}, said {}", ago(now_ms, marked_ms));
    text += &match (row.log_lag_bytes, row.log_seen_ms) {
        (Some(bytes), Some(seen_ms)) => {
            format!("; {} behind its server, seen {}", size(bytes), ago(now_ms, seen_ms))
        }
        _ => "; how far its server is ahead is not known: no stream runs here".to_owned(),
    };
    text += &format!("; {} stored", size(row.log_stored_bytes.unwrap_or(0)));
    text
}

/// A metric's value, where the source has one.
type Value<'a> = dyn Fn(&SourceRow) -> Option<f64> + 'a;

fn metrics(s: &Shown) -> String {
    let mut lines = Vec::new();
    for (name, value) in [("stored", s.stored_bytes), ("stored_log", s.stored_log_bytes)] {
        lines.push(format!("# TYPE backstay_vault_{name}_bytes gauge"));
        lines.push(format!("backstay_vault_{name}_bytes {value}"));
    }
    if let Some(days) = s.object_lock_days {
        lines.push("# TYPE backstay_vault_object_lock_days gauge".to_owned());
        lines.push(format!("backstay_vault_object_lock_days {days}"));
    }
    let at = |ms: Option<i64>| ms.map(|ms| ms as f64 / 1000.0);
    let span = |ms: Option<u64>| ms.map(|ms| ms as f64 / 1000.0);
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    let columns: [(&str, &Value<'_>); 11] = [
        ("newest_backup_seconds", &|row| at(Some(row.newest_ms))),
        ("newest_backup_bytes", &|row| bytes(Some(row.newest_bytes))),
        // Never is long ago: an alarm on the age goes off.
        ("newest_proven_seconds", &|row| at(Some(row.proven_ms.unwrap_or(0)))),
        ("proof_took_seconds", &|row| span(row.proven_took_ms)),
        ("restore_estimate_seconds", &|row| span(row.restore.as_ref().map(|e| e.estimate_ms))),
        ("protected_bytes", &|row| bytes(Some(row.protected_bytes))),
        ("written_bytes", &|row| bytes(row.written_bytes)),
        ("log_marked_seconds", &|row| at(row.log_marked_ms)),
        ("log_stored_bytes", &|row| bytes(row.log_stored_bytes)),
        ("log_lag_bytes", &|row| bytes(row.log_lag_bytes)),
        ("log_seen_seconds", &|row| at(row.log_seen_ms)),
    ];
    for (name, value) in columns {
        lines.push(format!("# TYPE backstay_vault_{name} gauge"));
        for row in &s.sources {
            if let Some(value) = value(row) {
                let source = escaped(&row.source);
                lines.push(format!("backstay_vault_{name}{{source=\"{source}\"}} {value}"));
            }
        }
    }
    schedule_status::metrics(&s.jobs, &mut lines);
    lines.join("\n")
}
