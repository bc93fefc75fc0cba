//! Wrapping the key ring for its recipients, with age (X25519).

use super::KeyRing;
use crate::error::{Result, VaultError};
use crate::store::{Area, ObjectName};
use age::x25519::{Identity, Recipient};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use zeroize::Zeroizing;

/// Who a wrapped key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holder {
    /// A machine that backs up, or a cluster's machines.
    Machine,
    /// The printed recovery key.
    Recovery,
    /// Custodians who hold shares.
    Custodians,
}

impl Holder {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Holder::Machine => "machine",
            Holder::Recovery => "recovery",
            Holder::Custodians => "custodians",
        }
    }
}

/// One recipient of the repository, as the chain records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// Who holds the secret half.
    pub holder: Holder,
    /// A name for people.
    pub label: String,
    /// The age recipient, `age1…`.
    pub recipient: String,
    /// The object with the wrapped ring.
    pub object: ObjectName,
    /// BLAKE3 of that object, so that anyone with any key can check all of them.
    pub digest: [u8; 32],
}

/// A wrapped ring, ready to be stored.
pub struct Wrapped {
    /// What the chain will record.
    pub entry: KeyEntry,
    /// The object's bytes.
    pub bytes: Vec<u8>,
}

/// The prefix of a recipient's objects.
fn recipient_tag(recipient: &str) -> String {
    crate::hex::encode(&blake3::hash(recipient.as_bytes()).as_bytes()[..10])
}

/// Wraps the ring for one recipient.
///
/// # Errors
/// Where the recipient's text is no age recipient.
pub fn wrap(ring: &KeyRing, holder: Holder, label: &str, recipient: &str) -> Result<Wrapped> {
    let key = Recipient::from_str(recipient)
        .map_err(|e| VaultError::Keys(format!("`{recipient}` is no age recipient: {e}")))?;
    let bytes = age::encrypt(&key, &ring.to_payload())
        .map_err(|e| VaultError::Keys(format!("the key could not be wrapped: {e}")))?;
    let random = crate::hex::encode(&crate::random::bytes::<6>());
    let leaf = format!("{}-{:06}-{random}", recipient_tag(recipient), ring.epoch());
    let object = ObjectName::new(Area::Keys, &leaf).expect("hexadecimal digits make a leaf");
    let digest = *blake3::hash(&bytes).as_bytes();
    let entry = KeyEntry {
        holder,
        label: label.to_owned(),
        recipient: recipient.to_owned(),
        object,
        digest,
    };
    Ok(Wrapped { entry, bytes })
}

/// Whether an object of the keys area may be for this identity.
pub fn is_for(identity: &Identity, object: &ObjectName) -> bool {
    object.leaf().starts_with(&recipient_tag(&identity.to_public().to_string()))
}

/// Unwraps a ring, or nothing where the identity does not open it.
pub fn unwrap(identity: &Identity, bytes: &[u8]) -> Option<KeyRing> {
    let payload = Zeroizing::new(age::decrypt(identity, bytes).ok()?);
    KeyRing::from_payload(&payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_recipient_opens_a_wrapped_ring_and_every_bit_matters() {
        let ring = KeyRing::random();
        let (ours, theirs) = (Identity::generate(), Identity::generate());
        let recipient = ours.to_public().to_string();
        let wrapped = wrap(&ring, Holder::Machine, "a", &recipient).unwrap();
        assert!(is_for(&ours, &wrapped.entry.object));
        assert!(!is_for(&theirs, &wrapped.entry.object));
        assert_eq!(unwrap(&ours, &wrapped.bytes).unwrap().repository, ring.repository);
        assert!(unwrap(&theirs, &wrapped.bytes).is_none());
        for byte in 0..wrapped.bytes.len() {
            let mut bytes = wrapped.bytes.clone();
            bytes[byte] ^= 1;
            assert!(unwrap(&ours, &bytes).is_none(), "byte {byte}");
        }
    }
}
