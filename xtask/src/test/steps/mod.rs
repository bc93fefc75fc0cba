//! The steps, in the order in which they run: the quickest to fail first. To add one, write its
//! file and put it into the list.

mod clippy;
mod docs;
mod format;
mod lab;
mod seeds;
mod tidy;
mod unit;

use super::step::Step;

/// All steps.
pub(super) static ALL: &[Step] =
    &[format::STEP, tidy::STEP, clippy::STEP, unit::STEP, docs::STEP, seeds::STEP, lab::STEP];
