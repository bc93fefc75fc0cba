//! Builds a directory's listing from its entries in order, holding one group a level.

use super::node::NODE_LEVELS_MAX;
use super::{Child, Entry, Node, NodeRef, Totals, canonical, ends_group, entry_hash, group_root};
use crate::chunk::ChunkId;
use crate::error::{Result, VaultError};

/// Takes finished nodes; storing or only hashing them.
pub trait NodeSink {
    /// Takes a node and returns its chunk.
    ///
    /// # Errors
    /// Where it cannot be kept.
    fn take_node(&mut self, node: &Node) -> Result<ChunkId>;
}

/// A directory in the making.
#[derive(Default)]
pub struct DirectoryBuilder {
    entries: Vec<Entry>,
    hashes: Vec<[u8; 32]>,
    levels: Vec<Vec<Child>>,
    totals: Totals,
    last: Vec<u8>,
}

impl DirectoryBuilder {
    /// An empty directory.
    pub fn new() -> DirectoryBuilder {
        DirectoryBuilder::default()
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// Where its name does not come after the one before, or a node cannot be kept.
    pub fn push(&mut self, entry: Entry, sink: &mut dyn NodeSink) -> Result<()> {
        if !self.last.is_empty() && entry.name <= self.last {
            let name = String::from_utf8_lossy(&entry.name);
            return Err(VaultError::Refused(format!("the directory lists `{name}` twice")));
        }
        self.last.clone_from(&entry.name);
        self.totals.add(&entry);
        self.hashes.push(entry_hash(&canonical(&entry)));
        self.entries.push(entry);
        if ends_group(0, &self.last, self.entries.len()) {
            let child = self.close_leaf(sink)?;
            self.push_child(0, child, sink)?;
        }
        Ok(())
    }

    fn close_leaf(&mut self, sink: &mut dyn NodeSink) -> Result<Child> {
        let entries = std::mem::take(&mut self.entries);
        let root = group_root(0, &self.hashes);
        self.hashes.clear();
        let name = |entry: Option<&Entry>| entry.map_or(Vec::new(), |e| e.name.clone());
        let (first, last) = (name(entries.first()), name(entries.last()));
        let id = sink.take_node(&Node::Leaf(entries))?;
        Ok(Child { first, last, id, root })
    }

    /// Adds a child to `levels[below]`, which holds groups of level `below + 1`.
    fn push_child(&mut self, below: usize, child: Child, sink: &mut dyn NodeSink) -> Result<()> {
        if self.levels.len() <= below {
            self.levels.push(Vec::new());
        }
        let level = below as u8 + 1;
        if level > NODE_LEVELS_MAX {
            let what = "the number of entries of a directory".to_owned();
            return Err(VaultError::Limit { what, limit: u64::from(NODE_LEVELS_MAX) });
        }
        let ends = ends_group(level, &child.last, self.levels[below].len() + 1);
        self.levels[below].push(child);
        if ends {
            let child = self.close_level(below, sink)?;
            self.push_child(below + 1, child, sink)?;
        }
        Ok(())
    }

    fn close_level(&mut self, below: usize, sink: &mut dyn NodeSink) -> Result<Child> {
        let children = std::mem::take(&mut self.levels[below]);
        let first = children.first().map_or(Vec::new(), |c| c.first.clone());
        let last = children.last().map_or(Vec::new(), |c| c.last.clone());
        let node = Node::Inner { level: below as u8 + 1, children };
        let root = node.root();
        let id = sink.take_node(&node)?;
        Ok(Child { first, last, id, root })
    }

    /// Closes what is open: one node is left at the top.
    ///
    /// # Errors
    /// Where a node cannot be kept.
    pub fn finish(mut self, sink: &mut dyn NodeSink) -> Result<(NodeRef, Totals)> {
        if !self.entries.is_empty() || self.levels.is_empty() {
            let child = self.close_leaf(sink)?;
            self.push_child(0, child, sink)?;
        }
        let mut below = 0;
        loop {
            let is_top = below + 1 == self.levels.len();
            match self.levels[below].len() {
                1 if is_top => {
                    let top = &self.levels[below][0];
                    return Ok((NodeRef { id: top.id, root: top.root }, self.totals));
                }
                0 => {}
                _ => {
                    let child = self.close_level(below, sink)?;
                    self.push_child(below + 1, child, sink)?;
                }
            }
            below += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EntryKind, Metadata, Stamp};
    use super::*;
    use std::collections::BTreeMap;

    struct Nodes(BTreeMap<ChunkId, Node>);

    impl NodeSink for Nodes {
        fn take_node(&mut self, node: &Node) -> Result<ChunkId> {
            let id = ChunkId(*blake3::hash(&node.encode()).as_bytes());
            self.0.insert(id, node.clone());
            Ok(id)
        }
    }

    fn entry(n: u32) -> Entry {
        Entry {
            name: format!("{n:08}").into_bytes(),
            meta: Metadata::default(),
            kind: EntryKind::Fifo,
            stamp: Stamp::default(),
        }
    }

    fn build(numbers: impl Iterator<Item = u32>, nodes: &mut Nodes) -> (NodeRef, Totals) {
        let mut builder = DirectoryBuilder::new();
        numbers.for_each(|n| builder.push(entry(n), nodes).unwrap());
        builder.finish(nodes).unwrap()
    }

    fn collect(nodes: &Nodes, id: &ChunkId, root: &[u8; 32], out: &mut Vec<Vec<u8>>) {
        let node = &nodes.0[id];
        assert_eq!(node.root(), *root);
        match node {
            Node::Leaf(entries) => out.extend(entries.iter().map(|e| e.name.clone())),
            Node::Inner { children, .. } => {
                children.iter().for_each(|c| collect(nodes, &c.id, &c.root, out));
            }
        }
    }

    #[test]
    fn listings_of_every_size_hold_their_entries_in_order() {
        for count in [0, 1, 2, 255, 1000, 5000, 70_000] {
            let mut nodes = Nodes(BTreeMap::new());
            let (node, totals) = build(0..count, &mut nodes);
            assert_eq!(totals.files, u64::from(count));
            let mut names = Vec::new();
            collect(&nodes, &node.id, &node.root, &mut names);
            let expect: Vec<Vec<u8>> = (0..count).map(|n| entry(n).name).collect();
            assert_eq!(names, expect, "{count}");
        }
    }

    #[test]
    fn one_more_entry_changes_few_nodes() {
        let mut nodes = Nodes(BTreeMap::new());
        build((0..50_000).filter(|n| *n != 25_000), &mut nodes);
        let before = nodes.0.len();
        build(0..50_000, &mut nodes);
        assert!(nodes.0.len() - before <= 6, "{} new nodes", nodes.0.len() - before);
    }
}
