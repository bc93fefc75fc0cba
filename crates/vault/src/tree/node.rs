//! The nodes of a directory's listing. Entries are grouped by their names alone, so that equal
//! directories have equal groups wherever they are, and a change touches one group a level.

use super::{Entry, canonical, entry_hash, group_root};
use crate::chunk::ChunkId;
use crate::error::{Result, VaultError};
use serde::{Deserialize, Serialize};

/// Items of a group at most.
pub const NODE_ITEMS_MAX: usize = 1024;
/// Levels of groups: 1024 items at least every 256 on average reach any directory.
pub const NODE_LEVELS_MAX: u8 = 12;

/// A group of entries, or of groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// Entries, ascending by name.
    Leaf(Vec<Entry>),
    /// Groups one level down, ascending.
    Inner {
        /// This node's level, from 1.
        level: u8,
        /// The groups.
        children: Vec<Child>,
    },
}

/// A group seen from above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// The first name in it.
    pub first: Vec<u8>,
    /// The last name in it.
    pub last: Vec<u8>,
    /// Its chunk.
    pub id: ChunkId,
    /// Its Merkle root.
    pub root: [u8; 32],
}

/// Whether a group of this level ends after the item with this (last) name.
pub fn ends_group(level: u8, name: &[u8], items: usize) -> bool {
    if items >= NODE_ITEMS_MAX {
        return true;
    }
    let hash = blake3::Hasher::new().update(&[level]).update(name).finalize();
    hash.as_bytes()[0] == 0
}

impl Node {
    /// The node's level.
    pub fn level(&self) -> u8 {
        match self {
            Node::Leaf(_) => 0,
            Node::Inner { level, .. } => *level,
        }
    }

    /// The hashes of its items.
    pub fn items(&self) -> Vec<[u8; 32]> {
        match self {
            Node::Leaf(entries) => entries.iter().map(|e| entry_hash(&canonical(e))).collect(),
            Node::Inner { children, .. } => children.iter().map(|c| c.root).collect(),
        }
    }

    /// Its Merkle root.
    pub fn root(&self) -> [u8; 32] {
        group_root(self.level(), &self.items())
    }

    /// The stored bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a node always encodes")
    }

    /// Reads and checks stored bytes.
    ///
    /// # Errors
    /// Where they are no node that an honest backup writes.
    pub fn decode(id: &ChunkId, bytes: &[u8]) -> Result<Node> {
        let bad = |what: &str| VaultError::Damaged {
            object: format!("directory node {id}"),
            what: what.to_owned(),
        };
        let (node, rest) =
            postcard::take_from_bytes::<Node>(bytes).map_err(|_| bad("it has another format"))?;
        if !rest.is_empty() {
            return Err(bad("something follows it"));
        }
        let ascending = match &node {
            Node::Leaf(entries) => {
                entries.iter().try_for_each(|e| e.check(false))?;
                entries.windows(2).all(|w| w[0].name < w[1].name) && entries.len() <= NODE_ITEMS_MAX
            }
            Node::Inner { level, children } => {
                children.windows(2).all(|w| w[0].last < w[1].first)
                    && children.iter().all(|c| c.first <= c.last)
                    && (1..=NODE_LEVELS_MAX).contains(level)
                    && (1..=NODE_ITEMS_MAX).contains(&children.len())
            }
        };
        ascending.then_some(node).ok_or_else(|| bad("its names are not in order"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EntryKind, Metadata, Stamp};
    use super::*;

    fn leaf(names: &[&[u8]]) -> Node {
        let entry = |name: &&[u8]| Entry {
            name: name.to_vec(),
            meta: Metadata::default(),
            kind: EntryKind::Fifo,
            stamp: Stamp::default(),
        };
        Node::Leaf(names.iter().map(entry).collect())
    }

    #[test]
    fn a_node_is_read_back_and_a_hostile_one_refused() {
        let id = ChunkId([0; 32]);
        let decode = |node: &Node| Node::decode(&id, &node.encode());
        let node = leaf(&[b"a", b"b"]);
        assert_eq!(decode(&node).unwrap(), node);
        for names in [&[&b"b"[..], b"a"][..], &[b"a", b"a"], &[b".."], &[b"a/b"]] {
            assert!(decode(&leaf(names)).is_err(), "{names:?}");
        }
        let mut longer = node.encode();
        longer.push(0);
        assert!(Node::decode(&id, &longer).is_err());
    }
}
