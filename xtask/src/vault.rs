//! `vault`: the vault's long fault runs, which are the tests of every day with larger numbers.

use crate::flags::Flags;
use crate::shell;

/// Points in time that are restored and compared with what the ledger said then.
const POINTS: &str = "500";
/// Bits flipped at random.
const FLIPS: &str = "1000000";

/// A long run: the option that says how long, the usual length, the variable that the test
/// reads, and the test.
const RUNS: &[(&str, &str, &str, [&str; 2])] = &[
    ("--points", POINTS, "BACKSTAY_TEST_POINTS", ["postgres", "every_restored_point"]),
    ("--flips", FLIPS, "BACKSTAY_TEST_FLIPS", ["faults", "random_bits_flipped"]),
];

/// Runs them, or those whose length is given.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let names: Vec<&str> = RUNS.iter().map(|(name, ..)| *name).collect();
    let flags = Flags::read(arguments, &[], &names)?;
    for (name, usual, variable, [test, filter]) in RUNS {
        let given = flags.values(name).last().copied();
        let Some(length) = given.or(arguments.is_empty().then_some(*usual)) else { continue };
        length.parse::<u64>().map_err(|_| format!("{name} takes a number, not {length:?}"))?;
        let words = ["test", "--release", "-p", "backstay-vault", "--test", test, filter];
        shell::run(shell::cargo(&words).env(variable, length))?;
    }
    Ok(())
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
    }
}
