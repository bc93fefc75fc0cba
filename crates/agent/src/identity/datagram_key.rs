//! The X25519 key of a node, from which it shares a secret with every other node without asking:
//! `net::seal` makes the datagram keys of it. Its public half is told to the cluster at join.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::IdentityError;

/// The public half: 32 bytes (RFC 7748).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DatagramPublicKey(pub [u8; 32]);

/// The private half.
pub struct DatagramKey {
    private: PrivateKey,
    public: DatagramPublicKey,
}

impl DatagramKey {
    /// A new key.
    #[must_use]
    pub fn generate() -> DatagramKey {
        let seed = Zeroizing::new(super::random::<32>());
        DatagramKey::from_seed(seed.as_slice()).expect("32 random bytes are an X25519 key")
    }

    fn from_seed(seed: &[u8]) -> Option<DatagramKey> {
        let private = PrivateKey::from_private_key(&X25519, seed).ok()?;
        let public = private.compute_public_key().ok()?;
        let public = DatagramPublicKey(public.as_ref().try_into().ok()?);
        Some(DatagramKey { private, public })
    }

    /// Reads the text of a key file: 64 hex digits.
    ///
    /// # Errors
    /// [`IdentityError::Malformed`] where it is something else.
    pub fn from_text(text: &str) -> Result<DatagramKey, IdentityError> {
        let what = "datagram key";
        let seed = HEXLOWER
            .decode(text.trim_end().as_bytes())
            .map(Zeroizing::new)
            .map_err(|e| IdentityError::malformed(what, e))?;
        DatagramKey::from_seed(&seed)
            .ok_or_else(|| IdentityError::malformed(what, "it has not 64 digits"))
    }

    /// The text of its file.
    ///
    /// # Panics
    /// Never: an X25519 key always has its 32 bytes.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let seed: Curve25519SeedBin<'static> =
            self.private.as_be_bytes().expect("an X25519 key has a seed");
        Zeroizing::new(format!("{}\n", HEXLOWER.encode(seed.as_ref())))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> DatagramPublicKey {
        self.public
    }

    /// The secret shared with the holder of another key; none where that key is a point of small
    /// order, with which everybody would share the same secret.
    pub(crate) fn shared_with(&self, other: &DatagramPublicKey) -> Option<Zeroizing<[u8; 32]>> {
        let other = UnparsedPublicKey::new(&X25519, other.0);
        agreement::agree(&self.private, other, (), |secret| {
            let secret = Zeroizing::new(<[u8; 32]>::try_from(secret).map_err(|_| ())?);
            if *secret == [0; 32] { Err(()) } else { Ok(secret) }
        })
        .ok()
    }
}

impl std::fmt::Debug for DatagramKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DatagramKey(public {})", HEXLOWER.encode(&self.public.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_share_a_secret_that_a_third_has_not() {
        let (a, b, c) = (DatagramKey::generate(), DatagramKey::generate(), DatagramKey::generate());
        assert_eq!(a.shared_with(&b.public()), b.shared_with(&a.public()));
        assert_ne!(a.shared_with(&b.public()), c.shared_with(&b.public()));
        assert_eq!(a.shared_with(&DatagramPublicKey([0; 32])), None, "small order");
        let again = DatagramKey::from_text(&a.to_text()).unwrap();
        assert_eq!(again.public(), a.public());
        assert!(DatagramKey::from_text("00").is_err());
    }
}
