//! What the log needs of a directory, as a trait: a real one and a simulated one behind it.
//!
//! Names are plain file names without separators. Nothing here knows what the bytes mean.

use std::fmt;
use std::io;
use std::sync::Arc;

/// An operation on the disk that failed: which one, on which file, and the system's error.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the disk refused to {operation} \"{file}\" ({kind}{})", code(.os_code))]
pub struct DiskError {
    /// What was tried, as a verb: `append to`, `sync`.
    pub operation: DiskOperation,
    /// The file's name inside the journal's directory.
    pub file: String,
    /// The class of the system's error.
    pub kind: io::ErrorKind,
    /// The system's error number, where there is one.
    pub os_code: Option<i32>,
    #[source]
    source: Arc<io::Error>,
}

fn code(os_code: &Option<i32>) -> String {
    os_code.map_or_else(String::new, |code| format!(", error {code}"))
}

impl DiskError {
    /// Wraps a system error with the operation and the file that it happened to.
    pub fn new(operation: DiskOperation, file: &str, error: io::Error) -> Self {
        Self {
            operation,
            file: file.to_owned(),
            kind: error.kind(),
            os_code: error.raw_os_error(),
            source: Arc::new(error),
        }
    }
}

/// The operations of [`Disk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskOperation {
    /// Take the directory for this process alone.
    Lock,
    /// List the directory.
    List,
    /// Read a file.
    Read,
    /// Create an empty file.
    Create,
    /// Append to a file.
    Append,
    /// Make a file's contents durable.
    SyncData,
    /// Make the directory's entries durable.
    SyncDirectory,
    /// Cut a torn tail.
    Truncate,
    /// Remove a file.
    Remove,
    /// Rename a file.
    Rename,
}

impl fmt::Display for DiskOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lock => "lock",
            Self::List => "list",
            Self::Read => "read",
            Self::Create => "create",
            Self::Append => "append to",
            Self::SyncData => "make durable",
            Self::SyncDirectory => "make durable the directory of",
            Self::Truncate => "cut the torn tail of",
            Self::Remove => "remove",
            Self::Rename => "rename",
        })
    }
}

/// One directory, as the log uses it.
///
/// After any error of a changing operation the log never touches that file again: the state of a
/// file after a failed sync is unknown, and a second sync may report success for lost data.
pub trait Disk: Send {
    /// The names of all regular files, sorted.
    fn list(&self) -> Result<Vec<String>, DiskError>;
    /// A file's length in bytes.
    fn len(&self, name: &str) -> Result<u64, DiskError>;
    /// A whole file; the caller has looked at its length first.
    fn read(&self, name: &str) -> Result<Vec<u8>, DiskError>;
    /// At most `length` bytes from `offset` on; fewer at the file's end.
    fn read_at(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>, DiskError>;
    /// Creates an empty file; fails where the name is taken.
    fn create(&mut self, name: &str) -> Result<(), DiskError>;
    /// Appends at the end of an existing file. On an error a part may have been written.
    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError>;
    /// Makes a file's contents and length durable.
    fn sync_data(&mut self, name: &str) -> Result<(), DiskError>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&mut self) -> Result<(), DiskError>;
    /// Cuts a file at `length`. Only start-up calls it, for a torn tail.
    fn truncate(&mut self, name: &str, length: u64) -> Result<(), DiskError>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> Result<(), DiskError>;
    /// Renames a file, replacing the target.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;
}
