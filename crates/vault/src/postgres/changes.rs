//! Which pages of a database may differ from its newest backup, from the log between the two.
//!
//! The log is that of the server's own `pg_wal`, and before what is left there that of the
//! archive. It counts only where it is unbroken: each record names the one before, from the
//! record at which the parent's replay begins to the one at which the new backup's does; and
//! where both have the log, they must say the same, or this server is another one's copy.
//!
//! Not in the log, and therefore always read whole: everything but the main fork of relations.

use super::exclude::relation;
use super::{Facts, Lsn, Position, SegmentName};
use crate::error::explain;
use crate::keys::KeyRing;
use crate::store::Store;
use crate::wal::record::{PAGE_BYTES, Pages, Record};
use crate::wal::{Catalog, Referred, Relation, fetch_stretch, refers};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::ControlFlow;

/// Changed pages that are kept in memory; with more of them, reading everything is no slower.
const PAGES_MAX: u64 = 8 << 20;
/// Segments read at once.
const AT_ONCE: usize = 2;
/// Tablespaces that every server has: that of databases, and of what all share.
pub(super) const SPACE_DEFAULT: u32 = 1663;
pub(super) const SPACE_GLOBAL: u32 = 1664;

/// Why the log does not tell what changed.
pub(super) type Untold = String;

/// What changed of a relation.
enum Touched {
    Pages(HashSet<u32>),
    Whole,
}

/// What the log says.
#[derive(Default)]
pub(super) struct Changes {
    relations: BTreeMap<Relation, Touched>,
    databases: BTreeSet<u32>,
    pages: u64,
    /// Where it was asked for: each page's last change up to there.
    settled: Option<Settled>,
}

/// Where pages changed last, up to a position. What was made, cut or dropped begins anew.
struct Settled {
    upto: Lsn,
    relations: BTreeMap<Relation, HashMap<u32, Lsn>>,
    pages: u64,
}

impl Settled {
    fn add(&mut self, record: &Record<'_>, referred: Referred) {
        match referred {
            Referred::Page(relation, block) => {
                if record.end > self.upto || !record.moves_pages() {
                    return;
                }
                let pages = self.relations.entry(relation).or_default();
                self.pages += u64::from(pages.insert(block, record.end).is_none());
            }
            Referred::Whole(relation) => {
                let gone = self.relations.remove(&relation).unwrap_or_default();
                self.pages -= gone.len() as u64;
            }
            Referred::Database(database) => {
                self.relations.retain(|relation, _| relation.database != database);
                self.pages = self.relations.values().map(|pages| pages.len() as u64).sum();
            }
        }
    }
}

/// How far the log is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Upto {
    /// To the record that begins here, without it.
    Record(Lsn),
    /// Through the record that ends at `least` or later, and on to `most` as far as the log goes
    /// there. Of each page, its last change up to `settled` is remembered.
    Through { least: Lsn, most: Lsn, settled: Lsn },
}

impl Changes {
    fn add(&mut self, referred: Referred) {
        match referred {
            Referred::Page(relation, block) => {
                let touched = self.relations.entry(relation);
                let touched = touched.or_insert_with(|| Touched::Pages(HashSet::new()));
                if let Touched::Pages(pages) = touched
                    && pages.insert(block)
                {
                    self.pages += 1;
                }
            }
            Referred::Whole(relation) => {
                self.relations.insert(relation, Touched::Whole);
            }
            Referred::Database(database) => {
                self.databases.insert(database);
            }
        }
    }

    /// The blocks of a file that may differ, in order; nothing where all of them may.
    pub(super) fn of_file(&self, path: &[u8], segment_blocks: u32) -> Option<Vec<u32>> {
        let (relation, segment) = relation_of(std::str::from_utf8(path).ok()?)?;
        if self.databases.contains(&relation.database) {
            return None;
        }
        let first = segment.checked_mul(segment_blocks)?;
        let mut found: Vec<u32> = match self.relations.get(&relation) {
            None => Vec::new(),
            Some(Touched::Whole) => return None,
            Some(Touched::Pages(pages)) => {
                let here = pages.iter().filter_map(|page| page.checked_sub(first));
                here.filter(|page| *page < segment_blocks).collect()
            }
        };
        found.sort_unstable();
        Some(found)
    }

    /// Whether the log says that a page changed, or may have.
    pub(super) fn names(&self, relation: &Relation, block: u32) -> bool {
        self.is_whole(relation)
            || matches!(self.relations.get(relation), Some(Touched::Pages(p)) if p.contains(&block))
    }

    /// Whether all of a relation may have changed.
    pub(super) fn is_whole(&self, relation: &Relation) -> bool {
        self.databases.contains(&relation.database)
            || matches!(self.relations.get(relation), Some(Touched::Whole))
    }

    /// The pages whose last change up to where it was asked for is known, and its position.
    pub(super) fn settled(&self) -> impl Iterator<Item = (&Relation, u32, Lsn)> {
        let relations = self.settled.iter().flat_map(|settled| &settled.relations);
        relations.flat_map(|(r, pages)| pages.iter().map(move |(block, at)| (r, *block, *at)))
    }

    /// How many pages changed, where that is known page by page.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }
}

/// The relation whose main fork lies at this path of the tree, and the number of the file.
pub(super) fn relation_of(path: &str) -> Option<(Relation, u32)> {
    let parts: Vec<&str> = path.split('/').collect();
    let (space, database, name) = match parts[..] {
        ["data", "global", name] => (SPACE_GLOBAL, "0", name),
        ["data", "base", database, name] => (SPACE_DEFAULT, database, name),
        ["spaces", space, _version, database, name] => (space.parse().ok()?, database, name),
        _ => return None,
    };
    let ("", number) = relation(name).map(|(number, fork)| (fork, number))? else { return None };
    let segment = match name.split_once('.') {
        Some((_, segment)) => segment.parse().ok()?,
        None => 0,
    };
    let (database, number) = (database.parse().ok()?, number.parse().ok()?);
    Some((Relation { space, database, number }, segment))
}

/// Where the log is.
pub(super) struct Sources<'a> {
    pub(super) facts: &'a Facts,
    pub(super) store: &'a dyn Store,
    pub(super) ring: &'a KeyRing,
    /// The source's name.
    pub(super) name: &'a str,
}

/// Reads the log from where the parent's replay begins, as far as asked.
///
/// # Errors
/// Saying why the log does not tell.
pub(super) fn changes(
    sources: &Sources<'_>,
    parent: &Position,
    upto: Upto,
) -> Result<Changes, Untold> {
    let facts = sources.facts;
    if (parent.system, parent.timeline) != (facts.system, facts.timeline)
        || parent.segment_bytes != facts.segment_bytes
    {
        return Err("the parent backup is of another system or timeline".to_owned());
    }
    if parent.version / 10_000 != facts.version / 10_000 {
        return Err("the parent backup is of another version".to_owned());
    }
    let mut found = Changes::default();
    let start = match upto {
        Upto::Record(start) if start < parent.stop => {
            return Err("the parent backup is newer than where replay begins".to_owned());
        }
        Upto::Through { most, .. } if most <= parent.start => return Ok(found),
        Upto::Record(start) => start,
        Upto::Through { most, settled, .. } => {
            let relations = BTreeMap::new();
            found.settled = Some(Settled { upto: settled, relations, pages: 0 });
            most
        }
    };
    let catalog = Catalog::load(sources.store, sources.ring, sources.name, facts.system);
    let catalog = catalog.map_err(|error| explain(&error))?;
    // A standby may lag behind what is archived.
    let most = match upto {
        Upto::Record(_) => Lsn(u64::MAX),
        Upto::Through { most, .. } => most,
    };
    let reader = Reader { sources, catalog, parent, most };
    let version = facts.version;
    let mut walk =
        Walk { from: parent.start, upto, last: None, version, untold: None, reached: Lsn(0) };
    let mut pages = Pages::default();
    let first = parent.start.segment_start(facts.segment_bytes);
    let count = (start.0 - first.0) / facts.segment_bytes + 1;
    let starts: Vec<Lsn> = (0..count).map(|n| Lsn(first.0 + n * facts.segment_bytes)).collect();
    let mut from_server = false;
    for batch in starts.chunks(AT_ONCE) {
        for (segment, read) in batch.iter().zip(reader.segments(batch)) {
            let read = match read {
                // The end may be where the next segment has still to begin.
                Err(_) if walk.is_far_enough() => return Ok(found),
                read => reader.checked(*segment, read?, from_server)?,
            };
            from_server = read.from_server;
            let skip = parent.start.0.saturating_sub(segment.0) as usize / PAGE_BYTES;
            for (number, page) in read.bytes.chunks_exact(PAGE_BYTES).enumerate().skip(skip) {
                let at = Lsn(segment.0 + (number * PAGE_BYTES) as u64);
                let flow = pages.page(page, at, &mut |record| walk.record(record, &mut found));
                if flow.is_break() {
                    return walk.untold.map_or(Ok(found), Err);
                }
            }
        }
    }
    match walk.is_far_enough() {
        true => Ok(found),
        // A record that goes on in the next segment is not read: it is no matter, and rare.
        false => Err(format!("the log does not lead to {start}")),
    }
}

/// Follows records.
struct Walk {
    from: Lsn,
    upto: Upto,
    /// Where the last record began.
    last: Option<Lsn>,
    /// Where it ended.
    reached: Lsn,
    version: u32,
    untold: Option<Untold>,
}

impl Walk {
    /// Whether what must be read was read.
    fn is_far_enough(&self) -> bool {
        matches!(self.upto, Upto::Through { least, .. } if self.reached >= least)
    }

    fn record(&mut self, record: &Record<'_>, found: &mut Changes) -> ControlFlow<()> {
        if record.at < self.from {
            return ControlFlow::Continue(());
        }
        let follows = match self.last {
            None => record.at == self.from,
            Some(last) => record.previous == last,
        };
        if !follows && self.is_far_enough() {
            return ControlFlow::Break(());
        }
        if !follows {
            self.untold = Some(format!("the log is not unbroken at {}", record.at));
            return ControlFlow::Break(());
        }
        if let Upto::Record(to) = self.upto
            && record.at >= to
        {
            if record.at != to {
                self.untold = Some(format!("the log has no record at {to}"));
            }
            return ControlFlow::Break(());
        }
        self.last = Some(record.at);
        let understood = refers(record, self.version, &mut |referred| {
            found.add(referred);
            if let Some(settled) = &mut found.settled {
                settled.add(record, referred);
            }
        });
        let settled = found.settled.as_ref().map_or(0, |settled| settled.pages);
        if !understood || found.pages.max(settled) > PAGES_MAX {
            self.untold = Some(match understood {
                true => "very many pages changed".to_owned(),
                false => format!("a record at {} is of a kind that we don't know", record.at),
            });
            return ControlFlow::Break(());
        }
        self.reached = record.end;
        match self.upto {
            Upto::Through { most, .. } if record.end >= most => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Reads segments.
struct Reader<'a> {
    sources: &'a Sources<'a>,
    catalog: Catalog,
    parent: &'a Position,
    /// Up to where the two are to be the same.
    most: Lsn,
}

/// A segment.
struct Segment {
    bytes: Vec<u8>,
    /// Whether the server had it still.
    from_server: bool,
}

impl Reader<'_> {
    /// Several segments, each by a thread.
    fn segments(&self, starts: &[Lsn]) -> Vec<Result<Segment, Untold>> {
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                starts.iter().map(|start| scope.spawn(|| self.segment(*start))).collect();
            let failed = || Err("a thread that read the log ended".to_owned());
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| failed())).collect()
        })
    }

    /// A segment's bytes, as many as there are.
    fn segment(&self, start: Lsn) -> Result<Segment, Untold> {
        let facts = self.sources.facts;
        let (timeline, size) = (self.parent.timeline, facts.segment_bytes);
        let name = SegmentName { timeline, start }.file_name(size);
        let path = facts.data_directory.join("pg_wal").join(&name);
        let read = File::open(&path).and_then(|file| {
            let mut bytes = Vec::with_capacity(size as usize);
            file.take(size).read_to_end(&mut bytes).map(|_| bytes)
        });
        match read {
            Ok(bytes) => Ok(Segment { bytes, from_server: true }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let bytes = self.archived(start, Lsn(start.0 + size), &name)?;
                Ok(Segment { bytes, from_server: false })
            }
            Err(error) => Err(format!("segment {name} of the log cannot be read: {error}")),
        }
    }

    /// A segment of the server's, compared where it has to be: the parent's stretch, and where
    /// the archive ends and the server begins.
    fn checked(&self, start: Lsn, segment: Segment, after_server: bool) -> Result<Segment, Untold> {
        if segment.from_server && (start < self.parent.stop || !after_server) {
            self.compare(start, &segment.bytes)?;
        }
        Ok(segment)
    }

    fn archived(&self, start: Lsn, end: Lsn, name: &str) -> Result<Vec<u8>, Untold> {
        let timeline = self.parent.timeline;
        if self.catalog.reach(timeline, start) < end {
            return Err(format!("segment {name} of the log is neither at the server nor archived"));
        }
        let Sources { store, ring, .. } = *self.sources;
        let fetched = fetch_stretch(store, ring, &self.catalog, timeline, start..end);
        fetched.map_err(|error| explain(&error))
    }

    /// Server and archive must tell one history.
    fn compare(&self, start: Lsn, bytes: &[u8]) -> Result<(), Untold> {
        let timeline = self.parent.timeline;
        let end = Lsn(start.0 + bytes.len() as u64).min(self.most);
        let reach = self.catalog.reach(timeline, start).min(end);
        if reach <= start || reach < self.parent.stop.min(end) {
            return Err(format!("the archive has no log at {start} to compare the server's with"));
        }
        let archived = self.archived(start, reach, "before")?;
        match archived[..] == bytes[..archived.len()] {
            true => Ok(()),
            false => Err(format!(
                "the server's log from {start} on is not the archived one: its past is another"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_of_relations() {
        let some = |space, database, number, segment| {
            Some((Relation { space, database, number }, segment))
        };
        let cases = [
            ("data/base/5/16384", some(1663, 5, 16384, 0)),
            ("data/base/5/16384.2", some(1663, 5, 16384, 2)),
            ("data/global/1262", some(1664, 0, 1262, 0)),
            ("spaces/16400/PG_15_202209061/5/16384.1", some(16400, 5, 16384, 1)),
            ("data/base/5/16384_fsm", None),
            ("data/base/5/16384_vm.1", None),
            ("data/base/5/16384_init", None),
            ("data/base/5/PG_VERSION", None),
            ("data/base/5/pg_filenode.map", None),
            ("data/pg_xact/0000", None),
            ("data/base/16384", None),
        ];
        for (path, expect) in cases {
            assert_eq!(relation_of(path), expect, "{path}");
        }
    }

    #[test]
    fn blocks_are_counted_from_the_files_beginning() {
        let relation = Relation { space: 1663, database: 5, number: 9 };
        let other = Relation { number: 10, ..relation };
        let mut changes = Changes::default();
        for block in [250, 3, 100, 199, 3] {
            changes.add(Referred::Page(relation, block));
        }
        changes.add(Referred::Page(other, 1));
        changes.add(Referred::Whole(other));
        changes.add(Referred::Page(other, 2));
        changes.add(Referred::Database(6));
        let of = |path: &str| changes.of_file(path.as_bytes(), 100);
        assert_eq!(of("data/base/5/9"), Some(vec![3]));
        assert_eq!(of("data/base/5/9.1"), Some(vec![0, 99]));
        assert_eq!(of("data/base/5/9.2"), Some(vec![50]));
        assert_eq!(of("data/base/5/9.3"), Some(vec![]));
        assert_eq!(of("data/base/5/8"), Some(vec![]));
        assert_eq!((of("data/base/5/10"), of("data/base/6/9"), of("data/x")), (None, None, None));
    }
}
