//! A node's or person's private key, and the request that asks for a certificate over it.
//!
//! The request is PKCS#10 (RFC 2986): its signature proves that whoever asks holds the key.
//! Everything else in it is ignored: the cluster decides role and name, by token or by the
//! certificate that is renewed.

use rcgen::{CertificateParams, CertificateSigningRequestParams, KeyPair, PublicKeyData};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::{Fingerprint, IdentityError};

/// Longest request that is looked at, in bytes of PEM. Ours have about 400.
pub const REQUEST_MAX: usize = 4_096;

/// A private key for TLS: ECDSA on P-256, which every TLS library and security module knows.
pub struct NodeKey(KeyPair);

impl NodeKey {
    /// A new key.
    ///
    /// # Errors
    /// [`IdentityError::Issue`] where the machine has no random numbers.
    pub fn generate() -> Result<NodeKey, IdentityError> {
        Ok(NodeKey(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?))
    }

    /// Reads PEM (PKCS#8).
    ///
    /// # Errors
    /// [`IdentityError::Malformed`] where it is none.
    pub fn from_pem(pem: &str) -> Result<NodeKey, IdentityError> {
        let key = KeyPair::from_pem(pem).map_err(|e| IdentityError::malformed("private key", e))?;
        Ok(NodeKey(key))
    }

    /// The key as PEM, for its file.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// A request for a certificate over this key.
    ///
    /// # Errors
    /// [`IdentityError::Issue`] where signing fails.
    pub fn request(&self) -> Result<String, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(params.serialize_request(&self.0)?.pem()?)
    }

    pub(super) fn pair(&self) -> &KeyPair {
        &self.0
    }

    pub(super) fn into_pair(self) -> KeyPair {
        self.0
    }

    /// The key as rustls takes it.
    pub(crate) fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }

    /// Whether this key is the one a certificate is for.
    pub(super) fn belongs_to(&self, certificate_der: &[u8]) -> bool {
        use x509_parser::prelude::{FromDer, X509Certificate};
        X509Certificate::from_der(certificate_der).is_ok_and(|(_, certificate)| {
            certificate.public_key().subject_public_key.data.as_ref() == self.0.public_key_raw()
        })
    }
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

/// A request whose signature was checked.
#[derive(Debug, Clone)]
pub struct CertificateRequest(rcgen::PublicKey);

impl CertificateRequest {
    /// Reads and checks a request. Pure.
    ///
    /// # Errors
    /// [`IdentityError::Request`] where it is too long, damaged, not signed by its own key, or
    /// over a kind of key that we don't issue for.
    pub fn from_pem(pem: &str) -> Result<CertificateRequest, IdentityError> {
        if pem.len() > REQUEST_MAX {
            return Err(IdentityError::Request(format!("it is longer than {REQUEST_MAX} bytes")));
        }
        let request = CertificateSigningRequestParams::from_pem(pem)
            .map_err(|error| IdentityError::Request(error.to_string()))?;
        let known = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519];
        if !known.contains(&request.public_key.algorithm()) {
            let why = "its key is neither ECDSA P-256 nor Ed25519";
            return Err(IdentityError::Request(why.to_string()));
        }
        Ok(CertificateRequest(request.public_key))
    }

    /// Names the key, so that a repeated request can be told from another one.
    #[must_use]
    pub fn key_fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.der_bytes())
    }

    pub(super) fn public_key(&self) -> &rcgen::PublicKey {
        &self.0
    }
}
