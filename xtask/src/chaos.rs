//! `chaos`: faults by chance on real processes, in the lab's network namespaces.

use std::process::Command;

use crate::test::needs::Needs;
use crate::{dist, shell};

/// What whatever the lab does needs.
pub(crate) const NEEDS: Needs = Needs {
    packages: &["binutils", "iproute2", "nftables", "openssl", "util-linux"],
    paths: &["lab/Cargo.toml"],
    root: true,
    ..Needs::NOTHING
};

/// Hands all arguments on to the lab.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    shell::run(lab("chaos")?.args(arguments))
}

/// The lab, to do something with the release binary, which is built first: the static one, which
/// is what users get. The lab itself is built as all tests are, with whatever features the whole
/// workspace asks of its libraries: on its own it would have several of them built anew.
pub(crate) fn lab(what: &str) -> Result<Command, String> {
    let binary = dist::build()?;
    shell::run(&mut shell::cargo(&["build", "--quiet", "--workspace", "--bin", "backstay-lab"]))?;
    let mut command = Command::new(shell::target_directory().join("debug/backstay-lab"));
    command.arg(what).current_dir(crate::root());
    command.arg("--binary").arg(binary);
    Ok(command)
}
