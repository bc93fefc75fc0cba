//! Frames on a byte stream: four bytes of length, little-endian, then postcard.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest frame: a specification of the most resources, generously.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// Bytes of the length.
const HEAD: usize = 4;

/// Why a frame can't be read or written. The connection is of no more use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes is larger than the largest permitted")]
    TooLarge(usize),
    /// Not what was expected.
    #[error("a frame can't be decoded: the other side speaks another version, or garbage")]
    Garbage,
}

/// One message as a frame.
///
/// # Errors
/// [`FrameError`] where it is too large.
pub fn encode_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let bytes = postcard::to_extend(message, vec![0u8; HEAD]).map_err(|_| FrameError::Garbage)?;
    let len = bytes.len() - HEAD;
    if len > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge(len));
    }
    let mut bytes = bytes;
    bytes[..HEAD].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(bytes)
}

/// Puts a byte stream together to messages again.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    taken: usize,
}

impl FrameReader {
    /// Adds bytes that arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// [`FrameError`]; the stream can't be read on after that.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let rest = &self.buffer[self.taken..];
        let Some(head) = rest.first_chunk::<HEAD>() else { return Ok(None) };
        let len = u32::from_le_bytes(*head) as usize;
        if len > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge(len));
        }
        let Some(body) = rest.get(HEAD..HEAD + len) else { return Ok(None) };
        let (message, left) = postcard::take_from_bytes(body).map_err(|_| FrameError::Garbage)?;
        if !left.is_empty() {
            return Err(FrameError::Garbage);
        }
        self.taken += HEAD + len;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Event, Request};
    use super::*;

    #[test]
    fn messages_survive_any_cut_of_the_stream() {
        let messages = [Request::List, Request::Hello { version: 1 }, Request::List];
        let bytes: Vec<u8> = messages.iter().flat_map(|m| encode_frame(m).unwrap()).collect();
        for cut in 1..bytes.len() {
            let mut reader = FrameReader::default();
            let mut seen = Vec::new();
            for part in bytes.chunks(cut) {
                reader.feed(part);
                while let Some(message) = reader.next_message::<Request>().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, messages, "cut at {cut}");
        }
    }

    #[test]
    fn garbage_and_oversize_are_errors_not_panics() {
        let mut reader = FrameReader::default();
        reader.feed(&((FRAME_BYTES_MAX as u32 + 1).to_le_bytes()));
        assert!(matches!(reader.next_message::<Event>(), Err(FrameError::TooLarge(_))));
        let mut reader = FrameReader::default();
        reader.feed(&[3, 0, 0, 0, 0xFF, 0xFF, 0xFF]);
        assert_eq!(reader.next_message::<Event>(), Err(FrameError::Garbage));
        let mut trailing = encode_frame(&Request::List).unwrap();
        trailing[0] += 1;
        trailing.push(0);
        let mut reader = FrameReader::default();
        reader.feed(&trailing);
        assert_eq!(reader.next_message::<Request>(), Err(FrameError::Garbage));
        assert!(encode_frame(&vec![0u8; FRAME_BYTES_MAX + 1]).is_err());
    }
}
