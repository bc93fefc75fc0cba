//! The cluster's own authority: makes itself, and issues certificates. It is the only code that
//! signs one.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use zeroize::Zeroizing;

use super::request::NodeKey;
use super::rotation::AuthorityCertificate;
use super::subject::authority_uri;
use super::{CertificateRequest, ClusterId, Fingerprint, IdentityError, Subject};

/// How long an authority lives, in days: ten years. Rotate it earlier.
pub const AUTHORITY_DAYS: u64 = 3_653;
/// How long certificates live unless the specification says otherwise, in days.
pub const CERTIFICATE_DAYS: u64 = model::authority::CERTIFICATE_DAYS;
/// A certificate begins this much before it is made, in seconds: nodes' wall clocks differ.
pub const CLOCK_SKEW_S: u64 = 300;
/// Most addresses in one certificate.
pub const ADDRESSES_MAX: usize = 16;

const DAY_S: u64 = 86_400;

/// From when to when a certificate is valid, in wall-clock seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub begins_s: u64,
    /// Last second.
    pub ends_s: u64,
}

impl Validity {
    /// So many days from now.
    #[must_use]
    pub const fn days(now_s: u64, days: u64) -> Validity {
        Validity {
            begins_s: now_s.saturating_sub(CLOCK_SKEW_S),
            ends_s: now_s.saturating_add(days.saturating_mul(DAY_S)),
        }
    }
}

/// The authority with its private key.
pub struct Authority {
    certificate: AuthorityCertificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority. For a rotation, pass the id of the cluster that exists.
    ///
    /// # Errors
    /// [`IdentityError::Issue`] where the certificate library refuses.
    pub fn create(
        cluster: ClusterId,
        cluster_name: &str,
        now_s: u64,
    ) -> Result<Authority, IdentityError> {
        let key = NodeKey::generate()?;
        let params = authority_params(cluster, cluster_name, now_s)?;
        let certificate = params.self_signed(key.pair())?;
        Ok(Authority {
            certificate: AuthorityCertificate::from_der(certificate.der().to_vec())?,
            issuer: Issuer::new(params, key.into_pair()),
        })
    }

    /// Certifies the key of the authority that takes this one's place (PEM): whoever believes this
    /// one alone believes then what the next one issues. Both are called alike, so that this is
    /// "new with old" of a key roll-over (RFC 4210, 4.4), which path lengths don't forbid.
    ///
    /// # Errors
    /// [`IdentityError::BundleClusters`] where it is of another cluster, [`IdentityError::Issue`]
    /// where the certificate library refuses.
    pub fn endorse(&self, next: &Authority, now_s: u64) -> Result<String, IdentityError> {
        let cluster = self.certificate.cluster();
        if next.certificate.cluster() != cluster {
            return Err(IdentityError::BundleClusters);
        }
        let params = authority_params(cluster, next.certificate.cluster_name(), now_s)?;
        Ok(params.signed_by(next.issuer.key(), &self.issuer)?.pem())
    }

    /// Reads an authority back from its certificate and key.
    ///
    /// # Errors
    /// [`IdentityError::Malformed`] or [`IdentityError::KeyMismatch`].
    pub fn from_pem(certificate: &str, key: &str) -> Result<Authority, IdentityError> {
        let certificate = AuthorityCertificate::from_pem(certificate)?;
        let key = NodeKey::from_pem(key)?;
        if !key.belongs_to(certificate.der()) {
            return Err(IdentityError::KeyMismatch);
        }
        let der = rustls::pki_types::CertificateDer::from(certificate.der().to_vec());
        let issuer = Issuer::from_ca_cert_der(&der, key.into_pair())?;
        Ok(Authority { certificate, issuer })
    }

    /// The private key as PEM, for its file (mode 0600) and nothing else.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn certificate(&self) -> &AuthorityCertificate {
        &self.certificate
    }

    /// Fingerprint of the authority's certificate: what a join token binds to.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.certificate.fingerprint()
    }

    /// Issues a certificate and returns it as PEM, followed by the authority's own, which a
    /// joining node checks against its token. `addresses` let standard tools check a node by
    /// its address; we never read them. Only nodes get the right to act as a TLS server.
    ///
    /// # Errors
    /// [`IdentityError::Request`] where the subject belongs to another cluster or there are too
    /// many addresses; [`IdentityError::Issue`] where the certificate library refuses.
    pub fn issue(
        &self,
        subject: &Subject,
        request: &CertificateRequest,
        addresses: &[IpAddr],
        validity: Validity,
    ) -> Result<String, IdentityError> {
        if subject.cluster != self.certificate.cluster() {
            return Err(IdentityError::Request(format!(
                "it is for cluster {}, and this is the authority of {}",
                subject.cluster,
                self.certificate.cluster()
            )));
        }
        if addresses.len() > ADDRESSES_MAX {
            let why = format!("a certificate carries at most {ADDRESSES_MAX} addresses");
            return Err(IdentityError::Request(why));
        }
        let name = subject.name.as_str();
        let mut params =
            params(name, self.certificate.cluster_name(), &subject.to_uri(), validity)?;
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if subject.role.is_node() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(request.public_key(), &self.issuer)?;
        Ok(format!("{}{}", certificate.pem(), self.certificate.to_pem()))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

fn authority_params(
    cluster: ClusterId,
    cluster_name: &str,
    now_s: u64,
) -> Result<CertificateParams, IdentityError> {
    let mut params = params(
        &format!("{cluster_name} authority"),
        cluster_name,
        &authority_uri(cluster, cluster_name),
        Validity::days(now_s, AUTHORITY_DAYS),
    )?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

/// What all our certificates have in common. The serial is random: it names one certificate and
/// can't be guessed before it is signed.
fn params(
    common_name: &str,
    organisation: &str,
    uri: &str,
    validity: Validity,
) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    params.not_before = at(validity.begins_s).into();
    params.not_after = at(validity.ends_s).into();
    let mut serial: [u8; 16] = super::random();
    serial[0] = serial[0] & 0x7f | 0x01; // Positive, and of one length (RFC 5280, 4.1.2.2).
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}
