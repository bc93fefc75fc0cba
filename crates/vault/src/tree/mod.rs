//! What a backup holds: directories, their entries, and one Merkle root over all of it.

mod builder;
mod canonical;
mod entry;
mod extents;
mod merkle;
mod node;
mod walk;

pub use builder::{DirectoryBuilder, NodeSink};
pub use canonical::{CanonicalEntry, canonical, entry_hash, parse_canonical};
pub use entry::{
    Content, EXTENTS_INLINE_MAX, EXTENTS_LIST_MAX, Entry, EntryKind, Extent, Metadata,
    NAME_BYTES_MAX, NodeRef, PATH_BYTES_MAX, Stamp, Totals, XATTRS_MAX,
};
pub use extents::{each_extents, read_extents};
pub use merkle::{GroupProof, group_root, prove_in_group};
pub use node::{Child, NODE_ITEMS_MAX, NODE_LEVELS_MAX, Node, ends_group};
pub use walk::{Children, DEPTH_MAX, NodeSource, Step, Walk, children, find_child, find_path};
pub(crate) use walk::{below, join, plain_path};
