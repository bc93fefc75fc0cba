//! Pages of PostgreSQL's log, with right addresses, and the pages that records refer to.

use vault::fuzzing::log_pages;
use vault::postgres::Lsn;

use crate::Target;
use crate::cursor::Cursor;

/// Bytes of a page.
const PAGE_BYTES: usize = 8_192;
/// Pages of one input.
const PAGES_MAX: usize = 3;

pub(crate) const TARGET: Target =
    Target::new("vault-log-pages", "pages of PostgreSQL's log", read, seeds).input(3 * 1_024);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    let version = 130_000 + u32::from(input.byte() % 6) * 10_000;
    let from = Lsn(u64::from(input.byte()) * PAGE_BYTES as u64);
    let mut pages = Vec::new();
    for number in 0..PAGES_MAX {
        let filled = input.piece();
        if filled.is_empty() {
            break;
        }
        let mut page = vec![0; PAGE_BYTES];
        let length = filled.len().min(PAGE_BYTES);
        page[..length].copy_from_slice(&filled[..length]);
        let at = from.0 + (number * PAGE_BYTES) as u64;
        page[8..16].copy_from_slice(&at.to_le_bytes());
        pages.extend_from_slice(&page);
    }
    let (records, referred) = log_pages(&pages, from, version);
    assert!(records <= pages.len() / 8, "a record takes room");
    assert!(referred <= pages.len(), "what is referred to takes room");
}

fn seeds() -> Vec<Vec<u8>> {
    let mut page = vec![0; 24];
    page[..2].copy_from_slice(&0xd110u16.to_le_bytes());
    let record = |manager: u8, info: u8, rest: &[u8]| {
        let mut bytes = vec![0; 24];
        bytes[..4].copy_from_slice(&(24 + rest.len() as u32).to_le_bytes());
        (bytes[16], bytes[17]) = (info, manager);
        bytes.extend_from_slice(rest);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    page.extend(record(1, 0, &[255, 8, 1, 2, 3, 4, 5, 6, 7, 8]));
    // A block header: number, fork and flags, length, relation, block.
    let block = [&[0, 0x20, 4, 0][..], &[1; 12], &[9, 0, 0, 0], &[255, 1, 7], &[5; 4]].concat();
    page.extend(record(10, 0, &block));
    let whole = [&[2, 1][..], &crate::cursor::piece(&page)].concat();
    vec![whole]
}
