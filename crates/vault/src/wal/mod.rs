//! Databases' logs in a repository: pieces of the log, sealed and signed, and the signed mark of
//! what was acknowledged. A piece's name says which stretch it holds, so a listing says whether
//! the log is unbroken; a mark says up to where it has to be.

pub mod ahead;
mod archive;
mod catalog;
pub mod check;
mod event;
mod fetch;
pub(crate) mod fuzzing;
mod handover;
mod history;
mod lag;
mod memory;
mod piece;
pub mod record;
mod references;
mod spool;
mod storer;
pub mod stream;

pub use archive::Archive;
pub use catalog::{Catalog, live_names, stored_by_stream, stream_id};
pub use fetch::{Fetched, fetch_history, fetch_segment, fetch_stretch};
pub use history::{History, Step};
pub use lag::Lag;
pub use memory::WalMemory;
pub use piece::{PIECE_BYTES, Piece, read_piece};
pub use references::{Referred, Relation, refers};
