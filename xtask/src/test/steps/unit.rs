//! All tests of all crates: by nextest where it is installed, else by cargo itself.

use crate::shell;
use crate::test::count::{self, Counts, Words};
use crate::test::needs::{Needs, tool_works};
use crate::test::step::{Step, When};

pub(super) const STEP: Step = Step {
    name: "unit",
    about: "all tests of all crates",
    when: When::Always,
    needs: Needs::NOTHING,
    run,
};

fn run() -> Result<Counts, String> {
    if tool_works("cargo-nextest") {
        let nextest = ["nextest", "run", "--workspace", "--no-fail-fast", "--color", "never"];
        let mut command = shell::cargo(&nextest);
        command.args(["--status-level", "slow", "--final-status-level", "fail"]);
        return count::run(&mut command, Words::Nextest);
    }
    let test = ["test", "--workspace", "--no-fail-fast", "--all-targets"];
    count::run(&mut shell::cargo(&test), Words::CargoTest)
}
