//! Everything compiles, tests and benches too, without a warning.

use crate::shell;
use crate::test::count::Counts;
use crate::test::needs::Needs;
use crate::test::step::{Step, When};

pub(super) const STEP: Step = Step {
    name: "clippy",
    about: "everything compiles without a warning",
    when: When::Always,
    needs: Needs::NOTHING,
    run: || {
        let build = ["build", "--workspace", "--quiet"];
        shell::run(&mut shell::cargo(&build))?;
        let clippy = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
        shell::run(&mut shell::cargo(&clippy)).map(|()| Counts { passed: 2, ..Counts::default() })
    },
};
