//! A page without what a server changes and does not log: what is left is the same on a primary,
//! on its standbys and in their backups where the page's position is the same.
//!
//! The rules are those by which PostgreSQL compares its own replay (`wal_consistency_checking`:
//! `bufmask.c`, `heap_mask`, `btree_mask` and their like), versions 13 to 18. Two more kinds of
//! pages change without a record: a sequence's, which is logged ahead, and the page where SP-GiST
//! remembers where there was room.

use crate::postgres::{Lsn, PAGE_BYTES};

const HEADER_BYTES: usize = 24;
const FLAGS_AT: usize = 10;
const LOWER_AT: usize = 12;
const UPPER_AT: usize = 14;
const SPECIAL_AT: usize = 16;
const PRUNE_AT: usize = 20;
/// Free line pointers, full, all visible.
const HINT_FLAGS: u16 = 0b111;

/// A line pointer: offset, state, length.
const POINTER_BYTES: usize = 4;
const NORMAL: u32 = 1;
/// A row: its command, its own place, its bits.
const ROW_HEADER_BYTES: usize = 23;
const COMMAND_AT: usize = 8;
const PLACE_AT: usize = 12;
const PLACE_NUMBER_AT: usize = 16;
const BITS_AT: usize = 20;
const SPECULATIVE: u16 = 0xfffe;
const FROZEN: u16 = 0x0300;
const TRANSACTION_BITS: u16 = 0xfff0;
const DELETED_BITS: u16 = 0x0c00;

/// What the last two bytes of an index page's own part say.
const HASH: u16 = 0xff80;
const GIST: u16 = 0xff81;
const SPGIST: u16 = 0xff82;
const BRIN_META: u16 = 0xf091;
const BRIN_REVMAP: u16 = 0xf092;
const BRIN_REGULAR: u16 = 0xf093;
const SEQUENCE: u32 = 0x1717;

const BTREE_LEAF: u16 = 1;
const BTREE_DELETED: u16 = 4;
/// An end of a split, and garbage.
const BTREE_HINTS: u16 = 32 | 64;
const HASH_KIND: u16 = 0x0f;
const HASH_UNUSED: u16 = 0;
const HASH_WITH_ROWS: u16 = 1 | 2;
const HASH_DEAD_ROWS: u16 = 1 << 7;
const GIST_LEAF: u16 = 1;
const GIST_FOLLOW_RIGHT: u16 = 8;
const GIST_GARBAGE: u16 = 16;
const SPGIST_META: u16 = 1;
const GIN_DELETED: u16 = 4;
/// All flags of a GIN page; what has more is an extension's.
const GIN_FLAGS: u16 = 0xff;
const BRIN_EVACUATE: u16 = 1;

fn u16_at(page: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

fn u32_at(page: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}

fn change_u16(page: &mut [u8], at: usize, change: impl Fn(u16) -> u16) {
    let new = change(u16_at(page, at));
    page[at..at + 2].copy_from_slice(&new.to_le_bytes());
}

/// No log begins below this: its first segment is never used, and the smallest has 1 MiB. What
/// stands there is no position: an index that is being built, an unlogged one's own count.
const POSITION_MIN: Lsn = Lsn(1 << 20);

/// Whether this is a position of the log.
pub(super) fn is_position(lsn: Lsn) -> bool {
    lsn >= POSITION_MIN
}

/// The position of the last record that changed a page; 0 where it was never written.
pub(super) fn lsn(page: &[u8; PAGE_BYTES]) -> Lsn {
    Lsn(u64::from(u32_at(page, 0)) << 32 | u64::from(u32_at(page, 4)))
}

/// Masks what is not logged. `block` is the page's number in its relation. A page whose parts do
/// not fit together is left as it is but for its checksum.
pub(super) fn mask(page: &mut [u8; PAGE_BYTES], block: u32) {
    page[8..10].fill(0);
    let [lower, upper, special] =
        [LOWER_AT, UPPER_AT, SPECIAL_AT].map(|at| usize::from(u16_at(page, at)));
    let is_sound = (HEADER_BYTES..=upper).contains(&lower) && upper <= special;
    if !is_sound || special > PAGE_BYTES {
        return;
    }
    change_u16(page, FLAGS_AT, |flags| flags & !HINT_FLAGS);
    page[PRUNE_AT..HEADER_BYTES].fill(0);
    match PAGE_BYTES - special {
        0 => heap(page, block, lower, upper),
        8 => small_index(page, lower, upper, special),
        16 => large_index(page, lower, upper, special),
        _ => page[lower..upper].fill(0),
    }
}

/// The contents of a page that is empty whatever it holds.
fn contents(page: &mut [u8; PAGE_BYTES]) {
    page[HEADER_BYTES..].fill(0);
    page[LOWER_AT..SPECIAL_AT].fill(0);
}

fn pointers(lower: usize) -> impl Iterator<Item = usize> {
    (HEADER_BYTES..lower.saturating_sub(POINTER_BYTES - 1)).step_by(POINTER_BYTES)
}

fn heap(page: &mut [u8; PAGE_BYTES], block: u32, lower: usize, upper: usize) {
    page[lower..upper].fill(0);
    for (number, at) in (1u16..).zip(pointers(lower)) {
        let pointer = u32_at(page, at);
        let (offset, state) = ((pointer & 0x7fff) as usize, pointer >> 15 & 3);
        let length = (pointer >> 17) as usize;
        let end = offset + length.div_ceil(8) * 8;
        if length == 0 || offset < upper || end > PAGE_BYTES {
            continue;
        }
        page[offset + length..end].fill(0);
        if state == NORMAL && length >= ROW_HEADER_BYTES {
            row(&mut page[offset..offset + length], block, number);
        }
    }
}

fn row(row: &mut [u8], block: u32, number: u16) {
    let is_frozen = u16_at(row, BITS_AT) & FROZEN == FROZEN;
    let hints = if is_frozen { DELETED_BITS } else { TRANSACTION_BITS };
    change_u16(row, BITS_AT, |bits| bits & !hints);
    row[COMMAND_AT..PLACE_AT].fill(0);
    if u16_at(row, PLACE_NUMBER_AT) == SPECULATIVE {
        // Replay knows its place, and nothing of the attempt.
        let halves = [(block >> 16) as u16, block as u16, number];
        for (at, half) in (PLACE_AT..).step_by(2).zip(halves) {
            change_u16(row, at, |_| half);
        }
    }
}

/// The states of line pointers in an index, which say that a row is dead before a record does.
fn pointer_states(page: &mut [u8; PAGE_BYTES], lower: usize) {
    for at in pointers(lower) {
        let pointer = u32_at(page, at);
        if pointer >> 15 & 3 != 0 {
            page[at..at + POINTER_BYTES].copy_from_slice(&(pointer & !(3 << 15)).to_le_bytes());
        }
    }
}

/// Indexes with 16 bytes of their own: B-trees, hashes, GiST.
fn large_index(page: &mut [u8; PAGE_BYTES], lower: usize, upper: usize, own: usize) {
    let (flags_at, kind) = (own + 12, u16_at(page, own + 14));
    let flags = u16_at(page, flags_at);
    page[lower..upper].fill(0);
    match kind {
        HASH => match flags & HASH_KIND {
            HASH_UNUSED => contents(page),
            kind => {
                if kind & HASH_WITH_ROWS != 0 {
                    pointer_states(page, lower);
                }
                change_u16(page, flags_at, |flags| flags & !HASH_DEAD_ROWS);
            }
        },
        GIST => {
            if flags & GIST_LEAF != 0 {
                pointer_states(page, lower);
            }
            page[own..own + 8].fill(0);
            change_u16(page, flags_at, |flags| (flags | GIST_FOLLOW_RIGHT) & !GIST_GARBAGE);
        }
        // A B-tree has the cycle of its last vacuum there.
        _ if flags & BTREE_DELETED != 0 => contents(page),
        _ => {
            if flags & BTREE_LEAF != 0 {
                pointer_states(page, lower);
            }
            change_u16(page, flags_at, |flags| flags & !BTREE_HINTS);
            page[own + 14..own + 16].fill(0);
        }
    }
}

/// Pages with 8 bytes of their own: SP-GiST, BRIN, sequences, GIN.
fn small_index(page: &mut [u8; PAGE_BYTES], lower: usize, upper: usize, own: usize) {
    let kind = u16_at(page, own + 6);
    let is_filled = lower > HEADER_BYTES;
    match kind {
        SPGIST if u16_at(page, own) & SPGIST_META != 0 => contents(page),
        SPGIST => page[lower..upper].fill(0),
        BRIN_REGULAR => {
            page[lower..upper].fill(0);
            change_u16(page, own + 4, |flags| flags & !BRIN_EVACUATE);
        }
        BRIN_META if is_filled => page[lower..upper].fill(0),
        BRIN_META | BRIN_REVMAP => {}
        0 if is_sequence(page, lower, own) => contents(page),
        flags if flags & GIN_DELETED != 0 && flags <= GIN_FLAGS => contents(page),
        _ if is_filled => page[lower..upper].fill(0),
        _ => {}
    }
}

/// A sequence has one row, and its mark where GIN has a page's number.
fn is_sequence(page: &[u8; PAGE_BYTES], lower: usize, own: usize) -> bool {
    lower == HEADER_BYTES + POINTER_BYTES
        && page[own..] == [&SEQUENCE.to_le_bytes()[..], &[0; 4]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page with these own bytes and two rows of 30 bytes.
    fn page(own: &[u8]) -> [u8; PAGE_BYTES] {
        let mut page = [0; PAGE_BYTES];
        let special = PAGE_BYTES - own.len();
        let upper = special - 64;
        page[special..].copy_from_slice(own);
        let numbers = [(LOWER_AT, 32), (UPPER_AT, upper), (SPECIAL_AT, special)];
        numbers.iter().for_each(|(at, n)| change_u16(&mut page, *at, |_| *n as u16));
        for (number, offset) in [upper, upper + 32].into_iter().enumerate() {
            let pointer = offset as u32 | NORMAL << 15 | 30 << 17;
            let at = HEADER_BYTES + number * POINTER_BYTES;
            page[at..at + POINTER_BYTES].copy_from_slice(&pointer.to_le_bytes());
            page[offset..offset + 30].fill(0x11);
        }
        page
    }

    fn masked(mut page: [u8; PAGE_BYTES]) -> [u8; PAGE_BYTES] {
        mask(&mut page, 7);
        page
    }

    /// Whether a page with this byte turned over is the same page.
    fn is_masked(page: &[u8; PAGE_BYTES], at: usize, bits: u8) -> bool {
        let mut other = *page;
        other[at] ^= bits;
        masked(other) == masked(*page)
    }

    #[test]
    fn of_a_table_hints_are_masked_and_no_more() {
        let page = page(&[]);
        let row = PAGE_BYTES - 64;
        let hints = [(8, 0xff), (10, 0x07), (20, 0xff), (100, 0xff), (row + 8, 0xff)];
        let more = [(row + 20, 0xf0), (row + 21, 0xff), (row + 30, 0xff), (row + 31, 1)];
        for (at, bits) in hints.into_iter().chain(more) {
            assert!(is_masked(&page, at, bits), "byte {at}");
        }
        for at in [0, 7, 12, 13, 18, 24, 31, row, row + 4, row + 12, row + 18, row + 22, row + 29] {
            assert!(!is_masked(&page, at, 1), "byte {at}");
        }
        // A row that was only tried is at its own place after replay.
        let (mut tried, mut own) = (page, page);
        change_u16(&mut tried, row + PLACE_NUMBER_AT, |_| SPECULATIVE);
        own[row + PLACE_AT..row + PLACE_AT + 6].copy_from_slice(&[0, 0, 7, 0, 1, 0]);
        assert!(masked(tried) == masked(own) && masked(tried) != masked(page));
        // A frozen row stays frozen.
        let mut frozen = page;
        change_u16(&mut frozen, row + BITS_AT, |_| FROZEN);
        assert!(is_masked(&frozen, row + 21, 0x0c) && !is_masked(&frozen, row + 21, 0x02));
        assert!(!is_masked(&frozen, row + 20, 0x10));
    }

    #[test]
    fn of_indexes_each_kind_has_its_own() {
        let own = |kind: u16, flags: u16| {
            let mut own = [0u8; 16];
            own[12..14].copy_from_slice(&flags.to_le_bytes());
            own[14..].copy_from_slice(&kind.to_le_bytes());
            own
        };
        let end = PAGE_BYTES - 16;
        // A pointer's state is the upper bit of its second byte and the lowest of its third.
        let leaf = page(&own(5, BTREE_LEAF));
        assert!(is_masked(&leaf, 26, 1) && is_masked(&leaf, end + 12, 64 | 32));
        assert!(is_masked(&leaf, end + 14, 0xff) && !is_masked(&leaf, end + 12, 1));
        assert!(!is_masked(&leaf, end - 64, 1) && is_masked(&leaf, 200, 0xff));
        assert!(!is_masked(&page(&own(5, 0)), 26, 1), "only leaves have hints in their pointers");
        assert!(is_masked(&page(&own(5, BTREE_DELETED)), end - 64, 1));
        let hash = page(&own(HASH, 2));
        assert!(is_masked(&hash, 26, 1) && is_masked(&hash, end + 12, 128));
        assert!(!is_masked(&hash, end - 64, 1) && !is_masked(&hash, end, 1));
        let gist = page(&own(GIST, GIST_LEAF));
        assert!(is_masked(&gist, end + 3, 0xff) && is_masked(&gist, end + 12, 8 | 16));
        assert!(!is_masked(&gist, end - 64, 1) && !is_masked(&gist, end + 8, 1));
    }

    #[test]
    fn of_small_indexes_and_sequences_too() {
        let own = |first: u32, middle: u16, kind: u16| {
            [&first.to_le_bytes()[..], &middle.to_le_bytes(), &kind.to_le_bytes()].concat()
        };
        let end = PAGE_BYTES - 8;
        let data = end - 64;
        assert!(is_masked(&page(&own(1, 0, SPGIST)), data, 1), "where there was room");
        assert!(!is_masked(&page(&own(0, 0, SPGIST)), data, 1));
        assert!(is_masked(&page(&own(0, 0, BRIN_REGULAR)), end + 4, 1));
        assert!(!is_masked(&page(&own(0, 0, BRIN_REVMAP)), 200, 1), "a map has no hole");
        assert!(is_masked(&page(&own(7, 3, GIN_DELETED)), data, 1));
        assert!(!is_masked(&page(&own(7, 3, 0)), data, 1));
        let mut sequence = page(&own(SEQUENCE, 0, 0));
        assert!(!is_masked(&sequence, data, 1), "two rows are none");
        change_u16(&mut sequence, LOWER_AT, |_| 28);
        assert!(is_masked(&sequence, data, 1));
    }

    #[test]
    fn what_does_not_fit_together_is_compared_as_it_is() {
        for (at, number) in [(LOWER_AT, 8), (UPPER_AT, 20), (SPECIAL_AT, 9000), (LOWER_AT, 9000)] {
            let mut page = page(&[]);
            change_u16(&mut page, at, |_| number);
            assert!(!is_masked(&page, 100, 1) && is_masked(&page, 9, 1));
        }
        let mut noise = blake3::Hasher::new().finalize_xof();
        for _ in 0..2000 {
            let mut page = [0; PAGE_BYTES];
            noise.fill(&mut page);
            change_u16(&mut page, LOWER_AT, |n| n % 3000);
            change_u16(&mut page, UPPER_AT, |n| 3000 + n % 3000);
            let own = u16_at(&page, SPECIAL_AT) % 3 * 8;
            change_u16(&mut page, SPECIAL_AT, |_| PAGE_BYTES as u16 - own);
            // Whatever a damaged page holds: no place outside of it.
            mask(&mut page, 7);
        }
    }
}
