//! Listens for API calls on every address of the node: TLS, limits, and an end that lets running
//! calls finish.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt;

use super::access::{Route, Rule};
use super::call::Backend;
use super::metrics::Metrics;
use super::router::{Api, Connected, router};
use crate::identity::Caller;
use crate::net::accept::accept;
use crate::net::counters::{Port, Refused};
use crate::net::gate::{Gate, Permit};
use crate::net::listen::{self, ListenError};
use crate::net::tls::Tls;

/// Most bytes of a request's line and headers together.
pub const HEADERS_BYTES_MAX: usize = 16 << 10;
/// Most headers of a request.
pub const HEADERS_MAX: usize = 64;
/// After an accept that failed (no descriptors left), how long until the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Limits of the API server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most connections at once.
    pub connections: usize,
    /// Most connections at once from one address.
    pub connections_per_address: usize,
    /// Longest TLS handshake.
    pub handshake: Duration,
    /// Longest wait for a request's headers, also of the next request on a kept connection.
    pub headers: Duration,
    /// Longest call, reading its body included.
    pub call: Duration,
    /// Longest life of a connection, so that a slow reader keeps its place no longer.
    pub connection: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 256,
            connections_per_address: 64,
            handshake: Duration::from_secs(5),
            headers: Duration::from_secs(10),
            call: Duration::from_secs(30),
            connection: Duration::from_secs(600),
        }
    }
}

struct Shared {
    router: axum::Router,
    tls: Arc<Tls>,
    metrics: Arc<Metrics>,
    limits: Limits,
    gate: Gate,
}

/// The API server. Dropping it ends every connection at once; [`ApiServer::stop`] asks first.
pub struct ApiServer {
    addresses: Vec<SocketAddr>,
    stopping: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
}

impl ApiServer {
    /// Listens on all these addresses.
    ///
    /// # Errors
    /// [`ListenError`] where an address can't be listened on.
    pub fn start(
        runtime: &Handle,
        listen: &[SocketAddr],
        tls: Arc<Tls>,
        metrics: Arc<Metrics>,
        backend: Arc<dyn Backend>,
        limits: Limits,
    ) -> Result<ApiServer, ListenError> {
        let table = Route::rule;
        ApiServer::start_with_table(runtime, listen, tls, metrics, backend, limits, table)
    }

    /// The same by another table than the one there is: the matrix of calls and certificates
    /// must notice one in which a check is missing. For that test and nothing else.
    ///
    /// # Errors
    /// [`ListenError`] where an address can't be listened on.
    #[doc(hidden)]
    pub fn start_with_table(
        runtime: &Handle,
        listen: &[SocketAddr],
        tls: Arc<Tls>,
        metrics: Arc<Metrics>,
        backend: Arc<dyn Backend>,
        limits: Limits,
        table: fn(Route) -> Rule,
    ) -> Result<ApiServer, ListenError> {
        let api = {
            let (metrics, tls) = (Arc::clone(&metrics), Arc::clone(&tls));
            Arc::new(Api { backend, metrics, tls, call_max: limits.call })
        };
        let gate = Gate::new(limits.connections, limits.connections_per_address);
        let shared = Arc::new(Shared { router: router(&api, table), tls, metrics, limits, gate });
        let (stopping, _) = watch::channel(false);
        let mut server = ApiServer { addresses: Vec::new(), stopping, listeners: Vec::new() };
        let _inside = runtime.enter();
        for &address in listen {
            let failed = |source| ListenError { address, source };
            let listener = listen::tcp(address)?;
            server.addresses.push(listener.local_addr().map_err(failed)?);
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            let stopping = server.stopping.subscribe();
            let task = serve(Arc::clone(&shared), listener, stopping);
            server.listeners.push(runtime.spawn(task));
        }
        Ok(server)
    }

    /// Where it listens, with the ports that the system chose where it was asked to.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops listening and lets running calls finish, for at most this long. Returns whether all
    /// of them did.
    pub async fn stop(mut self, within: Duration) -> bool {
        self.stopping.send_replace(true);
        let until = tokio::time::Instant::now() + within;
        let mut all = true;
        for listener in &mut self.listeners {
            all &= tokio::time::timeout_at(until, listener).await.is_ok();
        }
        all
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Accepts until told to stop, then waits for what is open.
async fn serve(shared: Arc<Shared>, listener: TcpListener, mut stopping: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = async { stopping.wait_for(|stop| *stop).await.is_ok() } => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => match shared.gate.admit(from.ip()) {
                    Some(permit) => {
                        let shared = Arc::clone(&shared);
                        let stopping = stopping.clone();
                        connections.spawn(connection(shared, stream, from, permit, stopping));
                    }
                    None => {
                        let counters = &shared.metrics.counters;
                        counters.connection_refused(Port::Api, Refused::TooMany);
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "can't accept API connections; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    shared: Arc<Shared>,
    stream: TcpStream,
    from: SocketAddr,
    _permit: Permit,
    mut stopping: watch::Receiver<bool>,
) {
    let limits = shared.limits;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %from, "can't set TCP_NODELAY");
    }
    let configs = shared.tls.now();
    let counters = &shared.metrics.counters;
    let accepted = accept(Port::Api, stream, from, &configs, limits.handshake, counters).await;
    let Some((tls, caller)) = accepted else { return };
    drop(configs);
    let connected = Connected(caller.clone());
    let router = &shared.router;
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connected.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADERS_BYTES_MAX)
        .serve_connection(TokioIo::new(tls), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = async { stopping.wait_for(|stop| *stop).await.is_ok() } => None,
        () = tokio::time::sleep(limits.connection) => None,
        () = until_lost(&shared.tls, caller.as_ref()) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            // The running call may finish, in the time that a call may take.
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(limits.call, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %from, "API connection ended");
    }
}

/// Resolves once the authority of a caller's certificate is believed no more.
async fn until_lost(tls: &Tls, caller: Option<&Caller>) {
    match caller {
        Some(caller) => tls.until_lost(caller).await,
        None => std::future::pending().await,
    }
}
