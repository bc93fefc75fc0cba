//! The binary: one file per command, all of them in `commands/`.

mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
