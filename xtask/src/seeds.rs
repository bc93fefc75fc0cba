//! `seeds`: simulated clusters with faults, each by its seed.

use crate::flags::Flags;
use crate::shell;

/// Runs the simulator's own program.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let flags = Flags::read(arguments, &[], &["--count", "--seed"])?;
    let count = flags.number("--count")?.ok_or("how many? --count N")?.to_string();
    let seed = flags.number("--seed")?.map(|seed| seed.to_string());
    shell::run(&mut command(&count, seed.as_deref()))
}

/// The command that runs `count` seeds.
pub(crate) fn command(count: &str, seed: Option<&str>) -> std::process::Command {
    // The profile `dev` optimises what the simulator runs (see the workspace manifest): no second
    // build of everything for a rate that differs little.
    let mut command = shell::cargo(&["run", "--quiet", "-p", "backstay-sim"]);
    command.args(["--bin", "seeds", "--", "--count", count]);
    if let Some(seed) = seed {
        command.args(["--seed", seed]);
    }
    command
}
