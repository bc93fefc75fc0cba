//! The steps, in the order in which they run: the quickest to fail first. To add one, write its
//! file and put it into the list.

mod chaos;
mod clippy;
mod deny;
mod docs;
mod format;
mod fuzz;
mod lab;
mod postgres;
mod seeds;
mod static_binary;
mod tidy;
mod unit;

use super::step::Step;

/// All steps.
pub(super) static ALL: &[Step] = &[
    format::STEP,
    tidy::STEP,
    clippy::STEP,
    unit::STEP,
    docs::STEP,
    deny::STEP,
    fuzz::STEP,
    seeds::STEP,
    postgres::STEP,
    static_binary::STEP,
    lab::STEP,
    chaos::STEP,
];
