//! The code is formatted as rustfmt.toml says.

use crate::shell;
use crate::test::count::Counts;
use crate::test::needs::Needs;
use crate::test::step::{Step, When};

pub(super) const STEP: Step = Step {
    name: "format",
    about: "cargo fmt --check",
    when: When::Always,
    needs: Needs::NOTHING,
    run: || shell::run(&mut shell::cargo(&["fmt", "--all", "--check"])).map(|()| Counts::ONE),
};
