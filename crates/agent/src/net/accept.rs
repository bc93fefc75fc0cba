//! One accepted TCP connection up to the moment we know who is there: TLS within a time limit,
//! refusals counted by reason.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::counters::{Counters, Port, Refused, worth_a_line};
use super::tls::Configs;
use super::verify::Refusal;
use crate::identity::Caller;

/// Does the TLS handshake. None where it was refused; that has been counted and logged.
pub(crate) async fn accept(
    port: Port,
    stream: TcpStream,
    from: SocketAddr,
    configs: &Configs,
    within: Duration,
    counters: &Counters,
) -> Option<(TlsStream<TcpStream>, Option<Caller>)> {
    let config = match port {
        Port::Peer => &configs.peer_server,
        Port::Api => &configs.api_server,
    };
    let handshake = TlsAcceptor::from(Arc::clone(config)).accept(stream);
    let (reason, detail) = match tokio::time::timeout(within, handshake).await {
        Err(_) => (Refused::Timeout, "it took too long to say who it is".to_string()),
        Ok(Err(error)) => classify(&error),
        Ok(Ok(tls)) => match caller(&tls, configs) {
            Ok(caller) => return Some((tls, caller)),
            Err(detail) => (Refused::Malformed, detail),
        },
    };
    let count = counters.connection_refused(port, reason);
    if worth_a_line(count) {
        tracing::info!(%port, %from, %reason, detail, count, "connection refused");
    }
    None
}

fn caller(tls: &TlsStream<TcpStream>, configs: &Configs) -> Result<Option<Caller>, String> {
    match tls.get_ref().1.peer_certificates() {
        Some(chain @ [_, ..]) => configs.caller(chain).map(Some).map_err(|e| e.to_string()),
        _ => Ok(None),
    }
}

fn classify(error: &std::io::Error) -> (Refused, String) {
    if let Some(refusal) = Refusal::behind(error) {
        return (refusal.counted_as(), refusal.to_string());
    }
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let reason = match tls {
        Some(rustls::Error::NoCertificatesPresented) => Refused::NoCertificate,
        Some(rustls::Error::InvalidCertificate(_)) => Refused::Malformed,
        _ => Refused::Garbage,
    };
    (reason, error.to_string())
}
