//! What `vault status` says of the schedule: when each job runs next, and how it went last.

use super::opening::RepositoryArgs;
use super::output::{ago, moment};
use super::run::Watch;
use jiff::tz::TimeZone;
use model::vault::RepositoryId;
use serde::Serialize;
use std::path::Path;
use vault::Result;
use vault::schedule::{Book, Machine, Now, Outlook, ScheduleFile, Why, book_path};

/// One job.
#[derive(Serialize)]
pub(crate) struct JobRow {
    job: &'static str,
    source: Option<String>,
    next_ms: Option<i64>,
    why: Why,
    last_ms: Option<i64>,
    last_took_ms: u64,
    runs: u64,
    failures: u32,
    trouble: Option<String>,
}

impl JobRow {
    /// As it is told.
    pub(crate) fn of(o: Outlook) -> JobRow {
        JobRow {
            job: o.key.kind.word(),
            next_ms: o.next_ms,
            why: o.why,
            source: o.key.source,
            last_ms: o.past.done_ms,
            last_took_ms: o.past.took_ms,
            runs: o.past.runs,
            failures: o.past.failures,
            trouble: o.past.trouble,
        }
    }
}

/// The jobs of a schedule; none where there is no such file.
///
/// # Errors
/// Where the file or the book cannot be read.
pub(crate) fn jobs(
    opening: &RepositoryArgs,
    file: &Path,
    repository: RepositoryId,
    now_ms: i64,
) -> Result<Vec<JobRow>> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let file = ScheduleFile::read(file)?;
    let plan = file.plan();
    let book = Book::new(book_path(&opening.state_dir, &opening.repository));
    let mut past = book.read()?;
    // A run that nobody carries out any more was broken off.
    let is_at_work = book.is_locked();
    let began = past.iter_mut().filter(|(_, p)| is_at_work && p.running_since_ms.is_some());
    let running: Vec<_> = began.map(|(key, p)| (key.clone(), p.running_since_ms.take())).collect();
    let zone = TimeZone::system();
    let now = Now { ms: now_ms, zone: &zone };
    let watch = Watch::new(&opening.cluster.with(file.cluster.as_ref()), plan.clone(), repository);
    let mut machine = Machine::new(plan, past, &now);
    if watch.is_needed() {
        machine.see(watch.look(), &now);
    }
    let outlook = machine.outlook(&now);
    let row = |o: Outlook| {
        let is_running = running.iter().any(|(key, _)| *key == o.key);
        let mut row = JobRow::of(o);
        if is_running {
            (row.next_ms, row.why) = (None, Why::Running);
        }
        row
    };
    Ok(outlook.into_iter().map(row).collect())
}

/// For people.
pub(crate) fn text(rows: &[JobRow], now_ms: i64) -> String {
    let mut text = String::new();
    for row in rows {
        let of = row.source.as_ref().map_or(String::new(), |source| format!(" of {source}"));
        text += &format!("\n{}{of}: ", row.job);
        text += &match row.next_ms {
            Some(ms) if ms <= now_ms => format!("due ({})", row.why),
            Some(ms) => format!("next {} ({})", moment(ms), row.why),
            None => row.why.to_string(),
        };
        if let Some(last_ms) = row.last_ms {
            text += &format!(", last {}", ago(now_ms, last_ms));
        }
        if row.failures > 0 {
            text += &format!("\n  FAILED {} times since", row.failures);
        }
        if let Some(trouble) = &row.trouble {
            text += &format!("\n  {trouble}");
        }
    }
    text
}

/// A metric's value, where the job has one.
type Value<'a> = dyn Fn(&JobRow) -> Option<f64> + 'a;

/// As Prometheus metrics.
pub(crate) fn metrics(rows: &[JobRow], lines: &mut Vec<String>) {
    let seconds = |ms: Option<i64>| ms.map(|ms| ms as f64 / 1000.0);
    let is_found = |row: &JobRow| f64::from(u8::from(row.trouble.is_some() && row.failures == 0));
    let columns: [(&str, &str, &Value<'_>); 6] = [
        ("last_success_seconds", "gauge", &|row| seconds(row.last_ms)),
        ("next_seconds", "gauge", &|row| seconds(row.next_ms)),
        ("took_seconds", "gauge", &|row| row.last_ms.map(|_| row.last_took_ms as f64 / 1000.0)),
        ("runs_total", "counter", &|row| Some(row.runs as f64)),
        ("failures", "gauge", &|row| Some(f64::from(row.failures))),
        ("found_something", "gauge", &|row| Some(is_found(row))),
    ];
    for (name, kind, value) in columns {
        if rows.is_empty() {
            return;
        }
        lines.push(format!("# TYPE backstay_vault_job_{name} {kind}"));
        for row in rows {
            if let Some(value) = value(row) {
                let source = escaped(row.source.as_deref().unwrap_or(""));
                let labels = format!("{{job=\"{}\",source=\"{source}\"}}", row.job);
                lines.push(format!("backstay_vault_job_{name}{labels} {value}"));
            }
        }
    }
}

/// A label's value.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
