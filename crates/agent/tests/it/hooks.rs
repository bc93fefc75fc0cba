//! Webhooks and commands are told, and what they did not take is said.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use agent::node::hooks::tell;
use model::spec::{HookCall, HookSpec};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// The certificate of the test's server, the one authority that some calls believe.
static SERVER: OnceLock<(CertificateDer<'static>, Vec<u8>)> = OnceLock::new();

fn certificate() -> &'static (CertificateDer<'static>, Vec<u8>) {
    SERVER.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        (made.cert.der().clone(), made.signing_key.serialize_der())
    })
}

fn the_server() -> Result<Vec<CertificateDer<'static>>, String> {
    Ok(vec![certificate().0.clone()])
}

fn nobody() -> Result<Vec<CertificateDer<'static>>, String> {
    Ok(Vec::new())
}

fn hook(call: HookCall, timeout_ms: u64) -> HookSpec {
    HookSpec { call, on: BTreeSet::new(), timeout_ms }
}

fn told(call: HookCall, timeout_ms: u64, roots: agent::node::hooks::Roots) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(tell(&hook(call, timeout_ms), &body(), roots))
}

fn body() -> Value {
    json!({ "cluster": "c", "event": "failover", "detail": { "resource": "orders" } })
}

/// A request's first line and body.
fn request(stream: &mut impl Read) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut more = [0; 4_096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
            if body.len() == length.parse::<usize>().ok()? {
                return Some((head.lines().next()?.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut more) {
            Ok(read) if read > 0 => bytes.extend_from_slice(more.get(..read)?),
            _ => return None,
        }
    }
}

/// Answers one request, with TLS or without, and gives what it was; none where none came.
fn server(tls: bool, answer: &'static str) -> (String, JoinHandle<Option<(String, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let scheme = if tls { "https" } else { "http" };
    let url = format!("{scheme}://{}/alarms?of=us", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        if tls { serve(&mut secured(stream), answer) } else { serve(&mut { stream }, answer) }
    });
    (url, thread)
}

fn serve(stream: &mut (impl Read + Write), answer: &str) -> Option<(String, String)> {
    let got = request(stream)?;
    let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(text.as_bytes()).ok()?;
    stream.flush().ok()?;
    Some(got)
}

fn secured(stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
    let (certificate, key) = certificate();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream)
}

#[test]
fn a_webhook_gets_the_object_with_and_without_tls() {
    for tls in [false, true] {
        let (url, server) = server(tls, "204 No Content");
        told(HookCall::Webhook(url), 5_000, the_server).unwrap();
        let (line, got) = server.join().unwrap().unwrap();
        assert_eq!(line, "POST /alarms?of=us HTTP/1.1");
        assert_eq!(serde_json::from_str::<Value>(&got).unwrap(), body());
    }
}

#[test]
fn a_server_that_nobody_vouches_for_is_told_nothing() {
    let (url, server) = server(true, "200 OK");
    let why = told(HookCall::Webhook(url), 5_000, nobody).unwrap_err();
    assert!(why.contains("certificate"), "{why}");
    assert_eq!(server.join().unwrap(), None);
}

#[test]
fn an_answer_that_is_no_success_is_none() {
    for answer in ["500 Internal Server Error", "302 Found"] {
        let (url, server) = server(false, answer);
        let why = told(HookCall::Webhook(url), 5_000, nobody).unwrap_err();
        assert!(why.contains(answer.get(..3).unwrap()), "{why}");
        server.join().unwrap().unwrap();
    }
}

#[test]
fn silence_ends_with_the_time_limit_and_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let why = told(HookCall::Webhook(url), 50, nobody).unwrap_err();
    assert_eq!(why, "no answer within 50 ms");
}

#[test]
fn a_command_gets_the_object_and_its_status_counts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("told");
    let shell = |script: String| HookCall::Command(vec!["/bin/sh".into(), "-c".into(), script]);
    told(shell(format!("cat > {}", file.display())), 5_000, nobody).unwrap();
    let got = std::fs::read_to_string(&file).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&got).unwrap(), body());
    let why = told(shell("exit 3".into()), 5_000, nobody).unwrap_err();
    assert!(why.contains("exit status: 3"), "{why}");
    let why = told(HookCall::Command(vec!["/no/such".into()]), 5_000, nobody).unwrap_err();
    assert!(why.contains("No such file"), "{why}");
}
