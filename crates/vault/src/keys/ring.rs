//! The keys that an opened repository works with.

use super::secret::Secret32;
use crate::error::{Result, VaultError};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Rotations that a repository can take.
pub const EPOCHS_MAX: usize = 4096;

/// The secrets of one key epoch.
#[derive(Clone, Debug)]
pub struct EpochKeys {
    /// Seals every object of the epoch, through a key derived for each.
    pub master: Secret32,
    /// Signs the records of the epoch.
    pub signing_seed: Secret32,
}

impl EpochKeys {
    /// New random keys.
    pub fn random() -> EpochKeys {
        EpochKeys { master: Secret32::random(), signing_seed: Secret32::random() }
    }

    /// The public half of the signing key.
    pub fn verifying_key(&self) -> [u8; 32] {
        SigningKey::from_bytes(self.signing_seed.expose()).verifying_key().to_bytes()
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        SigningKey::from_bytes(self.signing_seed.expose()).sign(message).to_bytes()
    }
}

/// Whether `signature` is the key's over the message. Strict: no malleable signatures.
pub fn signature_holds(key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(key) else { return false };
    let Ok(signature) = Signature::from_slice(signature) else { return false };
    key.verify_strict(message, &signature).is_ok()
}

/// Every secret of a repository.
#[derive(Clone, Debug)]
pub struct KeyRing {
    /// The repository's identity.
    pub repository: [u8; 16],
    /// Keys the chunk ids; the same in every epoch, so that chunks are found again.
    chunk_id_key: Secret32,
    epochs: Vec<EpochKeys>,
}

/// The ring as it is wrapped.
#[derive(Serialize, Deserialize)]
struct Payload {
    version: u8,
    repository: [u8; 16],
    chunk_id_key: [u8; 32],
    epochs: Vec<([u8; 32], [u8; 32])>,
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.chunk_id_key.zeroize();
        for (master, seed) in &mut self.epochs {
            master.zeroize();
            seed.zeroize();
        }
    }
}

impl KeyRing {
    /// The ring of a new repository.
    pub fn random() -> KeyRing {
        KeyRing {
            repository: crate::random::bytes(),
            chunk_id_key: Secret32::random(),
            epochs: vec![EpochKeys::random()],
        }
    }

    /// The newest epoch.
    pub fn epoch(&self) -> u32 {
        self.epochs.len() as u32 - 1
    }

    /// The newest keys.
    pub fn current(&self) -> &EpochKeys {
        self.epochs.last().expect("a ring has an epoch")
    }

    /// The keys of an epoch, where this ring knows them.
    pub fn at(&self, epoch: u32) -> Option<&EpochKeys> {
        self.epochs.get(epoch as usize)
    }

    /// This ring with one more epoch of fresh keys.
    ///
    /// # Errors
    /// Past [`EPOCHS_MAX`].
    pub fn rotated(&self) -> Result<KeyRing> {
        if self.epochs.len() >= EPOCHS_MAX {
            let what = "the number of key epochs".to_owned();
            return Err(VaultError::Limit { what, limit: EPOCHS_MAX as u64 });
        }
        let mut ring = self.clone();
        ring.epochs.push(EpochKeys::random());
        Ok(ring)
    }

    /// The key of the chunk ids.
    pub fn chunk_id_key(&self) -> &[u8; 32] {
        self.chunk_id_key.expose()
    }

    /// Whether every secret is kept out of swap.
    pub fn is_locked(&self) -> bool {
        self.chunk_id_key.is_locked() && self.epochs.iter().all(|e| e.master.is_locked())
    }

    pub(crate) fn to_payload(&self) -> Zeroizing<Vec<u8>> {
        let exposed = |e: &EpochKeys| (*e.master.expose(), *e.signing_seed.expose());
        let payload = Payload {
            version: 1,
            repository: self.repository,
            chunk_id_key: *self.chunk_id_key.expose(),
            epochs: self.epochs.iter().map(exposed).collect(),
        };
        // Sized beforehand: a buffer that grows leaves copies behind.
        let mut buffer = Zeroizing::new(vec![0; 128 + 64 * self.epochs.len()]);
        let length = postcard::to_slice(&payload, &mut buffer).expect("the buffer is sized").len();
        buffer.truncate(length);
        buffer
    }

    pub(crate) fn from_payload(bytes: &[u8]) -> Option<KeyRing> {
        let mut payload: Payload = postcard::from_bytes(bytes).ok()?;
        let count = payload.epochs.len();
        if payload.version != 1 || count == 0 || count > EPOCHS_MAX {
            return None;
        }
        let epochs = payload.epochs.iter_mut();
        Some(KeyRing {
            repository: payload.repository,
            epochs: epochs
                .map(|(master, seed)| EpochKeys {
                    master: Secret32::take(master),
                    signing_seed: Secret32::take(seed),
                })
                .collect(),
            chunk_id_key: Secret32::take(&mut payload.chunk_id_key),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_survives_wrapping_and_keeps_old_epochs() {
        let ring = KeyRing::random().rotated().unwrap();
        let back = KeyRing::from_payload(&ring.to_payload()).unwrap();
        assert_eq!(back.epoch(), 1);
        assert_eq!(back.chunk_id_key(), ring.chunk_id_key());
        for epoch in 0..2 {
            let keys = |r: &KeyRing| r.at(epoch).unwrap().verifying_key();
            assert_eq!(keys(&back), keys(&ring));
        }
    }

    #[test]
    fn a_signature_of_another_key_or_message_does_not_hold() {
        let keys = EpochKeys::random();
        let signature = keys.sign(b"message");
        assert!(signature_holds(&keys.verifying_key(), b"message", &signature));
        assert!(!signature_holds(&keys.verifying_key(), b"massage", &signature));
        assert!(!signature_holds(&EpochKeys::random().verifying_key(), b"message", &signature));
        assert!(!signature_holds(&keys.verifying_key(), b"message", &signature[1..]));
    }
}
