//! Certificates renew themselves at two thirds of their life, also after they ran out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::files::DataDir;
use crate::api::call::Issued;
use crate::api::{ApiClient, Metrics};
use crate::identity::{
    CertificateRequest, Identity, IdentityError, IdentityFiles, Validity, wall_s,
};
use crate::net::tls::Tls;

/// How often it is looked whether a renewal is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After a failed attempt.
const RETRY_EVERY: Duration = Duration::from_secs(10);

/// Why a renewal failed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Call(#[from] crate::api::ClientError),
    #[error("the answer can't be understood: {0}")]
    Answer(String),
}

/// Keeps this node's certificate fresh until the agent ends.
pub async fn keep(
    data: DataDir,
    tls: Arc<Tls>,
    metrics: Arc<Metrics>,
    endpoints: impl Fn() -> Vec<SocketAddr> + Send,
) {
    let files = IdentityFiles::new(data.path());
    loop {
        let caller = tls.now().caller.clone();
        let left = caller.expires_s.saturating_sub(wall_s());
        metrics.certificate_remaining.set(left as f64);
        if wall_s() < caller.renew_at_s() {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        match renew(&files, &tls, &endpoints()).await {
            Ok(()) => tracing::info!("the certificate was renewed"),
            Err(error) => {
                tracing::warn!(seconds_left = left, "the certificate can't be renewed: {error}");
                tokio::time::sleep(RETRY_EVERY).await;
            }
        }
    }
}

async fn renew(
    files: &IdentityFiles,
    tls: &Tls,
    endpoints: &[SocketAddr],
) -> Result<(), RenewError> {
    let identity = files.load()?;
    let chain = match files.load_authority()? {
        // This node may issue: it needs nobody.
        Some(authority) => {
            let request = CertificateRequest::from_pem(&identity.credential.key().request()?)?;
            let subject = identity.credential.caller().subject();
            let validity = Validity::days(wall_s(), super::found::CERTIFICATE_DAYS);
            authority.issue(&subject, &request, &[], validity)?
        }
        None => ask(&identity, endpoints).await?,
    };
    let renewed = files.replace_certificate(&chain)?;
    tls.replace(&renewed.credential)?;
    Ok(())
}

async fn ask(identity: &Identity, endpoints: &[SocketAddr]) -> Result<String, RenewError> {
    let body = json!({ "request": identity.credential.key().request()? });
    let client = ApiClient::renewing(&identity.credential, endpoints)?;
    let answer = client.post("/v1/renew", &body).await?;
    let issued: Issued =
        serde_json::from_value(answer).map_err(|error| RenewError::Answer(error.to_string()))?;
    Ok(issued.certificate)
}
