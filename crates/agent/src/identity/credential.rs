//! What one party shows and believes in a TLS connection: its certificate chain, its key, and
//! the authorities it accepts. An operator keeps it as one file.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::certificate::read_addresses;
use super::rotation::to_pem;
use super::{Caller, Fingerprint, IdentityError, NodeKey, TrustBundle, wall_s};

/// Most certificates in a chain: the holder's, its authority's, and that one's endorsement by the
/// authority before.
pub const CHAIN_MAX: usize = 3;

/// A certificate with its key and the authorities to believe.
#[derive(Debug)]
pub struct Credential {
    bundle: TrustBundle,
    chain: Vec<CertificateDer<'static>>,
    key: NodeKey,
    caller: Caller,
}

impl Credential {
    /// Puts the parts together. `chain` is what [`super::Authority::issue`] returned.
    ///
    /// # Errors
    /// [`IdentityError::Malformed`] where the chain is none, [`IdentityError::KeyMismatch`] where
    /// it was issued for another key.
    pub fn new(bundle: TrustBundle, chain: &str, key: NodeKey) -> Result<Self, IdentityError> {
        let what = "certificate";
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| IdentityError::malformed(what, e))?;
        let leaf = match chain.as_slice() {
            [leaf, ..] if chain.len() <= CHAIN_MAX => leaf,
            _ => {
                let why = format!("{} certificates, not 1 to {CHAIN_MAX}", chain.len());
                return Err(IdentityError::malformed(what, why));
            }
        };
        let caller = Caller::read(leaf, wall_s())?;
        if caller.cluster != bundle.cluster() {
            return Err(IdentityError::BundleClusters);
        }
        if !key.belongs_to(leaf) {
            return Err(IdentityError::KeyMismatch);
        }
        Ok(Credential { bundle, chain, key, caller })
    }

    /// Who the holder is, judged now.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.caller.clone().at(wall_s())
    }

    /// The addresses in its certificate.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        read_addresses(&self.chain[0])
    }

    /// The authority that issued its certificate, where that is shown with it.
    #[must_use]
    pub fn issuer(&self) -> Option<Fingerprint> {
        self.chain.get(1).map(|der| Fingerprint::of(der))
    }

    /// The authorities it believes.
    #[must_use]
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &NodeKey {
        &self.key
    }

    /// The chain as PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| to_pem(der)).collect()
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Everything as one PEM text: holder's certificate, key, then the authorities. This is the
    /// form of an operator's credential file; it is a secret (mode 0600).
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let key = self.key.to_pem();
        Zeroizing::new(format!("{}{}{}", to_pem(&self.chain[0]), *key, self.bundle.to_pem()))
    }

    /// Reads that text back.
    ///
    /// # Errors
    /// Those of [`Credential::new`] and [`TrustBundle::from_pem`].
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let mut certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
        let what = "credential";
        let leaf = certificates
            .next()
            .ok_or_else(|| IdentityError::malformed(what, "it holds no certificate"))?
            .map_err(|e| IdentityError::malformed(what, e))?;
        let mut bundle = String::new();
        for authority in certificates {
            let authority = authority.map_err(|e| IdentityError::malformed(what, e))?;
            bundle.push_str(&to_pem(&authority));
        }
        Credential::new(TrustBundle::from_pem(&bundle)?, &to_pem(&leaf), key_section(pem)?)
    }
}

/// rcgen's reader takes the first PEM section, whatever it is; the key is in the middle.
fn key_section(pem: &str) -> Result<NodeKey, IdentityError> {
    let begin = "-----BEGIN PRIVATE KEY-----";
    let end = "-----END PRIVATE KEY-----";
    let section = pem
        .find(begin)
        .and_then(|from| Some(&pem[from..from + pem[from..].find(end)? + end.len()]))
        .ok_or_else(|| IdentityError::malformed("credential", "it holds no private key"))?;
    NodeKey::from_pem(section)
}
