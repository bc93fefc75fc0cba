//! The release binary is static.

use crate::dist;
use crate::test::count::Counts;
use crate::test::needs::Needs;
use crate::test::step::{Step, When};

pub(super) const STEP: Step = Step {
    name: "static",
    about: "the release binary is static",
    when: When::All,
    needs: Needs { packages: &["libc6-dev"], ..Needs::NOTHING },
    run: || dist::build().map(|_| Counts::ONE),
};
