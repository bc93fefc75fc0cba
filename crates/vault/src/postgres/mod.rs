//! PostgreSQL, 13 and newer: what its servers and files say, and backing them up.
//!
//! Nothing here writes to a server but the begin and end of a backup and the slot of a stream.

pub mod amcheck;
mod changes;
mod connection;
mod conninfo;
pub mod equality;
pub mod exclude;
pub(crate) mod fuzzing;
mod lsn;
mod own;
mod position;
mod preview;
pub mod recovery;
pub mod rehearsal;
mod replicated;
pub mod server;
mod source;
mod status;
mod tls;
mod unfinished;

pub use connection::{Connection, CopyMessage, Row};
pub use conninfo::ConnInfo;
pub use lsn::{Lsn, SegmentName, Timeline};
pub use position::{Position, parse_label};
pub use preview::{Preview, preview};
pub use replicated::ReplicatedSource;
use server::Facts;
pub use source::PostgresSource;
pub(crate) use status::StatusWriter;
pub use unfinished::is_unfinished;

/// Bytes of a page, as every packaged server has it.
pub const PAGE_BYTES: usize = 8192;
/// The oldest server that is supported, as the server numbers itself.
pub const VERSION_MIN: u32 = 130_000;
