//! What a server says of itself, and the beginning and end of a base backup.

use super::connection::literal;
use super::lsn::is_segment_size;
use super::{ConnInfo, Connection, Lsn, PAGE_BYTES, Timeline, VERSION_MIN};
use crate::error::{Result, VaultError};
use std::path::PathBuf;

/// A server.
#[derive(Clone, Debug)]
pub struct Facts {
    /// As it numbers itself: 150018 is 15.18.
    pub version: u32,
    /// Its database system's identity.
    pub system: u64,
    /// Its data directory; empty where the role may not know it.
    pub data_directory: PathBuf,
    /// Bytes of a segment of its log.
    pub segment_bytes: u64,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// The timeline of its newest checkpoint.
    pub timeline: Timeline,
    /// Pages of a whole file of a relation.
    pub file_pages: u32,
    /// Whether its pages have checksums: `on` or `off`.
    pub checksums: String,
}

impl Facts {
    /// Asks.
    ///
    /// # Errors
    /// The server's, and where it is one that cannot be backed up.
    pub fn ask(connection: &mut Connection, info: &ConnInfo) -> Result<Facts> {
        let refuse = |what: String| VaultError::Postgres { server: info.shown(), what };
        let sql = "SELECT current_setting('server_version_num'), \
                   (SELECT system_identifier FROM pg_control_system()), \
                   (SELECT setting FROM pg_settings WHERE name = 'data_directory'), \
                   (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'), \
                   pg_is_in_recovery(), (SELECT timeline_id FROM pg_control_checkpoint()), \
                   current_setting('block_size'), current_setting('full_page_writes'), \
                   (SELECT setting FROM pg_settings WHERE name = 'segment_size'), \
                   current_setting('data_checksums')";
        let row = connection.row(sql, 10)?;
        let bad = || refuse("it described itself in words that we don't know".to_owned());
        let facts = Facts {
            version: row[0].parse().map_err(|_| bad())?,
            system: row[1].parse().map_err(|_| bad())?,
            data_directory: PathBuf::from(&row[2]),
            segment_bytes: row[3].parse().ok().filter(|b| is_segment_size(*b)).ok_or_else(bad)?,
            in_recovery: row[4] == "t",
            timeline: row[5].parse().map_err(|_| bad())?,
            file_pages: row[8].parse().ok().filter(|pages| *pages > 0).ok_or_else(bad)?,
            checksums: row[9].clone(),
        };
        if facts.version < VERSION_MIN {
            return Err(refuse(format!("version {} is older than 13", facts.version)));
        }
        if row[6] != PAGE_BYTES.to_string() {
            return Err(refuse(format!("its pages have {} bytes, and not {PAGE_BYTES}", row[6])));
        }
        if row[7] != "on" {
            let what = "full_page_writes is off: pages that were torn while they were copied \
                        could not be repaired. Turn it on";
            return Err(refuse(what.to_owned()));
        }
        Ok(facts)
    }

    /// How the server writes its blocks: what is remembered of a backup's counts only where this
    /// is the same.
    pub fn block_mode(&self) -> String {
        let Facts { version, checksums, file_pages, .. } = self;
        format!("postgresql {} checksums {checksums} files {file_pages}", version / 10_000)
    }
}

/// From here on a server may end sessions that are idle, as those that keep a backup's log are.
pub(super) const IDLE_SESSIONS_END: u32 = 140_000;

/// A name for the slot that keeps the log of one backup.
pub(super) fn slot_of_backup() -> String {
    format!("backstay_backup_{}", crate::hex::encode(&crate::random::bytes::<6>()))
}

/// Begins a base backup: a slot of this session keeps the log, and a checkpoint is made. Returns
/// where replay will begin.
///
/// # Errors
/// The server's.
pub fn begin_backup(connection: &mut Connection, facts: &Facts) -> Result<Lsn> {
    let slot = literal(&slot_of_backup());
    if facts.version >= IDLE_SESSIONS_END {
        connection.query("SET idle_session_timeout = 0")?;
    }
    connection.query(&format!("SELECT pg_create_physical_replication_slot({slot}, true, true)"))?;
    let row = match facts.version {
        150_000.. => connection.row("SELECT pg_backup_start('backstay', true)", 1)?,
        _ => connection.row("SELECT pg_start_backup('backstay', true, false)", 1)?,
    };
    Lsn::parse(&row[0]).ok_or_else(|| {
        VaultError::Refused(format!("the server named `{}` as the backup's beginning", row[0]))
    })
}

/// What the end of a base backup said.
pub struct Ended {
    /// Where replay must reach.
    pub stop: Lsn,
    /// The contents of `backup_label`.
    pub label: String,
    /// The contents of `tablespace_map`; empty where there are none.
    pub tablespaces: String,
    /// Every transaction from this one on commits later.
    pub next_xid: u64,
}

/// Ends the base backup of this session.
///
/// # Errors
/// The server's.
pub fn end_backup(connection: &mut Connection, facts: &Facts) -> Result<Ended> {
    let call = match facts.version {
        150_000.. => "pg_backup_stop(false)",
        _ => "pg_stop_backup(false, false)",
    };
    let row = connection.row(&format!("SELECT lsn, labelfile, spcmapfile FROM {call}"), 3)?;
    let xid = connection.row("SELECT pg_snapshot_xmax(pg_current_snapshot())", 1)?;
    let [stop, label, tablespaces] = <[String; 3]>::try_from(row).unwrap_or_default();
    let parsed = Lsn::parse(&stop).zip(xid[0].parse().ok());
    let (stop, next_xid) = parsed.ok_or_else(|| {
        VaultError::Refused(format!("the server named `{stop}` as the backup's end"))
    })?;
    Ok(Ended { stop, label, tablespaces, next_xid })
}

/// A replication slot that keeps the log for us.
pub struct Slot {
    /// From where on the server keeps its log; nothing where it has let it go.
    pub restart: Option<Lsn>,
}

impl Slot {
    /// Finds the slot or makes it; one that the server has invalidated is made anew.
    ///
    /// # Errors
    /// The server's, and where the slot is of another sort.
    pub fn ensure(connection: &mut Connection, name: &str) -> Result<Slot> {
        let text = literal(name);
        let find = format!(
            "SELECT slot_type, coalesce(restart_lsn::text, ''), coalesce(wal_status, '') \
             FROM pg_replication_slots WHERE slot_name = {text}"
        );
        let mut rows = connection.query(&find)?;
        let column = |rows: &[super::Row], n: usize| {
            rows.first().and_then(|r| r.get(n).cloned().flatten()).unwrap_or_default()
        };
        if !rows.is_empty() && column(&rows, 0) != "physical" {
            let what = format!("the slot `{name}` is in use for something else; give another");
            return Err(VaultError::Refused(what));
        }
        let lost = column(&rows, 2) == "lost";
        if lost {
            Slot::drop(connection, name)?;
        }
        if rows.is_empty() || lost {
            let make = format!("SELECT pg_create_physical_replication_slot({text}, true)");
            connection.query(&make)?;
            rows = connection.query(&find)?;
        }
        Ok(Slot { restart: Lsn::parse(&column(&rows, 1)) })
    }

    /// Drops the slot; whoever streams from it is cut off.
    ///
    /// # Errors
    /// The server's.
    pub fn drop(connection: &mut Connection, name: &str) -> Result<()> {
        let text = literal(name);
        connection.query(&format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots \
             WHERE slot_name = {text} AND active_pid IS NOT NULL"
        ))?;
        // The backend takes a moment to let go of it.
        for _ in 0..SLOT_TRIES_MAX {
            let dropped = connection.query(&format!(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                 WHERE slot_name = {text} AND active_pid IS NULL"
            ))?;
            let left = connection
                .query(&format!("SELECT 1 FROM pg_replication_slots WHERE slot_name = {text}"))?;
            if !dropped.is_empty() || left.is_empty() {
                return Ok(());
            }
            std::thread::park_timeout(SLOT_PAUSE);
        }
        Err(VaultError::Refused(format!("the slot `{name}` stays in use and cannot be dropped")))
    }
}

/// How often a slot in use is tried to be dropped, and the pause between.
const SLOT_TRIES_MAX: u32 = 100;
const SLOT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
