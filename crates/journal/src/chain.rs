//! The two hash chains: of a replica's records as written, and of the group's entries as agreed.
//!
//! The record chain proves that one replica's files are what was written. The entry chain is the
//! same on every replica, so two replicas prove identical prefixes by comparing one value.

use std::fmt;

use raft::eraftpb::Entry;

/// Separates the seed of entry chains from every other BLAKE3 hash of this project.
const GENESIS_CONTEXT: &str = "backstay journal 2026 entry chain genesis";

/// A chain's value: the BLAKE3 hash over everything up to some point.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Chain(pub [u8; 32]);

/// The length of a [`Chain`] in bytes.
pub(crate) const CHAIN_BYTES: usize = 32;

impl Chain {
    /// The value before anything: all zeros.
    pub const EMPTY: Self = Self([0; CHAIN_BYTES]);

    /// The value after a record of the given header and payload.
    #[must_use]
    pub fn after_record(&self, header: &[u8], payload: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(header).update(payload);
        Self(*hasher.finalize().as_bytes())
    }

    /// The value after an entry:
    /// `blake3(previous, index, term, type, length of context, context, data)`, little-endian.
    #[must_use]
    pub fn after_entry(&self, entry: &Entry) -> Self {
        let mut fixed = [0; CHAIN_BYTES + 25];
        fixed[..32].copy_from_slice(&self.0);
        fixed[32..40].copy_from_slice(&entry.index.to_le_bytes());
        fixed[40..48].copy_from_slice(&entry.term.to_le_bytes());
        fixed[48] = u8::try_from(entry.entry_type).unwrap_or(u8::MAX);
        fixed[49..57].copy_from_slice(&(entry.context.len() as u64).to_le_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&fixed).update(&entry.context).update(&entry.data);
        Self(*hasher.finalize().as_bytes())
    }

    /// Where a group's entry chain starts: its first voters and first state. Two groups founded
    /// on different states have different chains for ever.
    #[must_use]
    pub fn genesis(voters: &[u64], data: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(GENESIS_CONTEXT);
        hasher.update(&(voters.len() as u64).to_le_bytes());
        for voter in voters {
            hasher.update(&voter.to_le_bytes());
        }
        hasher.update(data);
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
