//! Packs, behind their seals: a table of the input's choosing, and chunks that say of themselves
//! what they are not.

use vault::chunk::Compressor;
use vault::pack::{Location, open_blob, parse_pack, read_table};
use vault::seal::Kind;
use vault::store::memory::MemoryStore;
use vault::store::{Area, ObjectId, ObjectName, Store};

use super::sealed::{object, ring};
use crate::Target;
use crate::cursor::{Cursor, piece};

pub(crate) const TARGET: Target =
    Target::new("vault-pack", "packs, behind their seals", read, seeds).memory(128 << 20);

/// Chunks of one input.
const CHUNKS_MAX: usize = 3;
/// Where the first chunk lies: behind the header.
const FIRST: u64 = vault::seal::HEADER_BYTES as u64;
const TAG: u64 = vault::seal::TAG_BYTES as u64;

thread_local! {
    static COMPRESSOR: std::cell::RefCell<Compressor> = Compressor::new().into();
}

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    let id = ObjectId([1; 16]);
    let name = ObjectName::of_id(Area::Packs, &id);
    let (mut parts, mut table, mut at) = (Vec::new(), Vec::new(), FIRST);
    let mut aads = Vec::new();
    for _ in 0..input.byte() as usize % (CHUNKS_MAX + 1) {
        let (flags, raw_bytes, plain) = (input.byte(), input.array::<4>(), input.piece());
        // An honest length, unless the input says otherwise.
        let raw_bytes = match raw_bytes {
            [0, 0, 0, 0] => (plain.len() as u32).to_le_bytes(),
            [small, 0, 0, high] => u32::from_le_bytes([small, 0, 0, high & 1]).to_le_bytes(),
            other => other,
        };
        let (mut aad, stored) = ([3; 37], plain.len() as u64 + TAG);
        aad[32..36].copy_from_slice(&raw_bytes);
        aad[36] = flags;
        table.extend_from_slice(&aad[..32]);
        table.extend_from_slice(&(stored as u32).to_le_bytes());
        table.extend_from_slice(&aad[32..]);
        parts.push((at, plain));
        aads.push(aad);
        at += stored;
    }
    // What is left of the input lengthens the table, or takes its place.
    let instead = input.byte() == 1;
    let table = if instead { input.0.to_vec() } else { [&table, input.0].concat() };
    let parts: Vec<(u64, &[u8], &[u8])> =
        parts.iter().zip(&aads).map(|((at, plain), aad)| (*at, &aad[..], *plain)).collect();
    let bytes = object(Kind::Pack, &name, &parts, &table);
    both(&id, &name, &bytes);
}

/// Both ways of reading a table say the same, and its chunks are opened.
fn both(id: &ObjectId, name: &ObjectName, bytes: &[u8]) {
    let store = MemoryStore::new();
    let _made = store.put_new(name, bytes);
    let listed = read_table(&store, ring(), id, bytes.len() as u64);
    let parsed = parse_pack(ring(), id, bytes);
    assert_eq!(listed.as_ref().ok(), parsed.as_ref().ok().map(|(_, blobs)| blobs));
    let Ok((cipher, blobs)) = parsed else { return };
    COMPRESSOR.with_borrow_mut(|compressor| {
        for blob in blobs {
            let range = blob.offset as usize..(blob.offset + blob.stored_bytes) as usize;
            let mut sealed = bytes[range].to_vec();
            let (at, mut out) = (Location { pack: *id, blob }, Vec::new());
            if open_blob(&cipher, &at, &mut sealed, compressor, &mut out).is_ok() {
                assert_eq!(out.len(), blob.raw_bytes as usize, "a chunk has its length");
            }
        }
    });
}

fn seeds() -> Vec<Vec<u8>> {
    let mut packed = Vec::new();
    let text = "second ".repeat(40);
    let is_compressed = Compressor::new().append(text.as_bytes(), &mut packed);
    let plain = [&[0, 0, 0, 0, 0][..], &piece(b"first")].concat();
    let length = (text.len() as u32).to_le_bytes();
    let squeezed = [&[u8::from(is_compressed)][..], &length, &piece(&packed)].concat();
    vec![[vec![2], plain, squeezed].concat(), vec![0, 1, 9, 9]]
}
