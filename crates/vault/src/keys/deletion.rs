//! The deletion key of an append-only repository: kept away from the machines that write.

use super::secret::Secret32;
use super::words::{self, WordsError};
use super::{EpochKeys, SIGNATURE_BYTES};
use crate::error::Result;
use zeroize::Zeroizing;

const DELETION_BYTES: usize = 33;
const DELETION_VERSION: u8 = 0x44;

/// Signs the records that remove.
pub struct DeletionKey {
    keys: EpochKeys,
}

impl DeletionKey {
    /// A new one.
    pub fn random() -> DeletionKey {
        DeletionKey::of_seed(Secret32::random())
    }

    fn of_seed(signing_seed: Secret32) -> DeletionKey {
        // Only the signing half is used; the other is random and never leaves.
        DeletionKey { keys: EpochKeys { master: Secret32::random(), signing_seed } }
    }

    /// The public half.
    pub fn verifying_key(&self) -> [u8; 32] {
        self.keys.verifying_key()
    }

    /// The key as words.
    pub fn words(&self) -> Zeroizing<String> {
        let mut payload = Zeroizing::new([DELETION_VERSION; DELETION_BYTES]);
        payload[1..].copy_from_slice(self.keys.signing_seed.expose());
        words::encode(payload.as_slice())
    }

    /// The key from its words.
    ///
    /// # Errors
    /// Naming the wrong word where it can be known.
    pub fn from_words(text: &str) -> Result<DeletionKey> {
        let payload = words::decode(text, DELETION_BYTES)?;
        if payload[0] != DELETION_VERSION {
            let what = "these words are no deletion key".to_owned();
            return Err(WordsError::Meaning(what).into());
        }
        let mut seed: [u8; 32] = payload[1..].try_into().expect("the payload has 33 bytes");
        Ok(DeletionKey::of_seed(Secret32::take(&mut seed)))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.keys.sign(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_key_comes_back_from_its_words() {
        let key = DeletionKey::random();
        let back = DeletionKey::from_words(&key.words()).unwrap();
        assert_eq!(back.verifying_key(), key.verifying_key());
        assert!(DeletionKey::from_words("zoo zoo").is_err());
    }
}
