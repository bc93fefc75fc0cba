//! `seeds`: simulated clusters with faults, each by its seed.

use crate::flags::Flags;
use crate::shell;

/// What the simulator's program takes as it stands.
const PASSED_ON: [&str; 5] = ["--class", "--plant", "--only", "--faults", "--search"];
/// The same, without a value.
const PLAIN: [&str; 2] = ["--trace", "--json"];

/// Runs the simulator's own program.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let valued = [&["--count", "--seed"][..], &PASSED_ON].concat();
    let flags = Flags::read(arguments, &[&["--fast"][..], &PLAIN].concat(), &valued)?;
    let searches = !flags.values("--search").is_empty();
    let count = match flags.number("--count")? {
        Some(count) => count.to_string(),
        None if searches => "0".to_owned(),
        None => return Err("how many? --count N".to_owned()),
    };
    let seed = flags.number("--seed")?.map(|seed| seed.to_string());
    let profile = if flags.has("--fast") { "sim" } else { "dev" };
    let mut command = program(profile, &count, seed.as_deref());
    for flag in PASSED_ON {
        for value in flags.values(flag) {
            command.args([flag, value]);
        }
    }
    command.args(PLAIN.iter().filter(|flag| flags.has(flag)));
    shell::run(&mut command)
}

/// The command that runs `count` seeds.
pub(crate) fn command(count: &str, seed: Option<&str>) -> std::process::Command {
    // The profile `dev` optimises what the simulator runs (see the workspace manifest): no second
    // build of everything for few seeds.
    program("dev", count, seed)
}

fn program(profile: &str, count: &str, seed: Option<&str>) -> std::process::Command {
    let mut command = shell::cargo(&["run", "--quiet", "--profile", profile, "-p", "backstay-sim"]);
    command.args(["--bin", "seeds", "--", "--count", count]);
    if let Some(seed) = seed {
        command.args(["--seed", seed]);
    }
    command
}
