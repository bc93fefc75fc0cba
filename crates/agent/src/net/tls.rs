//! TLS configurations: which verifier, which certificate, for which use.
//!
//! TLS 1.3 only, and no session resumption: a resumed session would not look at the certificate
//! again, so that one which ran out or whose authority was dropped would live on.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use model::NodeName;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;

use super::verify::{ClientVerifier, Expiry, ServerVerifier};
use crate::identity::{
    AuthorityCertificate, Caller, Credential, Fingerprint, IdentityError, JoinToken, Standing,
    TrustBundle, wall_s,
};

/// What both sides of a peer connection must name (ALPN): a client of the API that ends up on the
/// peer port is refused by TLS.
pub const PEER_PROTOCOL: &[u8] = b"backstay-peer/1";
/// The API's protocol.
pub const API_PROTOCOL: &[u8] = b"http/1.1";

static VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The one cryptography that all of this crate's TLS uses.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    let make = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Arc::clone(PROVIDER.get_or_init(make))
}

/// A node's TLS, as it stands. It can be replaced while connections are open: new ones use the
/// new certificate and bundle.
#[derive(Debug)]
pub struct Tls {
    configs: watch::Sender<Arc<Configs>>,
    /// People and programs whose certificates are refused.
    revoked: RwLock<Arc<BTreeSet<NodeName>>>,
}

/// One state of a node's TLS.
#[derive(Debug)]
pub struct Configs {
    /// Who this node is.
    pub caller: Caller,
    /// The authorities it believes, each with what judges whether it has issued something.
    authorities: Vec<Issuer>,
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
        let verifier = ServerVerifier::bundle(bundle, Expiry::Mark)?;
        Ok(Configs {
            caller: credential.caller(),
            authorities: issuers(bundle)?,
            issuer_expires_s: bundle.authorities().iter().map(|a| a.expires_s()).min().unwrap_or(0),
            peer_server: server(credential, peers, PEER_PROTOCOL)?,
            peer_client: client(Some(credential), verifier, PEER_PROTOCOL)?,
            api_server: server(credential, callers, API_PROTOCOL)?,
        })
    }

    /// Reads who showed a chain that was let in, and on which authority that rests: the one that
    /// issued the certificate itself before one that vouches for its issuer.
    pub(super) fn caller(&self, chain: &[CertificateDer<'_>]) -> Result<Caller, IdentityError> {
        let none = || IdentityError::malformed("certificate", "none was shown");
        let (leaf, others) = chain.split_first().ok_or_else(none)?;
        let caller = Caller::read(leaf, wall_s())?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(wall_s().min(caller.expires_s)));
        let by = |others: &[CertificateDer<'_>]| {
            let issued = |(_, judge): &&Issuer| judge.verify_client_cert(leaf, others, at).is_ok();
            self.authorities.iter().find(issued).map(|(print, _)| *print)
        };
        let issuer = by(&[]).or_else(|| by(others));
        Ok(Caller { issuer, ..caller })
    }

    /// Whether a connection that rests on this authority may go on.
    fn believes(&self, issuer: Option<Fingerprint>) -> bool {
        issuer.is_some_and(|issuer| self.authorities.iter().any(|(print, _)| *print == issuer))
    }
}

/// An authority, and what judges whether it has issued a certificate.
type Issuer = (Fingerprint, Arc<dyn ClientCertVerifier>);

/// What judges, for each authority alone, whether it has issued something.
fn issuers(bundle: &TrustBundle) -> Result<Vec<Issuer>, IdentityError> {
    let one = |authority: &AuthorityCertificate| {
        let alone = TrustBundle::new(vec![authority.clone()])?;
        let judge =
            WebPkiClientVerifier::builder_with_provider(Arc::new(alone.roots()?), provider());
        let judge =
            judge.build().map_err(|error| IdentityError::malformed("authority bundle", error))?;
        Ok((authority.fingerprint(), judge))
    };
    bundle.authorities().iter().map(one).collect()
}

impl Tls {
    /// TLS for a node.
    ///
    /// # Errors
    /// [`IdentityError`] where certificate and bundle can't be used.
    pub fn new(credential: &Credential) -> Result<Tls, IdentityError> {
        let configs = watch::Sender::new(Arc::new(Configs::new(credential)?));
        Ok(Tls { configs, revoked: RwLock::default() })
    }

    /// Replaces certificate and bundle, after a renewal or in a rotation.
    ///
    /// # Errors
    /// [`IdentityError`]; the old ones stay then.
    pub fn replace(&self, credential: &Credential) -> Result<(), IdentityError> {
        let configs = Arc::new(Configs::new(credential)?);
        self.configs.send_replace(configs);
        Ok(())
    }

    /// Sets the people and programs whose certificates are refused.
    pub fn refuse(&self, revoked: BTreeSet<NodeName>) {
        *self.revoked.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(revoked);
    }

    /// Somebody who was let in, judged now: much may have changed since.
    #[must_use]
    pub fn judge(&self, caller: Caller) -> Caller {
        let revoked = Arc::clone(&self.revoked.read().unwrap_or_else(PoisonError::into_inner));
        let standing = match () {
            () if !self.now().believes(caller.issuer) => Standing::Outcast,
            () if !caller.role.is_node() && revoked.contains(&caller.name) => Standing::Revoked,
            () => Standing::Good,
        };
        Caller { standing, ..caller.at(wall_s()) }
    }

    /// Why a connection of somebody must end, if it must. That its certificate ran out is no
    /// reason: calls ask that one by one, and a member is one until it is removed.
    pub(super) fn lost(&self, caller: &Caller) -> Option<&'static str> {
        let believed = self.now().believes(caller.issuer);
        (!believed).then_some("the authority of its certificate is believed no more")
    }

    /// Resolves once a connection of somebody must end.
    pub(crate) async fn until_lost(&self, caller: &Caller) {
        let mut changes = self.configs.subscribe();
        let lost = |configs: &Arc<Configs>| !configs.believes(caller.issuer);
        if changes.wait_for(lost).await.is_err() {
            // Nothing changes any more: this is the end of the node.
            std::future::pending::<()>().await;
        }
    }

    /// The state of this moment.
    #[must_use]
    pub fn now(&self) -> Arc<Configs> {
        Arc::clone(&self.configs.borrow())
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
