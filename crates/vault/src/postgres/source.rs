//! A running server's data directory as a source.
//!
//! The tree: `data` is the data directory without what a server makes anew; `spaces/OID` are its
//! tablespaces; `stop` holds what was read last: `backup_label`, `tablespace_map`, `pg_control`.

use super::changes::{Changes, Sources, Upto, changes};
use super::exclude::{Fate, fate, is_unlogged, relation};
use super::own::require_own;
use super::position::{Position, parse_label};
use super::server::{Ended, Facts, begin_backup, end_backup};
use super::{ConnInfo, Connection, Lsn, SegmentName};
use crate::chain::SourceKind;
use crate::error::{Result, VaultError, explain};
use crate::repository::Repository;
use crate::source::inode::{self, Seen};
use crate::source::{
    BlockRules, BytesStream, FileToRead, LiveFile, Place, ScanContext, ScanEvent, ScanSink, Source,
    Stretches,
};
use crate::tree::{Children, Entry, EntryKind, Metadata, NodeSource, children, join};
use crate::wal;
use rustix::fs::FileType;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::iter::Peekable;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The control file has this length on every server.
const CONTROL_BYTES: usize = 8192;
/// How often a changing control file is read.
const CONTROL_TRIES_MAX: u32 = 100;

/// A server to back up.
pub struct PostgresSource {
    info: ConnInfo,
    name: String,
    facts: Facts,
    run: Mutex<Option<Run>>,
    note: Mutex<Option<String>>,
}

/// What a scan leaves for the record.
struct Run {
    /// Its slot keeps the log until it is stored.
    connection: Connection,
    position: Position,
}

impl PostgresSource {
    /// Takes a server, and asks it who it is. `name` is the source's name in the repository.
    ///
    /// # Errors
    /// Where the server is not there or cannot be backed up, or its data directory is not here.
    pub fn new(info: ConnInfo, name: &str) -> Result<PostgresSource> {
        let mut connection = Connection::open(&info)?;
        let facts = Facts::ask(&mut connection, &info)?;
        require_own(&mut connection, &info, &facts)?;
        let (name, run, note) = (name.to_owned(), Mutex::new(None), Mutex::new(None));
        Ok(PostgresSource { info, name, facts, run, note })
    }

    /// What the server says of itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    fn copy(
        &self,
        context: &ScanContext<'_>,
        changes: Option<&Changes>,
        sink: &mut dyn ScanSink,
    ) -> Result<()> {
        let root = &self.facts.data_directory;
        let fail = |action| VaultError::file(action, root.clone());
        let data = File::open(root).map_err(fail("open"))?;
        let seen = inode::look_open(&data).map_err(fail("look at"))?;
        let top = Metadata { mode: 0o700, uid: seen.uid, gid: seen.gid, ..Metadata::default() };
        let enter = |name: &str, meta: &Metadata| ScanEvent::Enter {
            name: name.as_bytes().to_vec(),
            meta: meta.clone(),
            stamp: Default::default(),
        };
        sink.event(enter("", &top))?;
        let parent = context.parent.map(|(entry, source)| (entry.clone(), source));
        let mut before = entries_of(parent.as_ref());
        let file_pages = self.facts.file_pages;
        let mut walk = Walk { context, changes, file_pages, sink };
        let old = advance(&mut before, b"data");
        walk.directory(OwnedFd::from(data), b"data", b"data", &seen, old)?;
        self.spaces(&mut walk, &top, advance(&mut before, b"spaces"))?;
        // Whatever was read is from before the end of the backup.
        walk.sink.settle()?;
        walk.sink.event(enter("stop", &top))?;
        let control = read_control(&root.join("global/pg_control"))?;
        let ended = self.end()?;
        let file = |name: &str, bytes: Vec<u8>| ScanEvent::Stream {
            name: name.as_bytes().to_vec(),
            meta: Metadata { mode: 0o600, ..top.clone() },
            stream: Box::new(BytesStream::new(bytes)),
        };
        walk.sink.event(file("backup_label", ended.label.into_bytes()))?;
        walk.sink.event(file("pg_control", control))?;
        if !ended.tablespaces.is_empty() {
            walk.sink.event(file("tablespace_map", ended.tablespaces.into_bytes()))?;
        }
        walk.sink.event(ScanEvent::Leave)?;
        walk.sink.event(ScanEvent::Leave)
    }

    fn spaces(&self, walk: &mut Walk<'_, '_>, top: &Metadata, old: Option<Entry>) -> Result<()> {
        let folder = self.facts.data_directory.join("pg_tblspc");
        let fail = |action| VaultError::file(action, folder.clone());
        let mut names: Vec<String> = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(fail("list"))? {
            let entry = entry.map_err(fail("list"))?;
            let is_link = entry.file_type().map_err(fail("look at"))?.is_symlink();
            match entry.file_name().into_string() {
                Ok(name) if is_link && name.bytes().all(|b| b.is_ascii_digit()) => names.push(name),
                _ => {}
            }
        }
        names.sort();
        let name = b"spaces".to_vec();
        let (meta, stamp) = (top.clone(), Default::default());
        walk.sink.event(ScanEvent::Enter { name, meta, stamp })?;
        let parent = old.zip(walk.context.parent.map(|(_, source)| source));
        let mut before = entries_of(parent.as_ref());
        for name in names {
            let place = folder.join(&name);
            let failed = |action| VaultError::file(action, place.clone());
            let space = File::open(&place).map_err(failed("open"))?;
            let seen = inode::look_open(&space).map_err(failed("look at"))?;
            let path = join(b"spaces", name.as_bytes());
            let old = advance(&mut before, name.as_bytes());
            walk.directory(OwnedFd::from(space), name.as_bytes(), &path, &seen, old)?;
        }
        walk.sink.event(ScanEvent::Leave)
    }

    fn end(&self) -> Result<Ended> {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        let run = run.as_mut().ok_or_else(|| {
            VaultError::Refused("a backup was ended that had not begun".to_owned())
        })?;
        let ended = end_backup(&mut run.connection, &self.facts)?;
        let label = parse_label(&ended.label);
        let (timeline, start) = label.ok_or_else(|| {
            VaultError::Refused("the server's backup label says no position".to_owned())
        })?;
        run.position = Position {
            timeline,
            start,
            stop: ended.stop,
            next_xid: ended.next_xid,
            ..run.position.clone()
        };
        Ok(ended)
    }

    /// What the log says of what changed since the parent; and, for the operator, where it does
    /// not say.
    fn changes(&self, context: &ScanContext<'_>, facts: &Facts, start: Lsn) -> Option<Changes> {
        let (store, ring) = context.repository?;
        context.parent?;
        let sources = Sources { facts, store, ring, name: &self.name };
        let parent = Position::parse(context.parent_position);
        let parent = parent.ok_or_else(|| "the parent backup says no position".to_owned());
        let told = parent.and_then(|parent| changes(&sources, &parent, Upto::Record(start)));
        let (note, changes) = match told {
            Ok(changes) => {
                (format!("the log names {} changed pages", changes.pages()), Some(changes))
            }
            Err(why) => (format!("every file that changed was read whole: {why}"), None),
        };
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = Some(note);
        changes
    }

    /// Stores the log from the backup's beginning to its end out of the data directory, so that
    /// the backup opens whatever becomes of the archive.
    fn store_log(&self, repository: &mut Repository, position: &Position) -> Result<()> {
        let size = position.segment_bytes;
        let mut archive = wal::Archive::open(repository, &self.name, position.system, size)?;
        let mut at = position.start.segment_start(size);
        while at < position.stop {
            let end = position.stop.min(super::Lsn(at.0 + size));
            let segment = SegmentName { timeline: position.timeline, start: at };
            let name = segment.file_name(size);
            if archive.catalog().reach(position.timeline, at) < end {
                let path = self.facts.data_directory.join("pg_wal").join(&name);
                let file = File::open(&path).map_err(VaultError::file("open", path.clone()))?;
                let mut bytes = vec![0; (end.0 - at.0) as usize];
                file.read_exact_at(&mut bytes, 0).map_err(VaultError::file("read", path))?;
                archive.store(repository, position.timeline, at, &bytes)?;
            }
            at = super::Lsn(at.0 + size);
        }
        self.store_history(repository, &mut archive, position.timeline)?;
        let stretch = (position.start.segment_start(size), position.stop);
        archive.acknowledge(repository, position.timeline, stretch)
    }

    fn store_history(
        &self,
        repository: &Repository,
        archive: &mut wal::Archive,
        timeline: u32,
    ) -> Result<()> {
        if timeline == 1 {
            return Ok(());
        }
        let name = format!("{timeline:08X}.history");
        let path = self.facts.data_directory.join("pg_wal").join(name);
        let text = std::fs::read(&path).map_err(VaultError::file("read", path))?;
        archive.store_history(repository, timeline, &text)
    }
}

impl Source for PostgresSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Postgres
    }

    fn origin(&self) -> String {
        self.facts.data_directory.display().to_string()
    }

    fn position(&self) -> String {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.as_ref().map_or(String::new(), |run| run.position.encode())
    }

    fn scan(&self, context: &ScanContext<'_>, sink: &mut dyn ScanSink) -> Result<()> {
        let mut connection = Connection::open(&self.info)?;
        let facts = Facts::ask(&mut connection, &self.info)?;
        let start = begin_backup(&mut connection, &facts)?;
        let position = Position {
            version: facts.version,
            system: facts.system,
            timeline: facts.timeline,
            start,
            stop: start,
            segment_bytes: facts.segment_bytes,
            next_xid: 0,
        };
        // A connection that is dropped without an end ends the backup and its slot by itself.
        let run = Run { connection, position };
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = Some(run);
        let changes = self.changes(context, &facts, start);
        self.copy(context, changes.as_ref(), sink)
    }

    fn block_mode(&self) -> String {
        self.facts.block_mode()
    }

    fn note(&self) -> Option<String> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn before_record(&self, repository: &mut Repository) -> Result<()> {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        let run = run.ok_or_else(|| {
            VaultError::Refused("a backup was to be recorded that had not begun".to_owned())
        })?;
        self.store_log(repository, &run.position)
    }
}

/// The control file as it was at one moment: two readings that agree.
fn read_control(path: &Path) -> Result<Vec<u8>> {
    let read = || std::fs::read(path).map_err(VaultError::file("read", path));
    let mut last = read()?;
    for _ in 0..CONTROL_TRIES_MAX {
        let next = read()?;
        if next == last && next.len() == CONTROL_BYTES {
            return Ok(next);
        }
        last = next;
    }
    Err(VaultError::Refused(format!("{} never stood still", path.display())))
}

type Before<'a> = Option<Peekable<Children<'a>>>;

fn entries_of<'a>(parent: Option<&(Entry, &'a dyn NodeSource)>) -> Before<'a> {
    let (entry, source) = parent?;
    match &entry.kind {
        EntryKind::Directory { node, .. } => Some(children(*source, node).peekable()),
        _ => None,
    }
}

/// The parent's entry of this name; both sides are in order.
fn advance(before: &mut Before<'_>, name: &[u8]) -> Option<Entry> {
    let entries = before.as_mut()?;
    loop {
        match entries.peek()? {
            Ok(entry) if entry.name.as_slice() > name => return None,
            Ok(entry) if entry.name.as_slice() == name => return entries.next()?.ok(),
            _ => {
                entries.next();
            }
        }
    }
}

struct Walk<'a, 's> {
    context: &'a ScanContext<'a>,
    changes: Option<&'a Changes>,
    file_pages: u32,
    sink: &'s mut dyn ScanSink,
}

impl Walk<'_, '_> {
    fn directory(
        &mut self,
        directory: OwnedFd,
        name: &[u8],
        path: &[u8],
        seen: &Seen,
        old: Option<Entry>,
    ) -> Result<()> {
        let xattrs = match inode::xattrs(&directory, b"") {
            Ok(xattrs) => xattrs,
            Err(error) => return self.skip(path, &error),
        };
        let (meta, stamp) = (seen.metadata(xattrs), seen.stamp);
        self.sink.event(ScanEvent::Enter { name: name.to_vec(), meta, stamp })?;
        let parent = old.zip(self.context.parent.map(|(_, source)| source));
        let mut before = entries_of(parent.as_ref());
        let names = match inode::names(&directory) {
            Ok(names) => names,
            Err(error) => {
                self.skip(path, &error)?;
                Vec::new()
            }
        };
        let inits: BTreeSet<String> = names.iter().filter_map(|n| init_fork(n)).collect();
        let directory = Arc::new(directory);
        for name in names {
            let path = join(path, &name);
            let shown = String::from_utf8_lossy(&path).into_owned();
            let inner = shown.strip_prefix("data/").unwrap_or(&shown);
            let text = String::from_utf8_lossy(&name).into_owned();
            let old = advance(&mut before, &name);
            let decided = fate(inner);
            if decided == Fate::LeftOut || is_unlogged(&text, |n| inits.contains(n)) {
                continue;
            }
            match inode::look(&directory, &name) {
                Ok(seen) => self.entry(&directory, &name, path, &seen, old, decided)?,
                // Removed since it was listed: the log knows.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.skip(&path, &error)?,
            }
        }
        self.sink.event(ScanEvent::Leave)
    }

    fn entry(
        &mut self,
        directory: &Arc<OwnedFd>,
        name: &[u8],
        path: Vec<u8>,
        seen: &Seen,
        old: Option<Entry>,
        fate: Fate,
    ) -> Result<()> {
        // The log may lie elsewhere behind a link; what is restored is an empty directory.
        if fate == Fate::Emptied {
            let meta = Metadata { mode: 0o700, ..seen.metadata(Vec::new()) };
            let stamp = seen.stamp;
            self.sink.event(ScanEvent::Enter { name: name.to_vec(), meta, stamp })?;
            return self.sink.event(ScanEvent::Leave);
        }
        match seen.file_type {
            FileType::Directory => {
                let opened = inode::open_directory(directory, name)
                    .and_then(|fd| inode::look_open(&fd).map(|seen| (fd, seen)));
                match opened {
                    Ok((fd, seen)) => self.directory(fd, name, &path, &seen, old),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    Err(error) => self.skip(&path, &error),
                }
            }
            FileType::RegularFile => {
                let unchanged = old
                    .as_ref()
                    .is_some_and(|old| seen.is_unchanged(old, self.context.trusted_before_s));
                let unchanged = unchanged
                    && old.as_ref().map_or(Ok(false), |old| (self.context.may_reuse)(old))?;
                let rules = BlockRules::PAGES;
                let changed = self.changes.and_then(|c| c.of_file(&path, self.file_pages));
                let changed = changed.map(|pages| Stretches::of_blocks(&pages, rules.block_bytes));
                let place = Place::In(Arc::clone(directory));
                let file = FileToRead { name: name.to_vec(), path, seen: *seen, place };
                let live = LiveFile { file, old, unchanged, changed, rules };
                self.sink.event(ScanEvent::Live(Box::new(live)))
            }
            // Links to tablespaces are made anew by a restore, from the map.
            FileType::Symlink if path.starts_with(b"data/pg_tblspc/") => Ok(()),
            FileType::Symlink => match rustix::fs::readlinkat(&**directory, name, Vec::new()) {
                Ok(target) => {
                    let kind = EntryKind::Symlink { target: target.into_bytes() };
                    let (meta, stamp) = (seen.metadata(Vec::new()), seen.stamp);
                    let entry = Entry { name: name.to_vec(), meta, kind, stamp };
                    self.sink.event(ScanEvent::Ready(Box::new(entry)))
                }
                Err(error) => self.skip(&path, &error.into()),
            },
            // A server's own sockets and pipes mean nothing elsewhere.
            _ => Ok(()),
        }
    }

    fn skip(&mut self, path: &[u8], error: &io::Error) -> Result<()> {
        let why = explain(error);
        self.sink.event(ScanEvent::Skipped { path: path.to_vec(), why })
    }
}

/// The relation of which this is the fork that unlogged ones begin with.
pub(super) fn init_fork(name: &[u8]) -> Option<String> {
    match relation(std::str::from_utf8(name).ok()?)? {
        (number, "_init") => Some(number.to_owned()),
        _ => None,
    }
}
