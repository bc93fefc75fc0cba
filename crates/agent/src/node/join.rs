//! A node joins a running cluster with a token, and comes back under a new incarnation after its
//! log was lost.

use std::net::SocketAddr;
use std::time::Duration;

use data_encoding::HEXLOWER;
use model::{NodeName, Profile, ReplicaId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::files::{DataDir, FileError, NodeFile};
use crate::api::{ApiClient, ClientError};
use crate::identity::rotation::AUTHORITIES_MAX;
use crate::identity::{
    Authority, Credential, DatagramKey, Identity, IdentityError, IdentityFiles, JoinToken, NodeKey,
    TrustBundle,
};

/// So often a node asks for an incarnation while others get theirs; whoever starts it asks again.
const REJOIN_TRIES_MAX: u32 = 8;
/// Pause after the first attempt; each further one is longer by it.
const REJOIN_PAUSE: Duration = Duration::from_millis(50);

/// What a node is told when it joins, beside its certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcome {
    /// Its certificate and the authority's, PEM.
    pub certificate: String,
    /// Authorities that are believed, PEM.
    pub authorities: String,
    /// The cluster's name.
    pub cluster: String,
    /// Its incarnation; none for people and programs.
    pub replica: Option<ReplicaId>,
    /// The profile in force.
    pub profile: Profile,
    /// Where the cluster's API answers.
    pub endpoints: Vec<SocketAddr>,
    /// The authority's key, for voters that run resources: they may issue certificates.
    pub authority_key: Option<String>,
    /// In the middle of a rotation the other authority's certificate and key, for the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_authorities: Vec<String>,
}

/// Why a node can't join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is a node in the directory.
    #[error("{0} already holds a node; a second one needs a directory of its own")]
    Exists(std::path::PathBuf),
    /// The directory can't be made.
    #[error("{path} can't be made ({source}); nothing was asked of the cluster")]
    Directory {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The cluster refused, or was not reached.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// Certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The answer makes no sense.
    #[error("the cluster's answer can't be understood ({0}); compare versions")]
    Answer(String),
}

/// Joins as a node.
///
/// # Errors
/// [`JoinError`].
pub async fn join(data: &DataDir, token: &JoinToken, node: NodeName) -> Result<Welcome, JoinError> {
    let files = IdentityFiles::new(data.path());
    if files.exist() || data.node().is_ok() {
        return Err(JoinError::Exists(data.path().to_path_buf()));
    }
    // Before the token is spent: a directory that can't be made would waste it.
    std::fs::create_dir_all(data.path())
        .map_err(|source| JoinError::Directory { path: data.path().to_path_buf(), source })?;
    let key = NodeKey::generate()?;
    let datagram = DatagramKey::generate();
    let body = json!({
        "secret": HEXLOWER.encode(token.secret()),
        "name": node,
        "request": key.request()?,
        "datagram_key": HEXLOWER.encode(&datagram.public().0),
    });
    let answer = ApiClient::joining(token)?.post("/v1/join", &body).await?;
    let welcome: Welcome =
        serde_json::from_value(answer).map_err(|error| JoinError::Answer(error.to_string()))?;
    let replica = welcome.replica.ok_or_else(|| JoinError::Answer("no replica id".to_owned()))?;
    let bundle = TrustBundle::from_pem(&welcome.authorities)?;
    let credential = Credential::new(bundle.clone(), &welcome.certificate, key)?;
    if let Some(key) = &welcome.authority_key {
        let certificate = bundle
            .authorities()
            .first()
            .map(crate::identity::AuthorityCertificate::to_pem)
            .ok_or_else(|| JoinError::Answer("no authority".to_owned()))?;
        let mut authorities = vec![Authority::from_pem(&certificate, key)?];
        for other in welcome.other_authorities.iter().take(AUTHORITIES_MAX - 1) {
            authorities.push(Authority::from_pem(other, key_section(other)?)?);
        }
        files.save_authorities(&authorities.iter().collect::<Vec<_>>())?;
    }
    data.set_node(&NodeFile {
        cluster_id: HEXLOWER.encode(&token.cluster.0),
        cluster: welcome.cluster.clone(),
        node,
        replica,
        log_existed: false,
        ran: false,
        profile: welcome.profile,
        endpoints: welcome.endpoints.clone(),
    })?;
    files.save(&Identity { credential, datagram })?;
    Ok(welcome)
}

fn key_section(pem: &str) -> Result<&str, JoinError> {
    let key = pem.find("-----BEGIN PRIVATE KEY-----").map(|at| &pem[at..]);
    key.ok_or_else(|| JoinError::Answer("an authority without its key".to_owned()))
}

/// Gets a certificate for a person or program.
///
/// # Errors
/// [`JoinError`].
pub async fn enrol(token: &JoinToken, name: NodeName) -> Result<Credential, JoinError> {
    let key = NodeKey::generate()?;
    let body = json!({
        "secret": HEXLOWER.encode(token.secret()),
        "name": name,
        "request": key.request()?,
    });
    let answer = ApiClient::joining(token)?.post("/v1/join", &body).await?;
    let welcome: Welcome =
        serde_json::from_value(answer).map_err(|error| JoinError::Answer(error.to_string()))?;
    let bundle = TrustBundle::from_pem(&welcome.authorities)?;
    Ok(Credential::new(bundle, &welcome.certificate, key)?)
}

/// Comes back under a new incarnation: this node's log is gone or can't be trusted.
///
/// # Errors
/// [`JoinError`].
pub async fn rejoin(
    data: &DataDir,
    identity: &Identity,
    node: &NodeFile,
) -> Result<NodeFile, JoinError> {
    let client = ApiClient::new(&identity.credential, &node.endpoints)?;
    let body = json!({ "datagram_key": HEXLOWER.encode(&identity.datagram.public().0) });
    let mut tries = 0;
    let answer = loop {
        tries += 1;
        match client.post("/v1/rejoin", &body).await {
            // Several come back at once, and each incarnation is given once.
            Err(ClientError::Refused { problem, .. })
                if problem.code == "not-now" && tries < REJOIN_TRIES_MAX => {}
            answered => break answered?,
        }
        tokio::time::sleep(REJOIN_PAUSE * tries).await;
    };
    let replica = answer
        .get("replica")
        .and_then(|value| serde_json::from_value::<ReplicaId>(value.clone()).ok())
        .ok_or_else(|| JoinError::Answer("no replica id".to_owned()))?;
    let renewed = NodeFile { replica, log_existed: false, ran: false, ..node.clone() };
    data.set_node(&renewed)?;
    Ok(renewed)
}
