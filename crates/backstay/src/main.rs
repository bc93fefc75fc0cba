//! The binary: one file per command, all of them in `commands/`.

mod commands;
mod vault_cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
