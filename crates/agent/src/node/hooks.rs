//! Tells the outside: webhooks and commands on failover, quarantine and redundancy.
//!
//! Called on the coordinator alone. A call is tried three times and then given up with a log
//! line: hooks inform, nothing depends on them. After a change of coordinator one may be told
//! twice, never not at all without a line.

use std::process::Stdio;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use model::spec::{HookCall, HookEvent, HookSpec};
use model::state::{Event, EventKind};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
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
                EventKind::Assigned { resource, from: Some(from), to, epoch, planned: false } => {
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
            let event =
                if change.lost { HookEvent::RedundancyLost } else { HookEvent::RedundancyRestored };
            let body = json!({
                "cluster": cluster, "event": event, "because": [change.what],
                "detail": { "subject": change.subject }
            });
            Some((event, body))
        }
    }
}

async fn call(hook: HookSpec, body: Value) {
    let mut pause = PAUSE;
    for attempt in 1..=ATTEMPTS {
        let limit = Duration::from_millis(hook.timeout_ms);
        let result = match tokio::time::timeout(limit, once(&hook.call, &body)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {} ms", hook.timeout_ms)),
        };
        match result {
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

async fn once(call: &HookCall, body: &Value) -> Result<(), String> {
    match call {
        HookCall::Command(command) => run_command(command, body).await,
        HookCall::Webhook(url) => post(url, body).await,
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

async fn post(url: &str, body: &Value) -> Result<(), String> {
    let rest = url
        .strip_prefix("http://")
        .ok_or("only http:// webhooks are supported by this version; use a command hook")?;
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let stream = TcpStream::connect(&address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::post(format!("/{path}"))
        .header("host", host)
        .header("content-type", "application/json")
        .body(Full::new(bytes::Bytes::from(body.to_string())))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let drained = response.into_body().collect().await;
    driver.abort();
    if let Err(error) = drained {
        tracing::debug!(%error, "the webhook's answer was cut short");
    }
    if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
}
