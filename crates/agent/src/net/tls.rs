//! TLS configurations: which verifier, which certificate, for which use.
//!
//! TLS 1.3 only, and no session resumption: a resumed session would not look at the certificate
//! again, so that one which ran out or whose authority was dropped would live on.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};

use super::verify::{ClientVerifier, Expiry, ServerVerifier};
use crate::identity::{Caller, Credential, Fingerprint, IdentityError, JoinToken, TrustBundle};

/// What both sides of a peer connection must name (ALPN): a client of the API that ends up on the
/// peer port is refused by TLS.
pub const PEER_PROTOCOL: &[u8] = b"backstay-peer/1";
/// The API's protocol.
pub const API_PROTOCOL: &[u8] = b"http/1.1";

static VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    let make = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Arc::clone(PROVIDER.get_or_init(make))
}

/// A node's TLS, as it stands. It can be replaced while connections are open: new ones use the
/// new certificate and bundle.
#[derive(Debug)]
pub struct Tls(RwLock<Arc<Configs>>);

/// One state of a node's TLS.
#[derive(Debug)]
pub struct Configs {
    /// Who this node is.
    pub caller: Caller,
    /// The authorities it believes.
    authorities: Vec<Fingerprint>,
    /// Wall-clock second at which the first of them ends.
    pub issuer_expires_s: u64,
    /// For those who connect to the peer port.
    pub peer_server: Arc<ServerConfig>,
    /// For connecting to peer ports.
    pub peer_client: Arc<ClientConfig>,
    /// For those who connect to the API.
    pub api_server: Arc<ServerConfig>,
}

impl Configs {
    fn new(credential: &Credential) -> Result<Configs, IdentityError> {
        let bundle = credential.bundle();
        let peers = ClientVerifier::peers(bundle)?;
        let callers = ClientVerifier::callers(bundle)?;
        let verifier = ServerVerifier::bundle(bundle, Expiry::Refuse)?;
        Ok(Configs {
            caller: credential.caller(),
            authorities: bundle.authorities().iter().map(|a| a.fingerprint()).collect(),
            issuer_expires_s: bundle.authorities().iter().map(|a| a.expires_s()).min().unwrap_or(0),
            peer_server: server(credential, peers, PEER_PROTOCOL)?,
            peer_client: client(Some(credential), verifier, PEER_PROTOCOL)?,
            api_server: server(credential, callers, API_PROTOCOL)?,
        })
    }
}

/// What a connection rests on, so that it can be ended when that is gone: the certificate it was
/// made with and the authorities that were believed then.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) caller: Caller,
    authorities: Vec<Fingerprint>,
}

impl Ground {
    pub(super) fn new(caller: Caller, configs: &Configs) -> Ground {
        Ground { caller, authorities: configs.authorities.clone() }
    }

    /// Why the connection must end, if it must.
    pub(super) fn lost(&self, tls: &Tls, now_s: u64) -> Option<&'static str> {
        if now_s > self.caller.expires_s {
            return Some("the other side's certificate has run out");
        }
        let believed = &tls.now().authorities;
        let all = self.authorities.iter().all(|authority| believed.contains(authority));
        (!all).then_some("an authority that was believed then is believed no more")
    }
}

impl Tls {
    /// TLS for a node.
    ///
    /// # Errors
    /// [`IdentityError`] where certificate and bundle can't be used.
    pub fn new(credential: &Credential) -> Result<Tls, IdentityError> {
        Ok(Tls(RwLock::new(Arc::new(Configs::new(credential)?))))
    }

    /// Replaces certificate and bundle, after a renewal or in a rotation.
    ///
    /// # Errors
    /// [`IdentityError`]; the old ones stay then.
    pub fn replace(&self, credential: &Credential) -> Result<(), IdentityError> {
        let configs = Arc::new(Configs::new(credential)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = configs;
        Ok(())
    }

    /// The state of this moment.
    #[must_use]
    pub fn now(&self) -> Arc<Configs> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// For calling the API as the holder of a credential. `expiry` says whether a node whose own
/// certificate ran out is believed: [`Expiry::Mark`] is for renewing after the whole cluster was
/// off for longer than certificates live.
///
/// # Errors
/// [`IdentityError`].
pub fn api_client(
    credential: &Credential,
    expiry: Expiry,
) -> Result<Arc<ClientConfig>, IdentityError> {
    let verifier = ServerVerifier::bundle(credential.bundle(), expiry)?;
    client(Some(credential), verifier, API_PROTOCOL)
}

/// For calling the API without a certificate: health checks.
///
/// # Errors
/// [`IdentityError`].
pub fn anonymous_client(bundle: &TrustBundle) -> Result<Arc<ClientConfig>, IdentityError> {
    client(None, ServerVerifier::bundle(bundle, Expiry::Refuse)?, API_PROTOCOL)
}

/// For joining: no certificate yet, and the authority is known by its fingerprint only.
///
/// # Errors
/// [`IdentityError`].
pub fn join_client(token: &JoinToken) -> Result<Arc<ClientConfig>, IdentityError> {
    client(None, ServerVerifier::token(token), API_PROTOCOL)
}

fn server(
    credential: &Credential,
    verifier: ClientVerifier,
    protocol: &[u8],
) -> Result<Arc<ServerConfig>, IdentityError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .and_then(|builder| {
            builder
                .with_client_cert_verifier(Arc::new(verifier))
                .with_single_cert(credential.chain().to_vec(), credential.key().to_rustls())
        })
        .map_err(|error| IdentityError::malformed("certificate", error))?;
    config.alpn_protocols = vec![protocol.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client(
    credential: Option<&Credential>,
    verifier: ServerVerifier,
    protocol: &[u8],
) -> Result<Arc<ClientConfig>, IdentityError> {
    let wrong = |error: rustls::Error| IdentityError::malformed("certificate", error);
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(wrong)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match credential {
        Some(credential) => builder
            .with_client_auth_cert(credential.chain().to_vec(), credential.key().to_rustls())
            .map_err(wrong)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}
