//! All tests of all crates that need nothing but Rust: by nextest where it is installed, else by
//! cargo itself. The step `postgres` runs those with databases.

use crate::shell;
use crate::test::count::{self, Counts, Words};
use crate::test::needs::{Needs, tool_works};
use crate::test::step::{Step, When};

pub(super) const STEP: Step = Step {
    name: "unit",
    about: "all tests of all crates but those with databases",
    when: When::Always,
    needs: Needs::NOTHING,
    run,
};

fn run() -> Result<Counts, String> {
    if tool_works("cargo-nextest") {
        let nextest = ["nextest", "run", "--workspace", "--no-fail-fast", "--color", "never"];
        let mut command = shell::cargo(&nextest);
        // Most tests wait for something most of the time.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        command.args(["--test-threads", &(cores + cores.div_ceil(2)).to_string()]);
        command.args(["-E", "not binary(postgres)"]);
        command.args(["--status-level", "slow", "--final-status-level", "fail"]);
        return count::run(&mut command, Words::Nextest);
    }
    let test = ["test", "--workspace", "--no-fail-fast", "--all-targets"];
    count::run(&mut shell::cargo(&test), Words::CargoTest)
}
