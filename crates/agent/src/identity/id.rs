//! The numbers that name a cluster and a certificate.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use model::authority::AuthorityId;
use serde::{Deserialize, Serialize};

/// A cluster's identity: drawn at random when it is created, never changed, in every certificate,
/// datagram key and token. A cluster's name can be given twice, this can't.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl ClusterId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        ClusterId(super::random())
    }
}

/// SHA-256 of a certificate's DER form, as `openssl x509 -fingerprint -sha256` prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Fingerprint(bytes)
    }
}

impl From<Fingerprint> for AuthorityId {
    fn from(print: Fingerprint) -> AuthorityId {
        AuthorityId(print.0)
    }
}

macro_rules! hex_text {
    ($name:ident, $bytes:literal, $wrong:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = &'static str;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| $wrong)?;
                Ok($name(<[u8; $bytes]>::try_from(bytes).map_err(|_| $wrong)?))
            }
        }
    };
}

hex_text!(ClusterId, 16, "a cluster id has 32 digits, 0-9 and a-f");
hex_text!(Fingerprint, 32, "a fingerprint has 64 digits, 0-9 and a-f");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_from_their_text() {
        let id = ClusterId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("abc".parse::<ClusterId>().is_err());
        assert!("A".repeat(32).parse::<ClusterId>().is_err(), "one spelling only");
        let print = Fingerprint::of(b"x");
        assert_eq!(print.to_string().parse(), Ok(print));
    }
}
