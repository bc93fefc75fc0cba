//! What raft 0.7 names of rust-protobuf 2, and nothing of its codec: prost encodes and decodes
//! raft's messages (`vendor/raft-proto`). See docs/decisions/0011.

use std::fmt;

/// A message that raft can measure, encode and decode.
pub trait Message: Default + Sized + 'static {
    /// The length of the encoding, in bytes.
    fn compute_size(&self) -> u32;

    /// The encoding.
    ///
    /// # Errors
    /// Where the codec has no room; a growing buffer always has.
    fn write_to_bytes(&self) -> ProtobufResult<Vec<u8>>;

    /// Adds the encoded fields to this message.
    ///
    /// # Errors
    /// Where the bytes are no encoding of such a message.
    fn merge_from_bytes(&mut self, bytes: &[u8]) -> ProtobufResult<()>;

    /// The message without any field, for a reference to an absent one.
    fn default_instance() -> &'static Self;
}

/// What the codec returns.
pub type ProtobufResult<T> = Result<T, ProtobufError>;

/// Bytes that are no message; the text is the codec's.
#[derive(Debug)]
pub struct ProtobufError(pub String);

impl fmt::Display for ProtobufError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ProtobufError {}
