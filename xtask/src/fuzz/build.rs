//! Builds the fuzzer. Dependencies are those of every other build of the development profile:
//! only the crates of this workspace are instrumented, and a little optimised.

use std::path::PathBuf;
use std::process::Command;

use crate::shell;

/// Crates that run in a target, and that the development profile does not optimise.
const OURS: &[&str] = &["agent", "config", "drivers", "vault"];
/// The variable at which the fuzzer lists its targets.
const LIST_VARIABLE: &str = "BACKSTAY_FUZZ_LIST";

/// The built program.
pub(super) struct Fuzzer {
    program: PathBuf,
    /// Its targets.
    pub(super) targets: Vec<Target>,
}

/// What the program says of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Its name.
    pub(super) name: String,
    /// Longest input in bytes.
    pub(super) input_max: u64,
    /// What it reads.
    pub(super) about: String,
}

impl Fuzzer {
    /// The program, to do something with a target.
    pub(super) fn command(&self, target: &str) -> Command {
        let mut command = Command::new(&self.program);
        // A trace for each fault takes longer than the fault is worth: its input is kept.
        command.env("BACKSTAY_FUZZ_TARGET", target).env("RUST_BACKTRACE", "0");
        command
    }
}

/// Builds the fuzzer and asks it for its targets.
pub(super) fn build() -> Result<Fuzzer, String> {
    // With all members chosen, dependencies get the features that they have in every other build.
    let what = ["build", "--quiet", "--workspace", "--bin", "backstay-fuzz"];
    let mut command = shell::cargo(&what);
    command.args(["--features", "backstay-fuzz/libfuzzer"]);
    for name in OURS {
        let level = format!("profile.dev.package.backstay-{name}.opt-level=1");
        command.args(["--config", &level]);
    }
    command.env("RUSTC_WORKSPACE_WRAPPER", crate::root().join("tools/rustc-fuzz"));
    shell::run(&mut command)?;
    let program = shell::target_directory().join("debug/backstay-fuzz");
    let listed = Command::new(&program).env(LIST_VARIABLE, "1").output();
    let listed = listed.map_err(|error| format!("can't run {}: {error}", program.display()))?;
    let targets = String::from_utf8_lossy(&listed.stdout).lines().filter_map(read).collect();
    Ok(Fuzzer { program, targets })
}

/// A line of the list: name, longest input, and what it reads.
fn read(line: &str) -> Option<Target> {
    let mut words = line.splitn(3, ' ');
    Some(Target {
        name: words.next()?.to_owned(),
        input_max: words.next()?.parse().ok()?,
        about: words.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_list_is_a_target_and_any_other_is_none() {
        let read_name = |line| read(line).map(|target| (target.name, target.input_max));
        assert_eq!(read_name("api 4096 bodies of the API"), Some(("api".to_owned(), 4096)));
        assert_eq!(read_name("INFO: Seed: 17"), None);
        assert_eq!(read_name(""), None);
    }
}
