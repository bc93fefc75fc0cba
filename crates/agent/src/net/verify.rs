//! Whether to believe a certificate: the verifiers that rustls calls.
//!
//! Order: it reads as one of ours, it names our cluster, it chains to an authority in the bundle,
//! it is within its time, its role belongs on this port. Signatures and chains are rustls-webpki's
//! work. Host names play no part: who a node is, its certificate says (`identity::subject`).

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, PeerMisbehaved,
    RootCertStore, SignatureScheme,
};
use thiserror::Error;

use super::counters::Refused;
use super::tls::provider;
use crate::identity::{
    Caller, ClusterId, Fingerprint, IdentityError, JoinToken, Role, TrustBundle,
};

/// Why a certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It is none of ours in form.
    #[error("the certificate is none of Backstay's ({0})")]
    Malformed(String),
    /// It is of another cluster.
    #[error("the certificate is for cluster {theirs}, this is cluster {ours}")]
    Cluster {
        /// Its cluster.
        theirs: ClusterId,
        /// Ours.
        ours: ClusterId,
    },
    /// No authority we believe has issued it.
    #[error(
        "the certificate of {0} was issued by an authority that is not believed here; after a \
         rotation, renew it"
    )]
    Authority(String),
    /// Its role has no business here.
    #[error("the certificate of {name} has the role {role}, which has no business on this port")]
    Role {
        /// Whose it is.
        name: String,
        /// Its role.
        role: Role,
    },
    /// It has run out.
    #[error("the certificate of {0} has run out; its agent renews it when it starts")]
    Expired(String),
    /// It begins in the future.
    #[error("the certificate of {0} is not valid yet; set this machine's clock right")]
    NotYet(String),
}

impl Refusal {
    /// What it counts as.
    #[must_use]
    pub fn counted_as(&self) -> Refused {
        match self {
            Refusal::Malformed(_) => Refused::Malformed,
            Refusal::Cluster { .. } => Refused::Cluster,
            Refusal::Authority(_) => Refused::Authority,
            Refusal::Role { .. } => Refused::Role,
            Refusal::Expired(_) => Refused::Expired,
            Refusal::NotYet(_) => Refused::NotYet,
        }
    }

    /// The refusal behind a failed handshake, where one of our verifiers said no.
    #[must_use]
    pub fn behind(error: &std::io::Error) -> Option<&Refusal> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error
        else {
            return None;
        };
        inner.downcast_ref::<Refusal>()
    }
}

/// What a certificate may have run out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Nothing: it is refused.
    Refuse,
    /// It is let in and marked ([`Caller::expired`]); the API then opens `renew` alone to it, the
    /// peer port lets members in alone.
    Mark,
}

/// The rules of one port or one use.
#[derive(Debug)]
struct Rules {
    cluster: ClusterId,
    nodes_only: bool,
    expiry: Expiry,
}

impl Rules {
    /// Lets a leaf in or says in TLS why not.
    fn admit(
        &self,
        leaf: &CertificateDer<'_>,
        now: UnixTime,
        chain: impl Fn(UnixTime) -> Result<(), rustls::Error>,
    ) -> Result<(), rustls::Error> {
        self.judge(leaf, now, chain).map_err(|refusal| {
            let other = OtherError(Arc::new(refusal));
            rustls::Error::InvalidCertificate(CertificateError::Other(other))
        })
    }

    /// Judges a leaf; `chain` verifies its chain at a moment.
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        now: UnixTime,
        chain: impl Fn(UnixTime) -> Result<(), rustls::Error>,
    ) -> Result<(), Refusal> {
        let caller = Caller::read(leaf, now.as_secs())
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        let name = caller.name.to_string();
        if caller.cluster != self.cluster {
            return Err(Refusal::Cluster { theirs: caller.cluster, ours: self.cluster });
        }
        // An expired chain is verified at the last moment at which it was valid.
        let last = UnixTime::since_unix_epoch(Duration::from_secs(caller.expires_s));
        let at = if caller.expired && self.expiry == Expiry::Mark { last } else { now };
        chain(at).map_err(|error| refusal_of(&error, &name))?;
        if self.nodes_only && !caller.role.is_node() {
            return Err(Refusal::Role { name, role: caller.role });
        }
        Ok(())
    }
}

fn refusal_of(error: &rustls::Error, name: &str) -> Refusal {
    use CertificateError as Because;
    use rustls::Error::InvalidCertificate as Invalid;
    let name = name.to_string();
    match error {
        Invalid(Because::Expired | Because::ExpiredContext { .. }) => Refusal::Expired(name),
        Invalid(Because::NotValidYet | Because::NotValidYetContext { .. }) => Refusal::NotYet(name),
        Invalid(Because::UnknownIssuer | Because::BadSignature) => Refusal::Authority(name),
        other => Refusal::Malformed(other.to_string()),
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

/// TLS 1.2 is never offered, so nobody signs in it.
fn no_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme))
}

/// Judges those who connect to us.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    rules: Rules,
    inner: Arc<dyn ClientCertVerifier>,
    mandatory: bool,
}

impl ClientVerifier {
    /// For the peer port: nodes only. One whose certificate ran out is let in while it is a
    /// member, which the hello asks: the data path must not end by a date (decision 0041).
    pub(super) fn peers(bundle: &TrustBundle) -> Result<Self, IdentityError> {
        let rules = Rules { cluster: bundle.cluster(), nodes_only: true, expiry: Expiry::Mark };
        ClientVerifier::new(bundle, rules, true)
    }

    /// For the API: anybody of ours, nobody too; one whose certificate ran out is marked.
    pub(super) fn callers(bundle: &TrustBundle) -> Result<Self, IdentityError> {
        let rules = Rules { cluster: bundle.cluster(), nodes_only: false, expiry: Expiry::Mark };
        ClientVerifier::new(bundle, rules, false)
    }

    fn new(bundle: &TrustBundle, rules: Rules, mandatory: bool) -> Result<Self, IdentityError> {
        let roots = Arc::new(bundle.roots()?);
        let inner = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| IdentityError::malformed("authority bundle", error))?;
        Ok(ClientVerifier { rules, inner, mandatory })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let chain = |at| self.inner.verify_client_cert(leaf, intermediates, at).map(|_| ());
        self.rules.admit(leaf, now, chain).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// Whom a client believes.
#[derive(Debug)]
enum Anchor {
    Bundle(RootCertStore),
    /// The authority with this fingerprint, shown by the server itself (joining).
    Fingerprint(Fingerprint),
}

/// Judges those we connect to: always nodes.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    rules: Rules,
    anchor: Anchor,
}

impl ServerVerifier {
    /// Believes the bundle.
    pub(super) fn bundle(bundle: &TrustBundle, expiry: Expiry) -> Result<Self, IdentityError> {
        let rules = Rules { cluster: bundle.cluster(), nodes_only: true, expiry };
        Ok(ServerVerifier { rules, anchor: Anchor::Bundle(bundle.roots()?) })
    }

    /// Believes the authority that a token names.
    pub(super) fn token(token: &JoinToken) -> Self {
        let rules = Rules { cluster: token.cluster, nodes_only: true, expiry: Expiry::Refuse };
        ServerVerifier { rules, anchor: Anchor::Fingerprint(token.authority) }
    }

    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Result<(), rustls::Error> {
        let leaf = ParsedCertificate::try_from(leaf)?;
        let shown;
        let roots = match &self.anchor {
            Anchor::Bundle(roots) => roots,
            Anchor::Fingerprint(wanted) => {
                let authority = intermediates
                    .iter()
                    .find(|der| Fingerprint::of(der) == *wanted)
                    .ok_or(CertificateError::UnknownIssuer)?;
                let mut roots = RootCertStore::empty();
                roots.add(authority.clone().into_owned())?;
                shown = roots;
                &shown
            }
        };
        let algorithms = algorithms();
        let all = algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, roots, intermediates, at, all)
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = |at| self.verify_chain(leaf, intermediates, at);
        self.rules.admit(leaf, now, chain).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}
