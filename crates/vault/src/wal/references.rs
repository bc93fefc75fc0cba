//! Which pages a record changes, from its block headers. The layouts are those of
//! `src/include/access/xlogrecord.h`, `storage_xlog.h`, `dbcommands_xlog.h` and `pg_control.h`,
//! versions 13 to 18. What is not known for sure is "not understood", and never "nothing".

use super::record::{Record, u32_at};

/// Versions whose records are read, in thousands of ten thousands, as a server numbers itself.
const VERSIONS: std::ops::Range<u32> = 130_000..190_000;
/// From here on images may be compressed in three ways.
const MORE_COMPRESSIONS: u32 = 150_000;

/// Resource managers.
const LOG_ITSELF: u8 = 0;
const STORAGE: u8 = 2;
const DATABASES: u8 = 4;
const TRANSACTIONS: u8 = 1;
/// From here on extensions have theirs, and may refer to pages in ways of their own.
const OF_EXTENSIONS: u8 = 128;

const KIND_MASK: u8 = 0xf0;
/// A record of the log itself: settings changed, among them how much is logged.
const SETTINGS: u8 = 0x60;
/// Where it says how much, and the least with which every change of a page is logged.
const LEVEL_AT: usize = 20;
const LEVEL_REPLICA: u32 = 1;
const STORAGE_CREATED: u8 = 0x10;
const STORAGE_TRUNCATED: u8 = 0x20;

/// Block headers.
const BLOCK_NUMBER_MAX: u8 = 32;
const TOP_TRANSACTION: u8 = 252;
const ORIGIN: u8 = 253;
const LONG_DATA: u8 = 254;
const SHORT_DATA: u8 = 255;
const FORK_MASK: u8 = 0x0f;
const HAS_IMAGE: u8 = 0x10;
const SAME_RELATION: u8 = 0x80;
const IMAGE_HAS_HOLE: u8 = 0x01;
const COMPRESSED: u8 = 0x02;
const COMPRESSED_IN_MORE_WAYS: u8 = 0x04 | 0x08 | 0x10;

/// A relation's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relation {
    /// The tablespace.
    pub space: u32,
    /// The database; 0 for what all share.
    pub database: u32,
    /// The number in the file's name.
    pub number: u32,
}

/// What a record says of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referred {
    /// A page of the main fork changed.
    Page(Relation, u32),
    /// The relation was made, cut or dropped: all of it may be new.
    Whole(Relation),
    /// The database was made or dropped.
    Database(u32),
}

/// Tells everything that a record of a server of this version says of pages. False where the
/// record is not understood: then anything may have changed.
pub fn refers(record: &Record<'_>, version: u32, each: &mut dyn FnMut(Referred)) -> bool {
    if !VERSIONS.contains(&version) || record.manager >= OF_EXTENSIONS {
        return false;
    }
    let Some(main) = blocks(record.rest, version, each) else { return false };
    let kind = record.info & KIND_MASK;
    match (record.manager, kind) {
        (LOG_ITSELF, SETTINGS) => u32_at(main, LEVEL_AT).is_some_and(|l| l >= LEVEL_REPLICA),
        (STORAGE, STORAGE_CREATED) => whole(main, 0, each),
        (STORAGE, STORAGE_TRUNCATED) => whole(main, 4, each),
        (STORAGE, _) => false,
        (TRANSACTIONS, _) => {
            let dropped = record.dropped();
            dropped.iter().flatten().for_each(|relation| each(Referred::Whole(*relation)));
            dropped.is_some()
        }
        // Made by copying files, made by the log, dropped: each begins with the database.
        (DATABASES, _) => match u32_at(main, 0) {
            Some(database) => {
                each(Referred::Database(database));
                true
            }
            None => false,
        },
        _ => true,
    }
}

fn whole(main: &[u8], at: usize, each: &mut dyn FnMut(Referred)) -> bool {
    match relation_at(main, at) {
        Some(relation) => {
            each(Referred::Whole(relation));
            true
        }
        None => false,
    }
}

fn relation_at(bytes: &[u8], at: usize) -> Option<Relation> {
    let number = |n: usize| u32_at(bytes, at + 4 * n);
    Some(Relation { space: number(0)?, database: number(1)?, number: number(2)? })
}

/// Reads headers from the front of a record.
struct Headers<'a> {
    rest: &'a [u8],
    /// Bytes of data that the headers so far announce.
    announced: usize,
}

impl Headers<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn image(&mut self, version: u32) -> Option<()> {
        let length = self.u16()?;
        let _hole_at = self.u16()?;
        let info = self.u8()?;
        let compressed = match version >= MORE_COMPRESSIONS {
            true => info & COMPRESSED_IN_MORE_WAYS != 0,
            false => info & COMPRESSED != 0,
        };
        if compressed && info & IMAGE_HAS_HOLE != 0 {
            self.u16()?;
        }
        self.announced += usize::from(length);
        Some(())
    }
}

/// Tells the pages of the main fork, and returns the record's own data. Nothing where the
/// headers do not fit together.
fn blocks<'a>(rest: &'a [u8], version: u32, each: &mut dyn FnMut(Referred)) -> Option<&'a [u8]> {
    let mut headers = Headers { rest, announced: 0 };
    let mut relation = None;
    let mut main_bytes = 0;
    while headers.rest.len() > headers.announced {
        match headers.u8()? {
            SHORT_DATA => main_bytes = usize::from(headers.u8()?),
            LONG_DATA => main_bytes = headers.u32()? as usize,
            ORIGIN => {
                headers.u16()?;
                continue;
            }
            TOP_TRANSACTION => {
                headers.u32()?;
                continue;
            }
            number if number <= BLOCK_NUMBER_MAX => {
                let flags = headers.u8()?;
                headers.announced += usize::from(headers.u16()?);
                if flags & HAS_IMAGE != 0 {
                    headers.image(version)?;
                }
                if flags & SAME_RELATION == 0 {
                    relation = Some(relation_at(&headers.bytes::<12>()?, 0)?);
                }
                let block = headers.u32()?;
                if flags & FORK_MASK == 0 {
                    each(Referred::Page(relation?, block));
                }
                continue;
            }
            _ => return None,
        }
        headers.announced = headers.announced.checked_add(main_bytes)?;
        break;
    }
    let fits = headers.rest.len() == headers.announced;
    fits.then(|| &rest[rest.len() - main_bytes..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::Lsn;

    const V15: u32 = 150_010;

    fn said(manager: u8, info: u8, rest: &[u8], version: u32) -> Option<Vec<Referred>> {
        let (at, end, previous) = (Lsn(8), Lsn(80), Lsn(0));
        let record = Record { at, end, xid: 7, previous, info, manager, rest };
        let mut found = Vec::new();
        refers(&record, version, &mut |referred| found.push(referred)).then_some(found)
    }

    fn relation(number: u32) -> Relation {
        Relation { space: 1663, database: 5, number }
    }

    fn header(number: u8, flags: u8, data: u16, of: Option<u32>, image: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number, flags];
        bytes.extend(data.to_le_bytes());
        bytes.extend_from_slice(image);
        if let Some(number) = of {
            [1663, 5, number].iter().for_each(|n: &u32| bytes.extend(n.to_le_bytes()));
        }
        bytes
    }

    /// Two pages of one relation, an image with a hole, a page of another fork.
    fn example(info: u8, hole: &[u8]) -> Vec<u8> {
        let image = [&[0x00, 0x10, 0, 0, info], hole].concat();
        let mut rest = header(0, 0x10, 3, Some(9), &image);
        rest.extend(77u32.to_le_bytes());
        rest.extend(header(1, 0x80, 0, None, &[]));
        rest.extend(78u32.to_le_bytes());
        rest.extend(header(2, 0x02, 0, Some(9), &[]));
        rest.extend(1u32.to_le_bytes());
        rest.extend([ORIGIN, 1, 0, TOP_TRANSACTION, 1, 0, 0, 0, SHORT_DATA, 5]);
        rest.resize(rest.len() + 0x1000 + 3 + 5, 0xee);
        rest
    }

    #[test]
    fn pages_are_found_in_every_versions_headers() {
        let pages = vec![Referred::Page(relation(9), 77), Referred::Page(relation(9), 78)];
        // Not compressed; compressed in the old way; in the new one.
        let cases = [(0x03, V15, &[][..]), (0x05, V15, &[9, 9]), (0x03, 130_000, &[9, 9])];
        for (info, version, hole) in cases {
            let rest = example(info, hole);
            assert_eq!(said(10, 0, &rest, version), Some(pages.clone()), "{info} {version}");
            // What is cut off among the headers, or longer than they say, is not understood.
            for length in 1..50 {
                assert_eq!(said(10, 0, &rest[..length], version), None, "{length}");
            }
            let longer = [&rest[..], &[0]].concat();
            assert_eq!(said(10, 0, &longer, version), None);
        }
    }

    #[test]
    fn what_no_page_tells_is_told_whole() {
        let main = |data: &[u8]| [&[SHORT_DATA, data.len() as u8], data].concat();
        let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
        let made = main(&words(&[1663, 5, 9, 0]));
        assert_eq!(said(STORAGE, 0x10, &made, V15), Some(vec![Referred::Whole(relation(9))]));
        let cut = main(&words(&[3, 1663, 5, 9, 7]));
        assert_eq!(said(STORAGE, 0x20, &cut, V15), Some(vec![Referred::Whole(relation(9))]));
        let database = main(&words(&[7, 1663, 1, 1663]));
        for info in [0, 0x10, 0x20] {
            let found = said(DATABASES, info, &database, V15);
            assert_eq!(found, Some(vec![Referred::Database(7)]));
        }
        let settings = |level| main(&words(&[100, 8, 10, 0, 64, level, 0]));
        assert_eq!(said(LOG_ITSELF, SETTINGS, &settings(1), V15), Some(vec![]));
        assert_eq!(said(LOG_ITSELF, SETTINGS, &settings(0), V15), None);
        assert_eq!(said(OF_EXTENSIONS, 0, &made, V15), None);
        assert_eq!(said(STORAGE, 0x30, &made, V15), None);
        assert_eq!(said(10, 0, &made, 190_000), None);
        assert_eq!(said(10, 0, &[], V15), Some(vec![]));
    }

    #[test]
    fn what_goes_with_a_transaction_is_told_whole() {
        let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
        let main = |data: &[u8]| [&[SHORT_DATA, data.len() as u8], data].concat();
        let time = [9, 0];
        let dropped = [1663, 5, 9, 1663, 5, 10];
        let both = Some(vec![Referred::Whole(relation(9)), Referred::Whole(relation(10))]);
        // With a database and two subtransactions before them; after a prepared one; rolled back.
        let long = words(&[&time[..], &[7, 5, 1663, 2, 700, 701, 2], &dropped].concat());
        let short = words(&[&time[..], &[4, 2], &dropped].concat());
        for (info, data) in [(0x80, &long), (0xb0, &short), (0xa0, &short)] {
            assert_eq!(said(TRANSACTIONS, info, &main(data), V15), both, "{info:x}");
            for length in 8..data.len() {
                let cut = main(&data[..length]);
                assert_eq!(said(TRANSACTIONS, info, &cut, V15), None, "{info:x} {length}");
            }
        }
        // One that says nothing more, and records that end no transaction.
        assert_eq!(said(TRANSACTIONS, 0, &main(&short), V15), Some(vec![]));
        assert_eq!(said(TRANSACTIONS, 0xd0, &main(&short), V15), Some(vec![]));
    }
}
