//! Names of objects: an area and a leaf, nothing else ever reaches a store.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest leaf a repository uses.
pub const LEAF_CHARS_MAX: usize = 96;

/// The folders of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Area {
    /// The chain of signed records.
    Chain,
    /// Data keys, wrapped for their recipients.
    Keys,
    /// Chunks, many to an object.
    Packs,
    /// Where each chunk lies.
    Index,
    /// Pieces of databases' logs.
    Wal,
    /// Objects of the safety self-test; empty otherwise.
    Probe,
}

impl Area {
    /// Every area, in the order in which a listing reads them.
    pub const ALL: [Area; 6] =
        [Area::Chain, Area::Keys, Area::Packs, Area::Index, Area::Wal, Area::Probe];

    /// The folder's name.
    pub fn folder(self) -> &'static str {
        match self {
            Area::Chain => "chain",
            Area::Keys => "keys",
            Area::Packs => "packs",
            Area::Index => "index",
            Area::Wal => "wal",
            Area::Probe => "probe",
        }
    }
}

/// A checked object name, `area/leaf`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct ObjectName {
    area: Area,
    leaf: String,
}

/// A name as a record says it. A record can be an enemy's: what it names is removed by a cleanup,
/// so that a leaf with a path in it would remove any file.
#[derive(Deserialize)]
#[serde(rename = "ObjectName")]
struct Unchecked {
    area: Area,
    leaf: String,
}

impl TryFrom<Unchecked> for ObjectName {
    type Error = &'static str;
    fn try_from(name: Unchecked) -> Result<ObjectName, &'static str> {
        ObjectName::new(name.area, &name.leaf).ok_or("an object has no such name")
    }
}

impl ObjectName {
    /// Makes a name, or nothing where the leaf holds anything but `0-9`, `a-z` and `-`.
    pub fn new(area: Area, leaf: &str) -> Option<ObjectName> {
        let fits = !leaf.is_empty() && leaf.len() <= LEAF_CHARS_MAX;
        let plain = leaf.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b'-');
        (fits && plain).then(|| ObjectName { area, leaf: leaf.to_owned() })
    }

    /// The name of an object that has a random identity.
    pub fn of_id(area: Area, id: &ObjectId) -> ObjectName {
        ObjectName { area, leaf: id.to_string() }
    }

    /// The name of record `seq`: twenty digits, so that listings sort.
    pub fn of_record(seq: u64) -> ObjectName {
        ObjectName { area: Area::Chain, leaf: format!("{seq:020}") }
    }

    /// The record's number, where this names one.
    pub fn record_seq(&self) -> Option<u64> {
        (self.area == Area::Chain && self.leaf.len() == 20).then(|| self.leaf.parse().ok())?
    }

    /// The identity, where this names a pack or an index segment.
    pub fn id(&self) -> Option<ObjectId> {
        matches!(self.area, Area::Packs | Area::Index).then(|| ObjectId::parse(&self.leaf))?
    }

    /// The area.
    pub fn area(&self) -> Area {
        self.area
    }

    /// The leaf.
    pub fn leaf(&self) -> &str {
        &self.leaf
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.area.folder(), self.leaf)
    }
}

/// The random identity of a pack or an index segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId(pub [u8; 16]);

impl ObjectId {
    /// A new identity from the kernel's generator.
    pub fn random() -> ObjectId {
        ObjectId(crate::random::bytes())
    }

    /// Reads 32 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<ObjectId> {
        crate::hex::decode_array(text).map(ObjectId)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::hex::encode(&self.0))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_do_not_exist() {
        for leaf in ["", "..", "a/b", "a\\b", "A", "a.b", "a\0", &"a".repeat(97)] {
            assert!(ObjectName::new(Area::Packs, leaf).is_none(), "{leaf:?}");
        }
        assert!(ObjectName::new(Area::Keys, "00ff-1").is_some());
    }

    #[test]
    fn a_record_cannot_name_what_lies_outside_the_repository() {
        let read = |leaf: &str| {
            let bytes = postcard::to_allocvec(&(Area::Packs, leaf)).unwrap();
            postcard::from_bytes::<ObjectName>(&bytes).ok()
        };
        let name = ObjectName::new(Area::Packs, "00ff").unwrap();
        assert_eq!(read("00ff"), Some(name.clone()));
        let bytes = postcard::to_allocvec(&name).unwrap();
        assert_eq!(postcard::from_bytes(&bytes), Ok(name));
        for leaf in ["../../victim", "/etc/passwd", "..", "", "a/b", &"a".repeat(97)] {
            assert_eq!(read(leaf), None, "{leaf:?}");
        }
    }

    #[test]
    fn record_names_sort_as_their_numbers() {
        let names: Vec<String> =
            [0, 9, 10, u64::MAX].iter().map(|s| ObjectName::of_record(*s).to_string()).collect();
        assert!(names.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(ObjectName::of_record(77).record_seq(), Some(77));
    }
}
