//! `chaos`: faults on real processes, in the lab's network namespaces.

use std::process::Command;

use crate::shell;

/// The lab's own program.
pub(crate) const PROGRAM: &str = "lab/chaos";

/// Hands all arguments on to the lab.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let program = crate::root().join(PROGRAM);
    if !program.exists() {
        return Err(format!("{PROGRAM} is not in this tree"));
    }
    shell::run(Command::new(program).args(arguments).current_dir(crate::root()))
}
