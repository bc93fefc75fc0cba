//! Backups, archives, restore, verification, keys.
//!
//! A repository is a store of immutable, sealed objects: a chain of signed records, wrapped
//! keys, packs of chunks, and index segments. `docs/reference/vault-format.md` describes every
//! byte. The vault works alone, with a repository and a key. A cluster is to it somebody who
//! remembers heads ([`cluster`]), and how it is reached is not its business.

pub mod backup;
pub mod blobs;
pub mod chain;
pub mod chunk;
pub mod cleanup;
pub mod cluster;
pub mod compare;
pub mod copy;
pub mod error;
pub mod export;
#[doc(hidden)]
pub mod fuzzing;
mod hex;
pub mod index;
pub mod keys;
pub mod pace;
pub mod pack;
pub mod postgres;
pub mod proof;
mod random;
pub mod rehearsal;
pub mod repository;
pub mod restore;
pub mod retention;
pub mod schedule;
pub mod seal;
pub mod source;
pub mod store;
pub mod summary;
pub mod tree;
pub mod verify;
pub mod wal;

pub use error::{Result, VaultError};
