//! Messages of a replication stream, for fuzz targets.

use super::CopyMessage;
use super::connection::parse_copy;

/// Whether bytes are a message of the stream, and how much of the log they carry.
pub(crate) fn replication_message(message: &[u8]) -> Option<usize> {
    match parse_copy(bytes::Bytes::copy_from_slice(message))? {
        CopyMessage::Wal { bytes, .. } => Some(bytes.len()),
        _ => Some(0),
    }
}
