//! Reads both sides: every page of the main forks of relations that outlive a crash.

use super::super::changes::{SPACE_DEFAULT, SPACE_GLOBAL, relation_of};
use super::super::exclude::{Fate, fate, is_unlogged, relation};
use super::super::source::init_fork;
use super::page::{is_position, lsn, mask};
use super::{Blobs, Equality, Facts, Lsn};
use crate::blobs::ReadBuffers;
use crate::chain::Backup;
use crate::error::{Result, VaultError};
use crate::postgres::PAGE_BYTES;
use crate::restore::dump;
use crate::tree::{EntryKind, Step, Walk};
use crate::wal::Relation;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// A page that differs may be half written: it is read again so often, with this pause.
const READS_MAX: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);
/// Differences up to which another one is read again.
const PATIENT: usize = 16;
/// Pages that are remembered until the log was asked.
const MOVED_MAX: usize = 8 << 20;

/// A file of a relation's main fork.
pub(super) struct Place {
    pub(super) path: String,
    pub(super) relation: Relation,
    /// The number of its first page.
    pub(super) first_block: u32,
}

/// A page that the sides have at two positions. 0 is a page that is not there.
pub(super) struct Moved {
    pub(super) file: usize,
    pub(super) block: u32,
    pub(super) live: Lsn,
    pub(super) backup: Lsn,
    /// Whether it holds the same all the same.
    pub(super) is_same: bool,
}

impl Moved {
    pub(super) fn is_newer(&self) -> bool {
        self.live > self.backup
    }
}

/// What was seen, before the log is asked.
pub(super) struct Seen {
    pub(super) found: Equality,
    pub(super) files: Vec<Place>,
    pub(super) moved: Vec<Moved>,
    /// The newest position of a page of the server's.
    pub(super) newest: Lsn,
    /// Where the backup began: a page that is newer in it changed while it was copied.
    started: Lsn,
}

/// Looks at every page. Of what is not in the backup, only what is of these databases.
pub(super) fn look(
    blobs: &Blobs,
    (backup, started): (&Backup, Lsn),
    facts: &Facts,
    databases: &BTreeSet<u32>,
) -> Result<Seen> {
    let found = Equality::default();
    let (files, moved) = (Vec::new(), Vec::new());
    let mut seen = Seen { found, files, moved, newest: Lsn(0), started };
    let mut roots = [blake3::Hasher::new(), blake3::Hasher::new()];
    let mut known = BTreeSet::new();
    let mut buffers = ReadBuffers::default();
    for step in Walk::new(blobs, b"", &backup.top) {
        let (path, entry) = match step {
            Step::Entry { path, entry } => (String::from_utf8_lossy(&path).into_owned(), entry),
            Step::Leave { .. } => continue,
            Step::Lost { error, .. } => return Err(error),
        };
        if !matches!(entry.kind, EntryKind::File { .. }) {
            continue;
        }
        let Some((relation, segment)) = relation_of(&path) else {
            *seen.found.not_compared.entry(kind_of(&path)).or_default() += 1;
            continue;
        };
        let mut sides = Sides::new(&mut seen, facts, path.clone(), relation, segment)?;
        let written = dump(blobs, &entry, &mut buffers, &mut sides);
        sides.failed.take().map_or(written.map(drop), Err)?;
        sides.rest()?;
        for (root, own) in roots.iter_mut().zip(sides.roots) {
            root.update(&(path.len() as u64).to_le_bytes()).update(path.as_bytes());
            root.update(own.finalize().as_bytes());
        }
        known.insert(path);
    }
    for (path, relation, segment) in live_files(facts)? {
        if known.contains(&path) {
            continue;
        }
        if relation.database != 0 && !databases.contains(&relation.database) {
            *seen.found.not_compared.entry("files of a database in the making").or_default() += 1;
        } else {
            Sides::new(&mut seen, facts, path, relation, segment)?.rest()?;
        }
    }
    [seen.found.live, seen.found.backup] = roots.map(|root| *root.finalize().as_bytes());
    Ok(seen)
}

/// What a file is whose contents have no position.
fn kind_of(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_data = path.starts_with("data/base/") || path.starts_with("spaces/");
    match relation(name).map(|(_, fork)| fork) {
        Some("_fsm") => "free space maps",
        Some("_vm") => "visibility maps",
        Some("_init") => "beginnings of unlogged relations",
        _ if is_data || path.starts_with("data/global/") => "maps of a database",
        _ => "files of the server's own",
    }
}

/// One file on both sides.
struct Sides<'a> {
    seen: &'a mut Seen,
    live: Option<File>,
    file: usize,
    /// The next page of the backup's.
    block: u32,
    part: Vec<u8>,
    /// Live and backup.
    roots: [blake3::Hasher; 2],
    failed: Option<VaultError>,
}

impl Write for Sides<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let here = bytes.len().min(PAGE_BYTES - self.part.len());
        self.part.extend_from_slice(&bytes[..here]);
        if let Some(page) = self.part.first_chunk() {
            let page = *page;
            self.part.clear();
            if let Err(error) = self.page(&page) {
                self.failed = Some(error);
                return Err(io::Error::other("the server's side cannot be read"));
            }
        }
        Ok(here)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> Sides<'a> {
    fn new(
        seen: &'a mut Seen,
        facts: &Facts,
        path: String,
        relation: Relation,
        segment: u32,
    ) -> Result<Sides<'a>> {
        let live = match File::open(on_disk(facts, &path)) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(VaultError::file("open", on_disk(facts, &path))(error)),
        };
        let first_block = segment.saturating_mul(facts.file_pages);
        seen.files.push(Place { path, relation, first_block });
        let (file, part) = (seen.files.len() - 1, Vec::with_capacity(PAGE_BYTES));
        let roots = [blake3::Hasher::new(), blake3::Hasher::new()];
        Ok(Sides { seen, live, file, block: 0, part, roots, failed: None })
    }

    fn live_page(&self, block: u32) -> Result<Option<[u8; PAGE_BYTES]>> {
        let Some(live) = &self.live else { return Ok(None) };
        let path = || self.seen.files[self.file].path.clone();
        page_at(live, block).map_err(|error| VaultError::file("read", path())(error))
    }

    /// Compares the backup's next page.
    fn page(&mut self, backup: &[u8; PAGE_BYTES]) -> Result<()> {
        let block = self.block;
        self.block += 1;
        let number = self.seen.files[self.file].first_block + block;
        let mut expected = *backup;
        mask(&mut expected, number);
        let position = lsn(backup);
        // Differences that many others go before are not waited for.
        let reads_max = if self.seen.found.differences.len() < PATIENT { READS_MAX } else { 1 };
        for read in 1.. {
            let Some(mut live) = self.live_page(block)? else {
                // An empty page that is gone was one that nothing had been written to.
                let was_empty = *backup == [0; PAGE_BYTES];
                return if was_empty { Ok(()) } else { self.moved(block, Lsn(0), position, false) };
            };
            mask(&mut live, number);
            let is_same = live[8..] == expected[8..];
            if lsn(&live) != position {
                return self.moved(block, lsn(&live), position, is_same);
            }
            if !is_same && read < reads_max {
                thread::sleep(PAUSE);
                continue;
            }
            if !is_same && self.says_nothing(position) {
                return Ok(());
            }
            self.compared(block, number, [&live, &expected], is_same);
            return Ok(());
        }
        Ok(())
    }

    /// Whether two pages of this position may differ: it is none, or the page changed while it was
    /// copied, and replay puts right what was torn.
    fn says_nothing(&mut self, position: Lsn) -> bool {
        let why = match position {
            _ if !is_position(position) => "pages that differ and have no position",
            _ if position > self.seen.started => "pages that changed while they were copied",
            _ => return false,
        };
        *self.seen.found.not_compared.entry(why).or_default() += 1;
        true
    }

    /// Both sides are at one position.
    fn compared(
        &mut self,
        block: u32,
        number: u32,
        [live, backup]: [&[u8; PAGE_BYTES]; 2],
        is_same: bool,
    ) {
        let position = lsn(live);
        self.seen.newest = self.seen.newest.max(position);
        for (root, page) in self.roots.iter_mut().zip([live, backup]) {
            root.update(&block.to_le_bytes()).update(blake3::hash(page).as_bytes());
        }
        if is_same {
            self.seen.found.equal_pages += 1;
            return;
        }
        let path = self.seen.files[self.file].path.clone();
        let what = format!("page {number} at {position} {}", differing(live, backup));
        self.seen.found.differs(&path, what);
    }

    /// A page at two positions, or on one side only.
    fn moved(&mut self, block: u32, live: Lsn, backup: Lsn, is_same: bool) -> Result<()> {
        if self.seen.moved.len() >= MOVED_MAX {
            let what = "very many pages changed since the backup: compare with a newer one";
            return Err(VaultError::Refused(what.to_owned()));
        }
        self.seen.newest = self.seen.newest.max(live);
        self.seen.moved.push(Moved { file: self.file, block, live, backup, is_same });
        Ok(())
    }

    /// The server's pages behind the backup's last one.
    fn rest(&mut self) -> Result<()> {
        while let Some(page) = self.live_page(self.block)? {
            let (block, position) = (self.block, lsn(&page));
            self.block += 1;
            if is_position(position) {
                self.moved(block, position, Lsn(0), false)?;
            } else if page != [0; PAGE_BYTES] {
                // An index that is being built.
                let what = "pages that are not in the backup and have no position";
                *self.seen.found.not_compared.entry(what).or_default() += 1;
            }
        }
        Ok(())
    }
}

/// Where two pages differ, after masking.
fn differing(live: &[u8; PAGE_BYTES], backup: &[u8; PAGE_BYTES]) -> String {
    let differ = live.iter().zip(backup).map(|(a, b)| a != b);
    let count = differ.clone().filter(|d| *d).count();
    let first = differ.clone().position(|d| d).unwrap_or(0);
    let last = PAGE_BYTES - 1 - differ.rev().position(|d| d).unwrap_or(0);
    format!("differs in {count} bytes, from {first} to {last}")
}

/// A whole page of a file; nothing behind its end.
fn page_at(file: &File, block: u32) -> io::Result<Option<[u8; PAGE_BYTES]>> {
    let mut page = [0; PAGE_BYTES];
    match file.read_exact_at(&mut page, u64::from(block) * PAGE_BYTES as u64) {
        Ok(()) => Ok(Some(page)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where a path of the tree lies.
fn on_disk(facts: &Facts, path: &str) -> PathBuf {
    let inner = match path.strip_prefix("spaces/") {
        Some(inner) => Path::new("pg_tblspc").join(inner),
        None => PathBuf::from(path.strip_prefix("data/").unwrap_or(path)),
    };
    facts.data_directory.join(inner)
}

/// Every file of a main fork that the server has and keeps.
fn live_files(facts: &Facts) -> Result<Vec<(String, Relation, u32)>> {
    let mut folders = vec!["data/global".to_owned()];
    let list = |path: &str| names_in(&on_disk(facts, path));
    folders.extend(list("data/base")?.iter().map(|name| format!("data/base/{name}")));
    for space in names_in(&facts.data_directory.join("pg_tblspc"))? {
        for version in list(&format!("spaces/{space}"))? {
            let inner = format!("spaces/{space}/{version}");
            folders.extend(list(&inner)?.iter().map(|name| format!("{inner}/{name}")));
        }
    }
    let mut files = Vec::new();
    for folder in folders {
        let names = names_in(&on_disk(facts, &folder))?;
        let inits: BTreeSet<String> =
            names.iter().filter_map(|name| init_fork(name.as_bytes())).collect();
        for name in names {
            let path = format!("{folder}/{name}");
            let inner = path.strip_prefix("data/").unwrap_or(&path);
            let is_kept = fate(inner) == Fate::Kept && !is_unlogged(&name, |n| inits.contains(n));
            if let Some((relation, segment)) = relation_of(&path).filter(|_| is_kept) {
                files.push((path, relation, segment));
            }
        }
    }
    Ok(files)
}

/// The names in a folder; none where it is none, or gone meanwhile.
fn names_in(folder: &Path) -> Result<Vec<String>> {
    let list = match fs::read_dir(folder) {
        Ok(list) => list,
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(VaultError::file("list", folder)(error)),
    };
    let name = |entry: io::Result<fs::DirEntry>| {
        let name = entry.map_err(VaultError::file("list", folder))?.file_name();
        Ok(name.to_string_lossy().into_owned())
    };
    let mut names: Vec<String> = list.map(name).collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

/// The path in the tree of the file that holds a page. A tablespace's folder of the version is
/// not in it.
pub(super) fn path_of(relation: &Relation, block: u32, file_pages: u32) -> String {
    let Relation { space, database, number } = relation;
    let folder = match *space {
        SPACE_DEFAULT => format!("data/base/{database}"),
        SPACE_GLOBAL => "data/global".to_owned(),
        space => format!("spaces/{space}/{database}"),
    };
    match block / file_pages {
        0 => format!("{folder}/{number}"),
        segment => format!("{folder}/{number}.{segment}"),
    }
}

/// The position of a page on the server's disk; nothing where it is not there.
pub(super) fn lsn_on_disk(facts: &Facts, relation: &Relation, block: u32) -> Result<Option<Lsn>> {
    let path = path_of(relation, block, facts.file_pages);
    let path = match path.strip_prefix("spaces/").and_then(|inner| inner.split_once('/')) {
        None => on_disk(facts, &path),
        Some((space, inner)) => {
            let space = facts.data_directory.join("pg_tblspc").join(space);
            let versions = names_in(&space)?;
            let here =
                versions.iter().find(|v| v.starts_with(&format!("PG_{}_", facts.version / 10_000)));
            space.join(here.map_or("", String::as_str)).join(inner)
        }
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(VaultError::file("open", path)(error)),
    };
    let page = page_at(&file, block % facts.file_pages);
    Ok(page.map_err(VaultError::file("read", path))?.as_ref().map(lsn))
}
