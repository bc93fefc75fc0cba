//! `chaos`: faults by chance on real processes, in the lab's network namespaces.

use std::process::Command;

use crate::{dist, shell};

/// The lab's own manifest.
pub(crate) const LAB: &str = "lab/Cargo.toml";

/// Hands all arguments on to the lab.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    shell::run(lab("chaos")?.args(arguments))
}

/// The lab, to do something with the release binary, which is built first: the static one, which
/// is what users get.
pub(crate) fn lab(what: &str) -> Result<Command, String> {
    let binary = dist::build()?;
    shell::run(&mut shell::cargo(&["build", "--quiet", "-p", "backstay-lab"]))?;
    let mut command = shell::cargo(&["run", "--quiet", "-p", "backstay-lab", "--", what]);
    command.arg("--binary").arg(binary);
    Ok(command)
}
