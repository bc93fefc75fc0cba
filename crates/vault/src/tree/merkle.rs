//! Merkle trees over the items of one group, after RFC 6962 with BLAKE3: a leaf and an inner
//! node are hashed under different prefixes, and the tree splits at the largest power of two.
//! A group's root also covers its level and the number of its items.

use serde::{Deserialize, Serialize};

const GROUP_CONTEXT: &[u8] = b"backstay vault v1 group\0";

/// That an item is in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupProof {
    /// 0 for groups of entries, one more for each level of groups above.
    pub level: u8,
    /// The item's place.
    pub index: u32,
    /// How many items there are.
    pub count: u32,
    /// The hashes beside the way up, lowest first.
    pub siblings: Vec<[u8; 32]>,
}

/// The root of a group of items, given as hashes.
pub fn group_root(level: u8, items: &[[u8; 32]]) -> [u8; 32] {
    seal(level, items.len() as u32, &tree_hash(items))
}

fn seal(level: u8, count: u32, tree: &[u8; 32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(GROUP_CONTEXT).update(&[level]).update(&count.to_le_bytes()).update(tree);
    *hasher.finalize().as_bytes()
}

fn leaf(item: &[u8; 32]) -> [u8; 32] {
    let mut message = [0; 33];
    message[1..].copy_from_slice(item);
    *blake3::hash(&message).as_bytes()
}

fn inner(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut message = [1; 65];
    message[1..33].copy_from_slice(left);
    message[33..].copy_from_slice(right);
    *blake3::hash(&message).as_bytes()
}

/// The largest power of two below `count`, for `count` of at least two.
fn split(count: usize) -> usize {
    1 << (usize::BITS - 1 - (count - 1).leading_zeros())
}

fn tree_hash(items: &[[u8; 32]]) -> [u8; 32] {
    match items {
        [] => *blake3::hash(&[]).as_bytes(),
        [item] => leaf(item),
        _ => {
            let (left, right) = items.split_at(split(items.len()));
            inner(&tree_hash(left), &tree_hash(right))
        }
    }
}

/// Proves that item `index` is in the group.
pub fn prove_in_group(level: u8, items: &[[u8; 32]], index: usize) -> GroupProof {
    let mut siblings = Vec::new();
    let (mut slice, mut at) = (items, index);
    while slice.len() > 1 {
        let (left, right) = slice.split_at(split(slice.len()));
        if at < left.len() {
            siblings.push(tree_hash(right));
            slice = left;
        } else {
            siblings.push(tree_hash(left));
            at -= left.len();
            slice = right;
        }
    }
    siblings.reverse();
    GroupProof { level, index: index as u32, count: items.len() as u32, siblings }
}

impl GroupProof {
    /// The group's root if `item` is where the proof says, or nothing where the proof has
    /// another shape.
    pub fn root_with(&self, item: &[u8; 32]) -> Option<[u8; 32]> {
        if self.index >= self.count {
            return None;
        }
        // The turns from the top down: whether the item is on the right at each split.
        let (mut count, mut at) = (self.count as usize, self.index as usize);
        let mut turns = Vec::new();
        while count > 1 {
            let left = split(count);
            turns.push(at >= left);
            if at >= left {
                at -= left;
                count -= left;
            } else {
                count = left;
            }
        }
        if turns.len() != self.siblings.len() {
            return None;
        }
        let steps = self.siblings.iter().zip(turns.iter().rev());
        let tree = steps.fold(leaf(item), |hash, (sibling, on_the_right)| {
            if *on_the_right { inner(sibling, &hash) } else { inner(&hash, sibling) }
        });
        Some(seal(self.level, self.count, &tree))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_of_every_group_is_proven_and_no_other() {
        for count in 1..40usize {
            let items: Vec<[u8; 32]> =
                (0..count).map(|i| *blake3::hash(&[i as u8]).as_bytes()).collect();
            let root = group_root(2, &items);
            for index in 0..count {
                let proof = prove_in_group(2, &items, index);
                assert_eq!(proof.root_with(&items[index]), Some(root));
                let other = items[(index + 1) % count];
                assert!(count == 1 || proof.root_with(&other) != Some(root));
                let moved =
                    GroupProof { index: (index as u32 + 1) % count as u32, ..proof.clone() };
                assert!(count == 1 || moved.root_with(&items[index]) != Some(root));
                let raised = GroupProof { level: 3, ..proof.clone() };
                assert_ne!(raised.root_with(&items[index]), Some(root));
            }
        }
    }
}
