//! Reads what other processes append to a file of JSON lines, as it comes.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::error::{DemoError, system};

/// A place in a growing file.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    offset: u64,
    partial: Vec<u8>,
}

impl Tail {
    /// From the beginning of a file that need not exist yet.
    #[must_use]
    pub(super) fn new(path: &Path) -> Tail {
        Tail { path: path.to_owned(), offset: 0, partial: Vec::new() }
    }

    /// All whole lines that came since the last call. A line that is half there waits.
    ///
    /// # Errors
    /// [`DemoError::System`] and [`DemoError::Record`].
    pub(super) fn read<T: DeserializeOwned>(&mut self) -> Result<Vec<T>, DemoError> {
        let failed = || format!("read {}", self.path.display());
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(system(failed())(error)),
        };
        file.seek(SeekFrom::Start(self.offset)).map_err(system(failed()))?;
        let read = file.read_to_end(&mut self.partial).map_err(system(failed()))?;
        self.offset += read as u64;
        let whole = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = self.partial[..whole].split(|byte| *byte == b'\n').filter(|l| !l.is_empty());
        let parsed = lines.map(serde_json::from_slice).collect::<Result<Vec<T>, _>>();
        let parsed =
            parsed.map_err(|source| DemoError::Record { path: self.path.clone(), source })?;
        self.partial.drain(..whole);
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn whole_lines_are_read_once_and_halves_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut tail = Tail::new(&path);
        assert!(tail.read::<u32>().unwrap().is_empty());
        let mut file = File::create(&path).unwrap();
        file.write_all(b"1\n2\n3").unwrap();
        assert_eq!(tail.read::<u32>().unwrap(), [1, 2]);
        file.write_all(b"4\n").unwrap();
        assert_eq!(tail.read::<u32>().unwrap(), [34]);
        file.write_all(b"x\n").unwrap();
        assert!(matches!(tail.read::<u32>(), Err(DemoError::Record { .. })));
    }
}
