//! `vault status`: per source, what there is and what a restore would take.

use super::CliResult;
use super::opening::{RepositoryArgs, schedule_file};
use super::output::{Output, ago, hex, moment, size};
use super::schedule_status::{self, JobRow, escaped};
use clap::Args;
use model::vault::RepositoryId;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use vault::chain::State;
use vault::repository::{Freshness, Repository};
use vault::store::Area;

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
    log_upto: Option<String>,
    log_marked_ms: Option<i64>,
}

#[derive(Serialize)]
struct Shown {
    repository: String,
    location: String,
    head: String,
    freshness: &'static str,
    append_only: bool,
    signing_key: String,
    keys_locked_in_memory: bool,
    stored_bytes: u64,
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
    let shown = gather(&repository, jobs)?;
    match args.metrics {
        true => println!("{}", metrics(&shown)),
        false => output.show(&shown, text),
    }
    Ok(ExitCode::SUCCESS)
}

fn gather(repository: &Repository, jobs: Vec<JobRow>) -> vault::Result<Shown> {
    let state = repository.state();
    let mut stored_bytes = 0;
    for area in [Area::Packs, Area::Index, Area::Chain, Area::Keys] {
        let listed = repository.store().list(area, None)?;
        stored_bytes += listed.iter().map(|l| l.size_bytes).sum::<u64>();
    }
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
        signing_key: state.verifying_keys.values().last().map_or(String::new(), |k| hex(k)),
        keys_locked_in_memory: repository.ring().is_locked(),
        stored_bytes,
        protected_bytes: state.protected().map(|(_, b)| b.totals.bytes).sum(),
        sources: sources(state),
        runs: runs.collect(),
        marks: state.marks.len() as u64,
        forgotten: state.forgotten.len() as u64,
        keys: keys.collect(),
        jobs,
        now_ms: repository.now_ms(),
    })
}

fn sources(state: &State) -> Vec<SourceRow> {
    let mut rows: BTreeMap<&str, SourceRow> = BTreeMap::new();
    for (seq, backup) in &state.backups {
        let proven = state.proven.get(seq);
        let row = rows.entry(&backup.source).or_insert_with(|| SourceRow {
            source: backup.source.clone(),
            backups: 0,
            newest: 0,
            newest_ms: 0,
            newest_bytes: 0,
            newest_files: 0,
            incomplete: false,
            proven: None,
            proven_ms: None,
            proven_took_ms: None,
            log_upto: None,
            log_marked_ms: None,
        });
        row.backups += 1;
        if let Some((time_ms, took_ms)) = proven {
            row.proven = Some(*seq);
            row.proven_ms = Some(*time_ms);
            row.proven_took_ms = Some(*took_ms);
        }
    }
    for row in rows.values_mut() {
        let Some((seq, backup)) = state.newest(Some(&row.source)) else { continue };
        row.newest = seq;
        row.newest_ms = backup.subject.begun_ms;
        row.newest_bytes = backup.totals.bytes;
        row.newest_files = backup.totals.files;
        row.incomplete = !backup.skipped.is_empty();
    }
    for (source, archive) in &state.archives {
        let newest = archive.marks.iter().next_back();
        let end = newest.and_then(|(timeline, all)| Some((timeline, all.last()?.1)));
        if let (Some(row), Some((timeline, end))) = (rows.get_mut(source.as_str()), end) {
            row.log_upto = Some(format!("{end} on timeline {timeline}"));
            row.log_marked_ms = Some(archive.time_ms);
        }
    }
    rows.into_values().collect()
}

fn text(s: &Shown) -> String {
    let mut text = format!(
        "Repository {} at {}{}\n  head {} ({})\n  signing key {}\n  stored {} for {} of backups",
        s.repository,
        s.location,
        if s.append_only { ", append-only" } else { "" },
        s.head,
        s.freshness,
        s.signing_key,
        size(s.stored_bytes),
        size(s.protected_bytes),
    );
    if !s.keys_locked_in_memory {
        text += "\n  keys are NOT locked in memory: this user may not lock memory (ulimit -l)";
    }
    for row in &s.sources {
        text += &format!(
            "\n{}: newest backup {} {}, {} files, {}; {} backups",
            row.source,
            row.newest,
            ago(s.now_ms, row.newest_ms),
            row.newest_files,
            size(row.newest_bytes),
            row.backups,
        );
        text += &match (row.proven, row.proven_ms, row.proven_took_ms) {
            (Some(seq), Some(at), Some(took)) => format!(
                "\n  newest proven: {seq}, {}, restored in {:.1} s",
                moment(at),
                took as f64 / 1000.0
            ),
            _ => "\n  none was ever PROVEN by a restore".to_owned(),
        };
        if let (Some(upto), Some(marked_ms)) = (&row.log_upto, row.log_marked_ms) {
            text += &format!("\n  log stored up to {upto}, said {}", ago(s.now_ms, marked_ms));
        }
        if row.incomplete {
            text += "\n  the newest is INCOMPLETE: it could not take everything";
        }
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

fn metrics(s: &Shown) -> String {
    let mut lines = vec![
        "# TYPE backstay_vault_stored_bytes gauge".to_owned(),
        format!("backstay_vault_stored_bytes {}", s.stored_bytes),
        "# TYPE backstay_vault_newest_backup_seconds gauge".to_owned(),
    ];
    let label = |row: &SourceRow| format!("{{source=\"{}\"}}", escaped(&row.source));
    for row in &s.sources {
        let seconds = row.newest_ms as f64 / 1000.0;
        lines.push(format!("backstay_vault_newest_backup_seconds{} {seconds}", label(row)));
    }
    lines.push("# TYPE backstay_vault_newest_backup_bytes gauge".to_owned());
    for row in &s.sources {
        let bytes = row.newest_bytes;
        lines.push(format!("backstay_vault_newest_backup_bytes{} {bytes}", label(row)));
    }
    lines.push("# TYPE backstay_vault_log_marked_seconds gauge".to_owned());
    for row in s.sources.iter().filter(|row| row.log_marked_ms.is_some()) {
        let seconds = row.log_marked_ms.unwrap_or(0) as f64 / 1000.0;
        lines.push(format!("backstay_vault_log_marked_seconds{} {seconds}", label(row)));
    }
    lines.push("# TYPE backstay_vault_newest_proven_seconds gauge".to_owned());
    for row in &s.sources {
        let seconds = row.proven_ms.unwrap_or(0) as f64 / 1000.0;
        lines.push(format!("backstay_vault_newest_proven_seconds{} {seconds}", label(row)));
    }
    schedule_status::metrics(&s.jobs, &mut lines);
    lines.join("\n")
}
