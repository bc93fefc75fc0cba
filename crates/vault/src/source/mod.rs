//! What is backed up. A source tells what there is, in the order of the tree; the engine reads,
//! cuts, seals and stores.

pub mod command;
pub mod copy;
pub mod directory;
mod dirty_map;
pub mod image;
pub mod inode;
mod sample;
mod stretches;

pub use sample::Sample;
pub use stretches::Stretches;

use crate::chain::{Backup, SourceKind};
use crate::error::Result;
use crate::keys::KeyRing;
use crate::store::Store;
use crate::tree::{Entry, Metadata, NodeSource, Stamp};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What a source tells of, parents first, names in order.
pub enum ScanEvent {
    /// A directory begins.
    Enter {
        /// Its name.
        name: Vec<u8>,
        /// What its inode says.
        meta: Metadata,
        /// Its stamp.
        stamp: Stamp,
    },
    /// The directory ends.
    Leave,
    /// Something that needs no reading: no file, or one that has not changed.
    Ready(Box<Entry>),
    /// A file to read.
    Read(FileToRead),
    /// A file that its owner writes in blocks, and goes on writing.
    Live(Box<LiveFile>),
    /// A stream to read; its length is known at its end.
    Stream {
        /// The name under which it is kept.
        name: Vec<u8>,
        /// The metadata it gets.
        meta: Metadata,
        /// Where it comes from.
        stream: Box<dyn FinishedRead>,
    },
    /// A file that [`ScanSink::ahead`] has taken, at its place in the tree.
    Placed {
        /// Its name.
        name: Vec<u8>,
        /// Its path below the top.
        path: Vec<u8>,
    },
    /// Something that could not be taken.
    Skipped {
        /// Its path.
        path: Vec<u8>,
        /// Why.
        why: String,
    },
}

/// A stream that says at its end whether it was all.
pub trait FinishedRead: io::Read + Send {
    /// Called once after the end was read.
    ///
    /// # Errors
    /// Where what was read is not all of it.
    fn finish(&mut self) -> Result<()>;
}

/// Bytes as such a stream.
pub(crate) struct BytesStream(io::Cursor<Vec<u8>>);

impl BytesStream {
    pub(crate) fn new(bytes: Vec<u8>) -> BytesStream {
        BytesStream(io::Cursor::new(bytes))
    }
}

impl io::Read for BytesStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl FinishedRead for BytesStream {
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A regular file whose contents are wanted.
pub struct FileToRead {
    /// Its name.
    pub name: Vec<u8>,
    /// Its path below the top.
    pub path: Vec<u8>,
    /// What its inode said when it was listed.
    pub seen: inode::Seen,
    /// Where it is opened.
    pub place: Place,
}

/// A file whose owner writes blocks and keeps a log of its own: what is read of it need not be
/// of one moment, and is never read twice.
pub struct LiveFile {
    /// The file.
    pub file: FileToRead,
    /// What the parent backup holds under its path.
    pub old: Option<Entry>,
    /// Whether nothing was written since.
    pub unchanged: bool,
    /// What may differ from the parent's, where the owner's log or map tells; blocks without a
    /// byte of it are not read.
    pub changed: Option<Stretches>,
    /// How it is read.
    pub rules: BlockRules,
}

/// How a file that is written in blocks is read.
#[derive(Clone, Debug)]
pub struct BlockRules {
    /// Bytes of a block: a power of two, from 1 to 64 KiB.
    pub block_bytes: u64,
    /// Whether blocks of zeros are kept as holes, and holes are not read.
    pub holes: bool,
    /// Which of the blocks that need not be read are read all the same, so that what calls them
    /// unchanged is not taken at its word. One that has changed fails the backup.
    pub sample: Option<Arc<Sample>>,
}

impl BlockRules {
    /// Those of a database's pages.
    pub const PAGES: BlockRules = BlockRules { block_bytes: 8192, holes: false, sample: None };
}

/// A file written in blocks whose bytes come when their sender likes: before its place in the
/// tree is known.
pub struct AheadFile {
    /// Its path below the top.
    pub path: Vec<u8>,
    /// Its length.
    pub size_bytes: u64,
    /// Its metadata.
    pub meta: Metadata,
    /// What the parent backup holds under its path.
    pub old: Option<Entry>,
}

/// How a file is opened.
#[derive(Clone)]
pub enum Place {
    /// By its name in an open directory.
    In(Arc<OwnedFd>),
    /// It is open already.
    Open(Arc<File>),
}

/// What the engine tells a source.
pub struct ScanContext<'a> {
    /// The top of the backup to compare with, and where its nodes are.
    pub parent: Option<(&'a Entry, &'a dyn NodeSource)>,
    /// Where the source was when the parent was made, in the source's words.
    pub parent_position: &'a str,
    /// The repository, for what the source keeps in it beside backups; nothing where there is
    /// none.
    pub repository: Option<(&'a dyn Store, &'a KeyRing)>,
    /// Files changed at or after this second may have changed again unseen.
    pub trusted_before_s: i64,
    /// Whether the contents of an unchanged file can be used again.
    pub may_reuse: &'a dyn Fn(&Entry) -> Result<bool>,
}

/// Takes events; an error ends the scan.
pub trait ScanSink {
    /// Takes one.
    ///
    /// # Errors
    /// Where the backup failed elsewhere and the scan is to end.
    fn event(&mut self, event: ScanEvent) -> Result<()>;

    /// Takes a file's bytes out of a stream that holds more than this file; told again, by its
    /// path, where its place in the tree is.
    ///
    /// # Errors
    /// Where the stream ends or fails before the file does, or the backup failed elsewhere.
    fn ahead(&mut self, file: AheadFile, _input: &mut dyn io::Read) -> Result<()> {
        let path = String::from_utf8_lossy(&file.path).into_owned();
        Err(crate::VaultError::Refused(format!(
            "`{path}` comes in a stream: compare a restored one"
        )))
    }

    /// Returns once everything told so far has been read.
    ///
    /// # Errors
    /// Where the backup failed elsewhere.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A backup that is copied.
pub struct Original<'a> {
    /// It, as its repository has it.
    pub backup: &'a Backup,
    /// That repository.
    pub repository: [u8; 16],
    /// Its record there.
    pub record: u64,
}

/// Something that can be backed up.
pub trait Source: Send + Sync {
    /// What sort it is.
    fn kind(&self) -> SourceKind;

    /// The directory or the command, for people.
    fn origin(&self) -> String;

    /// Where in its own history the source is, once the scan is over.
    fn position(&self) -> String {
        String::new()
    }

    /// How the source writes its blocks. What is remembered of the parent's counts only where it
    /// was written the same way.
    fn block_mode(&self) -> String {
        String::new()
    }

    /// What the operator should know of how it was read.
    fn note(&self) -> Option<String> {
        None
    }

    /// The backup of another repository that is copied: the copy must have its root.
    fn original(&self) -> Option<Original<'_>> {
        None
    }

    /// Called once everything is stored, before the backup is recorded: what it needs beside
    /// its tree is brought in here.
    ///
    /// # Errors
    /// Where that fails; nothing is recorded then.
    fn before_record(&self, _repository: &mut crate::repository::Repository) -> Result<()> {
        Ok(())
    }

    /// Tells everything there is.
    ///
    /// # Errors
    /// Where the source as a whole cannot be read; single files are skipped and said.
    fn scan(&self, context: &ScanContext<'_>, sink: &mut dyn ScanSink) -> Result<()>;
}
