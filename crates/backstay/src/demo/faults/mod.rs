//! The faults, a file each. Each strikes, waits until the service was seen to work again, and
//! heals; that the cluster is whole again is for the stage to see.

mod coordinator_and_active_killed;
mod coordinator_killed;
mod node_cut;
mod node_frozen;
mod node_killed;
mod process_killed;
mod switchover;

use model::Moment;
use rustix::process::Signal;

use super::children;
use super::error::DemoError;
use super::options::Fault;
use super::premises::NODES;
use super::stage::{Act, Scene, Stage};
use crate::orders::records::now;

/// Plays a fault.
///
/// # Errors
/// [`DemoError`]
pub(super) fn play(fault: Fault, stage: &mut Stage, scene: &Scene) -> Result<Act, DemoError> {
    match fault {
        Fault::ProcessKilled => process_killed::play(stage, scene),
        Fault::NodeKilled => node_killed::play(stage, scene),
        Fault::CoordinatorKilled => coordinator_killed::play(stage, scene),
        Fault::CoordinatorAndActiveKilled => coordinator_and_active_killed::play(stage, scene),
        Fault::NodeFrozen => node_frozen::play(stage, scene),
        Fault::NodeCut => node_cut::play(stage, scene),
        Fault::Switchover => switchover::play(stage, scene),
    }
}

/// Signals a node's order server. True where one was there.
fn signal_service(stage: &mut Stage, node: usize, signal: Signal) -> Result<bool, DemoError> {
    let pids = children::instances(&stage.premises.node_dir(node));
    let reached = pids.iter().filter(|pid| children::signal_instance(**pid, signal)).count();
    Ok(reached > 0)
}

/// Kills agent, launcher, guard and service of a node, and says when.
fn kill_node(stage: &mut Stage, node: usize) -> Result<Moment, DemoError> {
    let pids = children::instances(&stage.premises.node_dir(node));
    if pids.is_empty() {
        return Err(DemoError::Answer("the order server of the node that is to be killed"));
    }
    let moment = now();
    stage.cluster.signal_parts(node, Signal::KILL);
    // One that went with its launcher need not be killed any more.
    pids.iter().for_each(|pid| _ = children::signal_instance(*pid, Signal::KILL));
    Ok(moment)
}

/// The act of a fault that the service has answered by moving.
fn moved(stage: &mut Stage, scene: &Scene, fault: Moment) -> Result<Act, DemoError> {
    let successor = stage.service.until_succeeded(scene.holder.epoch)?;
    if NODES.iter().all(|name| *name != successor.instance) {
        return Err(DemoError::Answer("a successor on one of the nodes"));
    }
    Ok(Act { fault, healing: now(), freeze: None, note: None })
}
