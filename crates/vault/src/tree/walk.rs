//! Walks a stored tree: every node is checked against the Merkle root that led to it.

use super::{Child, Content, Entry, EntryKind, Node, NodeRef};
use crate::chunk::ChunkId;
use crate::error::{Result, VaultError};

/// Directories within directories.
pub const DEPTH_MAX: usize = 1024;

/// Gives the plain bytes of node chunks.
pub trait NodeSource {
    /// The node's bytes.
    ///
    /// # Errors
    /// Where the chunk is missing or damaged.
    fn node_bytes(&self, id: &ChunkId) -> Result<Vec<u8>>;
}

/// Reads a node and checks its root.
fn read_node(source: &dyn NodeSource, id: &ChunkId, root: &[u8; 32]) -> Result<Node> {
    let node = Node::decode(id, &source.node_bytes(id)?)?;
    if node.root() == *root {
        return Ok(node);
    }
    let what = "its contents have another Merkle root than was signed".to_owned();
    Err(VaultError::Damaged { object: format!("directory node {id}"), what })
}

/// Iterates over the entries of one directory, a node at a time.
pub struct Children<'a> {
    source: &'a dyn NodeSource,
    stack: Vec<std::vec::IntoIter<Child>>,
    entries: std::vec::IntoIter<Entry>,
    first: Option<(ChunkId, [u8; 32])>,
}

/// The entries of a directory, in order.
pub fn children<'a>(source: &'a dyn NodeSource, node: &NodeRef) -> Children<'a> {
    let first = Some((node.id, node.root));
    Children { source, stack: Vec::new(), entries: Vec::new().into_iter(), first }
}

impl Children<'_> {
    fn open(&mut self, id: &ChunkId, root: &[u8; 32]) -> Result<()> {
        match read_node(self.source, id, root)? {
            Node::Leaf(entries) => self.entries = entries.into_iter(),
            Node::Inner { children, .. } => self.stack.push(children.into_iter()),
        }
        Ok(())
    }
}

impl Iterator for Children<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Some(Ok(entry));
            }
            let next = match self.first.take() {
                Some(first) => first,
                None => {
                    let group = self.stack.last_mut()?;
                    match group.next() {
                        Some(child) => (child.id, child.root),
                        None => {
                            self.stack.pop();
                            continue;
                        }
                    }
                }
            };
            // A damaged group is one error; the groups after it are still given.
            if let Err(error) = self.open(&next.0, &next.1) {
                return Some(Err(error));
            }
        }
    }
}

/// The entry of this name, reading one node a level.
///
/// # Errors
/// Where a node on the way is missing or damaged.
pub fn find_child(source: &dyn NodeSource, node: &NodeRef, name: &[u8]) -> Result<Option<Entry>> {
    let (mut id, mut root) = (node.id, node.root);
    loop {
        match read_node(source, &id, &root)? {
            Node::Leaf(mut entries) => {
                let found = entries.binary_search_by(|e| e.name.as_slice().cmp(name));
                return Ok(found.ok().map(|at| entries.swap_remove(at)));
            }
            Node::Inner { children, .. } => {
                let at = children.partition_point(|c| c.last.as_slice() < name);
                let Some(child) = children.get(at).filter(|c| c.first.as_slice() <= name) else {
                    return Ok(None);
                };
                (id, root) = (child.id, child.root);
            }
        }
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// A path as the backup has it: without a slash at the ends, and without `.`.
pub(crate) fn plain_path(path: &[u8]) -> Vec<u8> {
    names(path).collect::<Vec<_>>().join(&b'/')
}

/// What is left of a plain path below another one; none where it is not below it.
pub(crate) fn below<'p>(path: &'p [u8], base: &[u8]) -> Option<&'p [u8]> {
    match base.is_empty() {
        true => Some(path),
        false => path.strip_prefix(base)?.strip_prefix(b"/"),
    }
}

/// The entry at a path below `top`; an empty path is the top itself.
///
/// # Errors
/// Where a node on the way is missing or damaged, or nothing has this path.
pub fn find_path(source: &dyn NodeSource, top: &Entry, path: &[u8]) -> Result<Entry> {
    let mut entry = top.clone();
    for name in names(path) {
        let found = match &entry.kind {
            EntryKind::Directory { node, .. } => find_child(source, node, name)?,
            _ => None,
        };
        entry = found.ok_or_else(|| {
            let path = String::from_utf8_lossy(path);
            VaultError::NotFound(format!("the backup holds nothing at `{path}`"))
        })?;
    }
    Ok(entry)
}

/// One step of a walk.
#[derive(Debug)]
pub enum Step {
    /// An entry; a directory's contents follow.
    Entry {
        /// Its path below the top.
        path: Vec<u8>,
        /// It.
        entry: Box<Entry>,
    },
    /// The directory of this path is complete.
    Leave {
        /// Its path.
        path: Vec<u8>,
        /// It.
        entry: Box<Entry>,
    },
    /// A part below this path cannot be read.
    Lost {
        /// The directory's path.
        path: Vec<u8>,
        /// Why.
        error: VaultError,
    },
}

/// Walks everything below an entry, parents first, names in order.
pub struct Walk<'a> {
    source: &'a dyn NodeSource,
    open: Vec<(Vec<u8>, Box<Entry>, Children<'a>)>,
    start: Option<(Vec<u8>, Box<Entry>)>,
    may_skip: bool,
}

impl<'a> Walk<'a> {
    /// Begins at `entry`, which has this path.
    pub fn new(source: &'a dyn NodeSource, path: &[u8], entry: &Entry) -> Walk<'a> {
        let start = Some((path.to_vec(), Box::new(entry.clone())));
        Walk { source, open: Vec::new(), start, may_skip: false }
    }

    /// Leaves out the contents of the directory just given, and its [`Step::Leave`].
    pub fn skip_contents(&mut self) {
        if std::mem::take(&mut self.may_skip) {
            self.open.pop();
        }
    }

    fn enter(&mut self, path: Vec<u8>, entry: Box<Entry>) -> Step {
        if let EntryKind::Directory { node, .. } = &entry.kind {
            if self.open.len() >= DEPTH_MAX {
                let what = "the depth of directories".to_owned();
                let error = VaultError::Limit { what, limit: DEPTH_MAX as u64 };
                return Step::Lost { path, error };
            }
            let inside = children(self.source, node);
            self.open.push((path.clone(), entry.clone(), inside));
            self.may_skip = true;
        }
        Step::Entry { path, entry }
    }
}

/// `parent/name`, or the name alone at the top.
pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

impl Iterator for Walk<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if let Some((path, entry)) = self.start.take() {
            return Some(self.enter(path, entry));
        }
        self.may_skip = false;
        let (path, _, inside) = self.open.last_mut()?;
        match inside.next() {
            Some(Ok(entry)) => {
                let path = join(path, &entry.name);
                Some(self.enter(path, Box::new(entry)))
            }
            Some(Err(error)) => Some(Step::Lost { path: path.clone(), error }),
            None => {
                let (path, entry, _) = self.open.pop()?;
                Some(Step::Leave { path, entry })
            }
        }
    }
}

impl Content {
    /// The extent lists' chunks, where there are any.
    pub fn lists(&self) -> &[ChunkId] {
        match self {
            Content::Inline(_) => &[],
            Content::Lists(ids) => ids,
        }
    }
}
