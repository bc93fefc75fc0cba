//! The simulator built by what a run of it showed: the compiler is told which branches are taken
//! and what is called often. A quarter faster, for runs of many thousands of seeds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shell;

/// The run that shows it: seeds of every class.
const SHOWN: [&str; 6] = ["--count", "100", "--seed", "7000000", "--threads", "1"];

/// Builds it in three steps, and says where it is. What has not changed is not built again.
pub(super) fn build() -> Result<PathBuf, String> {
    let host = said_by_rustc(&["-vV"])?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc does not say what it builds for")?;
    let merger = merger(Path::new(said_by_rustc(&["--print", "sysroot"])?.trim()), host)?;
    let directory = shell::target_directory().join("guided");
    let (raw, merged) = (directory.join("raw"), directory.join("seeds.profdata"));
    // Of an earlier run, or not there.
    let _ = std::fs::remove_dir_all(&raw);
    let counting = program(&directory.join("counting"), host, "-Cprofile-generate", &raw)?;
    let mut shown = Command::new(counting);
    shell::run(shown.args(SHOWN).stdout(Stdio::null()))?;
    shell::run(Command::new(merger).args(["merge", "-o"]).args([&merged, &raw]))?;
    program(&directory.join("built"), host, "-Cprofile-use", &merged)
}

/// The simulator's program, built with one more flag for its crates and none for those that run
/// while it is built, hence the target.
fn program(directory: &Path, host: &str, flag: &str, path: &Path) -> Result<PathBuf, String> {
    let what = ["build", "--quiet", "--profile", "sim", "-p", "backstay-sim", "--bin", "seeds"];
    let mut command = shell::cargo(&what);
    command.args(["--target", host, "--target-dir"]).arg(directory);
    command.env("CARGO_ENCODED_RUSTFLAGS", format!("{flag}={}", path.display()));
    shell::run(&mut command)?;
    Ok(directory.join(host).join("sim/seeds"))
}

/// What puts the counts of a run together.
fn merger(sysroot: &Path, host: &str) -> Result<PathBuf, String> {
    let path = sysroot.join("lib/rustlib").join(host).join("bin/llvm-profdata");
    match path.exists() {
        true => Ok(path),
        false => Err("llvm-profdata is missing: rustup component add llvm-tools".to_owned()),
    }
}

fn said_by_rustc(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let output = command.args(arguments).current_dir(crate::root()).output();
    let output = output.map_err(|error| format!("can't run rustc: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("rustc ended with {}", output.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_way_to_get_it() {
        let empty = std::env::temp_dir().join("no-sysroot-at-all");
        let error = merger(&empty, "x86_64-unknown-linux-gnu").unwrap_err();
        assert!(error.contains("rustup component add llvm-tools"), "{error}");
        assert!(said_by_rustc(&["-vV"]).unwrap().contains("host: "));
        assert!(said_by_rustc(&["--no-such-option"]).is_err());
    }
}
