//! Reads lines from a peer that may send anything: at most [`LINE_MAX`] bytes, valid UTF-8.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use super::wire::LINE_MAX;

/// Reads the next line into `buffer` and returns it without its end; `None` at the end of the
/// stream. The buffer is emptied first, so it can be used again and again.
///
/// # Errors
/// What the socket says, and `InvalidData` where a line is too long or not UTF-8.
pub async fn read_line<'b>(
    from: &mut (impl AsyncBufRead + Unpin),
    buffer: &'b mut Vec<u8>,
) -> io::Result<Option<&'b str>> {
    buffer.clear();
    let limit = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
    if from.take(limit).read_until(b'\n', buffer).await? == 0 {
        return Ok(None);
    }
    if buffer.last() != Some(&b'\n') {
        let cause = if buffer.len() >= LINE_MAX { "line too long" } else { "line cut off" };
        return Err(io::Error::new(io::ErrorKind::InvalidData, cause));
    }
    let text = std::str::from_utf8(&buffer[..buffer.len() - 1]);
    text.map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(mut bytes: &[u8]) -> Result<Vec<String>, io::ErrorKind> {
        let (mut lines, mut buffer) = (Vec::new(), Vec::new());
        while let Some(line) = read_line(&mut bytes, &mut buffer).await.map_err(|e| e.kind())? {
            lines.push(line.to_owned());
        }
        Ok(lines)
    }

    #[tokio::test]
    async fn lines_are_bounded_whole_and_text() {
        assert_eq!(read_all(b"a b\n\nc\n").await.unwrap(), ["a b", "", "c"]);
        let fits = [vec![b'x'; LINE_MAX - 1], vec![b'\n']].concat();
        assert_eq!(read_all(&fits).await.unwrap()[0].len(), LINE_MAX - 1);
        let bad = [vec![b'x'; LINE_MAX], b"cut".to_vec(), b"\xff\n".to_vec()];
        for bytes in bad {
            assert_eq!(read_all(&bytes).await, Err(io::ErrorKind::InvalidData));
        }
    }
}
