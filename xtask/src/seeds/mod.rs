//! `seeds`: simulated clusters with faults, each by its seed.

mod guided;

use std::process::Command;

use crate::flags::Flags;
use crate::shell;

/// What the simulator's program takes as it stands.
const PASSED_ON: [&str; 5] = ["--class", "--plant", "--only", "--faults", "--search"];
/// The same, without a value.
const PLAIN: [&str; 2] = ["--trace", "--json"];

/// Runs the simulator's own program.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let valued = [&["--count", "--seed"][..], &PASSED_ON].concat();
    let plain = [&["--fast", "--guided"][..], &PLAIN].concat();
    let flags = Flags::read(arguments, &plain, &valued)?;
    let searches = !flags.values("--search").is_empty();
    let count = match flags.number("--count")? {
        Some(count) => count.to_string(),
        None if searches => "0".to_owned(),
        None => return Err("how many? --count N".to_owned()),
    };
    let seed = flags.number("--seed")?.map(|seed| seed.to_string());
    let program = match (flags.has("--guided"), flags.has("--fast")) {
        (true, _) => Command::new(guided::build()?),
        (false, true) => built("sim"),
        (false, false) => built("dev"),
    };
    let mut command = with(program, &count, seed.as_deref());
    for flag in PASSED_ON {
        for value in flags.values(flag) {
            command.args([flag, value]);
        }
    }
    command.args(PLAIN.iter().filter(|flag| flags.has(flag)));
    shell::run(&mut command)
}

/// The command that runs `count` seeds.
pub(crate) fn command(count: &str, seed: Option<&str>) -> Command {
    // The profile `dev` optimises what the simulator runs (see the workspace manifest): no second
    // build of everything for few seeds.
    with(built("dev"), count, seed)
}

fn built(profile: &str) -> Command {
    let mut command = shell::cargo(&["run", "--quiet", "--profile", profile, "-p", "backstay-sim"]);
    command.args(["--bin", "seeds", "--"]);
    command
}

fn with(mut program: Command, count: &str, seed: Option<&str>) -> Command {
    program.args(["--count", count]);
    if let Some(seed) = seed {
        program.args(["--seed", seed]);
    }
    program
}
