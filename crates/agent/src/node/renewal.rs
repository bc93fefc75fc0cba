//! Certificates renew themselves at two thirds of their life, also after they ran out.
//!
//! A node that holds the authority's key issues its own, at a start before it needs anybody, and
//! keeps the operator's credential in its data directory fresh too. Another one asks.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kernel::Input;
use model::ReplicaId;
use model::authority::AuthorityId;
use tokio::sync::watch;

use super::core::CoreInput;
use super::files::DataDir;
use super::found::CERTIFICATE_DAYS;
use super::proof;
use super::shared::Shared;
use super::start::with_cause;
use super::trust::{self, Place, TrustView};
use crate::api::call::{Issued, RenewBody};
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
/// After a renewal under an authority that is given up: whoever was asked did not know yet.
const TURN_EVERY: Duration = Duration::from_secs(1);
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
    renew_operator(data, &files, None);
    if wall_s() < caller.renew_at_s() {
        return identity;
    }
    let links = identity.credential.addresses();
    let renewed = match files.load_authority() {
        Ok(Some(authority)) => next(&authority, &identity.credential, &links)
            .and_then(|c| files.replace_certificate(&c))
            .map_err(RenewError::from),
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

/// Keeps this node's certificate fresh, and what it believes in step with the control state, until
/// the agent ends. `wake` changes with the control state.
pub async fn keep(
    data: DataDir,
    tls: Arc<Tls>,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    mut wake: watch::Receiver<u64>,
    place: impl Fn() -> Place + Send,
) {
    let files = IdentityFiles::new(data.path());
    loop {
        wake.borrow_and_update();
        let place = place();
        let pause = match step(&data, &files, &tls, &shared, &place).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(
                    seconds_left = tls.now().caller.expires_s.saturating_sub(wall_s()),
                    "the certificate can't be renewed: {}",
                    with_cause(&error)
                );
                RETRY_EVERY
            }
        };
        let left = |ends_s: u64| ends_s.saturating_sub(wall_s()) as f64;
        metrics.certificate_remaining.set(left(tls.now().caller.expires_s));
        metrics.issuer_remaining.set(left(tls.now().issuer_expires_s));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = wake.changed() => if changed.is_err() { return },
        }
    }
}

/// Does what is due, tells the cluster how it is then, and says when to look again.
async fn step(
    data: &DataDir,
    files: &IdentityFiles,
    tls: &Tls,
    shared: &Shared,
    place: &Place,
) -> Result<Duration, RenewError> {
    match trust::follow(files, tls, &place.trust) {
        Ok(true) => renew_operator(data, files, Some(&place.trust)),
        Ok(false) => {}
        Err(error) => {
            let error = with_cause(&error);
            tracing::warn!("whom to believe can't be brought in step with the cluster: {error}");
            return Ok(RETRY_EVERY);
        }
    }
    let mut identity = files.load()?;
    let caller = identity.credential.caller();
    let until_due = Duration::from_secs(caller.renew_at_s().saturating_sub(wall_s()));
    let issuer = |identity: &Identity| identity.credential.issuer().map(AuthorityId::from);
    let other = place.trust.wants_another(issuer(&identity));
    let mut pause = until_due.min(LOOK_EVERY);
    if other || until_due.is_zero() {
        pause = if other { TURN_EVERY } else { RETRY_EVERY };
        // Told before too: a renewal may take long, and others wait for what is done already.
        tell(files, &identity, shared)?;
        identity = renew(files, &identity, place).await?;
        tls.replace(&identity.credential)?;
        tracing::info!("the certificate was renewed");
    } else {
        renew_operator(data, files, Some(&place.trust));
    }
    tell(files, &identity, shared)?;
    Ok(pause)
}

fn tell(files: &IdentityFiles, identity: &Identity, shared: &Shared) -> Result<(), IdentityError> {
    let told = trust::told(files, identity)?;
    // Where the core thread is behind, it is told at the next look.
    shared.offer(CoreInput::Kernel(Input::Identity(told)));
    Ok(())
}

async fn renew(
    files: &IdentityFiles,
    identity: &Identity,
    place: &Place,
) -> Result<Identity, RenewError> {
    let chain = match trust::issuing(files, place.trust.issuer())? {
        // This node may issue: it needs nobody.
        Some(authority) => {
            place.trust.endorsed(next(&authority, &identity.credential, &place.links)?)
        }
        None => ask(identity, &place.endpoints, &place.voters).await?,
    };
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
        match ask(identity, endpoints, &BTreeMap::new()).await {
            Ok(chain) => return chain,
            Err(error) => tracing::debug!("not renewed: {error}"),
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn ask(
    identity: &Identity,
    endpoints: &[SocketAddr],
    voters: &BTreeMap<ReplicaId, [u8; 32]>,
) -> Result<String, RenewError> {
    let request = identity.credential.key().request()?;
    let proofs = proof::of(&request, &identity.datagram, voters);
    let body = RenewBody { request, proofs };
    let body = serde_json::to_value(body).map_err(|error| RenewError::Answer(error.to_string()))?;
    let client = ApiClient::renewing(&identity.credential, endpoints)?;
    let answer = client.post("/v1/renew", &body).await?;
    let issued: Issued =
        serde_json::from_value(answer).map_err(|error| RenewError::Answer(error.to_string()))?;
    Ok(issued.certificate)
}

/// The operator's credential beside the authority's key: without it, a cluster that was off for
/// longer than certificates live would be locked. Whoever can read the one can read the other.
fn renew_operator(data: &DataDir, files: &IdentityFiles, trust: Option<&TrustView>) {
    match try_renew_operator(data, files, trust) {
        Ok(false) => {}
        Ok(true) => tracing::info!("the operator's credential was renewed"),
        Err(error) => {
            tracing::warn!("the operator's credential can't be renewed: {}", with_cause(&error))
        }
    }
}

fn try_renew_operator(
    data: &DataDir,
    files: &IdentityFiles,
    trust: Option<&TrustView>,
) -> Result<bool, RenewError> {
    let path = data.operator();
    if !path.exists() {
        return Ok(false);
    }
    let old = Credential::from_pem(&read_file(&path, true)?)?;
    let believed = match trust {
        Some(trust) => trust.bundle()?,
        None => None,
    };
    let bundle = believed.unwrap_or_else(|| old.bundle().clone());
    if wall_s() < old.caller().renew_at_s() && bundle == *old.bundle() {
        return Ok(false);
    }
    let issuer = trust.and_then(TrustView::issuer);
    let Some(authority) = trust::issuing(files, issuer)? else { return Ok(false) };
    let chain = next(&authority, &old, &[])?;
    let key = crate::identity::NodeKey::from_pem(&old.key().to_pem())?;
    let renewed = Credential::new(bundle, &chain, key)?;
    write_file(&path, renewed.to_pem().as_bytes(), 0o600)?;
    Ok(true)
}
