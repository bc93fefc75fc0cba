//! A snapshot: the application's state at an index, the membership and the entry chain there;
//! and the file that holds it. The layout is specified in docs/reference/log-format.md.

use std::sync::Arc;

use raft::eraftpb::ConfState;

use crate::chain::Chain;
use crate::limits::{MAX_LEARNERS, MAX_SNAPSHOT_BYTES, MAX_VOTERS};
use crate::record::{FORMAT_VERSION, Fields};

/// The first bytes of every snapshot file.
pub(crate) const SNAPSHOT_MAGIC: [u8; 8] = *b"BSTKSNP\n";

/// The application's state after an entry, and what a replica needs to go on from there.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The index of the last entry that it contains.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// The entry chain at `index`.
    pub entry_chain: Chain,
    /// The membership after that entry, its lists sorted.
    pub membership: ConfState,
    /// The application's state.
    pub data: Arc<Vec<u8>>,
}

/// Sorts a membership's lists, so that equal memberships are equal bytes.
pub(crate) fn sorted(mut membership: ConfState) -> ConfState {
    membership.voters.sort_unstable();
    membership.learners.sort_unstable();
    membership.voters_outgoing.sort_unstable();
    membership.learners_next.sort_unstable();
    membership
}

/// The file's contents and their hash. The file ends with the hash of everything before it.
pub(crate) fn encode(snapshot: &Snapshot) -> (Vec<u8>, [u8; 32]) {
    let mut out = Vec::with_capacity(snapshot.data.len() + 256);
    out.extend_from_slice(&SNAPSHOT_MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&snapshot.index.to_le_bytes());
    out.extend_from_slice(&snapshot.term.to_le_bytes());
    out.extend_from_slice(&snapshot.entry_chain.0);
    let membership = &snapshot.membership;
    let lists = [
        &membership.voters,
        &membership.voters_outgoing,
        &membership.learners,
        &membership.learners_next,
    ];
    for list in lists {
        out.extend_from_slice(&(list.len() as u32).to_le_bytes());
        for id in list {
            out.extend_from_slice(&id.to_le_bytes());
        }
    }
    out.push(u8::from(membership.auto_leave));
    out.extend_from_slice(&(snapshot.data.len() as u64).to_le_bytes());
    out.extend_from_slice(&snapshot.data);
    let hash = *blake3::hash(&out).as_bytes();
    out.extend_from_slice(&hash);
    (out, hash)
}

/// Why a snapshot file can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSnapshot {
    /// The contents don't match the hash at the file's end, or not the one the log recorded.
    #[error("the snapshot's contents do not match their hash")]
    Hash,
    /// The hash is right, but the contents do not decode.
    #[error("the snapshot's contents do not decode")]
    Contents,
}

/// Reads a file's contents; `expected` is the hash that the log recorded for it.
///
/// # Errors
/// See [`BadSnapshot`].
pub(crate) fn decode(bytes: &[u8], expected: &[u8; 32]) -> Result<Snapshot, BadSnapshot> {
    let split = bytes.len().checked_sub(32).ok_or(BadSnapshot::Hash)?;
    let (contents, hash) = bytes.split_at(split);
    if hash != expected || blake3::hash(contents).as_bytes() != expected {
        return Err(BadSnapshot::Hash);
    }
    decode_contents(Fields(contents)).ok_or(BadSnapshot::Contents)
}

fn decode_contents(mut fields: Fields<'_>) -> Option<Snapshot> {
    if fields.take(8)? != SNAPSHOT_MAGIC || fields.u32()? != FORMAT_VERSION {
        return None;
    }
    let (index, term) = (fields.u64()?, fields.u64()?);
    let entry_chain = Chain(fields.hash()?);
    let membership = ConfState {
        voters: list(&mut fields, MAX_VOTERS)?,
        voters_outgoing: list(&mut fields, MAX_VOTERS)?,
        learners: list(&mut fields, MAX_LEARNERS)?,
        learners_next: list(&mut fields, MAX_LEARNERS)?,
        auto_leave: match fields.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        },
    };
    let data_bytes = usize::try_from(fields.u64()?).ok()?;
    if data_bytes != fields.0.len() || data_bytes > MAX_SNAPSHOT_BYTES {
        return None;
    }
    let data = Arc::new(fields.0.to_vec());
    Some(Snapshot { index, term, entry_chain, membership, data })
}

fn list(fields: &mut Fields<'_>, max: usize) -> Option<Vec<u64>> {
    let length = usize::try_from(fields.u32()?).ok()?;
    if length > max {
        return None;
    }
    (0..length).map(|_| fields.u64()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Snapshot {
        Snapshot {
            index: 7,
            term: 2,
            entry_chain: Chain([3; 32]),
            membership: ConfState {
                voters: vec![1, 2],
                voters_outgoing: vec![1, 3],
                learners: vec![4],
                learners_next: vec![3],
                auto_leave: true,
            },
            data: Arc::new(b"state".to_vec()),
        }
    }

    #[test]
    fn it_comes_back_as_written() {
        let (bytes, hash) = encode(&sample());
        assert_eq!(decode(&bytes, &hash), Ok(sample()));
    }

    #[test]
    fn no_bit_can_change_and_no_byte_be_missing() {
        let (bytes, hash) = encode(&sample());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged, &hash), Err(BadSnapshot::Hash));
        }
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length], &hash), Err(BadSnapshot::Hash));
        }
    }

    #[test]
    fn a_whole_file_that_the_log_does_not_name_is_refused() {
        let (bytes, _) = encode(&sample());
        assert_eq!(decode(&bytes, &[0; 32]), Err(BadSnapshot::Hash));
    }
}
