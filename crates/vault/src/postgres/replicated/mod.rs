//! A server whose data directory is out of reach as a source: its base backup over the
//! replication protocol. What is recorded is what a copy of the directory would be: the same
//! tree, the same position, the log that it needs.
//!
//! The server sends every file, every time; what the parent backup holds is not stored again.
//! Nothing is recorded unless every file is what the server's own manifest says.

mod copy;
mod layout;
mod log;
mod manifest;
mod tree;

pub(crate) use copy::copy_message;
use copy::{Incoming, Part};
use layout::{Place, place};
use log::LogKeeper;
pub(crate) use manifest::Manifest;
use manifest::Received;
use tree::{Before, Tree};

use super::position::{Position, parse_label};
use super::server::Facts;
use super::{ConnInfo, Connection, Lsn, Timeline};
use crate::chain::SourceKind;
use crate::error::{Result, VaultError};
use crate::repository::Repository;
use crate::source::{AheadFile, ScanContext, ScanSink, Source};
use crate::tree::Metadata;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

/// Files of one backup: their names and places are in memory until the last has come.
const FILES_MAX: usize = 1 << 20;
/// The largest file of those that are kept aside: label, map, control file.
const ASIDE_BYTES_MAX: u64 = 1 << 20;

/// A server to back up over the replication protocol.
pub struct ReplicatedSource {
    info: ConnInfo,
    name: String,
    facts: Facts,
    run: Mutex<Option<Run>>,
    note: Mutex<Option<String>>,
}

/// What a scan leaves for the record.
struct Run {
    keeper: LogKeeper,
    position: Position,
}

/// What is known once all has come.
struct Taken {
    tree: Tree,
    aside: BTreeMap<&'static str, Vec<u8>>,
    received: Received,
    top: Metadata,
}

impl ReplicatedSource {
    /// Takes a server, and asks it who it is. `name` is the source's name in the repository. The
    /// role needs the right to replicate, and no more.
    ///
    /// # Errors
    /// Where the server is not there or cannot be backed up.
    pub fn new(info: ConnInfo, name: &str) -> Result<ReplicatedSource> {
        let mut connection = Connection::open(&info)?;
        let facts = Facts::ask(&mut connection, &info)?;
        let (name, run, note) = (name.to_owned(), Mutex::new(None), Mutex::new(None));
        Ok(ReplicatedSource { info, name, facts, run, note })
    }

    /// Takes everything the server sends, and the position where that ended.
    fn take(&self, context: &ScanContext<'_>, sink: &mut dyn ScanSink) -> Result<(Taken, Lsn)> {
        let mut incoming = Incoming::begin(&self.info, &self.facts)?;
        let mut before = Before::new(context);
        let mut taken = Taken {
            tree: Tree::default(),
            aside: BTreeMap::new(),
            received: Received::default(),
            top: Metadata::default(),
        };
        loop {
            match incoming.part()? {
                Part::Archive(space) => {
                    let read = taken.archive(space, &mut incoming, &mut before, sink);
                    // What the server said is the cause; the archive's end only follows from it.
                    incoming.take_failure().map_or(read, Err)?;
                }
                Part::Manifest => {
                    let manifest = Manifest::read(&mut incoming);
                    let manifest = incoming.take_failure().map_or(manifest, Err)?;
                    taken.received.check(&self.info.shown(), manifest)?;
                }
                Part::Data(_) => {
                    return Err(VaultError::Refused("the server sent bytes of no file".to_owned()));
                }
                Part::End => break,
            }
        }
        let stop = incoming.end()?;
        taken.received.require_checked(&self.info.shown())?;
        Ok((taken, stop))
    }

    /// What the server says of the backup: the position, and in which words.
    fn position(&self, taken: &Taken, stop: Lsn) -> Result<Position> {
        let refuse = |what: &str| VaultError::Refused(format!("the server's backup {what}"));
        let label = taken.aside.get("backup_label").ok_or_else(|| refuse("has no label"))?;
        let label = parse_label(&String::from_utf8_lossy(label));
        let (timeline, start): (Timeline, Lsn) =
            label.ok_or_else(|| refuse("has a label that says no position"))?;
        let control = taken.aside.get("pg_control");
        let system = control.and_then(|c| c.first_chunk()).map(|c| u64::from_le_bytes(*c));
        if system != Some(self.facts.system) {
            return Err(refuse("is of another database system than the server says it is"));
        }
        let mut connection = Connection::open(&self.info)?;
        let xid = connection.row("SELECT pg_snapshot_xmax(pg_current_snapshot())", 1)?;
        let next_xid = xid[0].parse().map_err(|_| refuse("ended without a transaction"))?;
        let Facts { version, system, segment_bytes, .. } = self.facts;
        Ok(Position { version, system, timeline, start, stop, segment_bytes, next_xid })
    }

    fn say(&self, taken: &Taken) {
        let note = format!(
            "all {} files came over the replication protocol and are what the server's manifest \
             says. The next backup reads all of them again, too, and stores what differs",
            taken.received.checked()
        );
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = Some(note);
    }
}

impl Taken {
    /// Takes an archive: the data directory's, or a tablespace's.
    fn archive(
        &mut self,
        space: Option<u32>,
        incoming: &mut Incoming,
        before: &mut Before<'_>,
        sink: &mut dyn ScanSink,
    ) -> Result<()> {
        let broken = |error: io::Error| {
            VaultError::Refused(format!("the server's archive cannot be read: {error}"))
        };
        self.tree.open(space);
        let mut archive = tar::Archive::new(&mut *incoming);
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let header = entry.header();
            let meta = metadata(header).map_err(broken)?;
            let (kind, size_bytes) = (header.entry_type(), entry.size());
            let path = entry.path_bytes().into_owned();
            let placed = place(space, &path)?;
            if kind.is_dir() {
                self.tree.directory(&placed, meta);
                continue;
            }
            // Links to tablespaces are made anew by a restore, from the map.
            if !kind.is_file() {
                continue;
            }
            self.require_room()?;
            let mut input = self.received.reader(&mut entry);
            match placed.place {
                Place::Kept => {
                    let (path, old) = (placed.path.clone(), before.entry(&placed.path));
                    let file = AheadFile { path, size_bytes, meta, old };
                    sink.ahead(file, &mut input)?;
                    self.tree.file(&placed);
                }
                Place::Aside(name) => {
                    let mut bytes = Vec::new();
                    let limited = (&mut input).take(ASIDE_BYTES_MAX).read_to_end(&mut bytes);
                    limited.map_err(broken)?;
                    if name == "backup_label" {
                        // It is made for the backup, with the rights of the whole directory.
                        let mode = if meta.mode & 0o040 == 0 { 0o700 } else { 0o750 };
                        self.top = Metadata { mode, ..meta };
                    }
                    self.aside.insert(name, bytes);
                }
                Place::LeftOut => {
                    io::copy(&mut input, &mut io::sink()).map_err(broken)?;
                }
            }
            input.finish(placed.named);
        }
        // What follows the last file, up to the archive's end.
        io::copy(incoming, &mut io::sink()).map(|_| ()).map_err(broken)
    }

    fn require_room(&self) -> Result<()> {
        if self.received.files() < FILES_MAX {
            return Ok(());
        }
        let what = "the number of files of a database".to_owned();
        Err(VaultError::Limit { what, limit: FILES_MAX as u64 })
    }
}

fn metadata(header: &tar::Header) -> io::Result<Metadata> {
    Ok(Metadata {
        mode: header.mode()? & 0o7777,
        uid: header.uid()? as u32,
        gid: header.gid()? as u32,
        mtime_s: header.mtime()? as i64,
        mtime_ns: 0,
        xattrs: Vec::new(),
    })
}

impl Source for ReplicatedSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Postgres
    }

    fn origin(&self) -> String {
        self.info.shown()
    }

    fn position(&self) -> String {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.as_ref().map_or(String::new(), |run| run.position.encode())
    }

    fn scan(&self, context: &ScanContext<'_>, sink: &mut dyn ScanSink) -> Result<()> {
        // Before the backup begins: from here on the server keeps its log for us.
        let keeper = LogKeeper::begin(&self.info, &self.facts)?;
        let (taken, stop) = self.take(context, sink)?;
        let position = self.position(&taken, stop)?;
        self.say(&taken);
        let run = Run { keeper, position };
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = Some(run);
        taken.tree.tell(&taken.top, taken.aside, sink)
    }

    fn block_mode(&self) -> String {
        self.facts.block_mode()
    }

    fn note(&self) -> Option<String> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn before_record(&self, repository: &mut Repository) -> Result<()> {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut run = run.ok_or_else(|| {
            VaultError::Refused("a backup was to be recorded that had not begun".to_owned())
        })?;
        run.keeper.store_log(repository, &self.name, &run.position)
    }
}
