//! The canonical encoding of an entry: the bytes that the Merkle root covers. It holds what a
//! restore brings back and nothing that depends on this repository, so that live data, a
//! replica and any backup of equal content have one root. Numbers are little-endian, every
//! field is fixed or preceded by its length.

use super::{Entry, EntryKind};

/// Separates entry hashes from every other hash of the format.
const ENTRY_CONTEXT: &[u8] = b"backstay vault v1 entry\0";

/// What a third party reads out of a canonical entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalEntry {
    /// The name.
    pub name: Vec<u8>,
    /// The kind's code: 1 file, 2 directory, 3 symbolic link, 4 further name, 5 pipe,
    /// 6 socket, 7 character device, 8 block device.
    pub kind: u8,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds and nanoseconds of the modification time.
    pub mtime: (i64, u32),
    /// A file's length.
    pub size_bytes: Option<u64>,
    /// A file's BLAKE3 hash, or a directory's Merkle root.
    pub root: Option<[u8; 32]>,
}

/// The canonical bytes of an entry.
pub fn canonical(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(96 + entry.name.len());
    let short = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    short(&mut out, &entry.name);
    out.push(kind_code(&entry.kind));
    out.extend_from_slice(&entry.meta.mode.to_le_bytes());
    out.extend_from_slice(&entry.meta.uid.to_le_bytes());
    out.extend_from_slice(&entry.meta.gid.to_le_bytes());
    out.extend_from_slice(&entry.meta.mtime_s.to_le_bytes());
    out.extend_from_slice(&entry.meta.mtime_ns.to_le_bytes());
    out.extend_from_slice(&(entry.meta.xattrs.len() as u32).to_le_bytes());
    for (name, value) in &entry.meta.xattrs {
        short(&mut out, name);
        short(&mut out, value);
    }
    match &entry.kind {
        EntryKind::File { size_bytes, root, .. } => {
            out.extend_from_slice(&size_bytes.to_le_bytes());
            out.extend_from_slice(root);
        }
        EntryKind::Directory { node, .. } => out.extend_from_slice(&node.root),
        EntryKind::Symlink { target } | EntryKind::HardLink { target } => short(&mut out, target),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            out.extend_from_slice(&major.to_le_bytes());
            out.extend_from_slice(&minor.to_le_bytes());
        }
        EntryKind::Fifo | EntryKind::Socket => {}
    }
    out
}

fn kind_code(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File { .. } => 1,
        EntryKind::Directory { .. } => 2,
        EntryKind::Symlink { .. } => 3,
        EntryKind::HardLink { .. } => 4,
        EntryKind::Fifo => 5,
        EntryKind::Socket => 6,
        EntryKind::CharDevice { .. } => 7,
        EntryKind::BlockDevice { .. } => 8,
    }
}

/// The hash of canonical bytes.
pub fn entry_hash(canonical: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(ENTRY_CONTEXT).update(canonical).finalize().as_bytes()
}

/// Reads canonical bytes; nothing where they are not exactly one entry.
pub fn parse_canonical(mut bytes: &[u8]) -> Option<CanonicalEntry> {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
        let (head, tail) = bytes.split_at_checked(count)?;
        *bytes = tail;
        Some(head)
    }
    fn number(bytes: &mut &[u8]) -> Option<u32> {
        Some(u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?))
    }
    fn long(bytes: &mut &[u8]) -> Option<u64> {
        Some(u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?))
    }
    fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        let length = number(bytes)?;
        take(bytes, length as usize)
    }
    let input = &mut bytes;
    let name = text(input)?.to_vec();
    let kind = take(input, 1)?[0];
    let (mode, uid, gid) = (number(input)?, number(input)?, number(input)?);
    let mtime = (long(input)? as i64, number(input)?);
    for _ in 0..number(input)? {
        text(input)?;
        text(input)?;
    }
    let mut entry =
        CanonicalEntry { name, kind, mode, uid, gid, mtime, size_bytes: None, root: None };
    match kind {
        1 => {
            entry.size_bytes = Some(long(input)?);
            entry.root = Some(take(input, 32)?.try_into().ok()?);
        }
        2 => entry.root = Some(take(input, 32)?.try_into().ok()?),
        3 | 4 => {
            text(input)?;
        }
        7 | 8 => {
            take(input, 8)?;
        }
        5 | 6 => {}
        _ => return None,
    }
    input.is_empty().then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::super::{Content, Metadata, Stamp};
    use super::*;

    fn file() -> Entry {
        let meta =
            Metadata { mode: 0o640, uid: 7, gid: 8, mtime_s: -5, mtime_ns: 9, xattrs: vec![] };
        let content = Content::Inline(Vec::new());
        let kind = EntryKind::File { size_bytes: 0, root: [3; 32], content };
        Entry { name: b"f".to_vec(), meta, kind, stamp: Stamp::default() }
    }

    #[test]
    fn canonical_bytes_are_read_back_and_no_others() {
        let bytes = canonical(&file());
        let parsed = parse_canonical(&bytes).unwrap();
        assert_eq!((parsed.kind, parsed.mode, parsed.mtime), (1, 0o640, (-5, 9)));
        assert_eq!(parsed.root, Some([3; 32]));
        assert!(parse_canonical(&bytes[..bytes.len() - 1]).is_none());
        assert!(parse_canonical(&[bytes, vec![0]].concat()).is_none());
    }

    #[test]
    fn every_restored_property_changes_the_hash_and_the_stamp_does_not() {
        let hash = |e: &Entry| entry_hash(&canonical(e));
        let base = hash(&file());
        let mut stamped = file();
        stamped.stamp.inode = 99;
        assert_eq!(hash(&stamped), base);
        let changes: [fn(&mut Entry); 7] = [
            |e| e.name = b"g".to_vec(),
            |e| e.meta.mode = 0o600,
            |e| e.meta.uid = 1,
            |e| e.meta.gid = 1,
            |e| e.meta.mtime_ns = 1,
            |e| e.meta.xattrs = vec![(b"user.a".to_vec(), b"b".to_vec())],
            |e| e.kind = EntryKind::Fifo,
        ];
        for change in changes {
            let mut entry = file();
            change(&mut entry);
            assert_ne!(hash(&entry), base);
        }
    }
}
