//! The examples in the documentation of the code run.

use crate::shell;
use crate::test::count::{self, Words};
use crate::test::needs::Needs;
use crate::test::step::{Step, When};

pub(super) const STEP: Step = Step {
    name: "docs",
    about: "examples in the code's documentation",
    when: When::All,
    needs: Needs::NOTHING,
    run: || {
        let test = ["test", "--workspace", "--no-fail-fast", "--doc"];
        count::run(&mut shell::cargo(&test), Words::CargoTest)
    },
};
