//! Tells the outside: webhooks and commands on failover, quarantine and redundancy.
//!
//! Called on the coordinator alone. A call is tried three times and then given up with a log
//! line: hooks inform, nothing depends on them. After a change of coordinator one may be told
//! twice, never not at all without a line.

use std::process::Stdio;
use std::time::Duration;

use model::spec::{HookCall, HookEvent, HookSpec};
use model::state::{Event, EventKind};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::Receiver;

use super::core::Notice;
use super::shared::lock;

/// Notices that wait; further ones are dropped with a log line.
pub const NOTICES_MAX: usize = 1_024;
/// Attempts per call.
const ATTEMPTS: u32 = 3;
/// Pause after a failed attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(500);

/// Calls hooks until the agent ends.
pub async fn run(
    mut notices: Receiver<Notice>,
    state: std::sync::Arc<std::sync::Mutex<std::sync::Arc<model::ClusterState>>>,
) {
    while let Some(notice) = notices.recv().await {
        let state = std::sync::Arc::clone(&lock(&state));
        let Some((event, body)) = describe(&notice, &state) else { continue };
        for hook in state.spec.hooks.iter().filter(|h| h.on.is_empty() || h.on.contains(&event)) {
            tokio::spawn(call(hook.clone(), body.clone()));
        }
    }
}

/// Which hook event a notice is, and what is told; none where hooks don't care.
#[must_use]
pub fn describe(notice: &Notice, state: &model::ClusterState) -> Option<(HookEvent, Value)> {
    let cluster = &state.spec.name;
    match notice {
        Notice::Event(Event { what, reasons, wall_ms, index, .. }) => {
            let because: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            let (event, detail) = match what {
                EventKind::Assigned { resource, from: Some(from), to, epoch, planned: false }
                    if from != to =>
                {
                    let detail = json!({
                        "resource": resource, "from": from, "to": to, "epoch": epoch.to_string()
                    });
                    (HookEvent::Failover, detail)
                }
                EventKind::Quarantined { resource } => {
                    (HookEvent::Quarantine, json!({ "resource": resource }))
                }
                _ => return None,
            };
            let body = json!({
                "cluster": cluster, "event": event, "index": index, "wall_ms": wall_ms,
                "because": because, "detail": detail
            });
            Some((event, body))
        }
        Notice::Redundancy(change) => {
            let event = match change.lost {
                _ if change.subject.is_certificate() => HookEvent::Certificate,
                true => HookEvent::RedundancyLost,
                false => HookEvent::RedundancyRestored,
            };
            let body = json!({
                "cluster": cluster, "event": event, "because": [change.what],
                "detail": { "subject": change.subject, "raised": change.lost }
            });
            Some((event, body))
        }
    }
}

async fn call(hook: HookSpec, body: Value) {
    let mut pause = PAUSE;
    for attempt in 1..=ATTEMPTS {
        match tell(&hook, &body, machine_roots).await {
            Ok(()) => return,
            Err(why) if attempt == ATTEMPTS => {
                tracing::error!(hook = ?hook.call, %why, event = %body["event"], "hook given up");
            }
            Err(why) => {
                tracing::warn!(hook = ?hook.call, %why, attempt, "a hook failed; it is retried");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
}

/// Calls a hook once: hands `body` to its command, or posts it to its URL. For `https` the
/// server's certificate must be issued by one of `roots`.
///
/// # Errors
///
/// Why it was not told, in words: no answer in time, no connection, a certificate that is not
/// believed, an answer other than 2xx, a command that failed.
pub async fn tell(hook: &HookSpec, body: &Value, roots: Roots) -> Result<(), String> {
    let limit = Duration::from_millis(hook.timeout_ms);
    let once = async {
        match &hook.call {
            HookCall::Command(command) => run_command(command, body).await,
            HookCall::Webhook(url) => post(url, body, roots).await,
        }
    };
    match tokio::time::timeout(limit, once).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} ms", hook.timeout_ms)),
    }
}

async fn run_command(command: &[String], body: &Value) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("the command is empty")?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    if let Some(mut input) = child.stdin.take() {
        // A command that doesn't read its input is fine; its exit status counts.
        if let Err(error) = input.write_all(body.to_string().as_bytes()).await {
            tracing::debug!(%error, "the hook command did not read its input");
        }
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}

/// Authorities that a webhook's server may have its certificate from.
pub type Roots = fn() -> Result<Vec<CertificateDer<'static>>, String>;

/// Those that this machine believes (`SSL_CERT_FILE` and `SSL_CERT_DIR` count). Read for each
/// call: calls are rare, and an authority that was added counts at once.
fn machine_roots() -> Result<Vec<CertificateDer<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    match (found.certs.is_empty(), found.errors.first()) {
        (true, Some(error)) => Err(format!("this machine's authorities can't be read: {error}")),
        (true, None) => Err("this machine believes no authority: install ca-certificates".into()),
        _ => Ok(found.certs),
    }
}

async fn post(url: &str, body: &Value, roots: Roots) -> Result<(), String> {
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let mut store = RootCertStore::empty();
    if url.starts_with("https://") {
        store.add_parsable_certificates(roots()?);
    }
    let tls = ClientConfig::builder_with_provider(crate::net::tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(store)
        .with_no_client_auth();
    let client = builder.use_preconfigured_tls(tls).build().map_err(|error| told(&error))?;
    let request = client.post(url).header("content-type", "application/json");
    let answer = request.body(body.to_string()).send().await.map_err(|error| told(&error))?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answered {status}")),
    }
}

/// An error with its causes: the outermost says only that sending failed.
fn told(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
