//! Reads `BACKSTAY_LEASE`, the 64-byte file in which an instance finds its epoch and lease end.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use model::{Epoch, Moment};

use super::OrdersError;
use super::gate::Lease;

const MAGIC: u64 = u64::from_le_bytes(*b"BSINST\0\x01");
const ROLE_ACTIVE: u64 = 1;

/// The file, held open.
#[derive(Debug)]
pub struct LeaseFile {
    file: File,
}

impl LeaseFile {
    /// Opens the file.
    ///
    /// # Errors
    /// [`OrdersError::Record`] where it can't be opened.
    pub fn open(path: &Path) -> Result<LeaseFile, OrdersError> {
        let opened = File::open(path);
        let file =
            opened.map_err(|source| OrdersError::Record { path: path.to_owned(), source })?;
        Ok(LeaseFile { file })
    }
}

impl Lease for LeaseFile {
    fn end(&self, epoch: Epoch) -> Option<Moment> {
        let mut bytes = [0; 64];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let word = |i: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[i * 8..i * 8 + 8]);
            u64::from_le_bytes(word)
        };
        let active = word(0) == MAGIC && word(4) == ROLE_ACTIVE;
        let held = Epoch { generation: word(1), counter: word(2) };
        (active && held == epoch).then_some(Moment(word(3)))
    }
}
