//! Messages of a replication stream, for fuzz targets.

use super::CopyMessage;
use super::connection::parse_copy;
use super::replicated::{Manifest, copy_message};

/// Whether bytes are a message of the stream, and how much of the log they carry.
pub(crate) fn replication_message(message: &[u8]) -> Option<usize> {
    match parse_copy(bytes::Bytes::copy_from_slice(message))? {
        CopyMessage::Wal { bytes, .. } => Some(bytes.len()),
        _ => Some(0),
    }
}

/// Whether bytes are a message of a base backup.
pub(crate) fn base_backup_message(message: &[u8]) -> bool {
    copy_message(bytes::Bytes::copy_from_slice(message)).is_some()
}

/// Whether bytes are a base backup's manifest.
pub(crate) fn base_backup_manifest(bytes: &[u8]) -> bool {
    Manifest::parse(bytes).is_some()
}
