//! Every decoder against new inputs for a few seconds, after its corpus; and a planted bug that
//! must be found.

use crate::fuzz;
use crate::test::count::Counts;
use crate::test::needs::Needs;
use crate::test::step::{Step, When};

/// How long each target runs; longer runs are `cargo xtask fuzz`.
const SECONDS: u64 = 3;

pub(super) const STEP: Step = Step {
    name: "fuzz",
    about: "every decoder against new inputs, a few seconds each",
    when: When::All,
    needs: Needs { packages: &["g++"], paths: &["tools/rustc-fuzz"], ..Needs::NOTHING },
    run: || {
        let (passed, failed) = fuzz::check(SECONDS)?;
        Ok(Counts { passed, failed, skipped: 0 })
    },
};
