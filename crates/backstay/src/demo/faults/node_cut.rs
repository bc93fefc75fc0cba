//! The active node is cut off from the others on every link. It still reaches store and client,
//! as a gateway does whose cluster network fails.

use crate::demo::error::DemoError;
use crate::demo::stage::{Act, Scene, Stage};
use crate::orders::records::now;

pub(super) fn play(stage: &mut Stage, scene: &Scene) -> Result<Act, DemoError> {
    let fault = now();
    stage.relays.gates().close_node(scene.active);
    let act = super::moved(stage, scene, fault);
    stage.relays.gates().open_all();
    act
}
