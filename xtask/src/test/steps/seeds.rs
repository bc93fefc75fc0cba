//! Simulated clusters with faults.

use crate::seeds;
use crate::test::count::{self, Words};
use crate::test::needs::Needs;
use crate::test::step::{Step, When};

/// How many; more are run by `cargo xtask seeds`.
const COUNT: &str = "2000";
/// Where they start: the same ones each time, so that a red run is the change's doing.
const START: &str = "600000";

pub(super) const STEP: Step = Step {
    name: "seeds",
    about: "2,000 simulated clusters with faults",
    when: When::Always,
    needs: Needs { paths: &["crates/sim/src/bin/seeds.rs"], ..Needs::NOTHING },
    run: || count::run(&mut seeds::command(COUNT, Some(START)), Words::Ours),
};
