//! The extents of a file, wherever they are kept.

use super::{Content, EXTENTS_LIST_MAX, EntryKind, Extent};
use crate::blobs::{Blobs, ReadBuffers};
use crate::chunk::ChunkId;
use crate::error::{Result, VaultError};

/// Reads one list of extents.
///
/// # Errors
/// Where its chunk is missing, damaged or malformed.
pub fn read_extents(
    blobs: &Blobs,
    list: &ChunkId,
    buffers: &mut ReadBuffers,
) -> Result<Vec<Extent>> {
    let extents: Option<Vec<Extent>> =
        blobs.read(list, buffers, |bytes| match postcard::take_from_bytes(bytes) {
            Ok((extents, [])) => Some(extents),
            _ => None,
        })?;
    extents.filter(|e| e.len() <= EXTENTS_LIST_MAX).ok_or_else(|| VaultError::Damaged {
        object: format!("extent list {list}"),
        what: "it has another format".to_owned(),
    })
}

/// Gives a file's extents with their offsets to `each`, a list at a time, and checks that they
/// add up to the file.
///
/// # Errors
/// As [`read_extents`], and what `each` returns.
pub fn each_extents(
    blobs: &Blobs,
    kind: &EntryKind,
    buffers: &mut ReadBuffers,
    mut each: impl FnMut(&mut ReadBuffers, u64, &[Extent]) -> Result<()>,
) -> Result<()> {
    let EntryKind::File { size_bytes, content, .. } = kind else { return Ok(()) };
    let mut offset: u64 = 0;
    let length = |extents: &[Extent], from: u64| {
        let end = extents.iter().try_fold(from, |sum, e| sum.checked_add(e.bytes()));
        end.filter(|end| end <= size_bytes).ok_or_else(|| VaultError::Damaged {
            object: "a file's extents".to_owned(),
            what: "they don't add up to its length".to_owned(),
        })
    };
    match content {
        Content::Inline(extents) => {
            length(extents, 0)?;
            each(buffers, 0, extents)
        }
        Content::Lists(lists) => {
            for list in lists {
                let extents = read_extents(blobs, list, buffers)?;
                let end = length(&extents, offset)?;
                each(buffers, offset, &extents)?;
                offset = end;
            }
            if offset == *size_bytes {
                return Ok(());
            }
            Err(VaultError::Damaged {
                object: "a file's extents".to_owned(),
                what: "they end before the file does".to_owned(),
            })
        }
    }
}
