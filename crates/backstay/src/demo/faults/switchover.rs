//! A planned switchover to another node.

use crate::demo::error::DemoError;
use crate::demo::stage::{Act, Scene, Stage};
use crate::orders::records::now;

pub(super) fn play(stage: &mut Stage, scene: &Scene) -> Result<Act, DemoError> {
    let fault = now();
    stage.cluster.switchover(scene.coordinator, scene.bystander())?;
    super::moved(stage, scene, fault)
}
