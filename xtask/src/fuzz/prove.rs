//! Proves the set-up: a bug that is planted into a target is found from an empty corpus.

use std::fs;

use super::build::Fuzzer;
use super::run;

/// The target that gets the bug; the set-up is the same for all of them.
const TARGET: &str = "vault-postgres";
/// How long it may take, in seconds: usually less than one.
const SECONDS: u64 = 30;
const INPUT_MAX: u64 = 64;

/// Plants the bug, and fails where it is not found.
pub(super) fn prove(fuzzer: &Fuzzer) -> Result<(), String> {
    let place = crate::shell::target_directory().join("fuzz").join("prove");
    let failed = |error: std::io::Error| format!("can't use {}: {error}", place.display());
    if place.exists() {
        fs::remove_dir_all(&place).map_err(failed)?;
    }
    fs::create_dir_all(&place).map_err(failed)?;
    let mut command = fuzzer.command(TARGET);
    command.env("BACKSTAY_FUZZ_PLANT", "1").arg(format!("-max_total_time={SECONDS}"));
    run::limits(&mut command, INPUT_MAX, &place);
    let output = command.output().map_err(|error| format!("can't run the fuzzer: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let found = run::files(&place)?;
    if output.status.success() || found.is_empty() || !said.contains("a planted bug") {
        return Err(format!("a planted bug was not found within {SECONDS} s:\n{said}"));
    }
    println!("a planted bug was found, as it must be");
    Ok(())
}
