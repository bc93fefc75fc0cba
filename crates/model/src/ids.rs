//! Names and numbers that identify things.

use alloc::string::String;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize, Serializer};
use smol_str::SmolStr;

/// Longest node or resource name, in bytes. Names appear in file names, cgroup names and
/// certificates, so they are short and plain.
pub const NAME_MAX: usize = 63;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// It has no characters.
    Empty,
    /// It has more than [`NAME_MAX`] bytes.
    TooLong,
    /// It begins with something else than a letter or digit, or contains something else than
    /// `a-z`, `0-9`, `-`, `_` or `.`.
    Character(char),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => write!(f, "a name can't be empty"),
            NameError::TooLong => write!(f, "a name has at most {NAME_MAX} characters"),
            NameError::Character(c) => write!(
                f,
                "a name starts with a-z or 0-9 and goes on with a-z, 0-9, '-', '_' or '.'; \
                 {c:?} is none of them"
            ),
        }
    }
}

impl core::error::Error for NameError {}

fn check_name(name: &str) -> Result<(), NameError> {
    if name.len() > NAME_MAX {
        return Err(NameError::TooLong);
    }
    let mut chars = name.chars();
    let first = chars.next().ok_or(NameError::Empty)?;
    if !(first.is_ascii_lowercase() || first.is_ascii_digit()) {
        return Err(NameError::Character(first));
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    match chars.find(|c| !plain(*c)) {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(()),
    }
}

/// The first bytes of a name as a number that sorts as they do. Names have no zero bytes, so one
/// that ends with a zero byte is all of its name.
fn head(name: &str) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    u64::from_be_bytes(bytes)
}

/// Whether names with this head are the same because their heads are.
const fn is_whole(head: u64) -> bool {
    head & 0xff == 0
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Deserialize)]
        #[serde(try_from = "SmolStr")]
        pub struct $name {
            /// Names are the keys of most maps: comparing them is mostly comparing this.
            head: u64,
            text: SmolStr,
        }

        impl $name {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// [`NameError`] where the name is empty, too long or has a character that is not
            /// allowed.
            pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
                let name = name.as_ref();
                check_name(name)?;
                Ok(Self { head: head(name), text: SmolStr::new(name) })
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.text
            }
        }

        impl PartialEq for $name {
            #[inline]
            fn eq(&self, other: &Self) -> bool {
                self.head == other.head && (is_whole(self.head) || self.text == other.text)
            }
        }

        impl Eq for $name {}

        impl Ord for $name {
            #[inline]
            fn cmp(&self, other: &Self) -> Ordering {
                match self.head.cmp(&other.head) {
                    Ordering::Equal if !is_whole(self.head) => self.text.cmp(&other.text),
                    decided => decided,
                }
            }
        }

        impl PartialOrd for $name {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, hasher: &mut H) {
                self.text.hash(hasher);
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl TryFrom<SmolStr> for $name {
            type Error = NameError;
            fn try_from(name: SmolStr) -> Result<Self, NameError> {
                check_name(&name)?;
                Ok(Self { head: head(&name), text: name })
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl core::str::FromStr for $name {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.text.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.text)
            }
        }
    };
}

name_type! {
    /// A node's name, as `cluster.toml` says it. It outlives disks and incarnations.
    NodeName
}
name_type! {
    /// A resource's name, as `cluster.toml` says it.
    ResourceName
}

/// One incarnation of a node in the log: Raft's id. A node that lost its disk comes back under a
/// new one, and no id is ever used twice (the Raft library corrupts its progress tracking where a
/// removed id returns in the same term).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct ReplicaId(pub u64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Our fencing token (DESIGN.md, rule 9): one higher for every new holder of a resource. The
/// generation rises when the control state was restored or quorum overridden, and beats every
/// counter of the generations before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct Epoch {
    /// Rises with quorum-loss override and restore.
    pub generation: u64,
    /// Rises with every new holder.
    pub counter: u64,
}

impl Epoch {
    /// The epoch for the next holder in the same generation.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch { generation: self.generation, counter: self.counter + 1 }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.counter)
    }
}

impl core::str::FromStr for Epoch {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "an epoch is written generation.counter, such as 1.42";
        let (generation, counter) = text.split_once('.').ok_or(wrong)?;
        Ok(Epoch {
            generation: generation.parse().map_err(|_| wrong)?,
            counter: counter.parse().map_err(|_| wrong)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "order-gateway", "db_1.ldn", "0"] {
            assert!(NodeName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a b", "a/b", "é"] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
        assert_eq!(ResourceName::new("x".repeat(NAME_MAX + 1)), Err(NameError::TooLong));
    }

    #[test]
    fn names_sort_as_their_text_does() {
        let longest = "x".repeat(NAME_MAX);
        let texts = [
            "0",
            "a",
            "a-b",
            "ab",
            "abcdefg",
            "abcdefgh",
            "abcdefgh-",
            "abcdefgha",
            "abcdefghb",
            "abcdefgi",
            "b",
            &longest,
        ];
        for one in texts {
            for other in texts {
                let (a, b) = (NodeName::new(one).unwrap(), NodeName::new(other).unwrap());
                assert_eq!((a.cmp(&b), a == b), (one.cmp(other), one == other), "{one} {other}");
            }
        }
    }

    #[test]
    fn a_later_generation_beats_every_counter() {
        let old = Epoch { generation: 1, counter: 900 };
        let new = Epoch { generation: 2, counter: 0 };
        assert!(new > old);
        assert_eq!("1.900".parse(), Ok(old));
        assert!("1".parse::<Epoch>().is_err());
    }
}
