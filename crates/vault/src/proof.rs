//! Inclusion proofs: that a file was in a backup, for someone who has neither the repository
//! nor its keys and knows only the key that signs.

use crate::blobs::Blobs;
use crate::chain::{Backup, Statement, Subject, verify_statement};
use crate::error::{Result, VaultError};
use crate::repository::Repository;
use crate::tree::{
    Entry, EntryKind, GroupProof, Node, NodeRef, NodeSource, canonical, entry_hash, find_path,
    parse_canonical, prove_in_group,
};
use serde::{Deserialize, Serialize};

/// What the first field of a proof says.
pub const PROOF_FORMAT: &str = "backstay vault proof 1";
/// Levels that a proof may have: a path of 4096 bytes, and groups within each directory.
const STEPS_MAX: usize = 4096;
const GROUPS_MAX: usize = 64;

/// A proof, as it is written to a JSON file. Byte strings are hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// [`PROOF_FORMAT`].
    pub format: String,
    /// The signed statement, as the chain has it.
    pub statement: String,
    /// The signature.
    pub signature: String,
    /// The key that signed.
    pub key: String,
    /// From the file up to the top of the backup.
    pub steps: Vec<ProofStep>,
}

/// One entry on the way up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofStep {
    /// The canonical bytes of the entry.
    pub entry: String,
    /// That it is in its directory: lowest group first; none for the top.
    pub groups: Vec<GroupProof>,
}

/// What a valid proof proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The path below the top of the backup.
    pub path: Vec<u8>,
    /// The file's length.
    pub size_bytes: u64,
    /// BLAKE3 of its contents.
    pub hash: [u8; 32],
    /// The statement that was signed.
    pub statement: Statement,
    /// Its part about the backup.
    pub subject: Subject,
    /// The key that signed: whether to trust it is the reader's decision.
    pub key: [u8; 32],
}

/// Proves that the file at `path` is in the backup.
///
/// # Errors
/// Where it is not, is no file, or a node on the way is lost.
pub fn prove(repository: &Repository, blobs: &Blobs, seq: u64, path: &[u8]) -> Result<Proof> {
    let backup = repository.state().backups.get(&seq);
    let backup: &Backup =
        backup.ok_or_else(|| VaultError::NotFound(format!("there is no backup {seq}")))?;
    let mut names: Vec<&[u8]> = parts(path);
    let entry = find_path(blobs, &backup.top, path)?;
    let target;
    if let EntryKind::HardLink { target: first } = &entry.kind {
        // The contents belong to the first name.
        target = first.clone();
        names = parts(&target);
    }
    let mut steps =
        vec![ProofStep { entry: crate::hex::encode(&canonical(&backup.top)), groups: Vec::new() }];
    let mut at = backup.top.clone();
    for name in names {
        let EntryKind::Directory { node, .. } = &at.kind else {
            return Err(VaultError::NotFound("a part of the path is no directory".to_owned()));
        };
        let (entry, groups) = find_with_groups(blobs, node, name)?;
        steps.push(ProofStep { entry: crate::hex::encode(&canonical(&entry)), groups });
        at = entry;
    }
    if !matches!(at.kind, EntryKind::File { .. }) {
        let path = String::from_utf8_lossy(path);
        return Err(VaultError::Refused(format!("`{path}` is no file: only files are proven")));
    }
    steps.reverse();
    let chain = repository.chain();
    let (statement, signature, key) =
        chain.signed(&**repository.store(), repository.ring(), seq)?;
    Ok(Proof {
        format: PROOF_FORMAT.to_owned(),
        statement: crate::hex::encode(&statement),
        signature: crate::hex::encode(&signature),
        key: crate::hex::encode(&key),
        steps,
    })
}

fn parts(path: &[u8]) -> Vec<&[u8]> {
    path.split(|b| *b == b'/').filter(|n| !n.is_empty() && *n != b".").collect()
}

fn find_with_groups(
    source: &dyn NodeSource,
    node: &NodeRef,
    name: &[u8],
) -> Result<(Entry, Vec<GroupProof>)> {
    let mut id = node.id;
    let mut groups = Vec::new();
    let absent = || {
        let name = String::from_utf8_lossy(name);
        VaultError::NotFound(format!("the backup holds no `{name}` there"))
    };
    loop {
        let node = Node::decode(&id, &source.node_bytes(&id)?)?;
        let (items, level) = (node.items(), node.level());
        match node {
            Node::Leaf(mut entries) => {
                let found = entries.binary_search_by(|e| e.name.as_slice().cmp(name));
                let index = found.map_err(|_| absent())?;
                groups.push(prove_in_group(level, &items, index));
                groups.reverse();
                return Ok((entries.swap_remove(index), groups));
            }
            Node::Inner { children, .. } => {
                let index = children.partition_point(|c| c.last.as_slice() < name);
                let child = children.get(index).ok_or_else(absent)?;
                groups.push(prove_in_group(level, &items, index));
                id = child.id;
            }
        }
    }
}

impl Proof {
    /// Checks the proof; nothing but its own bytes is needed.
    ///
    /// # Errors
    /// Saying which part does not hold.
    pub fn check(&self) -> Result<Proven> {
        let bad = |what: &str| VaultError::Refused(format!("the proof does not hold: {what}"));
        let hex =
            |text: &str| crate::hex::decode(text).ok_or_else(|| bad("a field is not hexadecimal"));
        if self.format != PROOF_FORMAT || self.steps.len() > STEPS_MAX {
            return Err(bad("it has another format"));
        }
        let key: [u8; 32] = hex(&self.key)?.try_into().map_err(|_| bad("the key is no key"))?;
        let statement = verify_statement(&key, &hex(&self.statement)?, &hex(&self.signature)?)
            .ok_or_else(|| bad("the signature is not the key's over this statement"))?;
        let subject = statement.subject.clone();
        let subject = subject.ok_or_else(|| bad("the statement is about no backup"))?;
        let mut below: Option<[u8; 32]> = None;
        let mut path: Vec<Vec<u8>> = Vec::new();
        let mut file = None;
        for (number, step) in self.steps.iter().enumerate() {
            let bytes = hex(&step.entry)?;
            let entry = parse_canonical(&bytes).ok_or_else(|| bad("an entry is malformed"))?;
            if let Some(root) = below {
                let is_parent = entry.kind == 2 && entry.root == Some(root);
                if !is_parent {
                    return Err(bad("an entry is not in the directory above it"));
                }
            } else if entry.kind != 1 {
                return Err(bad("it is about no file"));
            } else {
                file = entry.size_bytes.zip(entry.root);
            }
            let is_top = number + 1 == self.steps.len();
            if is_top != step.groups.is_empty() || step.groups.len() > GROUPS_MAX {
                return Err(bad("a step is missing"));
            }
            let mut hash = entry_hash(&bytes);
            for (level, group) in step.groups.iter().enumerate() {
                if usize::from(group.level) != level {
                    return Err(bad("its levels are not in order"));
                }
                hash = group.root_with(&hash).ok_or_else(|| bad("a group has another shape"))?;
            }
            if !is_top {
                path.push(entry.name);
            }
            below = Some(hash);
        }
        if below != Some(subject.root) {
            return Err(bad("it leads to another root than was signed"));
        }
        let (size_bytes, hash) = file.ok_or_else(|| bad("it is about no file"))?;
        path.reverse();
        Ok(Proven { path: path.join(&b'/'), size_bytes, hash, statement, subject, key })
    }
}
