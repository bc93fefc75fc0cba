//! Entries as a third party reads them out of a proof, and as a directory's listing has them.

use vault::tree::{Entry, canonical, parse_canonical};

use crate::Target;
use crate::cursor::Cursor;
use crate::round;

pub(crate) const TARGET: Target =
    Target::new("vault-entry", "entries, canonical and stored", read, seeds);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    if input.byte() % 2 == 0 {
        let _entry = parse_canonical(input.0);
        return;
    }
    let Some(entry) = round::postcard::<Entry>(input.0) else { return };
    let is_top = entry.name.is_empty();
    if entry.check(is_top).is_err() {
        return;
    }
    let name = entry.name.split(|b| *b == b'/').collect::<Vec<_>>();
    assert!(name.len() == 1 && !matches!(name[0], b"." | b".."), "it stays in its directory");
    let parsed = parse_canonical(&canonical(&entry)).expect("what is accepted is canonical");
    assert_eq!((parsed.name, parsed.mode), (entry.name, entry.meta.mode));
}

/// Entries of every kind.
pub(super) fn entries() -> Vec<Entry> {
    use vault::chunk::ChunkId;
    use vault::tree::{Content, EntryKind, Extent, Metadata, NodeRef, Stamp, Totals};
    let id = ChunkId([3; 32]);
    let content = Content::Inline(vec![Extent::Data { id, bytes: 5 }, Extent::Hole { bytes: 2 }]);
    let kinds = [
        EntryKind::File { size_bytes: 7, root: [4; 32], content },
        EntryKind::File { size_bytes: 7, root: [4; 32], content: Content::Lists(vec![id]) },
        EntryKind::Directory { node: NodeRef { id, root: [5; 32] }, totals: Totals::default() },
        EntryKind::Symlink { target: b"../x".to_vec() },
        EntryKind::HardLink { target: b"a/b".to_vec() },
        EntryKind::Fifo,
        EntryKind::Socket,
        EntryKind::BlockDevice { major: 8, minor: 0 },
    ];
    let entry = |(number, kind)| Entry {
        name: vec![b'a' + number as u8],
        meta: Metadata {
            mode: 0o644,
            xattrs: vec![(b"user.a".to_vec(), b"b".to_vec())],
            ..Metadata::default()
        },
        kind,
        stamp: Stamp::default(),
    };
    kinds.into_iter().enumerate().map(entry).collect()
}

fn seeds() -> Vec<Vec<u8>> {
    let both = |entry: &Entry| {
        [[&[0], &canonical(entry)[..]].concat(), [&[1], &round::encoded(entry)[..]].concat()]
    };
    entries().iter().flat_map(both).collect()
}
