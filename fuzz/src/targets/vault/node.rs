//! Nodes of directories' listings, and lists of extents.

use vault::chunk::ChunkId;
use vault::tree::{Child, Extent, Node};

use crate::Target;
use crate::cursor::Cursor;
use crate::round;

pub(crate) const TARGET: Target =
    Target::new("vault-node", "nodes of listings, lists of extents", read, seeds);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    if input.byte() % 4 == 3 {
        let _extents = round::postcard::<Vec<Extent>>(input.0);
        return;
    }
    let id = ChunkId([0; 32]);
    let Ok(node) = Node::decode(&id, input.0) else { return };
    let again = Node::decode(&id, &node.encode()).expect("what was read is read again");
    assert_eq!(again, node);
    assert_eq!(again.root(), node.root());
    assert_eq!(vault::tree::group_root(node.level(), &node.items()), node.root());
}

fn seeds() -> Vec<Vec<u8>> {
    let id = ChunkId([3; 32]);
    let child = |first: &[u8], last: &[u8]| Child {
        first: first.to_vec(),
        last: last.to_vec(),
        id,
        root: [4; 32],
    };
    let inner = Node::Inner { level: 1, children: vec![child(b"a", b"c"), child(b"d", b"d")] };
    let leaf = Node::Leaf(super::canonical::entries());
    let extents = vec![Extent::Hole { bytes: 9 }, Extent::Part { id, from: 1, bytes: 2 }];
    let nodes = [inner, leaf].map(|node| [&[0], &node.encode()[..]].concat());
    nodes.into_iter().chain([[&[3], &round::encoded(&extents)[..]].concat()]).collect()
}
