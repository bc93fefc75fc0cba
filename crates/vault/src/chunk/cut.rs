//! Where a file is cut into chunks: by its contents (FastCDC), so that an insertion changes
//! the chunks around it and no others. The format does not depend on these numbers.

use fastcdc::v2020::FastCDC;

/// The smallest chunk, but for the last of a file.
pub const CHUNK_BYTES_MIN: usize = 16 << 10;
/// The chunk size aimed at.
pub const CHUNK_AVERAGE_BYTES: usize = 64 << 10;
/// The largest chunk.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;

/// Cuts a window of a file into chunks.
pub struct Cutter;

impl Cutter {
    /// Calls `each` with every chunk of `window` whose end is certain, and returns how many
    /// bytes those were. With `last`, the window ends the file and everything is cut.
    ///
    /// # Errors
    /// The first that `each` returns.
    pub fn cut<E>(
        window: &[u8],
        last: bool,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        if last && window.len() <= CHUNK_AVERAGE_BYTES {
            if !window.is_empty() {
                each(window)?;
            }
            return Ok(window.len());
        }
        let cutter = FastCDC::new(
            window,
            CHUNK_BYTES_MIN as u32,
            CHUNK_AVERAGE_BYTES as u32,
            CHUNK_BYTES_MAX as u32,
        );
        let mut start = 0;
        while start < window.len() {
            let remaining = window.len() - start;
            if !last && remaining < CHUNK_BYTES_MAX {
                break;
            }
            let (_, end) = cutter.cut(start, remaining);
            each(&window[start..end])?;
            start = end;
        }
        Ok(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
        bytes
    }

    fn chunks(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let cut = Cutter::cut::<()>(bytes, true, |c| {
            found.push(c.to_vec());
            Ok(())
        });
        assert_eq!(cut, Ok(bytes.len()));
        found
    }

    #[test]
    fn chunks_join_to_the_file_and_keep_their_limits() {
        let bytes = noise(3 << 20);
        let found = chunks(&bytes);
        assert_eq!(found.concat(), bytes);
        assert!(found.iter().all(|c| c.len() <= CHUNK_BYTES_MAX));
        assert!(found[..found.len() - 1].iter().all(|c| c.len() >= CHUNK_BYTES_MIN));
    }

    #[test]
    fn an_insertion_changes_only_the_chunks_around_it() {
        let bytes = noise(3 << 20);
        let mut changed = bytes.clone();
        changed.splice(1_500_000..1_500_000, *b"inserted");
        let (before, after) = (chunks(&bytes), chunks(&changed));
        let new = after.iter().filter(|c| !before.contains(c)).count();
        assert!(new <= 3, "{new} of {} chunks are new", after.len());
    }

    #[test]
    fn windows_cut_as_the_whole_does() {
        let bytes = noise(2 << 20);
        let mut found: Vec<Vec<u8>> = Vec::new();
        let mut start = 0;
        let mut end = 0;
        while start < bytes.len() {
            end = (end + 700_000).min(bytes.len());
            let last = end == bytes.len();
            start += Cutter::cut::<()>(&bytes[start..end], last, |c| {
                found.push(c.to_vec());
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(found, chunks(&bytes));
    }
}
