//! A piece of a log: a signed statement and the bytes, sealed under a name that says the stretch.

use crate::chunk::Compressor;
use crate::error::{Result, VaultError};
use crate::keys::{KeyRing, signature_holds};
use crate::postgres::{Lsn, Timeline};
use crate::seal::{Kind, open_object, seal_object};
use crate::store::{Area, ObjectName};
use serde::{Deserialize, Serialize};

/// The most bytes of a piece; whole pieces begin and end at multiples of it.
pub const PIECE_BYTES: u64 = 16 << 20;
const SIGNATURE_CONTEXT: &[u8] = b"backstay vault v1 wal\0";

/// The signed part of a piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Version of the format.
    pub version: u8,
    /// The repository.
    pub repository: [u8; 16],
    /// The key epoch.
    pub epoch: u32,
    /// The database system's identity.
    pub system: u64,
    /// The timeline.
    pub timeline: Timeline,
    /// The first byte.
    pub start: Lsn,
    /// The end.
    pub end: Lsn,
    /// When it was stored, in milliseconds since 1970.
    pub time_ms: i64,
    /// BLAKE3 of the bytes.
    pub content: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    statement: &'a [u8],
    #[serde(borrow)]
    signature: &'a [u8],
    is_compressed: bool,
    #[serde(borrow)]
    payload: &'a [u8],
}

/// A piece that was read and whose seal, signature and contents hold.
pub struct Piece {
    /// What was signed.
    pub statement: Statement,
    /// The bytes of the log.
    pub bytes: Vec<u8>,
}

/// Which stretch of which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch<'a> {
    pub(super) stream: &'a str,
    pub(super) system: u64,
    pub(super) timeline: Timeline,
    pub(super) start: Lsn,
}

/// The name of a piece.
pub(super) fn name_of(stream: &str, timeline: Timeline, start: Lsn, end: Lsn) -> ObjectName {
    let leaf = format!("{stream}-{timeline:08x}-{:016x}-{:016x}", start.0, end.0);
    ObjectName::new(Area::Wal, &leaf).expect("digits and dashes are a leaf")
}

/// The name of a timeline's history.
pub(super) fn history_name(stream: &str, timeline: Timeline) -> ObjectName {
    let leaf = format!("{stream}-{timeline:08x}-history");
    ObjectName::new(Area::Wal, &leaf).expect("digits, letters and dashes are a leaf")
}

/// A stream, a timeline, and a stretch where it is a piece's name.
type Named<'a> = (&'a str, Timeline, Option<(Lsn, Lsn)>);

/// What a name says: the stream, the timeline, and the stretch where it names a piece.
pub(super) fn parse_name(name: &ObjectName) -> Option<Named<'_>> {
    let mut parts = name.leaf().split('-');
    let (stream, timeline) = (parts.next()?, parts.next()?);
    let timeline = Timeline::from_str_radix(timeline, 16).ok()?;
    let position = |text: &str| u64::from_str_radix(text, 16).ok().map(Lsn);
    let stretch = match (parts.next()?, parts.next()) {
        ("history", None) => None,
        (start, Some(end)) => Some((position(start)?, position(end)?)),
        _ => return None,
    };
    let possible = stretch.is_none_or(|(start, end)| start < end && end.0 - start.0 <= PIECE_BYTES);
    if stream.len() != 16 || !possible || parts.next().is_some() {
        return None;
    }
    // A stretch has one name: another one of the same digits would be listed and not found.
    let only = match stretch {
        Some((start, end)) => name_of(stream, timeline, start, end),
        None => history_name(stream, timeline),
    };
    (only == *name).then_some((stream, timeline, stretch))
}

/// Signs and seals bytes of a log.
pub(super) fn write_piece(
    ring: &KeyRing,
    stretch: Stretch<'_>,
    bytes: &[u8],
    time_ms: i64,
    compressor: &mut Compressor,
) -> (ObjectName, Vec<u8>) {
    let Stretch { stream, system, timeline, start } = stretch;
    let end = Lsn(start.0 + bytes.len() as u64);
    let name = name_of(stream, timeline, start, end);
    let content = *blake3::hash(bytes).as_bytes();
    (
        name.clone(),
        seal(ring, &name, system, (timeline, start, end), bytes, time_ms, content, compressor),
    )
}

#[allow(clippy::too_many_arguments, reason = "the fields of a statement, and the bytes")]
fn seal(
    ring: &KeyRing,
    name: &ObjectName,
    system: u64,
    (timeline, start, end): (Timeline, Lsn, Lsn),
    bytes: &[u8],
    time_ms: i64,
    content: [u8; 32],
    compressor: &mut Compressor,
) -> Vec<u8> {
    let (repository, epoch) = (ring.repository, ring.epoch());
    let statement =
        Statement { version: 1, repository, epoch, system, timeline, start, end, time_ms, content };
    let statement = postcard::to_allocvec(&statement).expect("a statement always encodes");
    let signature = ring.current().sign(&[SIGNATURE_CONTEXT, &statement].concat());
    let mut payload = Vec::new();
    let is_compressed = compressor.append(bytes, &mut payload);
    let stored =
        Stored { statement: &statement, signature: &signature, is_compressed, payload: &payload };
    let plain = postcard::to_allocvec(&stored).expect("a piece always encodes");
    seal_object(ring, Kind::Wal, name, &plain)
}

/// Signs and seals a timeline's history.
pub(super) fn write_history(
    ring: &KeyRing,
    stream: &str,
    system: u64,
    timeline: Timeline,
    text: &[u8],
    time_ms: i64,
) -> (ObjectName, Vec<u8>) {
    let name = history_name(stream, timeline);
    let content = *blake3::hash(text).as_bytes();
    let place = (timeline, Lsn(0), Lsn(text.len() as u64));
    let mut compressor = Compressor::new();
    let object = seal(ring, &name, system, place, text, time_ms, content, &mut compressor);
    (name, object)
}

/// Opens a piece or a history and checks everything that it says.
///
/// # Errors
/// Where it is not, to the bit, what was stored under this name.
pub fn read_piece(
    ring: &KeyRing,
    name: &ObjectName,
    object: Vec<u8>,
    compressor: &mut Compressor,
) -> Result<Piece> {
    let damaged = |what: &str| VaultError::damaged(name, what);
    let plain = open_object(ring, Kind::Wal, name, object)?;
    let stored: Stored<'_> =
        postcard::from_bytes(&plain).map_err(|_| damaged("it has another format"))?;
    let statement: Statement = postcard::from_bytes(stored.statement)
        .map_err(|_| damaged("its statement has another format"))?;
    let key = ring.at(statement.epoch).map(|keys| keys.verifying_key());
    let key = key.ok_or_else(|| damaged("it is signed with a key that the repository has not"))?;
    let message = [SIGNATURE_CONTEXT, stored.statement].concat();
    if !signature_holds(&key, &message, stored.signature) {
        return Err(damaged("its signature does not hold"));
    }
    let (_, timeline, stretch) = parse_name(name).ok_or_else(|| damaged("its name is odd"))?;
    let named = stretch.is_none_or(|stretch| stretch == (statement.start, statement.end));
    let length = statement.end.0.checked_sub(statement.start.0).filter(|l| *l <= PIECE_BYTES);
    let (true, Some(length)) = (named && timeline == statement.timeline, length) else {
        return Err(damaged("it holds another stretch than its name says"));
    };
    if statement.version != 1 || statement.repository != ring.repository {
        return Err(damaged("it belongs to another repository"));
    }
    let mut bytes = Vec::new();
    let expands = match stored.is_compressed {
        true => compressor.expand(stored.payload, length as usize, &mut bytes),
        false => {
            bytes.extend_from_slice(stored.payload);
            bytes.len() as u64 == length
        }
    };
    if !expands || *blake3::hash(&bytes).as_bytes() != statement.content {
        return Err(damaged("its contents are not those that were signed"));
    }
    Ok(Piece { statement, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_read_back_and_no_altered_or_renamed_one() {
        let ring = KeyRing::random();
        let mut compressor = Compressor::new();
        let stream = "0123456789abcdef";
        let stretch = Stretch { stream, system: 7, timeline: 2, start: Lsn(100) };
        let bytes = b"some log ".repeat(50);
        let (name, object) = write_piece(&ring, stretch, &bytes, 5, &mut compressor);
        let piece = read_piece(&ring, &name, object.clone(), &mut compressor).unwrap();
        assert_eq!((piece.statement.end, piece.bytes), (Lsn(550), bytes));
        let other = name_of(stream, 2, Lsn(101), Lsn(551));
        assert!(read_piece(&ring, &other, object.clone(), &mut compressor).is_err());
        for byte in 0..object.len() {
            let mut altered = object.clone();
            altered[byte] ^= 1 << (byte % 8);
            let read = read_piece(&ring, &name, altered, &mut compressor);
            assert!(read.is_err_and(|e| e.is_damage()), "byte {byte}");
        }
    }

    #[test]
    fn names_say_the_stretch_and_odd_ones_nothing() {
        let name = name_of("0123456789abcdef", 3, Lsn(1), Lsn(PIECE_BYTES + 1));
        let parsed = parse_name(&name).unwrap();
        assert_eq!(parsed, ("0123456789abcdef", 3, Some((Lsn(1), Lsn(PIECE_BYTES + 1)))));
        assert_eq!(parse_name(&history_name("0123456789abcdef", 3)).unwrap().2, None);
        let short = "0123456789abcdef-3-1-2";
        for leaf in ["0123456789abcdef-3", short, "x-3-1-2", "0123456789abcdef-3-2-1", "a-b-c-d-e"]
        {
            assert!(parse_name(&ObjectName::new(Area::Wal, leaf).unwrap()).is_none(), "{leaf}");
        }
    }
}
