//! The code keeps to STYLE.md.

use crate::test::count::Counts;
use crate::test::needs::Needs;
use crate::test::step::{Step, When};

pub(super) const STEP: Step = Step {
    name: "tidy",
    about: "lengths, words and documentation, as STYLE.md has them",
    when: When::Always,
    needs: Needs::NOTHING,
    run: || crate::tidy::run(&[]).map(|()| Counts::ONE),
};
