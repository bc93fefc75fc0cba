//! Licences, sources and banned crates, as deny.toml has them. Advisories need the advisory
//! database from the network: `cargo deny check advisories` looks at them.

use crate::shell;
use crate::test::count::Counts;
use crate::test::needs::Needs;
use crate::test::step::{Step, When};

pub(super) const STEP: Step = Step {
    name: "deny",
    about: "licences, sources and bans of all dependencies",
    when: When::All,
    needs: Needs { cargo_tools: &["cargo-deny"], ..Needs::NOTHING },
    run: || {
        let check = ["deny", "check", "licenses", "bans", "sources"];
        shell::run(&mut shell::cargo(&check)).map(|()| Counts::ONE)
    },
};
