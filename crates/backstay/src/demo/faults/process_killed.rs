//! The active process is killed; everything else of its node lives on.

use rustix::process::Signal;

use super::signal_service;
use crate::demo::error::DemoError;
use crate::demo::stage::{Act, Scene, Stage};
use crate::orders::records::now;

pub(super) fn play(stage: &mut Stage, scene: &Scene) -> Result<Act, DemoError> {
    let fault = now();
    if !signal_service(stage, scene.active, Signal::KILL)? {
        return Err(DemoError::Answer("the active order server"));
    }
    super::moved(stage, scene, fault)
}
