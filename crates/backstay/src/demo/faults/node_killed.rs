//! Agent, launcher, guard and service of the active node are killed; the coordinator lives.

use super::kill_node;
use crate::demo::error::DemoError;
use crate::demo::stage::{Act, Scene, Stage};

pub(super) fn play(stage: &mut Stage, scene: &Scene) -> Result<Act, DemoError> {
    let fault = kill_node(stage, scene.active)?;
    super::moved(stage, scene, fault)
}
