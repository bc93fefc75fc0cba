//! A record: a signed statement and the details that it covers. The statement holds what a
//! third party may see; the details stay sealed in the repository.

use super::{Body, Subject};
use crate::error::{Result, VaultError};
use crate::keys::{KeyRing, signature_holds};
use crate::seal::{Kind, open_object, seal_object};
use crate::store::ObjectName;
use serde::{Deserialize, Serialize};
use std::fmt;

const SIGNATURE_CONTEXT: &[u8] = b"backstay vault v1 record\0";
const HASH_CONTEXT: &[u8] = b"backstay vault v1 record hash\0";

/// The newest record that someone knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

impl Head {
    /// Reads `number:hash`, as [`Head`] prints.
    pub fn parse(text: &str) -> Option<Head> {
        let (seq, hash) = text.split_once(':')?;
        Some(Head { seq: seq.parse().ok()?, hash: crate::hex::decode_array(hash)? })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, crate::hex::encode(&self.hash))
    }
}

/// Which key signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signer {
    /// The repository's signing key of the statement's epoch.
    Writer,
    /// The deletion key.
    Deletion,
}

/// The signed part of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Version of the format.
    pub version: u8,
    /// The repository.
    pub repository: [u8; 16],
    /// The record's number.
    pub seq: u64,
    /// The hash of the record before; zeros for the first.
    pub previous: [u8; 32],
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// Name and version of the tool.
    pub tool: String,
    /// The key epoch.
    pub epoch: u32,
    /// The key.
    pub signer: Signer,
    /// The word for what the record says.
    pub kind: String,
    /// The backup, where it records one.
    pub subject: Option<Subject>,
    /// BLAKE3 of the details.
    pub details: [u8; 32],
}

impl Statement {
    /// The bytes that are signed and hashed.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a statement always encodes")
    }

    /// The hash that the next record names.
    pub fn hash(bytes: &[u8]) -> [u8; 32] {
        *blake3::Hasher::new().update(HASH_CONTEXT).update(bytes).finalize().as_bytes()
    }
}

/// Checks a signature over a statement's bytes and reads it.
pub fn verify_statement(key: &[u8; 32], bytes: &[u8], signature: &[u8]) -> Option<Statement> {
    let message = [SIGNATURE_CONTEXT, bytes].concat();
    if !signature_holds(key, &message, signature) {
        return None;
    }
    let (statement, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(statement)
}

/// Bytes that make equal details differ, so that a digest in a statement says nothing of them.
#[derive(Serialize, Deserialize)]
struct Details {
    salt: [u8; 16],
    body: Body,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    statement: Vec<u8>,
    signature: Vec<u8>,
    details: Vec<u8>,
}

/// A record that was read and whose signature holds.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) statement: Statement,
    pub(super) hash: [u8; 32],
    pub(super) body: Body,
    /// The signed bytes and the signature, for proofs.
    pub(super) signed: (Vec<u8>, Vec<u8>),
}

/// What goes into a record beside its body.
pub(super) struct Draft<'a> {
    pub(super) ring: &'a KeyRing,
    pub(super) seq: u64,
    pub(super) previous: [u8; 32],
    pub(super) time_ms: i64,
    pub(super) deletion: Option<&'a crate::keys::deletion::DeletionKey>,
}

/// Signs and seals a record: its name, its bytes, and what a reader will read.
pub(super) fn write(draft: &Draft<'_>, body: Body) -> (ObjectName, Vec<u8>, Record) {
    let details = Details { salt: crate::random::bytes(), body };
    let detail_bytes = postcard::to_allocvec(&details).expect("details always encode");
    let body = details.body;
    let statement = Statement {
        version: 1,
        repository: draft.ring.repository,
        seq: draft.seq,
        previous: draft.previous,
        time_ms: draft.time_ms,
        tool: format!("backstay {}", env!("CARGO_PKG_VERSION")),
        epoch: draft.ring.epoch(),
        signer: if draft.deletion.is_some() { Signer::Deletion } else { Signer::Writer },
        kind: body.word().to_owned(),
        subject: match &body {
            Body::Backup(backup) => Some(backup.subject.clone()),
            _ => None,
        },
        details: *blake3::hash(&detail_bytes).as_bytes(),
    };
    let bytes = statement.encode();
    let message = [SIGNATURE_CONTEXT, &bytes].concat();
    let signature = match draft.deletion {
        Some(key) => key.sign(&message),
        None => draft.ring.current().sign(&message),
    };
    let hash = Statement::hash(&bytes);
    let stored =
        Stored { statement: bytes.clone(), signature: signature.to_vec(), details: detail_bytes };
    let plain = postcard::to_allocvec(&stored).expect("a record always encodes");
    let name = ObjectName::of_record(draft.seq);
    let sealed = seal_object(draft.ring, Kind::Record, &name, &plain);
    (name, sealed, Record { statement, hash, body, signed: (bytes, signature.to_vec()) })
}

/// Opens a record and checks its signature; a deletion record's against `deletion_key`.
pub(super) fn read(
    ring: &KeyRing,
    seq: u64,
    object: Vec<u8>,
    deletion_key: Option<[u8; 32]>,
) -> Result<Record> {
    let name = ObjectName::of_record(seq);
    let damaged = |what: &str| VaultError::damaged(&name, what);
    let plain = open_object(ring, Kind::Record, &name, object)?;
    let stored: Stored =
        postcard::from_bytes(&plain).map_err(|_| damaged("it has another format"))?;
    let (claimed, _): (Statement, _) = postcard::take_from_bytes(&stored.statement)
        .map_err(|_| damaged("its statement has another format"))?;
    let key = match claimed.signer {
        Signer::Writer => ring.at(claimed.epoch).map(|k| k.verifying_key()),
        Signer::Deletion => deletion_key,
    };
    let key = key.ok_or_else(|| damaged("it is signed with a key that the repository has not"))?;
    let statement = verify_statement(&key, &stored.statement, &stored.signature)
        .ok_or_else(|| damaged("its signature does not hold"))?;
    if statement.version != 1 || statement.repository != ring.repository || statement.seq != seq {
        return Err(damaged("it belongs to another place or repository"));
    }
    if *blake3::hash(&stored.details).as_bytes() != statement.details {
        return Err(damaged("its details are not those that were signed"));
    }
    let details: Details =
        postcard::from_bytes(&stored.details).map_err(|_| damaged("its details are malformed"))?;
    if details.body.word() != statement.kind {
        return Err(damaged("its details are of another kind than was signed"));
    }
    Ok(Record {
        hash: Statement::hash(&stored.statement),
        statement,
        body: details.body,
        signed: (stored.statement, stored.signature),
    })
}
