//! Makes a segment from entries.

use super::{BLOCK_ENTRIES, ENTRY_BYTES, Footer, SEGMENT_ENTRIES_MAX, encode_entry, filter};
use crate::keys::KeyRing;
use crate::pack::Location;
use crate::seal::{Algorithm, Kind, ObjectCipher, Position, TAG_BYTES};
use crate::store::{Area, ObjectId, ObjectName};
use std::collections::BTreeMap;

/// A segment ready to be stored.
pub struct FinishedSegment {
    /// Its identity.
    pub id: ObjectId,
    /// The object.
    pub bytes: Vec<u8>,
}

impl FinishedSegment {
    /// The object's name.
    pub fn name(&self) -> ObjectName {
        ObjectName::of_id(Area::Index, &self.id)
    }
}

/// Sorts the entries and seals them. `supersedes` and `with` as the footer records them.
///
/// # Panics
/// Past [`SEGMENT_ENTRIES_MAX`], which the callers keep.
pub fn write_segment(
    ring: &KeyRing,
    mut entries: Vec<Location>,
    supersedes: Vec<ObjectId>,
    with: Vec<ObjectId>,
) -> FinishedSegment {
    assert!(entries.len() <= SEGMENT_ENTRIES_MAX, "a segment keeps its limit");
    entries.sort_unstable_by_key(|l| (l.blob.id, l.pack, l.blob.offset));
    entries.dedup();
    let id = ObjectId::random();
    let name = ObjectName::of_id(Area::Index, &id);
    let algorithm = Algorithm::of_this_processor();
    let (cipher, header) = ObjectCipher::create(ring, Kind::Segment, &name, algorithm);
    let mut numbers: BTreeMap<ObjectId, u32> = entries.iter().map(|l| (l.pack, 0)).collect();
    for (number, value) in numbers.values_mut().enumerate() {
        *value = number as u32;
    }
    let blocks = entries.len().div_ceil(BLOCK_ENTRIES);
    let mut bytes = Vec::with_capacity(
        header.len() + entries.len() * (ENTRY_BYTES + 2) + blocks * TAG_BYTES + (64 << 10),
    );
    bytes.extend_from_slice(&header);
    let mut filter = filter::new(entries.len());
    let mut fence = Vec::with_capacity(blocks);
    for (number, block) in entries.chunks(BLOCK_ENTRIES).enumerate() {
        fence.push(block[0].blob.id.prefix());
        let start = bytes.len();
        for location in block {
            encode_entry(numbers[&location.pack], &location.blob, &mut bytes);
            filter::add(&mut filter, &location.blob.id);
        }
        cipher.seal(Position::content(number as u64), &[], &mut bytes, start);
    }
    let footer = Footer {
        version: 1,
        entries: entries.len() as u64,
        packs: numbers.into_keys().collect(),
        fence,
        last: entries.last().map_or([0; 32], |l| l.blob.id.0),
        filter,
        supersedes,
        with,
    };
    let start = bytes.len();
    let encoded = postcard::to_allocvec(&footer).expect("a footer always encodes");
    bytes.extend_from_slice(&encoded);
    cipher.seal(Position::FOOTER, &[], &mut bytes, start);
    let footer_bytes = (bytes.len() - start) as u32;
    bytes.extend_from_slice(&footer_bytes.to_le_bytes());
    FinishedSegment { id, bytes }
}
