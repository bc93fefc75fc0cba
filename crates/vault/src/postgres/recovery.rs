//! Restoring a database to a point: the plan, with every byte of the log that it needs known to
//! be there before anything is written; then the data directory and its recovery settings.

use super::preview::{Prepared, prepare, segments};
use super::unfinished::Mark;
use super::{Lsn, Position, Timeline};
use crate::blobs::Blobs;
use crate::chain::{Backup, SourceKind, newest_of};
use crate::error::{Result, VaultError};
use crate::repository::Repository;
use crate::restore::{self, RestoreCounters, RestoreReport, RestoreRequest};
use crate::tree::{Entry, EntryKind, children, find_path};
use crate::wal::check::acknowledged;
use crate::wal::record::find_end;
use crate::wal::{Catalog, Fetched, History, fetch_history, fetch_segment};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The point to restore to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everything that was acknowledged.
    Latest,
    /// Every transaction that ended at or before this time, in microseconds since 1970.
    Time(i64),
    /// Up to this position.
    Lsn(Lsn),
    /// Up to the commit of this transaction, with it.
    Transaction(u32),
}

/// What a restore will do. Everything it needs is in the repository.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The base backup's record.
    pub seq: u64,
    /// It.
    pub backup: Backup,
    /// Where it is in the log.
    pub position: Position,
    /// The point.
    pub target: Target,
    /// The timeline to follow.
    pub timeline: Timeline,
    /// Up to where the log is needed.
    pub upto: Lsn,
}

/// Which backups may serve.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Of this source; the only one where none is named.
    pub source: Option<String>,
    /// This one.
    pub backup: Option<u64>,
}

/// Makes the plan.
///
/// # Errors
/// Where no backup fits, or a byte of the log that is needed is missing. Nothing was written.
pub fn plan(repository: &Repository, choice: &Choice, target: Target) -> Result<Plan> {
    let (seq, backup, position) = choose(repository, choice, target)?;
    let (store, ring) = (&**repository.store(), repository.ring());
    let catalog = Catalog::load(store, ring, &backup.source, position.system)?;
    let (timeline, history, mark) = way(repository, &catalog, &backup, &position)?;
    let reach = catalog.reach(position.timeline, position.start);
    if reach < position.stop {
        return Err(VaultError::Refused(format!(
            "backup {seq} cannot be opened: it needs the log from {} to {}, and the repository \
             holds it up to {reach} only. Nothing was written. Choose another with --backup",
            position.start, position.stop
        )));
    }
    let along = catalog.reach_along(&history, position.timeline, position.start);
    let (reached, end) = along.unwrap_or((position.timeline, reach));
    let from = (position.timeline, position.stop);
    let found = |wanted: &dyn Fn(&crate::wal::record::TransactionEnd) -> bool| {
        find_end(store, ring, &catalog, &history, from, wanted)
    };
    let short =
        format!("the log is unbroken up to {end} on timeline {reached} only. Nothing was written");
    let upto = match target {
        Target::Latest if reached == timeline && end >= mark => end,
        Target::Latest => {
            return Err(VaultError::Refused(format!(
                "the log was acknowledged up to {mark} on timeline {timeline}, and {short}. \
                 --to-lsn {end} restores what is there; look for the rest in another copy"
            )));
        }
        Target::Lsn(lsn) if lsn <= end => lsn,
        Target::Lsn(lsn) => {
            return Err(VaultError::Refused(format!("{lsn} cannot be reached: {short}")));
        }
        Target::Time(time_us) => match found(&|end| end.time_us > time_us)? {
            Some(next) => next.end,
            None => {
                return Err(VaultError::Refused(format!(
                    "the log holds no transaction that ended after this time, so that nothing \
                     shows that it reaches so far: {short}. --latest restores all of it"
                )));
            }
        },
        Target::Transaction(xid) => match found(&|end| end.xid == xid)? {
            Some(end) if end.committed => end.end,
            Some(_) => {
                let what = format!("transaction {xid} was rolled back. Nothing was written");
                return Err(VaultError::Refused(what));
            }
            None => {
                return Err(VaultError::Refused(format!(
                    "the log holds no end of transaction {xid} after backup {seq}: {short}"
                )));
            }
        },
    };
    Ok(Plan { seq, backup, position, target, timeline, upto })
}

/// The newest backup from which the target is reached.
fn choose(
    repository: &Repository,
    choice: &Choice,
    target: Target,
) -> Result<(u64, Backup, Position)> {
    let state = repository.state();
    let mut all: Vec<(u64, &Backup, Position)> = state
        .backups
        .iter()
        .filter(|(_, b)| b.kind == SourceKind::Postgres)
        .filter_map(|(seq, b)| Some((*seq, b, Position::parse(&b.subject.position)?)))
        .filter(|(seq, b, _)| {
            choice.source.as_ref().is_none_or(|s| *s == b.source)
                && choice.backup.is_none_or(|wanted| wanted == *seq)
        })
        .collect();
    let mut sources: Vec<&str> = all.iter().map(|(_, b, _)| b.source.as_str()).collect();
    sources.dedup();
    sources.sort_unstable();
    sources.dedup();
    if sources.len() > 1 {
        let list = sources.join(", ");
        return Err(VaultError::Refused(format!("say which with --source: {list}")));
    }
    all.retain(|(_, backup, position)| match target {
        Target::Latest => true,
        Target::Time(time_us) => backup.subject.ended_ms.saturating_mul(1000) <= time_us,
        Target::Lsn(lsn) => position.stop <= lsn,
        // Numbers of transactions go round: half of them are later.
        Target::Transaction(xid) => xid.wrapping_sub(position.next_xid as u32) as i32 >= 0,
    });
    let newest = newest_of(all.iter().map(|(seq, backup, _)| (*seq, *backup)));
    let newest = newest.map(|(seq, _)| seq);
    let chosen = all.into_iter().find(|(seq, _, _)| Some(*seq) == newest);
    chosen.map(|(seq, backup, position)| (seq, backup.clone(), position)).ok_or_else(|| {
        let what = "no base backup of a database was made before that point; `backstay vault \
                    list` shows all";
        VaultError::NotFound(what.to_owned())
    })
}

/// The newest timeline that leads on from a backup, its history, and what was acknowledged.
fn way(
    repository: &Repository,
    catalog: &Catalog,
    backup: &Backup,
    position: &Position,
) -> Result<(Timeline, History, Lsn)> {
    let (store, ring) = (&**repository.store(), repository.ring());
    let mut histories = BTreeMap::new();
    for timeline in catalog.timelines().into_iter().filter(|t| *t >= position.timeline) {
        histories.insert(timeline, catalog.history(store, ring, timeline)?);
    }
    let archive = repository.state().archives.get(&backup.source);
    let archive = archive.filter(|a| a.system == position.system);
    let own = (position.timeline, position.stop);
    let (timeline, mark) = archive.map_or(own, |a| acknowledged(a, &histories, position));
    let missing = || VaultError::NotFound(format!("timeline {timeline} is not in the archive"));
    let history = histories.remove(&timeline).ok_or_else(missing)?;
    Ok((timeline, history, mark))
}

/// How a restored server gets the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Log {
    /// By this shell command, which fetches a segment `%f` to `%p`.
    Command(String),
    /// It is restored, too, and lies in the data directory until recovery has ended.
    Fetched,
}

/// Where a fetched log lies in the data directory.
const LOG_FOLDER: &str = "pg_wal/backstay";
/// The file without which no server opens a data directory.
const CONTROL: &str = "global/pg_control";

/// Where a database is restored to.
pub struct RecoverRequest {
    /// The new data directory: absent, empty, or what an earlier attempt left there.
    pub target: PathBuf,
    /// Where tablespaces go, by their number; each absent or empty. Those not named go where they
    /// were.
    pub spaces: BTreeMap<String, PathBuf>,
    /// How the server gets the log.
    pub log: Log,
    /// Restores owners and groups.
    pub owners: bool,
    /// Threads that write.
    pub workers: usize,
    /// Where progress is counted.
    pub counters: Arc<RestoreCounters>,
}

/// Restores a data directory that recovers to the plan's point when it is started.
///
/// # Errors
/// Where a target holds anything but what the same restore left when it was broken off, or
/// something cannot be written or read.
pub fn recover(
    repository: &Repository,
    plan: &Plan,
    request: &RecoverRequest,
) -> Result<RestoreReport> {
    let blobs = repository.blobs()?;
    let prepared = prepare(repository, &blobs, plan, request, false)?;
    let Prepared { spaces, mark, control, goes_on } = prepared;
    mark.put(&request.target)?;
    if goes_on {
        remove(&request.target.join(CONTROL))?;
        remove(&request.target.join(LOG_FOLDER))?;
    }
    let mut report = part(&blobs, plan, request, "data", &request.target)?;
    report.synced = true;
    for (number, place) in &spaces {
        let more = part(&blobs, plan, request, &format!("spaces/{number}"), place)?;
        report.notes.extend(more.notes);
        report.failed += more.failed;
        report.totals.files += more.totals.files;
        report.totals.bytes += more.totals.bytes;
        let link = request.target.join("pg_tblspc").join(number);
        remove(&link)?;
        let made = std::os::unix::fs::symlink(place, &link);
        made.map_err(VaultError::file("link", link))?;
    }
    let label = stop_file(&blobs, plan, "backup_label")?;
    write(&request.target, "backup_label", &label, false)?;
    if request.log == Log::Fetched {
        fetch_log(repository, plan, request)?;
    }
    // Before the server is told to recover, all that it recovers from is on disk.
    for place in spaces.iter().map(|(_, place)| place).chain([&request.target]) {
        let sync = || Ok(rustix::fs::syncfs(File::open(place)?)?);
        sync().map_err(VaultError::file("sync", place.clone()))?;
    }
    let old = fs::read_to_string(request.target.join("postgresql.auto.conf"));
    let settings = without_recovery(&old.unwrap_or_default()) + &settings(plan, request);
    write(&request.target, "postgresql.auto.conf", settings.as_bytes(), true)?;
    write(&request.target, "recovery.signal", b"", true)?;
    // Last: without it no server opens the directory.
    write(&request.target, CONTROL, &control, true)?;
    Mark::take(&request.target)?;
    Ok(report)
}

/// What the server said of itself when the backup ended.
pub(super) fn stop_file(blobs: &Blobs, plan: &Plan, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    restore::to_stream(blobs, &plan.backup, format!("stop/{name}").as_bytes(), &mut bytes)?;
    Ok(bytes)
}

/// Refuses to go on where a server has opened what was restored: it changes the control file
/// first of all.
pub(super) fn require_unopened(target: &Path, control: &[u8]) -> Result<()> {
    let found = fs::read(target.join(CONTROL)).unwrap_or_default();
    if found.len() < control.len() || found == control {
        return Ok(());
    }
    Err(VaultError::Refused(format!(
        "a server was started on {} since this restore was broken off: it is a database of its own \
         now. Restore to another directory, or empty this one. Nothing was written",
        target.display()
    )))
}

/// Removes what an earlier attempt left: a file, a link, or the log's folder.
fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(VaultError::file("remove", path))
}

/// Puts every segment that the plan needs into the data directory.
fn fetch_log(repository: &Repository, plan: &Plan, request: &RecoverRequest) -> Result<()> {
    let (store, ring) = (&**repository.store(), repository.ring());
    let Position { system, segment_bytes, .. } = plan.position;
    let catalog = Catalog::load(store, ring, &plan.backup.source, system)?;
    let folder = request.target.join(LOG_FOLDER);
    fs::create_dir_all(&folder).map_err(VaultError::file("make", folder.clone()))?;
    if rustix::process::geteuid().is_root() {
        let made = fs::metadata(&request.target)
            .and_then(|owner| chown(&folder, Some(owner.uid()), Some(owner.gid())));
        made.map_err(VaultError::file("set the owner of", folder))?;
    }
    let history = catalog.history(store, ring, plan.timeline)?;
    if let Some(text) = fetch_history(store, ring, &catalog, plan.timeline)? {
        let name = format!("{LOG_FOLDER}/{:08X}.history", plan.timeline);
        write(&request.target, &name, &text, false)?;
    }
    for segment in segments(&history, plan) {
        let fetched = fetch_segment(store, ring, &catalog, segment, segment_bytes)?;
        if let Fetched::Found(bytes, _) = fetched {
            let name = format!("{LOG_FOLDER}/{}", segment.file_name(segment_bytes));
            write(&request.target, &name, &bytes, false)?;
        }
    }
    Ok(())
}

/// The numbers of the tablespaces in a backup.
///
/// # Errors
/// Where the backup's tree is damaged.
pub fn space_numbers(blobs: &Blobs, backup: &Backup) -> Result<Vec<String>> {
    let entry = find_path(blobs, &backup.top, b"spaces")?;
    let EntryKind::Directory { node, .. } = &entry.kind else { return Ok(Vec::new()) };
    let name = |entry: Result<Entry>| Ok(String::from_utf8_lossy(&entry?.name).into_owned());
    children(blobs, node).map(name).collect()
}

/// The tablespaces and where they go.
pub(super) fn spaces(
    blobs: &Blobs,
    plan: &Plan,
    request: &RecoverRequest,
) -> Result<Vec<(String, PathBuf)>> {
    let numbers = space_numbers(blobs, &plan.backup)?;
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let mut map = Vec::new();
    restore::to_stream(blobs, &plan.backup, b"stop/tablespace_map", &mut map)?;
    let map = String::from_utf8_lossy(&map).into_owned();
    let old: BTreeMap<&str, &str> = map.lines().filter_map(|l| l.split_once(' ')).collect();
    let place = |number: &String| {
        let place = request.spaces.get(number).cloned();
        let place = place.or_else(|| old.get(number.as_str()).map(PathBuf::from));
        let missing = || VaultError::Refused(format!("say where tablespace {number} goes"));
        Ok((number.clone(), place.ok_or_else(missing)?))
    };
    numbers.iter().map(place).collect()
}

fn part(
    blobs: &Blobs,
    plan: &Plan,
    request: &RecoverRequest,
    path: &str,
    target: &Path,
) -> Result<RestoreReport> {
    let restore = RestoreRequest {
        path: path.as_bytes().to_vec(),
        target: target.to_owned(),
        set_aside: None,
        dry_run: false,
        owners: request.owners,
        devices: false,
        workers: request.workers,
        counters: Arc::clone(&request.counters),
    };
    restore::run_with(blobs, &plan.backup, &restore, false)
}

/// Writes a file of the data directory with its owner, durably where it is to `sync`.
pub(super) fn write(target: &Path, name: &str, bytes: &[u8], sync: bool) -> Result<()> {
    let path = target.join(name);
    let write = || {
        let owner = fs::metadata(target)?;
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(0o600);
        let mut file = options.open(&path)?;
        file.write_all(bytes)?;
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(owner.uid()), Some(owner.gid()))?;
        }
        if !sync {
            return Ok(());
        }
        file.sync_all()?;
        let folder = path.parent().map_or_else(|| target.to_owned(), Path::to_owned);
        File::open(folder)?.sync_all()
    };
    write().map_err(VaultError::file("write", path.clone()))
}

/// The settings without those of an earlier recovery: a server refuses two targets.
fn without_recovery(text: &str) -> String {
    let ours = ["recovery_", "restore_command", "# Recovery, written by backstay."];
    let kept = text.lines().filter(|line| !ours.iter().any(|o| line.trim_start().starts_with(o)));
    kept.fold(String::new(), |text, line| text + line + "\n")
}

/// The recovery settings, for `postgresql.auto.conf`: its last word on a setting counts.
fn settings(plan: &Plan, request: &RecoverRequest) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let (command, end) = match &request.log {
        Log::Command(command) => (command.clone(), String::new()),
        Log::Fetched => (hand_over_command(), format!("rm -rf {LOG_FOLDER}")),
    };
    let mut lines = vec![
        "# Recovery, written by backstay.".to_owned(),
        format!("restore_command = {}", quoted(&command)),
        format!("recovery_end_command = {}", quoted(&end)),
        format!("recovery_target_timeline = '{}'", plan.timeline),
        "recovery_target_action = 'promote'".to_owned(),
        "recovery_target_inclusive = on".to_owned(),
    ];
    match plan.target {
        Target::Latest => {}
        Target::Time(time_us) => {
            lines.push(format!("recovery_target_time = '{}'", time_text(time_us)));
        }
        Target::Lsn(lsn) => lines.push(format!("recovery_target_lsn = '{lsn}'")),
        Target::Transaction(xid) => lines.push(format!("recovery_target_xid = '{xid}'")),
    }
    format!("\n{}\n", lines.join("\n"))
}

/// The command that hands a fetched segment to the server, as a second name of the same file.
/// It may be asked for again after a crash, so it is not moved. What the server makes of such a
/// file later, another segment or more of the same one, it makes after a point from which it does
/// not ask again, or of the same bytes. 1 says that there is no such segment, 200 that it cannot be
/// handed over: that must not pass for the end of the log.
pub fn hand_over_command() -> String {
    let [from, to] = [&format!("{LOG_FOLDER}/%f"), "\"%p\""];
    format!("test -e {from} || exit 1; ln {from} {to} 2>/dev/null || cp {from} {to} || exit 200")
}

/// A time as PostgreSQL reads it.
fn time_text(time_us: i64) -> String {
    match jiff::Timestamp::from_microsecond(time_us) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S.%6f+00").to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_as_postgresql_wants_it() {
        assert_eq!(time_text(1_795_312_800_000_007), "2026-11-22 02:00:00.000007+00");
    }

    #[test]
    fn the_settings_of_an_earlier_recovery_go() {
        let text = "work_mem = '1MB'\n# Recovery, written by backstay.\nrecovery_target_xid = 7\n\
                    restore_command = 'x'\nport = 1";
        assert_eq!(without_recovery(text), "work_mem = '1MB'\nport = 1\n");
    }
}
