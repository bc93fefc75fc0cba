//! Index segments, behind their seal: a footer of the input's choosing, and blocks.

use vault::chunk::ChunkId;
use vault::index::Segment;
use vault::seal::Kind;
use vault::store::memory::MemoryStore;
use vault::store::{Area, ObjectId, ObjectName, Store};

use super::sealed::{object, ring};
use crate::Target;
use crate::cursor::{Cursor, piece};
use crate::round;

pub(crate) const TARGET: Target =
    Target::new("vault-index", "index segments, behind their seal", read, seeds);

/// Blocks of one input.
const BLOCKS_MAX: usize = 3;

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    let name = ObjectName::of_id(Area::Index, &ObjectId([1; 16]));
    let footer = input.piece();
    let blocks: Vec<&[u8]> =
        (0..BLOCKS_MAX).map(|_| input.piece()).take_while(|b| !b.is_empty()).collect();
    let parts: Vec<(u64, &[u8], &[u8])> =
        blocks.iter().enumerate().map(|(at, block)| (at as u64, &[][..], *block)).collect();
    let bytes = object(Kind::Segment, &name, &parts, footer);
    let size_bytes = bytes.len() as u64;
    let store = MemoryStore::new();
    let _made = store.put_new(&name, &bytes);
    let Ok(segment) = Segment::open(&store, ring(), &name, size_bytes) else { return };
    let id = ChunkId(input.array());
    let _may = segment.may_hold(&id);
    for block in segment.candidate_blocks(&id).chain(0..segment.blocks()) {
        let Ok(plain) = segment.read_block(&store, block) else { continue };
        let _found = segment.find_in_block(block, &plain, &id);
        if let Ok(entries) = segment.decode_block(block, &plain) {
            assert!(entries.iter().all(|(number, at)| {
                *number < segment.entries() && segment.packs().contains(&at.pack)
            }));
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    // The fields of a footer, in their order.
    let footer = |entries: u64, fence: Vec<u64>| {
        let lists = (vec![ObjectId([2; 16])], fence, [0xff_u8; 32], vec![0xff_u8; 8]);
        round::encoded(&(1u8, entries, lists, Vec::<ObjectId>::new(), Vec::<ObjectId>::new()))
    };
    let mut entry = [7u8; 49];
    entry[32..36].fill(0);
    let one = [piece(&footer(1, vec![7])), piece(&entry), piece(&[]), vec![7; 32]].concat();
    vec![one, piece(&footer(0, vec![]))]
}
