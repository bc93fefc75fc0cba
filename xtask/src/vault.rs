//! `vault`: the vault's long fault runs, which are the tests of every day with larger numbers, and
//! its tests against other versions of PostgreSQL.

use crate::flags::Flags;
use crate::shell;
use std::process::{Command, Stdio};

/// Points in time that are restored and compared with what the ledger said then.
const POINTS: &str = "500";
/// Bits flipped at random.
const FLIPS: &str = "1000000";

/// Places at which a restore is killed: more than there are, so all.
const KILLS: &str = "100000";

/// A long run: the option that says how long, the usual length, the variable that the test
/// reads, and the test.
const RUNS: &[(&str, &str, &str, [&str; 2])] = &[
    ("--points", POINTS, "BACKSTAY_TEST_POINTS", ["postgres", "every_restored_point"]),
    ("--kills", KILLS, "BACKSTAY_TEST_KILLS", ["postgres", "_killed_at_every"]),
    ("--flips", FLIPS, "BACKSTAY_TEST_FLIPS", ["faults", "random_bits_flipped"]),
];

/// Names a version of PostgreSQL instead.
const VERSION: &str = "--postgres-version";

/// Runs them, or those whose length is given.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let names: Vec<&str> = RUNS.iter().map(|(name, ..)| *name).chain([VERSION]).collect();
    let flags = Flags::read(arguments, &[], &names)?;
    for version in flags.values(VERSION) {
        let programs = install(version)?;
        let words = ["test", "-p", "backstay-vault", "--test", "postgres"];
        shell::run(shell::cargo(&words).env("BACKSTAY_TEST_POSTGRES", programs))?;
    }
    for (name, usual, variable, [test, filter]) in RUNS {
        let given = flags.values(name).last().copied();
        let Some(length) = given.or(arguments.is_empty().then_some(*usual)) else { continue };
        length.parse::<u64>().map_err(|_| format!("{name} takes a number, not {length:?}"))?;
        let words = ["test", "--release", "-p", "backstay-vault", "--test", test, filter];
        shell::run(shell::cargo(&words).env(variable, length))?;
    }
    Ok(())
}

/// Installs the server of this version below the target directory, and says where its programs are.
fn install(version: &str) -> Result<String, String> {
    let script = crate::root().join("crates/vault/tests/install_postgres.sh");
    let mut command = Command::new("sh");
    command.arg(script).arg(version).stderr(Stdio::inherit());
    command.env("CARGO_TARGET_DIR", shell::target_directory());
    let said = command.output().map_err(|error| format!("can't run sh: {error}"))?;
    match said.status.success() {
        true => Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned()),
        false => Err(format!("PostgreSQL {version} could not be installed; it needs npm")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_a_number_and_others_are_refused() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(run(&words("--points many")).is_err_and(|e| e.contains("takes a number")));
        assert!(run(&words("--point 5")).is_err());
        assert!(run(&words("--flips")).is_err());
        assert!(run(&words("--postgres-version 9")).is_err_and(|e| e.contains("PostgreSQL 9")));
    }
}
