//! Reads records of a log: the ends of transactions with their times, so that a point is known
//! to be in the log before anything is overwritten. The layout is that of
//! `src/include/access/xlogrecord.h` and `xlog_internal.h`; it is the same in versions 13 to 18.

use super::fetch::fetch_stretch;
use super::{Catalog, History, PIECE_BYTES, Relation};
use crate::error::Result;
use crate::keys::KeyRing;
use crate::postgres::{Lsn, Timeline};
use crate::store::Store;
use std::ops::ControlFlow;

/// Bytes of a page of the log.
pub(crate) const PAGE_BYTES: usize = 8192;
const SHORT_HEADER_BYTES: usize = 24;
const LONG_HEADER_BYTES: usize = 40;
const RECORD_HEADER_BYTES: usize = 24;
/// The longest record, as the server has it.
const RECORD_BYTES_MAX: usize = 1020 << 20;
const LONG_HEADER: u16 = 2;
const FIRST_IS_CONTINUED: u16 = 1;
/// The resource manager of transactions, and its records' kinds.
const TRANSACTIONS: u8 = 1;
const KIND_MASK: u8 = 0x70;
const COMMIT: u8 = 0x00;
const ABORT: u8 = 0x20;
const COMMIT_PREPARED: u8 = 0x30;
const ABORT_PREPARED: u8 = 0x40;
/// Records of rows of the second kind, among them one that marks visible; and of hashes.
const ROWS_MORE: u8 = 9;
const MARK_VISIBLE: u8 = 0x40;
const HASHES: u8 = 12;
/// Images of pages, among the records of the log itself.
const IMAGE_FOR_HINT: u8 = 0xa0;
const IMAGE: u8 = 0xb0;
/// Whether more than the time follows, and what of it, in this order.
const HAS_MORE: u8 = 0x80;
const HAS_DATABASE: u32 = 1;
const HAS_SUBTRANSACTIONS: u32 = 2;
const HAS_RELATIONS: u32 = 4;
/// Microseconds between 1970 and 2000, where PostgreSQL's time begins.
const EPOCH_US: i64 = 946_684_800_000_000;

/// A record.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it begins.
    pub at: Lsn,
    /// Where the next one may begin.
    pub end: Lsn,
    /// The transaction.
    pub xid: u32,
    /// Where the record before it begins.
    pub previous: Lsn,
    pub(super) info: u8,
    pub(super) manager: u8,
    /// What follows the header.
    pub(super) rest: &'a [u8],
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionEnd {
    /// Where its record begins.
    pub at: Lsn,
    /// Where it ends.
    pub end: Lsn,
    /// The transaction.
    pub xid: u32,
    /// When, in microseconds since 1970, by the server's clock.
    pub time_us: i64,
    /// Whether it was committed.
    pub committed: bool,
}

impl Record<'_> {
    /// The end of a transaction, where this is one.
    pub fn transaction_end(&self) -> Option<TransactionEnd> {
        let kind = self.info & KIND_MASK;
        let committed = matches!(kind, COMMIT | COMMIT_PREPARED);
        if self.manager != TRANSACTIONS || !(committed || matches!(kind, ABORT | ABORT_PREPARED)) {
            return None;
        }
        let data = self.main_data()?;
        let time = i64::from_le_bytes(*data.first_chunk()?);
        let (at, end, xid) = (self.at, self.end, self.xid);
        Some(TransactionEnd { at, end, xid, time_us: time.checked_add(EPOCH_US)?, committed })
    }

    /// Whether every page that it names has its position afterwards. Not so: what marks a page's
    /// rows visible; hashes; an image for a hint that is set while the page is being written; an
    /// image of a page that is still empty.
    pub(crate) fn moves_pages(&self) -> bool {
        let is_visible = self.manager == ROWS_MORE && self.info & KIND_MASK == MARK_VISIBLE;
        let is_image = self.manager == 0 && matches!(self.info & 0xf0, IMAGE_FOR_HINT | IMAGE);
        !is_visible && !is_image && self.manager != HASHES
    }

    /// The relations that go with this end of a transaction: dropped by one that is committed,
    /// made by one that is not. Nothing where it does not say so in the way that we know.
    pub(super) fn dropped(&self) -> Option<Vec<Relation>> {
        if self.transaction_end().is_none() || self.info & HAS_MORE == 0 {
            return Some(Vec::new());
        }
        let mut rest = self.main_data()?.get(8..)?;
        let mut number = || {
            let (number, after) = rest.split_first_chunk()?;
            rest = after;
            Some(u32::from_le_bytes(*number))
        };
        let more = number()?;
        if more & HAS_DATABASE != 0 {
            number()?;
            number()?;
        }
        if more & HAS_SUBTRANSACTIONS != 0 {
            for _ in 0..number()? {
                number()?;
            }
        }
        let mut relations = Vec::new();
        if more & HAS_RELATIONS != 0 {
            for _ in 0..number()? {
                let (space, database) = (number()?, number()?);
                relations.push(Relation { space, database, number: number()? });
            }
        }
        Some(relations)
    }

    /// The record's own data; transactions' ends refer to no pages, so it follows at once.
    fn main_data(&self) -> Option<&[u8]> {
        let mut rest = self.rest;
        loop {
            let (id, after) = rest.split_first()?;
            match id {
                // Origin, and the transaction above this one.
                253 => rest = after.get(2..)?,
                252 => rest = after.get(4..)?,
                255 => return after.get(1..1 + usize::from(*after.first()?)),
                254 => {
                    let length = u32::from_le_bytes(*after.first_chunk()?) as usize;
                    return after.get(4..4 + length);
                }
                _ => return None,
            }
        }
    }
}

/// Reads records out of pages.
#[derive(Default)]
pub(crate) struct Pages {
    /// The record under way: where it began, its bytes so far, its length.
    open: Option<(Lsn, Vec<u8>, usize)>,
}

fn aligned(length: usize) -> usize {
    length.div_ceil(8) * 8
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Pages {
    /// Takes the page at `at`. Breaks where `each` says so.
    pub(crate) fn page(
        &mut self,
        page: &[u8],
        at: Lsn,
        each: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        // What is not a record, or not of this place, is skipped: after a switch, the rest of a
        // segment is empty, and the next one goes on.
        let skipped = ControlFlow::Continue(());
        let info = u16::from_le_bytes([page[2], page[3]]);
        let address = page.get(8..).and_then(|p| p.first_chunk()).map(|c| u64::from_le_bytes(*c));
        if page[0..2] == [0, 0] || address != Some(at.0) {
            self.open = None;
            return skipped;
        }
        let long = info & LONG_HEADER != 0;
        let mut position = if long { LONG_HEADER_BYTES } else { SHORT_HEADER_BYTES };
        let left = u32_at(page, 16).unwrap_or(0) as usize;
        if info & FIRST_IS_CONTINUED != 0 {
            let here = left.min(page.len() - position);
            // Pages that go on for ever with one record must not fill the memory.
            self.open.take_if(|(_, bytes, length)| bytes.len() + here > *length);
            if let Some((_, bytes, _)) = &mut self.open {
                bytes.extend_from_slice(&page[position..position + here]);
            }
            position = aligned(position + here);
            if left > here {
                return ControlFlow::Continue(());
            }
            self.emit(Lsn(at.0 + position as u64), each)?;
        } else {
            self.open = None;
        }
        while position < page.len() {
            let Some(length) = u32_at(page, position) else { return skipped };
            let length = length as usize;
            if !(RECORD_HEADER_BYTES..=RECORD_BYTES_MAX).contains(&length) {
                return skipped;
            }
            let here = length.min(page.len() - position);
            let (begin, bytes) = (Lsn(at.0 + position as u64), &page[position..position + here]);
            position = aligned(position + here);
            match here == length {
                true => tell(begin, Lsn(at.0 + position as u64), bytes, each)?,
                false => self.open = Some((begin, bytes.to_vec(), length)),
            }
        }
        ControlFlow::Continue(())
    }

    fn emit(
        &mut self,
        end: Lsn,
        each: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some((at, bytes, length)) = self.open.take() else { return ControlFlow::Continue(()) };
        if bytes.len() != length {
            return ControlFlow::Continue(());
        }
        tell(at, end, &bytes, each)
    }
}

/// Tells a whole record.
fn tell(
    at: Lsn,
    end: Lsn,
    bytes: &[u8],
    each: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    each(&Record {
        at,
        end,
        xid: u32_at(bytes, 4).unwrap_or(0),
        previous: Lsn(bytes[8..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b))),
        info: bytes[16],
        manager: bytes[17],
        rest: &bytes[RECORD_HEADER_BYTES..],
    })
}

/// Reads the log of a timeline from a position up to another, as far as it is stored.
///
/// # Errors
/// Where a piece is damaged.
pub fn scan(
    store: &dyn Store,
    ring: &KeyRing,
    catalog: &Catalog,
    timeline: Timeline,
    range: std::ops::Range<Lsn>,
    each: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let mut pages = Pages::default();
    let mut at = Lsn(range.start.0 - range.start.0 % PAGE_BYTES as u64);
    let end = catalog.reach(timeline, at).min(range.end.segment_end(PAGE_BYTES as u64));
    while at < end {
        let upto = Lsn((at.0 / PIECE_BYTES + 1) * PIECE_BYTES).min(end);
        let mut bytes = fetch_stretch(store, ring, catalog, timeline, at..upto)?;
        bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
        for page in bytes.chunks(PAGE_BYTES) {
            if pages.page(page, at, each).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            at = Lsn(at.0 + PAGE_BYTES as u64);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Finds the first end of a transaction that `wanted` takes, along a history.
///
/// # Errors
/// Where a piece is damaged.
pub fn find_end(
    store: &dyn Store,
    ring: &KeyRing,
    catalog: &Catalog,
    history: &History,
    from: (Timeline, Lsn),
    wanted: &dyn Fn(&TransactionEnd) -> bool,
) -> Result<Option<TransactionEnd>> {
    let mut found = None;
    let mut at = from.1;
    for step in history.from(from.0, from.1).unwrap_or_default() {
        let until = step.until.unwrap_or(Lsn(u64::MAX - PIECE_BYTES));
        let _ended = scan(store, ring, catalog, step.timeline, at..until, &mut |record| {
            if record.at >= until {
                return ControlFlow::Break(());
            }
            match record.transaction_end().filter(|end| end.at >= from.1 && wanted(end)) {
                Some(end) => {
                    found = Some(end);
                    ControlFlow::Break(())
                }
                None => ControlFlow::Continue(()),
            }
        })?;
        if found.is_some() {
            break;
        }
        at = until;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages with these records, as a server writes them.
    fn pages_of(records: &[Vec<u8>]) -> Vec<u8> {
        let mut log = Vec::new();
        let header = |log: &mut Vec<u8>, left: usize| {
            let at = log.len() as u64;
            let mut header = [0; SHORT_HEADER_BYTES];
            header[..2].copy_from_slice(&0xd110u16.to_le_bytes());
            header[2] = u8::from(left > 0);
            header[8..16].copy_from_slice(&at.to_le_bytes());
            header[16..20].copy_from_slice(&(left as u32).to_le_bytes());
            log.extend_from_slice(&header);
        };
        for record in records {
            let mut rest = &record[..];
            while !rest.is_empty() {
                if log.len() % PAGE_BYTES == 0 {
                    let left = if rest.len() < record.len() { rest.len() } else { 0 };
                    header(&mut log, left);
                }
                let room = PAGE_BYTES - log.len() % PAGE_BYTES;
                let part = rest.len().min(room);
                log.extend_from_slice(&rest[..part]);
                rest = &rest[part..];
            }
            log.resize(log.len().next_multiple_of(8), 0);
        }
        log.resize(log.len().next_multiple_of(PAGE_BYTES), 0);
        log
    }

    fn record(manager: u8, info: u8, xid: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; RECORD_HEADER_BYTES];
        let long = data.len() > 255;
        match long {
            false => bytes.extend([255, data.len() as u8]),
            true => {
                bytes.push(254);
                bytes.extend((data.len() as u32).to_le_bytes());
            }
        }
        bytes.extend_from_slice(data);
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..8].copy_from_slice(&xid.to_le_bytes());
        (bytes[16], bytes[17]) = (info, manager);
        bytes
    }

    fn ends(log: &[u8]) -> Vec<(u32, i64, bool)> {
        let mut pages = Pages::default();
        let mut found = Vec::new();
        for (number, page) in log.chunks(PAGE_BYTES).enumerate() {
            let at = Lsn((number * PAGE_BYTES) as u64);
            let flow = pages.page(page, at, &mut |record| {
                found.extend(record.transaction_end().map(|e| (e.xid, e.time_us, e.committed)));
                ControlFlow::Continue(())
            });
            if flow.is_break() {
                break;
            }
        }
        found
    }

    #[test]
    fn ends_of_transactions_are_found_among_records_that_cross_pages() {
        let time = |us: i64| (us - EPOCH_US).to_le_bytes().to_vec();
        let now = 1_800_000_000_000_000;
        let log = pages_of(&[
            record(10, 0x30, 700, &vec![7; 20_000]),
            record(TRANSACTIONS, COMMIT, 700, &time(now)),
            record(TRANSACTIONS, 0x50, 701, &[0; 16]),
            record(10, 0, 702, &vec![7; 8100]),
            record(TRANSACTIONS, ABORT | 0x80, 702, &time(now + 5)),
            record(
                TRANSACTIONS,
                COMMIT_PREPARED | 0x80,
                703,
                &[time(now + 6), vec![1; 300]].concat(),
            ),
        ]);
        assert_eq!(ends(&log), [(700, now, true), (702, now + 5, false), (703, now + 6, true)]);
    }

    #[test]
    fn a_record_that_never_ends_is_given_up() {
        let log = pages_of(&[record(10, 0, 700, &vec![7; 20_000])]);
        let mut pages = Pages::default();
        let first = &log[..PAGE_BYTES];
        let _flow = pages.page(first, Lsn(0), &mut |_| ControlFlow::Continue(()));
        assert!(pages.open.is_some());
        for number in 1..100u64 {
            let mut page = log[PAGE_BYTES..2 * PAGE_BYTES].to_vec();
            page[8..16].copy_from_slice(&(number * PAGE_BYTES as u64).to_le_bytes());
            let at = Lsn(number * PAGE_BYTES as u64);
            let _flow = pages.page(&page, at, &mut |_| ControlFlow::Continue(()));
            assert!(pages.open.as_ref().is_none_or(|(_, bytes, length)| bytes.len() <= *length));
        }
        assert!(pages.open.is_none());
    }

    #[test]
    fn garbage_ends_the_log_and_nothing_worse() {
        let log = pages_of(&[record(TRANSACTIONS, COMMIT, 9, &[0; 8])]);
        for byte in 0..200 {
            let mut altered = log.clone();
            altered[byte] ^= 0xff;
            ends(&altered);
        }
        let mut noise = vec![0; 4 * PAGE_BYTES];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert_eq!(ends(&noise), []);
        // Right addresses, nonsense within.
        for (number, page) in noise.chunks_mut(PAGE_BYTES).enumerate() {
            page[8..16].copy_from_slice(&((number * PAGE_BYTES) as u64).to_le_bytes());
            page[2..4].copy_from_slice(&[(number % 2) as u8, 0]);
        }
        ends(&noise);
    }
}
