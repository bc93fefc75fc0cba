//! Faults by chance on a whole cluster for three minutes: the same ones each time, so that a red
//! run is the change's doing. Longer and by other seeds: `cargo xtask chaos`.

use crate::chaos;
use crate::test::count::{self, Words};
use crate::test::step::{Step, When};

/// For how long.
const MINUTES: &str = "3";
/// What they are drawn from.
const SEED: &str = "20261122";

pub(super) const STEP: Step = Step {
    name: "chaos",
    about: "three minutes of faults by chance on a whole cluster",
    when: When::All,
    needs: chaos::NEEDS,
    run: || {
        let mut chaos = chaos::lab("chaos")?;
        count::run(chaos.args(["--minutes", MINUTES, "--seed", SEED]), Words::Ours)
    },
};
