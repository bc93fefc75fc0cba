//! Databases in the vault, against Debian's PostgreSQL. Without it `unit` says that these tests
//! were ignored; here they must run.

use crate::shell;
use crate::test::count::{self, Counts, Words};
use crate::test::needs::Needs;
use crate::test::step::{Step, When};

pub(super) const STEP: Step = Step {
    name: "postgres",
    about: "databases: backed up, streamed, restored to any point",
    when: When::All,
    needs: Needs {
        packages: &["postgresql-15", "strace"],
        paths: &["crates/vault/tests/postgres/main.rs"],
        ..Needs::NOTHING
    },
    run,
};

fn run() -> Result<Counts, String> {
    let test = ["test", "-p", "backstay-vault", "--test", "postgres"];
    let counts = count::run(&mut shell::cargo(&test), Words::CargoTest)?;
    if counts.skipped > 0 {
        return Err("PostgreSQL is installed, and its tests were skipped".to_owned());
    }
    Ok(counts)
}
