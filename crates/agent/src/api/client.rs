//! Calls the API: tries the nodes in turn, remembers the one that worked, goes to the coordinator
//! where it is told to, and speaks to an operator when it fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use model::NodeName;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::call::{Elsewhere, Problem};
use crate::identity::{Caller, Credential, IdentityError, JoinToken, TrustBundle, wall_s};
use crate::net::tls::{anonymous_client, api_client, join_client};
use crate::net::verify::{Expiry, Refusal};

/// Longest time to reach a node, TLS included.
pub const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Longest wait for an answer: longer than a node takes at most.
pub const ANSWER_MAX: Duration = Duration::from_secs(35);
/// Largest answer in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Most times a call follows a hint to the coordinator.
pub const HINTS_MAX: usize = 3;
/// Most nodes that are tried.
pub const ENDPOINTS_MAX: usize = 64;

/// Why a call failed, for an operator.
#[derive(Debug, Error)]
pub enum ClientError {
    /// There is nobody to call.
    #[error(
        "no node's address is known, so nothing could be asked; name one, as address and port \
         (such as 10.1.0.1:7402)"
    )]
    NoEndpoint,
    /// No node answered.
    #[error(
        "no node answered, so nothing was done:{}\ncheck that the agents run and that this machine \
         reaches their API port",
        listed(tries)
    )]
    Unreachable {
        /// Each node that was tried, and what happened.
        tries: Vec<(SocketAddr, String)>,
    },
    /// A change was sent and no answer came.
    #[error(
        "{node} ({address}) took the call and then did not answer ({detail}), so it may have been \
         carried out or not; look at `backstay status` before you repeat it"
    )]
    Unknown {
        /// The node.
        node: String,
        /// Its address.
        address: SocketAddr,
        /// What happened.
        detail: String,
    },
    /// A node said no.
    #[error("{node} refuses: {}\n{}", problem.message, problem.help)]
    Refused {
        /// The node.
        node: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        problem: Problem,
    },
    /// Nodes send us round in a circle: there is no settled coordinator.
    #[error(
        "after {HINTS_MAX} hints no coordinator was found, so nothing was done; an election is \
         probably under way: try again in a few seconds"
    )]
    Circle,
    /// An answer that can't be.
    #[error("{node} gave an answer that can't be understood ({detail}); compare versions")]
    Answer {
        /// The node.
        node: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The credential can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

fn listed(tries: &[(SocketAddr, String)]) -> String {
    tries.iter().map(|(address, why)| format!("\n  {address}: {why}")).collect()
}

impl ClientError {
    fn is_unavailable(&self) -> bool {
        matches!(self, ClientError::Refused { status: 503, problem, .. } if problem.code != HEALTH)
    }
}

/// The code we give to a no that came without one: the answer to a health check.
const HEALTH: &str = "status";

/// A client of the API.
pub struct ApiClient {
    tls: Arc<ClientConfig>,
    endpoints: Vec<SocketAddr>,
    /// The endpoint that worked last.
    preferred: AtomicUsize,
    answer_max: Duration,
}

/// A body to send.
enum Body<'a> {
    None,
    Json(&'a Value),
    Text(&'a str),
}

impl Body<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Body::Text(_) => "application/toml",
            _ => "application/json",
        }
    }

    fn bytes(&self) -> Bytes {
        match self {
            Body::None => Bytes::new(),
            Body::Json(value) => Bytes::from(value.to_string()),
            Body::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
        }
    }
}

/// Why one node gave no answer.
enum Failure {
    /// Before anything was sent.
    Before(String),
    /// After: it may have been carried out.
    After { node: String, detail: String },
}

struct Answer {
    node: String,
    status: StatusCode,
    body: Bytes,
}

impl ApiClient {
    /// A client for the holder of a credential.
    ///
    /// # Errors
    /// [`ClientError::Identity`].
    pub fn new(credential: &Credential, endpoints: &[SocketAddr]) -> Result<Self, ClientError> {
        Ok(ApiClient::with(api_client(credential, Expiry::Refuse)?, endpoints))
    }

    /// A client for renewing after the whole cluster was off for longer than certificates live:
    /// it also believes a node whose certificate ran out. Use it for nothing else.
    ///
    /// # Errors
    /// [`ClientError::Identity`].
    pub fn renewing(
        credential: &Credential,
        endpoints: &[SocketAddr],
    ) -> Result<Self, ClientError> {
        Ok(ApiClient::with(api_client(credential, Expiry::Mark)?, endpoints))
    }

    /// A client without a certificate, for health checks.
    ///
    /// # Errors
    /// [`ClientError::Identity`].
    pub fn anonymous(bundle: &TrustBundle, endpoints: &[SocketAddr]) -> Result<Self, ClientError> {
        Ok(ApiClient::with(anonymous_client(bundle)?, endpoints))
    }

    /// A client for joining with a token; it calls the addresses in the token.
    ///
    /// # Errors
    /// [`ClientError::Identity`].
    pub fn joining(token: &JoinToken) -> Result<Self, ClientError> {
        Ok(ApiClient::with(join_client(token)?, &token.addresses))
    }

    fn with(tls: Arc<ClientConfig>, endpoints: &[SocketAddr]) -> Self {
        let endpoints = endpoints.iter().take(ENDPOINTS_MAX).copied().collect();
        ApiClient { tls, endpoints, preferred: AtomicUsize::new(0), answer_max: ANSWER_MAX }
    }

    /// Waits at most this long for an answer.
    #[must_use]
    pub fn within(mut self, answer_max: Duration) -> Self {
        self.answer_max = answer_max;
        self
    }

    /// GET, answered by JSON.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        let answer = self.call(Method::GET, path, &Body::None).await?;
        parse(&answer)
    }

    /// GET, answered by text: `/metrics`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_text(&self, path: &str) -> Result<String, ClientError> {
        let answer = self.call(Method::GET, path, &Body::None).await?;
        String::from_utf8(answer.body.to_vec())
            .map_err(|error| ClientError::Answer { node: answer.node, detail: error.to_string() })
    }

    /// POST of JSON, answered by JSON.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let answer = self.call(Method::POST, path, &Body::Json(body)).await?;
        parse(&answer)
    }

    /// POST of TOML, answered by JSON: `/v1/apply`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_text(&self, path: &str, body: &str) -> Result<Value, ClientError> {
        let answer = self.call(Method::POST, path, &Body::Text(body)).await?;
        parse(&answer)
    }

    /// Asks node after node. A change that a node may have taken is never sent to another.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: &Body<'_>,
    ) -> Result<Answer, ClientError> {
        let count = self.endpoints.len();
        if count == 0 {
            return Err(ClientError::NoEndpoint);
        }
        let first = self.preferred.load(Ordering::Relaxed);
        let (mut tries, mut last) = (Vec::new(), None);
        for at in (0..count).map(|turn| (first + turn) % count) {
            let address = self.endpoints[at];
            match self.ask(address, None, &method, path, body).await {
                Ok(answer) => match self.follow(answer, &method, path, body).await {
                    // It says that nothing was done, and another node may be able to.
                    Err(unable) if unable.is_unavailable() => last = Some(unable),
                    outcome => {
                        self.preferred.store(at, Ordering::Relaxed);
                        return outcome;
                    }
                },
                Err(Failure::After { node, detail }) if method != Method::GET => {
                    return Err(ClientError::Unknown { node, address, detail });
                }
                Err(Failure::After { detail, .. } | Failure::Before(detail)) => {
                    tries.push((address, detail));
                }
            }
        }
        Err(last.unwrap_or(ClientError::Unreachable { tries }))
    }

    /// Follows hints to the coordinator and turns a no into an error.
    async fn follow(
        &self,
        mut answer: Answer,
        method: &Method,
        path: &str,
        body: &Body<'_>,
    ) -> Result<Answer, ClientError> {
        for _ in 0..HINTS_MAX {
            if answer.status != StatusCode::MISDIRECTED_REQUEST {
                return refused_or(answer);
            }
            let hint: Elsewhere = serde_json::from_slice(&answer.body).map_err(|error| {
                let node = answer.node.clone();
                ClientError::Answer { node, detail: error.to_string() }
            })?;
            let address = hint.address;
            let asked = self.ask(address, Some(&hint.coordinator), method, path, body).await;
            answer = asked.map_err(|failure| match failure {
                Failure::Before(detail) => {
                    ClientError::Unreachable { tries: vec![(address, detail)] }
                }
                Failure::After { node, detail } => ClientError::Unknown { node, address, detail },
            })?;
        }
        match answer.status {
            StatusCode::MISDIRECTED_REQUEST => Err(ClientError::Circle),
            _ => refused_or(answer),
        }
    }

    /// One request to one node, which must be `expected` where that is given.
    async fn ask(
        &self,
        address: SocketAddr,
        expected: Option<&NodeName>,
        method: &Method,
        path: &str,
        body: &Body<'_>,
    ) -> Result<Answer, Failure> {
        let connecting = timeout(CONNECT_MAX, self.connect(address, expected)).await;
        let (mut sender, node) = connecting
            .map_err(|_| Failure::Before("it does not answer in time".to_string()))?
            .map_err(Failure::Before)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, address.to_string())
            .header(CONTENT_TYPE, body.kind())
            .body(Full::new(body.bytes()))
            .map_err(|error| Failure::Before(error.to_string()))?;
        let after = |detail: String| Failure::After { node: node.clone(), detail };
        let answering = async {
            let response = sender.0.send_request(request).await.map_err(|e| explain(&e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
            let body = body.await.map_err(|error| error.to_string())?.to_bytes();
            Ok::<_, String>((status, body))
        };
        let (status, body) = timeout(self.answer_max, answering)
            .await
            .map_err(|_| after("no answer in time".to_string()))?
            .map_err(after)?;
        Ok(Answer { node, status, body })
    }

    async fn connect(
        &self,
        address: SocketAddr,
        expected: Option<&NodeName>,
    ) -> Result<(Sender, String), String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let name = ServerName::IpAddress(address.ip().into());
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await.map_err(
            |error| match Refusal::behind(&error) {
                Some(refusal) => refusal.to_string(),
                None => error.to_string(),
            },
        )?;
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let leaf = chain.first().ok_or("it showed no certificate")?;
        let node = Caller::read(leaf, wall_s()).map_err(|error| error.to_string())?.name;
        if expected.is_some_and(|expected| *expected != node) {
            return Err(format!("it is {node}, not the coordinator we were sent to"));
        }
        let (sender, connection) =
            http1::handshake(TokioIo::new(tls)).await.map_err(|error| error.to_string())?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "API connection ended");
            }
        });
        Ok((Sender(sender, driver), node.to_string()))
    }
}

/// One connection; it ends with the call.
struct Sender(http1::SendRequest<Full<Bytes>>, tokio::task::JoinHandle<()>);

impl Drop for Sender {
    fn drop(&mut self) {
        self.1.abort();
    }
}

/// In TLS 1.3 a refused certificate shows only now, as an alert.
fn explain(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    if text.contains("alert") {
        text.push_str("; the node refuses our certificate: its log says why");
    }
    text
}

fn refused_or(answer: Answer) -> Result<Answer, ClientError> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    let status = answer.status.as_u16();
    let problem = serde_json::from_slice(&answer.body).unwrap_or_else(|_| {
        let text: String = String::from_utf8_lossy(&answer.body).chars().take(500).collect();
        Problem::new(HEALTH, format!("status {status}: {text}"), "look at the node's log")
    });
    Err(ClientError::Refused { node: answer.node, status, problem })
}

fn parse(answer: &Answer) -> Result<Value, ClientError> {
    serde_json::from_slice(&answer.body).map_err(|error| ClientError::Answer {
        node: answer.node.clone(),
        detail: error.to_string(),
    })
}

impl std::fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiClient").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
