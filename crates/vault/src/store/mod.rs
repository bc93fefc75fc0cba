//! Where a repository's objects lie. Objects are written once and never changed, so a store
//! needs five verbs. The whole format stands on three of their promises: a conditional create
//! has one winner, what was written is read and listed at once, and what was deleted is gone.
//! `selftest` tries them at `vault init`.

pub mod failpoint;
pub mod local;
pub mod location;
pub mod memory;
mod name;
pub mod patient;
mod protection;
pub mod s3;
mod s3_settings;
pub mod selftest;

pub use name::{Area, LEAF_CHARS_MAX, ObjectId, ObjectName};
pub use protection::{Protection, require_lock};

use std::io;
use std::time::Duration;

/// The largest object the format writes; a larger one is damage or an attack.
pub const OBJECT_BYTES_MAX: u64 = 512 << 20;

/// What a conditional create found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object is ours, and durable.
    New,
    /// Another one has this name; nothing was written.
    Exists,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// Why a store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No object of that name.
    #[error("{0} is not there")]
    NotFound(ObjectName),
    /// The object ends before the range does.
    #[error("{name} is shorter than {wanted_bytes} bytes")]
    Short {
        /// Which object.
        name: ObjectName,
        /// Where the range ends.
        wanted_bytes: u64,
    },
    /// Longer than anything the format writes.
    #[error("{name} has {size_bytes} bytes, more than any object of a repository")]
    TooLarge {
        /// Which object.
        name: ObjectName,
        /// Its length.
        size_bytes: u64,
    },
    /// The file system said no.
    #[error("{action} {what}: the file system refused")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The object store said no.
    #[error("{action} {what}: the object store refused")]
    Remote {
        /// What was tried.
        action: &'static str,
        /// On what.
        what: String,
        /// Its answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The location is not one we know how to open.
    #[error("`{0}` is no repository location; give a directory or s3://bucket/prefix")]
    Location(String),
}

impl StoreError {
    /// Whether the object is simply absent.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StoreError::NotFound(_))
    }

    /// Whether the store knows us, and does not let us: an object may be locked.
    pub fn is_refusal(&self) -> bool {
        use object_store::Error;
        let StoreError::Remote { source, .. } = self else { return false };
        matches!(source.downcast_ref(), Some(Error::PermissionDenied { .. }))
    }

    /// Whether the same request may well succeed in a moment.
    pub fn is_transient(&self) -> bool {
        use io::ErrorKind::*;
        match self {
            StoreError::Remote { source, .. } => {
                source.downcast_ref().is_none_or(|error| !s3::is_final(error))
            }
            StoreError::Io { source, .. } => matches!(
                source.kind(),
                Interrupted | TimedOut | ConnectionReset | ConnectionAborted | BrokenPipe
            ),
            _ => false,
        }
    }
}

/// A place for objects that are written once.
pub trait Store: Send + Sync {
    /// The location, for people.
    fn describe(&self) -> String;

    /// Creates the object whole and durably, or finds that the name is taken.
    ///
    /// # Errors
    /// Where it is unknown whether the object is there; the caller asks again or gives up.
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StoreError>;

    /// The whole object, at most [`OBJECT_BYTES_MAX`].
    ///
    /// # Errors
    /// Where it is absent, too large, or cannot be read.
    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError>;

    /// Fills `out` from `offset` on.
    ///
    /// # Errors
    /// As [`Store::get`], and where the object is too short.
    fn get_range(&self, name: &ObjectName, offset: u64, out: &mut [u8]) -> Result<(), StoreError>;

    /// Lets go of what this machine's memory may hold of the object, so that the next read of it
    /// comes from where it is kept. A hint, where there is such a memory.
    fn let_go(&self, _name: &ObjectName) {}

    /// The object's length.
    ///
    /// # Errors
    /// As [`Store::get`].
    fn size(&self, name: &ObjectName) -> Result<u64, StoreError>;

    /// Every object of the area, in the order of names, those after `after` where given.
    ///
    /// # Errors
    /// Where the listing is not complete.
    fn list(&self, area: Area, after: Option<&ObjectName>) -> Result<Vec<Listed>, StoreError>;

    /// Removes the object; an absent one is removed already.
    ///
    /// # Errors
    /// Where it is unknown whether the object is gone.
    fn delete(&self, name: &ObjectName) -> Result<(), StoreError>;

    /// Removes objects, as [`Store::delete`] does each; cheaper where a store can.
    ///
    /// # Errors
    /// Where it is unknown whether all of them are gone.
    fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        names.iter().try_for_each(|name| self.delete(name))
    }

    /// Removes what interrupted writes left behind and nobody has touched for `age`.
    /// Returns how many it removed. Never touches objects.
    ///
    /// # Errors
    /// Where the leftovers cannot be listed or removed.
    fn remove_leftovers(&self, age: Duration) -> Result<u64, StoreError>;

    /// What the place does by itself against removal.
    ///
    /// # Errors
    /// Where it does not answer.
    fn protection(&self) -> Result<Protection, StoreError> {
        Ok(Protection::Nothing)
    }

    /// Whether reads are cheap enough to fetch small ranges one by one.
    fn ranges_are_cheap(&self) -> bool;
}

/// Creates the object and treats an equal one as ours: the first try may have reached the
/// store although its answer did not reach us.
///
/// # Errors
/// As [`Store::put_new`].
pub fn put_own(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Result<Created, StoreError> {
    match store.put_new(name, bytes)? {
        Created::New => Ok(Created::New),
        Created::Exists if store.get(name)? == bytes => Ok(Created::New),
        Created::Exists => Ok(Created::Exists),
    }
}
