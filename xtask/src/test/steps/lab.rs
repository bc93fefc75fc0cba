//! Whole clusters of the release binary on network-namespace hosts, with faults.

use crate::chaos;
use crate::test::count::{self, Words};
use crate::test::step::{Step, When};

pub(super) const STEP: Step = Step {
    name: "lab",
    about: "clusters on network-namespace hosts, with faults",
    when: When::All,
    needs: chaos::NEEDS,
    // Two at a time: most of a case is waiting.
    run: || count::run(chaos::lab("cases")?.args(["--jobs", "2"]), Words::Ours),
};
