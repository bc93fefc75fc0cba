//! The cluster's certificate authority as the control state knows it: whom nodes believe, who
//! issues, a rotation under way, the people that were given certificates, and those refused.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{NodeName, ReplicaId};
use crate::state::TokenRole;
use crate::time::ClusterMs;

/// How long certificates live, in days.
pub const CERTIFICATE_DAYS: u64 = 30;
/// Most people remembered as holders of a certificate; older ones are forgotten first.
pub const PEOPLE_MAX: usize = 1_024;
/// Most names that are refused at a time.
pub const REVOKED_MAX: usize = 1_024;
/// How long a name stays refused, in milliseconds: a day longer than any certificate lives.
pub const REVOKED_MS: u64 = (CERTIFICATE_DAYS + 1) * 24 * 3_600_000;
/// Longest certificate of an authority, in bytes of PEM.
pub const AUTHORITY_PEM_MAX: usize = 8_192;
/// Longest sealed key, in bytes.
pub const SEALED_KEY_MAX: usize = 1_024;
/// Most authorities whose key one node names in its report.
pub const KEYS_MAX: usize = 3;

/// Names an authority: SHA-256 of its certificate. In JSON 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthorityId(pub [u8; 32]);

impl fmt::Display for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for AuthorityId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { self.0.serialize(to) }
    }
}

impl<'de> Deserialize<'de> for AuthorityId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if !from.is_human_readable() {
            return <[u8; 32]>::deserialize(from).map(AuthorityId);
        }
        let text = String::deserialize(from)?;
        let wrong = || D::Error::custom("an authority's name has 64 digits, 0-9 and a-f");
        let digit = |at: usize| text.get(at..at + 2).and_then(|d| u8::from_str_radix(d, 16).ok());
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = digit(at * 2).ok_or_else(wrong)?;
        }
        if text.len() == 64 { Ok(AuthorityId(bytes)) } else { Err(wrong()) }
    }
}

/// What the cluster has agreed on about certificates, beside the authorities themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Trust {
    /// Log index of the last change of the authorities or of who issues; 0 before the first.
    pub version: u64,
    /// Who issues; none while the authority was never rotated, and there is but one.
    pub issuer: Option<AuthorityId>,
    /// A rotation under way.
    pub rotation: Option<Rotation>,
    /// People and programs that were given a certificate, as long as it can be good.
    pub people: BTreeMap<NodeName, Person>,
    /// People and programs whose certificates are refused.
    pub revoked: BTreeMap<NodeName, Revoked>,
    /// Members whose certificate is of an authority that is believed no more.
    pub shut_out: BTreeSet<NodeName>,
}

/// A change of the authority that is not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The authority that will be believed no more.
    pub from: AuthorityId,
    /// The one that takes its place.
    pub to: AuthorityId,
    /// How far it is.
    pub phase: RotationPhase,
    /// The old key is in wrong hands: nobody gets in by it while this goes on.
    pub compromised: bool,
    /// It was broken off after certificates had been renewed, and leads back.
    pub undone: bool,
    /// The new authority's certificate issued by the old one, PEM: whoever believes the old one
    /// alone believes what the new one issues.
    pub endorsement: String,
    /// The new authority's key, sealed for each voter by its datagram key.
    pub sealed: BTreeMap<ReplicaId, Vec<u8>>,
    /// Since when.
    pub began: ClusterMs,
    /// Since when on the wall clock, Unix milliseconds.
    pub wall_ms: u64,
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationPhase {
    /// Both are believed, the old one issues.
    Trust,
    /// Both are believed, the new one issues and every certificate is renewed.
    Renew,
}

impl fmt::Display for RotationPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RotationPhase::Trust => "trust",
            RotationPhase::Renew => "renew",
        })
    }
}

/// A new authority, as it is proposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAuthority {
    /// The present authority.
    pub from: AuthorityId,
    /// The new one.
    pub to: AuthorityId,
    /// The new one's certificate, PEM.
    pub certificate: String,
    /// See [`Rotation::endorsement`].
    pub endorsement: String,
    /// See [`Rotation::sealed`].
    pub sealed: BTreeMap<ReplicaId, Vec<u8>>,
    /// See [`Rotation::compromised`].
    pub compromised: bool,
}

/// One step of a rotation, as it is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationStep {
    /// Everybody believes the new authority too.
    Begin(NewAuthority),
    /// The new one issues from now on.
    Renew,
    /// The old one is believed no more.
    Finish {
        /// Members that are out with it.
        shut_out: BTreeSet<NodeName>,
    },
    /// It is broken off: at once where nothing was renewed yet, else it leads back.
    Abort,
}

/// One step of a rotation, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationOrder {
    /// Begin.
    Begin(NewAuthority),
    /// Let the new authority issue.
    Renew {
        /// Members that need not believe it yet.
        #[serde(default)]
        without: BTreeSet<NodeName>,
    },
    /// Believe the old one no more.
    Finish {
        /// Members that are shut out by it, and meant to be.
        #[serde(default)]
        without: BTreeSet<NodeName>,
    },
    /// Break it off.
    Abort,
}

/// A person or program that was given a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// What it may do.
    pub role: TokenRole,
    /// Which authority issued it; none: the only one that there was.
    pub authority: Option<AuthorityId>,
    /// When.
    pub at: ClusterMs,
    /// When on the wall clock, Unix milliseconds.
    pub wall_ms: u64,
}

/// A name that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Until then: no certificate of it can be good any longer.
    pub until: ClusterMs,
    /// Since when on the wall clock, Unix milliseconds.
    pub wall_ms: u64,
}

/// What a node reports of its own certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The [`Trust::version`] that it acts by, durably.
    pub trust: u64,
    /// The authority that issued its certificate.
    pub issuer: AuthorityId,
    /// Wall-clock second at which its certificate ends.
    pub ends_s: u64,
    /// Wall-clock second at which the authority that issued it ends.
    pub authority_ends_s: u64,
    /// Authorities whose key it holds; [`KEYS_MAX`] at most.
    pub keys: Vec<AuthorityId>,
}
