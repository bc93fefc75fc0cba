//! Reads packs: single chunks, and the table at the end.

use super::builder::BLOB_RAW_BYTES_MAX;
use super::{Blob, Location, ROW_BYTES, TABLE_LENGTH_BYTES};
use crate::chunk::{ChunkId, Compressor};
use crate::error::{Result, VaultError, read_again};
use crate::keys::KeyRing;
use crate::seal::{HEADER_BYTES, Kind, ObjectCipher, Position, TAG_BYTES};
use crate::store::{Area, ObjectId, ObjectName, Store};

/// The cipher of a pack, from the header in the store.
///
/// # Errors
/// Where the pack is absent or its header none of ours.
pub fn pack_cipher(store: &dyn Store, ring: &KeyRing, pack: &ObjectId) -> Result<ObjectCipher> {
    let name = ObjectName::of_id(Area::Packs, pack);
    let mut header = [0; HEADER_BYTES];
    store.get_range(&name, 0, &mut header)?;
    ObjectCipher::open(ring, Kind::Pack, &name, &header)
}

/// Opens the sealed bytes of a chunk into `out`.
///
/// # Errors
/// Where the seal does not hold or the contents don't expand.
pub fn open_blob(
    cipher: &ObjectCipher,
    at: &Location,
    sealed: &mut [u8],
    compressor: &mut Compressor,
    out: &mut Vec<u8>,
) -> Result<()> {
    let Location { pack, blob } = at;
    let damaged = |what: &str| {
        let name = ObjectName::of_id(Area::Packs, pack);
        let (offset, id) = (blob.offset, blob.id);
        VaultError::damaged(&name, format!("chunk {id} at byte {offset} {what}"))
    };
    let raw_bytes = blob.raw_bytes as usize;
    if raw_bytes > BLOB_RAW_BYTES_MAX || blob.kind().is_none() {
        return Err(damaged("has impossible properties"));
    }
    let position = Position::content(u64::from(blob.offset));
    let plain = cipher.unseal(position, &blob.aad(), sealed);
    let plain = plain.ok_or_else(|| damaged("was altered after it was written"))?;
    if !blob.is_compressed() {
        out.clear();
        out.extend_from_slice(plain);
        return if out.len() == raw_bytes { Ok(()) } else { Err(damaged("is short")) };
    }
    if compressor.expand(plain, raw_bytes, out) {
        Ok(())
    } else {
        Err(damaged("does not expand to its length"))
    }
}

/// As [`open_blob`], and the contents must have the chunk's identity.
///
/// # Errors
/// As [`open_blob`].
pub fn open_chunk(
    cipher: &ObjectCipher,
    ring: &KeyRing,
    at: &Location,
    sealed: &mut [u8],
    compressor: &mut Compressor,
    out: &mut Vec<u8>,
) -> Result<()> {
    open_blob(cipher, at, sealed, compressor, out)?;
    let kind = at.blob.kind().expect("open_blob checked the kind");
    if ChunkId::of(ring.chunk_id_key(), kind, out) == at.blob.id {
        return Ok(());
    }
    let name = ObjectName::of_id(Area::Packs, &at.pack);
    let what = "is not what its identity says: it was wrong before it was sealed";
    let (offset, id) = (at.blob.offset, at.blob.id);
    Err(VaultError::damaged(&name, format!("chunk {id} at byte {offset} {what}")))
}

/// The table of a pack of `size_bytes`: what is in it, gapless from header to table.
///
/// # Errors
/// Where the table is not intact or does not describe the whole pack.
pub fn read_table(
    store: &dyn Store,
    ring: &KeyRing,
    pack: &ObjectId,
    size_bytes: u64,
) -> Result<Vec<Blob>> {
    let name = ObjectName::of_id(Area::Packs, pack);
    read_again(|| fetch_table(store, &pack_cipher(store, ring, pack)?, &name, size_bytes))
}

fn fetch_table(
    store: &dyn Store,
    cipher: &ObjectCipher,
    name: &ObjectName,
    size_bytes: u64,
) -> Result<Vec<Blob>> {
    let damaged = |what: &str| VaultError::damaged(name, what);
    let smallest = (HEADER_BYTES + TAG_BYTES + TABLE_LENGTH_BYTES) as u64;
    if size_bytes < smallest {
        return Err(damaged("it is too short for a pack"));
    }
    let mut length = [0; TABLE_LENGTH_BYTES];
    store.get_range(name, size_bytes - TABLE_LENGTH_BYTES as u64, &mut length)?;
    let table_bytes = u64::from(u32::from_le_bytes(length));
    if table_bytes < TAG_BYTES as u64 || table_bytes + smallest - TAG_BYTES as u64 > size_bytes {
        return Err(damaged("the length of its table is impossible"));
    }
    let table_at = size_bytes - TABLE_LENGTH_BYTES as u64 - table_bytes;
    let mut table = vec![0; table_bytes as usize];
    store.get_range(name, table_at, &mut table)?;
    open_table(cipher, name, &mut table, table_at)
}

/// The cipher and the table of a pack that was read whole.
///
/// # Errors
/// As [`read_table`].
pub fn parse_pack(
    ring: &KeyRing,
    pack: &ObjectId,
    bytes: &[u8],
) -> Result<(ObjectCipher, Vec<Blob>)> {
    let name = ObjectName::of_id(Area::Packs, pack);
    let cipher = ObjectCipher::open(ring, Kind::Pack, &name, bytes)?;
    let damaged = |what: &str| VaultError::damaged(&name, what);
    let (rest, length) = bytes
        .split_last_chunk::<TABLE_LENGTH_BYTES>()
        .ok_or_else(|| damaged("it is too short for a pack"))?;
    let table_bytes = u32::from_le_bytes(*length) as usize;
    let table_at = rest.len().checked_sub(table_bytes).filter(|at| *at >= HEADER_BYTES);
    let table_at = table_at.ok_or_else(|| damaged("the length of its table is impossible"))?;
    let blobs = open_table(&cipher, &name, &mut rest[table_at..].to_vec(), table_at as u64)?;
    Ok((cipher, blobs))
}

/// Opens a sealed table that begins at `table_at`.
fn open_table(
    cipher: &ObjectCipher,
    name: &ObjectName,
    table: &mut [u8],
    table_at: u64,
) -> Result<Vec<Blob>> {
    let damaged = |what: &str| VaultError::damaged(name, what);
    let rows = cipher.unseal(Position::FOOTER, &[], table);
    let rows = rows.ok_or_else(|| damaged("its table was altered after it was written"))?;
    let mut blobs = Vec::with_capacity(rows.len() / ROW_BYTES);
    let mut offset = HEADER_BYTES as u64;
    for row in rows.chunks(ROW_BYTES) {
        let blob = parse_row(row, offset).ok_or_else(|| damaged("a row of its table is short"))?;
        offset += u64::from(blob.stored_bytes);
        blobs.push(blob);
    }
    if offset != table_at {
        return Err(damaged("its table does not describe the whole pack"));
    }
    Ok(blobs)
}

fn parse_row(row: &[u8], offset: u64) -> Option<Blob> {
    let number = |at: usize| Some(u32::from_le_bytes(*row.get(at..at + 4)?.first_chunk()?));
    Some(Blob {
        id: ChunkId(*row.first_chunk()?),
        offset: u32::try_from(offset).ok()?,
        stored_bytes: number(32)?,
        raw_bytes: number(36)?,
        flags: *row.get(40)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{BufferPool, PackBuilder};
    use super::*;
    use crate::chunk::BlobKind;
    use crate::store::memory::MemoryStore;

    fn sample() -> (KeyRing, super::super::FinishedPack) {
        let ring = KeyRing::random();
        let mut builder = PackBuilder::new(&ring, &BufferPool::new());
        let mut compressor = Compressor::new();
        for text in ["first", &"second ".repeat(200), ""] {
            let id = ChunkId::of(ring.chunk_id_key(), BlobKind::Data, text.as_bytes());
            builder.add(id, BlobKind::Data, text.as_bytes(), &mut compressor);
        }
        (ring, builder.finish())
    }

    #[test]
    fn a_pack_explains_itself() {
        let (ring, pack) = sample();
        let store = MemoryStore::new();
        store.put_new(&pack.name(), &pack.bytes).unwrap();
        let size_bytes = pack.bytes.len() as u64;
        let blobs = read_table(&store, &ring, &pack.id, size_bytes).unwrap();
        assert_eq!(blobs, pack.blobs);
        let cipher = pack_cipher(&store, &ring, &pack.id).unwrap();
        let mut out = Vec::new();
        let at = Location { pack: pack.id, blob: blobs[1] };
        let range = at.blob.offset as usize..(at.blob.offset + at.blob.stored_bytes) as usize;
        let mut sealed = pack.bytes[range].to_vec();
        open_chunk(&cipher, &ring, &at, &mut sealed, &mut Compressor::new(), &mut out).unwrap();
        assert_eq!(out, "second ".repeat(200).as_bytes());
    }

    #[test]
    fn no_bit_of_a_pack_is_irrelevant() {
        let (ring, pack) = sample();
        let mut compressor = Compressor::new();
        let mut out = Vec::new();
        for bit in 0..pack.bytes.len() * 8 {
            let mut bytes = pack.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let store = MemoryStore::new();
            store.put_new(&pack.name(), &bytes).unwrap();
            let size_bytes = bytes.len() as u64;
            let intact = read_table(&store, &ring, &pack.id, size_bytes).and_then(|blobs| {
                let cipher = pack_cipher(&store, &ring, &pack.id)?;
                for blob in blobs {
                    let at = Location { pack: pack.id, blob };
                    let from = blob.offset as usize;
                    let sealed = &mut bytes[from..from + blob.stored_bytes as usize];
                    open_chunk(&cipher, &ring, &at, sealed, &mut compressor, &mut out)?;
                }
                Ok(())
            });
            assert!(intact.is_err_and(|e| e.is_damage()), "bit {bit}");
        }
    }
}
