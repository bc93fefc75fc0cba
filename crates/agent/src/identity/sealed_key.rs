//! A private key sealed for one node by its datagram key, so that it can lie in the log: whoever
//! reads it there, or holds a leaked authority's key, can't open it.
//!
//! ```text
//! 0   ephemeral X25519 key   32  the key as PEM, AES-256-GCM, then 16 bytes of tag
//! ```
//!
//! The key of the cipher is `blake3::derive_key(context, x, ephemeral, receiver, authority)` with
//! `x = X25519(ephemeral, receiver)`: it is used once, so the nonce is zero. The authority's name
//! is part of it: what was sealed for one can't be shown as the key of another.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use model::authority::{AuthorityId, SEALED_KEY_MAX};
use zeroize::Zeroizing;

use super::{Authority, AuthorityCertificate, DatagramKey, DatagramPublicKey, IdentityError};

const CONTEXT: &str = "backstay 2026 authority key sealed for a node";
/// Bytes of the ephemeral key in front.
const PUBLIC: usize = 32;

/// Seals an authority's key for the node with this datagram key. None where that is a key with
/// which everybody would share the same secret, or the authority's key is longer than any.
#[must_use]
pub fn seal(authority: &Authority, receiver: &DatagramPublicKey) -> Option<Vec<u8>> {
    let ephemeral = DatagramKey::generate();
    let shared = ephemeral.shared_with(receiver)?;
    let id = authority.fingerprint().into();
    let key = cipher(&shared, &ephemeral.public(), receiver, id);
    let mut sealed = ephemeral.public().0.to_vec();
    let mut body = Zeroizing::new(authority.key_pem().as_bytes().to_vec());
    let tag = key
        .seal_in_place_separate_tag(nonce(), Aad::empty(), &mut body)
        .expect("a key within its limit can be sealed");
    sealed.extend_from_slice(&body);
    sealed.extend_from_slice(tag.as_ref());
    (sealed.len() <= SEALED_KEY_MAX).then_some(sealed)
}

/// Opens a sealed key and puts it to its certificate.
///
/// # Errors
/// [`IdentityError::Malformed`] where it was not sealed for this node and this authority.
pub fn open(
    sealed: &[u8],
    mine: &DatagramKey,
    certificate: &AuthorityCertificate,
) -> Result<Authority, IdentityError> {
    let wrong = || IdentityError::malformed("sealed key", "it was not sealed for this node");
    let (ephemeral, body) = sealed.split_first_chunk::<PUBLIC>().ok_or_else(wrong)?;
    if sealed.len() > SEALED_KEY_MAX {
        return Err(wrong());
    }
    let ephemeral = DatagramPublicKey(*ephemeral);
    let shared = mine.shared_with(&ephemeral).ok_or_else(wrong)?;
    let key = cipher(&shared, &ephemeral, &mine.public(), certificate.fingerprint().into());
    let mut body = Zeroizing::new(body.to_vec());
    let opened = key.open_in_place(nonce(), Aad::empty(), &mut body).map_err(|_| wrong())?;
    let pem = std::str::from_utf8(opened).map_err(|_| wrong())?;
    Authority::from_pem(&certificate.to_pem(), pem)
}

fn cipher(
    shared: &[u8; 32],
    ephemeral: &DatagramPublicKey,
    receiver: &DatagramPublicKey,
    authority: AuthorityId,
) -> LessSafeKey {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    for part in [shared, &ephemeral.0, &receiver.0, &authority.0] {
        hasher.update(part);
    }
    let bytes = Zeroizing::new(*hasher.finalize().as_bytes());
    let key = UnboundKey::new(&AES_256_GCM, &*bytes).expect("32 bytes are an AES-256 key");
    LessSafeKey::new(key)
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{ClusterId, wall_s};

    fn authority(cluster: ClusterId) -> Authority {
        Authority::create(cluster, "exchange-a", wall_s()).unwrap()
    }

    #[test]
    fn a_sealed_key_is_opened_by_the_one_it_is_for_and_goes_with_its_certificate() {
        let (cluster, b, c) =
            (ClusterId::random(), DatagramKey::generate(), DatagramKey::generate());
        let (new, other) = (authority(cluster), authority(cluster));
        let sealed = seal(&new, &b.public()).unwrap();
        let opened = open(&sealed, &b, new.certificate()).unwrap();
        assert_eq!(opened.key_pem(), new.key_pem());
        assert!(open(&sealed, &c, new.certificate()).is_err(), "another node");
        assert!(open(&sealed, &b, other.certificate()).is_err(), "another authority");
        for at in [0, PUBLIC, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&changed, &b, new.certificate()).is_err(), "byte {at}");
            assert!(open(&sealed[..at], &b, new.certificate()).is_err(), "cut at {at}");
        }
        let text = new.key_pem().as_bytes().to_vec();
        assert!(!sealed.windows(16).any(|w| text.windows(16).any(|t| t == w)), "in the clear");
        assert_eq!(seal(&new, &DatagramPublicKey([0; 32])), None, "small order");
        assert!(open(&vec![0; SEALED_KEY_MAX + 1], &b, new.certificate()).is_err());
    }
}
