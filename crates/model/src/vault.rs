//! What the cluster remembers of the vault's repositories: how far each one's chain of records
//! had come, who said so, and what there is of each source.
//!
//! Whoever removes the newest backup leaves a repository that is whole. A head that a quorum
//! remembers tells; this is the memory, and nothing of the backups themselves.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeName, ResourceName};
use crate::time::ClusterMs;

/// Most repositories that a cluster remembers. One more is refused: to forget a head in silence
/// would be to forget what it guards.
pub const REPOSITORIES_MAX: usize = 16;
/// Most sources remembered per repository. Where one more comes, the one whose newest record is
/// the oldest goes: what guards the repository is the head, which stays.
pub const SOURCES_MAX: usize = 128;
/// Earlier heads kept per repository: a writer that was overtaken is told from one that forks.
pub const EARLIER_MAX: usize = 32;
/// Most forks kept per repository; further ones are counted.
pub const FORKS_MAX: usize = 8;
/// Longest source name, position or machine name, in bytes.
pub const TEXT_MAX: usize = 512;

/// Why a text is no id, digest or head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotHex(&'static str);

impl fmt::Display for NotHex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is not {}", self.0)
    }
}

impl core::error::Error for NotHex {}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

macro_rules! hex_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NotHex;
            fn from_str(text: &str) -> Result<Self, NotHex> {
                decode(text).map($name).ok_or(NotHex($what))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotHex;
            fn try_from(text: String) -> Result<Self, NotHex> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}

hex_type! {
    /// A repository's identity, drawn when it is made; written as 32 hexadecimal digits.
    RepositoryId, 16, "an id of 32 hexadecimal digits"
}
hex_type! {
    /// A hash of 32 bytes; written as 64 hexadecimal digits.
    Digest, 32, "a hash of 64 hexadecimal digits"
}

/// A record of a repository's chain: its number and its hash. Written as `number:hash`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChainHead {
    /// Its number; the first record has 0.
    pub number: u64,
    /// Its hash.
    pub hash: Digest,
}

impl fmt::Display for ChainHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

impl fmt::Debug for ChainHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ChainHead {
    type Err = NotHex;
    fn from_str(text: &str) -> Result<Self, NotHex> {
        let parts = text.split_once(':');
        let parts = parts.and_then(|(number, hash)| Some((number.parse().ok()?, decode(hash)?)));
        let (number, hash) = parts.ok_or(NotHex("a head, such as 42:9f…"))?;
        Ok(ChainHead { number, hash: Digest(hash) })
    }
}

impl TryFrom<String> for ChainHead {
    type Error = NotHex;
    fn try_from(text: String) -> Result<Self, NotHex> {
        text.parse()
    }
}

impl From<ChainHead> for String {
    fn from(head: ChainHead) -> String {
        head.to_string()
    }
}

/// What is remembered of one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainRecord {
    /// The newest record that a writer has linked to the one remembered before.
    pub head: ChainHead,
    /// Who said so: the name in the certificate.
    pub by: String,
    /// Index of the entry.
    pub index: u64,
    /// When, in cluster time.
    pub at: ClusterMs,
    /// When on the wall clock, Unix milliseconds.
    pub wall_ms: u64,
    /// Heads remembered before, oldest first.
    pub earlier: VecDeque<ChainHead>,
    /// What there is of each source.
    pub sources: BTreeMap<String, SourceRecord>,
    /// Records that stand against what is remembered. They stay until an operator names them.
    pub forks: Vec<ForkRecord>,
    /// How many more there were than are kept.
    pub forks_more: u64,
}

/// The newest backup of a source, and the newest that a restore proved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// The newest backup.
    pub newest: Option<BackupRecord>,
    /// The newest proof.
    pub proven: Option<ProofRecord>,
    /// Who said so last.
    pub by: String,
}

/// A backup, as its record in the repository's chain says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRecord {
    /// Number of its record.
    pub number: u64,
    /// The Merkle root over everything in it.
    pub root: Digest,
    /// Where in the source's own history it is: a database's log position; empty for files.
    pub position: String,
    /// The machine that made it.
    pub host: String,
    /// When reading began, by that machine's wall clock, Unix milliseconds.
    pub begun_ms: i64,
    /// When reading ended.
    pub ended_ms: i64,
}

/// A proof by restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofRecord {
    /// Number of the record of the backup that was proven.
    pub number: u64,
    /// When, by the prover's wall clock, Unix milliseconds.
    pub at_ms: i64,
    /// How long the restore took.
    pub took_ms: u64,
}

/// What a writer has to say of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceNews {
    /// Its name in the repository.
    pub source: String,
    /// Its newest backup.
    pub newest: Option<BackupRecord>,
    /// Its newest proof.
    pub proven: Option<ProofRecord>,
}

/// A record that can't be in the chain that is remembered: the repository has two histories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkRecord {
    /// The record that was shown.
    pub found: ChainHead,
    /// The one remembered that it stands against.
    pub known: ChainHead,
    /// Who showed it.
    pub by: String,
    /// Index of the entry.
    pub index: u64,
    /// When, in cluster time.
    pub at: ClusterMs,
    /// When on the wall clock, Unix milliseconds.
    pub wall_ms: u64,
}

/// Where tasks of a resource run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duty {
    /// The resource.
    pub resource: ResourceName,
    /// Where it is active, where it is.
    pub active: Option<NodeName>,
    /// Where it stands by, by turn.
    pub standbys: Vec<NodeName>,
}

/// How a head stands to what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is remembered, as the newest or an earlier one.
    Known,
    /// Its number is higher than all remembered.
    Newer,
    /// Its number is lower and not among those kept: nobody here can tell.
    Unknown,
    /// Another record has that number.
    Against(ChainHead),
}

impl ChainRecord {
    /// How a head stands to what is remembered.
    #[must_use]
    pub fn standing(&self, head: &ChainHead) -> Standing {
        if head.number > self.head.number {
            return Standing::Newer;
        }
        let mut kept = self.earlier.iter().chain([&self.head]);
        match kept.find(|known| known.number == head.number) {
            Some(known) if known == head => Standing::Known,
            Some(known) => Standing::Against(*known),
            None => Standing::Unknown,
        }
    }

    /// Takes over what is newer than what is remembered of a source. Whether anything was.
    pub fn learn(&mut self, news: &SourceNews, by: &str) -> bool {
        if !self.is_news(news) {
            return false;
        }
        let known = self.sources.entry(news.source.clone()).or_default();
        if is_newer(known.newest.as_ref().map(order), news.newest.as_ref().map(order)) {
            known.newest.clone_from(&news.newest);
        }
        if is_newer(known.proven.as_ref().map(proof_order), news.proven.as_ref().map(proof_order)) {
            known.proven.clone_from(&news.proven);
        }
        known.by = by.to_string();
        while self.sources.len() > SOURCES_MAX {
            let age = |source: &SourceRecord| source.newest.as_ref().map(|newest| newest.number);
            let oldest = self.sources.iter().min_by_key(|(_, source)| age(source));
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else { break };
            self.sources.remove(&oldest);
        }
        true
    }

    /// Whether a writer says anything that is newer than what is remembered.
    #[must_use]
    pub fn is_news(&self, news: &SourceNews) -> bool {
        let known = self.sources.get(&news.source);
        let newest = known.and_then(|known| known.newest.as_ref()).map(order);
        let proven = known.and_then(|known| known.proven.as_ref()).map(proof_order);
        is_newer(newest, news.newest.as_ref().map(order))
            || is_newer(proven, news.proven.as_ref().map(proof_order))
    }
}

fn order(backup: &BackupRecord) -> u64 {
    backup.number
}

fn proof_order(proof: &ProofRecord) -> (u64, i64) {
    (proof.number, proof.at_ms)
}

fn is_newer<T: Ord>(known: Option<T>, said: Option<T>) -> bool {
    said.is_some_and(|said| known.is_none_or(|known| said > known))
}

/// Whether what a writer says keeps within the limits.
///
/// # Errors
/// What does not, in words.
pub fn check_news(sources: &[SourceNews]) -> Result<(), &'static str> {
    if sources.len() > SOURCES_MAX {
        return Err("more than 128 sources");
    }
    let too_long = |text: &str| text.len() > TEXT_MAX;
    for news in sources {
        let newest = news.newest.as_ref();
        if too_long(&news.source) || news.source.is_empty() {
            return Err("a source's name is empty or longer than 512 bytes");
        }
        if newest.is_some_and(|newest| too_long(&newest.position) || too_long(&newest.host)) {
            return Err("a position or a machine's name is longer than 512 bytes");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec;

    use super::*;

    fn head(number: u64, byte: u8) -> ChainHead {
        ChainHead { number, hash: Digest([byte; 32]) }
    }

    fn chain() -> ChainRecord {
        ChainRecord {
            head: head(9, 9),
            by: String::from("a"),
            index: 1,
            at: ClusterMs(0),
            wall_ms: 0,
            earlier: VecDeque::from([head(4, 4), head(7, 7)]),
            sources: BTreeMap::new(),
            forks: Vec::new(),
            forks_more: 0,
        }
    }

    fn news(source: &str, number: u64) -> SourceNews {
        let newest = BackupRecord {
            number,
            root: Digest([1; 32]),
            position: String::new(),
            host: String::from("h"),
            begun_ms: 5,
            ended_ms: 6,
        };
        SourceNews { source: source.to_string(), newest: Some(newest), proven: None }
    }

    #[test]
    fn a_head_is_written_and_read_and_nothing_else_is_one() {
        let text = format!("42:{}", "9f".repeat(32));
        let head: ChainHead = text.parse().unwrap();
        assert_eq!((head.number, head.to_string()), (42, text));
        let other = format!("42:{}", "9F".repeat(32));
        for bad in ["", "42", "42:", ":9f", "x:9f", &other, "42:9f"] {
            assert!(bad.parse::<ChainHead>().is_err(), "{bad}");
        }
        assert!("0".repeat(31).parse::<RepositoryId>().is_err());
        assert_eq!("0".repeat(32).parse(), Ok(RepositoryId([0; 16])));
    }

    #[test]
    fn a_head_is_known_newer_unknown_or_stands_against_one() {
        for (shown, expect) in [
            (head(9, 9), Standing::Known),
            (head(4, 4), Standing::Known),
            (head(10, 1), Standing::Newer),
            (head(5, 5), Standing::Unknown),
            (head(9, 1), Standing::Against(head(9, 9))),
            (head(4, 1), Standing::Against(head(4, 4))),
        ] {
            assert_eq!(chain().standing(&shown), expect, "{shown}");
        }
    }

    #[test]
    fn news_are_taken_in_once_and_never_older_ones() {
        let mut chain = chain();
        assert!(chain.learn(&news("s", 5), "a"));
        for old in [5, 4] {
            assert!(!chain.is_news(&news("s", old)) && !chain.learn(&news("s", old), "b"));
        }
        let proof = ProofRecord { number: 5, at_ms: 70, took_ms: 1 };
        let proven = SourceNews { newest: None, proven: Some(proof), ..news("s", 5) };
        assert!(chain.learn(&proven, "b"));
        assert!(!chain.learn(&proven, "b"));
        let known = &chain.sources["s"];
        assert_eq!(known.newest.as_ref().map(|n| n.number), Some(5), "the backup stays");
        assert_eq!((known.proven.as_ref().map(|p| p.at_ms), known.by.as_str()), (Some(70), "b"));
    }

    #[test]
    fn where_there_are_too_many_sources_the_one_not_backed_up_for_longest_goes() {
        let mut chain = chain();
        for number in 0..SOURCES_MAX as u64 + 3 {
            chain.learn(&news(&format!("s{number}"), 100 - number.min(99)), "a");
        }
        assert_eq!(chain.sources.len(), SOURCES_MAX);
        assert_eq!(chain.head, head(9, 9), "the head stays");
        assert!(chain.sources.contains_key("s0"), "the newest stays");
    }

    #[test]
    fn what_is_too_much_is_told() {
        assert_eq!(check_news(&[news("s", 1)]), Ok(()));
        let many = vec![news("s", 1); SOURCES_MAX + 1];
        let mut placed = news("s", 1);
        placed.newest.as_mut().unwrap().position = "x".repeat(TEXT_MAX + 1);
        for bad in [many, vec![news("", 1)], vec![news(&"x".repeat(513), 1)], vec![placed]] {
            assert!(check_news(&bad).is_err());
        }
    }
}
