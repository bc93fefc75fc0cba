//! What follows a bad record: whether it looks like a crash's tear, or like damage.

use crate::record;

/// The unit in which a power loss leaves old or new contents.
const SECTOR_BYTES: usize = 512;

/// What follows a bad record in its file.
pub(crate) struct Later {
    /// Where the first valid record is.
    pub(crate) first: Option<usize>,
    /// The highest `synced` of all valid ones.
    pub(crate) synced: u64,
}

/// Looks for valid records after the bad one at `offset`, trying every byte.
pub(crate) fn later_records(bytes: &[u8], offset: usize, expected: u64) -> Later {
    let mut later = Later { first: None, synced: 0 };
    // Inside a record whose own header is right there are only the application's bytes.
    let mut at = match record::read_header(&bytes[offset..]) {
        Ok(header) => offset.saturating_add(header.record_bytes()),
        Err(_) => offset + 1,
    };
    while at < bytes.len() {
        match record::read_unchained(&bytes[at..]) {
            Ok((header, _)) if header.sequence >= expected => {
                later.first = later.first.or(Some(at));
                later.synced = later.synced.max(header.synced);
                at += header.record_bytes();
            }
            _ => at += 1,
        }
    }
    later
}

/// Whether some sector's part of `bytes[from..to]` is all zeros, as one that never reached the
/// disk reads. Rot flips bits, it doesn't blank sectors.
///
/// A record that begins in the last bytes of a sector may have zeros there by itself: the length
/// of an empty payload. Those count where the rest of its header came through.
pub(crate) fn has_lost_sector(bytes: &[u8], from: usize, to: usize, sequence: u64) -> bool {
    let mut start = from;
    while start < to {
        let end = to.min((start / SECTOR_BYTES + 1) * SECTOR_BYTES);
        let zeros = bytes[start..end].iter().all(|byte| *byte == 0);
        let by_itself = start == from && end - start <= record::LENGTH_BYTES;
        if zeros && (!by_itself || record::sequence_of(&bytes[from..]) == Some(sequence)) {
            return true;
        }
        start = end;
    }
    false
}
