//! The coordinator's node is killed while the service is active elsewhere: the service must not
//! notice.

use std::time::Duration;

use super::kill_node;
use crate::demo::error::DemoError;
use crate::demo::premises::NODES;
use crate::demo::stage::{Act, Scene, Stage};
use crate::demo::wait;
use crate::orders::records::now;

/// Leases waited out, in which an outage would have to show.
const LEASES: u64 = 3;

pub(super) fn play(stage: &mut Stage, scene: &Scene) -> Result<Act, DemoError> {
    let dead = scene.coordinator;
    let fault = kill_node(stage, dead)?;
    wait::pass(Duration::from_nanos((stage.lease * LEASES).0))?;
    let view = stage.cluster.until_seen("another coordinator", |view| {
        view.coordinator.is_some_and(|node| node != dead)
    })?;
    stage.service.until_served(now())?;
    let next = view.coordinator.map_or("nobody", |node| NODES[node]);
    let note = Some(format!("coordinator {} → {next}", NODES[dead]));
    Ok(Act { fault, healing: now(), freeze: None, note })
}
