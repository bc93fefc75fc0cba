//! Equality of a running server, primary or standby, and a backup: page by page, each at one
//! position of the log.
//!
//! A page says which record changed it last. Where both sides have it at the same position, both
//! must have the same contents, but for what is not logged. Where they have not, the log must say
//! that the page changed. And what the log changed before the server's last checkpoint must be on
//! its disk: a write that was lost shows there, although the page it left behind is sound.
//!
//! The server makes a checkpoint first, as it does for a backup. Nothing is replayed and nothing is
//! stopped. What has no position is not compared, and counted.

mod page;
mod walk;

use super::changes::{Changes, Sources, Upto, changes};
use super::own::require_own;
use super::server::{Facts, IDLE_SESSIONS_END};
use super::{ConnInfo, Connection, Lsn, Position, Timeline};
use crate::blobs::Blobs;
use crate::chain::Backup;
use crate::error::{Result, VaultError, explain};
use crate::repository::Repository;
use std::collections::BTreeMap;
use std::time::Duration;
use walk::{Moved, Seen, look};

/// Differences that are named; more are counted.
pub const DIFFERENCES_MAX: usize = 1000;

/// How often differences are looked at, and with which pause.
const LOOKS_MAX: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Equality {
    /// The root over the pages that both sides have at one position, as the server has them.
    pub live: [u8; 32],
    /// The same, as the backup has them.
    pub backup: [u8; 32],
    /// Up to where the log was read.
    pub upto: Lsn,
    /// The timeline of both.
    pub timeline: Timeline,
    /// Pages at one position, with the same contents.
    pub equal_pages: u64,
    /// Pages that changed since, each as the log says.
    pub changed_pages: u64,
    /// Pages that the server has still to write: their change is younger than its last checkpoint.
    pub unwritten_pages: u64,
    /// Pages whose last change before the checkpoint is known, and is on the server's disk.
    pub settled_pages: u64,
    /// Files that say at no position what they are, by what they are.
    pub not_compared: BTreeMap<&'static str, u64>,
    /// Files, pages, and what differs.
    pub differences: Vec<(String, String)>,
    /// How many more there are.
    pub differences_more: u64,
    /// Why the server made no checkpoint first: only what it had written is compared then.
    pub no_checkpoint: Option<String>,
}

impl Equality {
    /// Whether no page differs.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty() && self.live == self.backup
    }

    /// Whether every page that both have is at one position: nothing changed since.
    pub fn is_at_one_position(&self) -> bool {
        self.changed_pages == 0 && self.unwritten_pages == 0
    }

    fn differs(&mut self, path: &str, what: String) {
        match self.differences.len() < DIFFERENCES_MAX {
            true => self.differences.push((path.to_owned(), what)),
            false => self.differences_more += 1,
        }
    }
}

/// Compares a server's data directory on this machine with a backup of the same system.
///
/// # Errors
/// Where either side cannot be read, they are of two systems, versions or timelines, or the log
/// between them does not tell what changed.
pub fn compare(repository: &Repository, backup: &Backup, info: &ConnInfo) -> Result<Equality> {
    let position = Position::parse(&backup.subject.position);
    let position = position
        .ok_or_else(|| VaultError::Refused("this is no backup of a database server".to_owned()))?;
    let mut connection = Connection::open(info)?;
    // Before its timeline is asked for: a server that was promoted says its old one until then.
    let no_checkpoint = connection.query("CHECKPOINT").err().map(|error| explain(&error));
    if no_checkpoint.is_some() {
        connection = Connection::open(info)?;
    }
    let facts = Facts::ask(&mut connection, info)?;
    require_own(&mut connection, info, &facts)?;
    require_kin(&facts, &position)?;
    if facts.version >= IDLE_SESSIONS_END {
        connection.query("SET idle_session_timeout = 0")?;
    }
    for look in 1.. {
        let found = once(repository, backup, &mut connection, &facts, &position)?;
        // Relations come and go while they are compared: what differs is looked at again.
        if found.is_equal() || look == LOOKS_MAX {
            return Ok(Equality { no_checkpoint, ..found });
        }
        std::thread::sleep(PAUSE);
    }
    Err(VaultError::Refused("the server was not looked at".to_owned()))
}

fn once(
    repository: &Repository,
    backup: &Backup,
    connection: &mut Connection,
    facts: &Facts,
    position: &Position,
) -> Result<Equality> {
    // Asked for before a page is read: every change up to there is on disk.
    let settled = position_of(connection, "SELECT redo_lsn FROM pg_control_checkpoint()")?;
    // Those that are being made lie there before the log says so.
    let databases = "SELECT string_agg(oid::text, ' ') FROM pg_database";
    let databases = connection.row(databases, 1)?.remove(0);
    let databases = databases.split(' ').filter_map(|oid| oid.parse().ok()).collect();
    let blobs = repository.blobs()?;
    let seen = look(&blobs, (backup, position.start), facts, &databases)?;
    let sources = Sources {
        facts,
        store: &**repository.store(),
        ring: repository.ring(),
        name: &backup.source,
    };
    // What was dropped meanwhile is in the log by now. No page can be newer than it.
    let most = position_of(connection, WRITTEN)?.max(settled);
    let least = seen.newest.max(settled).min(most);
    let told = changes(&sources, position, Upto::Through { least, most, settled });
    let told = told.map_err(|why| {
        VaultError::Refused(format!(
            "the log does not tell what changed since the backup: {why}. Compare with a newer one"
        ))
    })?;
    let (upto, timeline) = (most.max(position.start), position.timeline);
    judge(facts, seen, &told, (settled, most)).map(|found| Equality { upto, timeline, ..found })
}

/// Up to where the server's log is on its disk, or replayed.
const WRITTEN: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
                       ELSE pg_current_wal_flush_lsn() END";

fn position_of(connection: &mut Connection, sql: &str) -> Result<Lsn> {
    let row = connection.row(sql, 1)?;
    let unknown = || VaultError::Refused(format!("the server names `{}` as a position", row[0]));
    Lsn::parse(&row[0]).ok_or_else(unknown)
}

fn require_kin(facts: &Facts, position: &Position) -> Result<()> {
    let refuse = |what: String| Err(VaultError::Refused(what));
    if facts.system != position.system {
        return refuse(format!(
            "the backup is of database system {}, and this server is system {}",
            position.system, facts.system
        ));
    }
    if facts.version / 10_000 != position.version / 10_000 {
        return refuse("the server is of another version than the backup".to_owned());
    }
    if facts.timeline != position.timeline {
        return refuse(format!(
            "the server is on timeline {}, and the backup on {}: what changed across a promotion \
             is not followed. Make a backup, and compare with that",
            facts.timeline, position.timeline
        ));
    }
    Ok(())
}

/// What the log says of what was seen: up to `settled` all is on disk, and `most` is its end.
fn judge(
    facts: &Facts,
    seen: Seen,
    told: &Changes,
    (settled, most): (Lsn, Lsn),
) -> Result<Equality> {
    let Seen { mut found, files, moved, .. } = seen;
    for page in moved {
        let file = &files[page.file];
        let block = file.first_block + page.block;
        let is_told = told.is_whole(&file.relation) || told.names(&file.relation, block);
        let what = if page.live > most {
            format!("is of {}, and the log ends at {most}", page.live)
        } else if page.is_same || told.is_whole(&file.relation) || (page.is_newer() && is_told) {
            found.changed_pages += 1;
            continue;
        } else if page.is_newer() {
            let Moved { live, backup, .. } = page;
            format!("is of {live}, and {backup} in the backup: the log does not name that change")
        } else if page.backup <= settled {
            let Moved { live, backup, .. } = page;
            format!(
                "is of {live}, older than {backup} in the backup, which a checkpoint had written: \
                 that write was lost"
            )
        } else {
            found.unwritten_pages += 1;
            continue;
        };
        found.differs(&file.path, format!("page {block} {what}"));
    }
    for (relation, block, at) in told.settled() {
        let on_disk = walk::lsn_on_disk(facts, relation, block)?;
        if on_disk >= Some(at) {
            found.settled_pages += 1;
            continue;
        }
        let path = walk::path_of(relation, block, facts.file_pages);
        // It is said already where the backup shows it.
        if found
            .differences
            .iter()
            .any(|(known, what)| *known == path && what.starts_with(&format!("page {block} ")))
        {
            continue;
        }
        let is = on_disk.map_or("is not there".to_owned(), |lsn| format!("is of {lsn}"));
        let what = format!(
            "page {block} {is}, and the log changed it at {at}, which a checkpoint had written: \
             that write was lost"
        );
        found.differs(&path, what);
    }
    Ok(found)
}
