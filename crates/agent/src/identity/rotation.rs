//! The authorities a node believes: one, or the old and the new while an authority is rotated.
//!
//! Rotation: make the new authority, spread a bundle of both, let every node renew under the new
//! one, then spread a bundle without the old one.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::certificate::read_ours;
use super::subject::read_authority_uri;
use super::{ClusterId, Fingerprint, IdentityError};

/// Most authorities in one bundle: old and new, and a spare for a rotation that was broken off.
pub const AUTHORITIES_MAX: usize = 3;

/// An authority's certificate, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityCertificate {
    der: Vec<u8>,
    cluster: ClusterId,
    cluster_name: String,
    expires_s: u64,
}

impl AuthorityCertificate {
    /// Reads DER.
    ///
    /// # Errors
    /// [`IdentityError::Malformed`] where it is no authority's certificate of ours.
    pub fn from_der(der: Vec<u8>) -> Result<Self, IdentityError> {
        let what = "authority certificate";
        let (uri, _, expires_s) = read_ours(&der, what)?;
        let (cluster, cluster_name) =
            read_authority_uri(&uri).map_err(|e| IdentityError::malformed(what, e))?;
        Ok(AuthorityCertificate { der, cluster, cluster_name, expires_s })
    }

    /// Reads PEM; the first certificate in it counts.
    ///
    /// # Errors
    /// [`IdentityError::Malformed`] where it is no authority's certificate of ours.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|e| IdentityError::malformed("authority certificate", e))?;
        AuthorityCertificate::from_der(der.to_vec())
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        to_pem(&self.der)
    }

    /// The certificate as DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The cluster it is the authority of.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// That cluster's name when the authority was made.
    #[must_use]
    pub fn cluster_name(&self) -> &str {
        &self.cluster_name
    }

    /// Its last wall-clock second. It is watched and warned of, not enforced: a cluster whose
    /// authority ran out goes on under it, because stopping the service would be the worse end.
    #[must_use]
    pub fn expires_s(&self) -> u64 {
        self.expires_s
    }

    /// Its fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }
}

/// The authorities that are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle(Vec<AuthorityCertificate>);

impl TrustBundle {
    /// A bundle of these.
    ///
    /// # Errors
    /// [`IdentityError::BundleSize`] and [`IdentityError::BundleClusters`].
    pub fn new(authorities: Vec<AuthorityCertificate>) -> Result<Self, IdentityError> {
        let count = authorities.len();
        if count == 0 || count > AUTHORITIES_MAX {
            return Err(IdentityError::BundleSize { count, max: AUTHORITIES_MAX });
        }
        if authorities.iter().any(|a| a.cluster != authorities[0].cluster) {
            return Err(IdentityError::BundleClusters);
        }
        Ok(TrustBundle(authorities))
    }

    /// Reads a file of PEM certificates.
    ///
    /// # Errors
    /// [`IdentityError::Malformed`] and those of [`TrustBundle::new`].
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let what = "authority bundle";
        let mut authorities = Vec::new();
        for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let der = der.map_err(|e| IdentityError::malformed(what, e))?;
            authorities.push(AuthorityCertificate::from_der(der.to_vec())?);
        }
        TrustBundle::new(authorities)
    }

    /// The bundle as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.0.iter().map(AuthorityCertificate::to_pem).collect()
    }

    /// The authorities.
    #[must_use]
    pub fn authorities(&self) -> &[AuthorityCertificate] {
        &self.0
    }

    /// The cluster they belong to.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.0[0].cluster
    }

    /// The bundle with one more authority, for the first half of a rotation. Adding one that is
    /// there changes nothing.
    ///
    /// # Errors
    /// Those of [`TrustBundle::new`].
    pub fn with(&self, authority: AuthorityCertificate) -> Result<Self, IdentityError> {
        let mut authorities = self.0.clone();
        if !authorities.contains(&authority) {
            authorities.push(authority);
        }
        TrustBundle::new(authorities)
    }

    /// The bundle without one authority, for the second half.
    ///
    /// # Errors
    /// [`IdentityError::BundleSize`] where none would be left.
    pub fn without(&self, authority: Fingerprint) -> Result<Self, IdentityError> {
        let kept = self.0.iter().filter(|a| a.fingerprint() != authority).cloned().collect();
        TrustBundle::new(kept)
    }

    pub(crate) fn roots(&self) -> Result<RootCertStore, IdentityError> {
        let mut roots = RootCertStore::empty();
        for authority in &self.0 {
            roots
                .add(CertificateDer::from(authority.der.clone()))
                .map_err(|e| IdentityError::malformed("authority certificate", e))?;
        }
        Ok(roots)
    }
}

/// One certificate as PEM (RFC 7468).
pub(super) fn to_pem(der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let mut pem = String::with_capacity(text.len() + text.len() / 64 + 64);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
