//! Certificates renew themselves at two thirds of their life, also after they ran out.
//!
//! A node that holds the authority's key issues its own, at a start before it needs anybody, and
//! keeps the operator's credential in its data directory fresh too. Another one asks.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::files::DataDir;
use super::found::CERTIFICATE_DAYS;
use super::start::with_cause;
use crate::api::call::Issued;
use crate::api::{ApiClient, Metrics};
use crate::identity::{
    Authority, CertificateRequest, Credential, Identity, IdentityError, IdentityFiles, Validity,
    read_file, wall_s, write_file,
};
use crate::net::tls::Tls;

/// How often it is looked whether a renewal is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After a failed attempt.
const RETRY_EVERY: Duration = Duration::from_secs(10);
/// How long a start waits for a new certificate where the old one ran out; the agent goes on
/// asking afterwards.
const START_WAIT: Duration = Duration::from_secs(10);

/// Pause between two questions meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Why a renewal failed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Call(#[from] crate::api::ClientError),
    #[error("the answer can't be understood: {0}")]
    Answer(String),
    #[error("nobody renewed it within {} s", START_WAIT.as_secs())]
    Late,
}

/// A node's place in the cluster, as a renewal needs it.
pub struct Place {
    /// Where the others' API answers.
    pub endpoints: Vec<SocketAddr>,
    /// This node's addresses, which its certificate names.
    pub links: Vec<IpAddr>,
}

/// Renews at a start what is due: without anybody's help where this node may issue; by asking, for
/// a short time, where the certificate ran out and nothing else could be asked with it. What fails
/// is tried again while the agent runs.
pub(super) fn at_start(
    data: &DataDir,
    identity: Identity,
    endpoints: &[SocketAddr],
    runtime: &tokio::runtime::Runtime,
) -> Identity {
    let caller = identity.credential.caller();
    let files = IdentityFiles::new(data.path());
    renew_operator(data, &files);
    if wall_s() < caller.renew_at_s() {
        return identity;
    }
    let links = identity.credential.addresses();
    let renewed = match files.load_authority() {
        Ok(Some(authority)) => issue_own(&files, &authority, &identity, &links),
        Ok(None) if caller.expired => runtime.block_on(async {
            let asked = tokio::time::timeout(START_WAIT, insist(&identity, endpoints)).await;
            let chain = asked.map_err(|_| RenewError::Late)?;
            Ok(files.replace_certificate(&chain)?)
        }),
        Ok(None) => return identity,
        Err(error) => Err(error.into()),
    };
    match renewed {
        Ok(renewed) => {
            tracing::info!(had_run_out = caller.expired, "the certificate was renewed");
            renewed
        }
        Err(error) => {
            tracing::warn!("the certificate can't be renewed yet: {}", with_cause(&error));
            identity
        }
    }
}

/// Keeps this node's certificate fresh until the agent ends.
pub async fn keep(
    data: DataDir,
    tls: Arc<Tls>,
    metrics: Arc<Metrics>,
    place: impl Fn() -> Place + Send,
) {
    let files = IdentityFiles::new(data.path());
    loop {
        let caller = tls.now().caller.clone();
        let left = caller.expires_s.saturating_sub(wall_s());
        metrics.certificate_remaining.set(left as f64);
        metrics.issuer_remaining.set(tls.now().issuer_expires_s.saturating_sub(wall_s()) as f64);
        let until_due = Duration::from_secs(caller.renew_at_s().saturating_sub(wall_s()));
        if !until_due.is_zero() {
            renew_operator(&data, &files);
            tokio::time::sleep(until_due.min(LOOK_EVERY)).await;
            continue;
        }
        match renew(&files, &tls, &place()).await {
            Ok(()) => tracing::info!("the certificate was renewed"),
            Err(error) => {
                tracing::warn!(
                    seconds_left = left,
                    "the certificate can't be renewed: {}",
                    with_cause(&error)
                );
                tokio::time::sleep(RETRY_EVERY).await;
            }
        }
    }
}

async fn renew(files: &IdentityFiles, tls: &Tls, place: &Place) -> Result<(), RenewError> {
    let identity = files.load()?;
    let renewed = match files.load_authority()? {
        Some(authority) => issue_own(files, &authority, &identity, &place.links)?,
        None => files.replace_certificate(&ask(&identity, &place.endpoints).await?)?,
    };
    tls.replace(&renewed.credential)?;
    Ok(())
}

/// This node may issue: it needs nobody.
fn issue_own(
    files: &IdentityFiles,
    authority: &Authority,
    identity: &Identity,
    links: &[IpAddr],
) -> Result<Identity, RenewError> {
    let chain = next(authority, &identity.credential, links)?;
    Ok(files.replace_certificate(&chain)?)
}

/// The next certificate for the same holder and key.
fn next(
    authority: &Authority,
    credential: &Credential,
    links: &[IpAddr],
) -> Result<String, IdentityError> {
    let request = CertificateRequest::from_pem(&credential.key().request()?)?;
    let subject = credential.caller().subject();
    authority.issue(&subject, &request, links, Validity::days(wall_s(), CERTIFICATE_DAYS))
}

/// Asks until somebody answers: after a loss of power all nodes start at once.
async fn insist(identity: &Identity, endpoints: &[SocketAddr]) -> String {
    loop {
        match ask(identity, endpoints).await {
            Ok(chain) => return chain,
            Err(error) => tracing::debug!("not renewed: {error}"),
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn ask(identity: &Identity, endpoints: &[SocketAddr]) -> Result<String, RenewError> {
    let body = json!({ "request": identity.credential.key().request()? });
    let client = ApiClient::renewing(&identity.credential, endpoints)?;
    let answer = client.post("/v1/renew", &body).await?;
    let issued: Issued =
        serde_json::from_value(answer).map_err(|error| RenewError::Answer(error.to_string()))?;
    Ok(issued.certificate)
}

/// The operator's credential beside the authority's key: without it, a cluster that was off for
/// longer than certificates live would be locked. Whoever can read the one can read the other.
fn renew_operator(data: &DataDir, files: &IdentityFiles) {
    match try_renew_operator(data, files) {
        Ok(false) => {}
        Ok(true) => tracing::info!("the operator's credential was renewed"),
        Err(error) => {
            tracing::warn!("the operator's credential can't be renewed: {}", with_cause(&error))
        }
    }
}

fn try_renew_operator(data: &DataDir, files: &IdentityFiles) -> Result<bool, RenewError> {
    let path = data.operator();
    if !path.exists() {
        return Ok(false);
    }
    let old = Credential::from_pem(&read_file(&path, true)?)?;
    if wall_s() < old.caller().renew_at_s() {
        return Ok(false);
    }
    let Some(authority) = files.load_authority()? else { return Ok(false) };
    let chain = next(&authority, &old, &[])?;
    let key = crate::identity::NodeKey::from_pem(&old.key().to_pem())?;
    let renewed = Credential::new(old.bundle().clone(), &chain, key)?;
    write_file(&path, renewed.to_pem().as_bytes(), 0o600)?;
    Ok(true)
}
