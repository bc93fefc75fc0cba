//! The instance's end of `BACKSTAY_SOCKET`: role changes come in as lines of JSON, and each is
//! answered when it has happened. Events that are not known here are passed over, so that the
//! launcher may say more one day.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::Epoch;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::gate::{Gate, Role};
use super::lines::read_line;
use super::upstream::{IN_FLIGHT_MAX, Upstream};
use super::wire::StoreRequest;

/// Longest wait for orders in hand when the role is taken back. What is still in hand then is
/// no longer acknowledged.
pub const DRAIN_WAIT: Duration = Duration::from_millis(50);
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Deserialize)]
struct Event {
    event: String,
    epoch: Option<String>,
}

#[derive(Debug, Serialize)]
struct Answer {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
}

/// What a role change touches.
#[derive(Clone)]
pub struct Controls {
    /// The role itself.
    pub gate: Arc<Gate>,
    /// One permit for each order in hand.
    pub in_hand: Arc<Semaphore>,
    /// The store, which hears of a new epoch before the first order.
    pub store: Upstream,
    /// This instance's name.
    pub instance: String,
}

/// Obeys the launcher for ever. Where the connection is lost the role stays as it is, and the
/// lease alone says how long it is worth anything.
pub async fn obey(socket: &Path, controls: &Controls) {
    loop {
        let ended = match UnixStream::connect(socket).await {
            Ok(stream) => converse(stream, controls).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "the launcher's socket is not to be reached");
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn converse(stream: UnixStream, controls: &Controls) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let (mut read, mut line) = (BufReader::new(read), Vec::new());
    while let Some(text) = read_line(&mut read, &mut line).await? {
        let invalid = |e| io::Error::new(io::ErrorKind::InvalidData, e);
        let event: Event = serde_json::from_str(text).map_err(io::Error::other)?;
        let epoch = event.epoch.as_deref().map(str::parse::<Epoch>).transpose().map_err(invalid)?;
        let answer = match (event.event.as_str(), epoch) {
            ("promote", Some(epoch)) => promote(controls, epoch),
            ("demote", _) => demote(controls).await,
            _ => continue,
        };
        let mut answer = serde_json::to_vec(&answer).map_err(io::Error::other)?;
        answer.push(b'\n');
        write.write_all(&answer).await?;
    }
    Ok(())
}

/// Becomes active. The claim is on its way before the first order can follow it, and is not
/// waited for: a store that is down must not make every promotion fail.
fn promote(controls: &Controls, epoch: Epoch) -> Answer {
    let claim = StoreRequest::Claim { epoch, instance: controls.instance.clone() };
    let claiming = controls.store.begin(&claim);
    controls.gate.set(Role::Active(epoch));
    tokio::spawn(async move {
        let claimed = match claiming {
            Ok(answering) => answering.answer().await,
            Err(error) => Err(error),
        };
        if let Err(error) = claimed {
            tracing::warn!(%error, %epoch, "the store has not heard of the new epoch yet");
        }
    });
    tracing::info!(%epoch, "active");
    Answer { event: "active", epoch: Some(epoch.to_string()) }
}

/// Takes no more orders, waits for those in hand, becomes standby.
async fn demote(controls: &Controls) -> Answer {
    if let Role::Active(epoch) = controls.gate.role() {
        controls.gate.set(Role::Draining(epoch));
        let all = u32::try_from(IN_FLIGHT_MAX).unwrap_or(u32::MAX);
        if timeout(DRAIN_WAIT, controls.in_hand.acquire_many(all)).await.is_err() {
            tracing::warn!(%epoch, "orders in hand were not finished in time");
        }
    }
    controls.gate.set(Role::Standby);
    tracing::info!("standby");
    Answer { event: "standby", epoch: None }
}
