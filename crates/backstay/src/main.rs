//! The binary: one file per command, all of them in `commands/`.

/// As the standard library's, but what nobody reads is passed over: see
/// [`backstay::stdout`].
macro_rules! print {
    ($($text:tt)*) => { backstay::stdout::print(format_args!($($text)*)) };
}

/// As the standard library's, but what nobody reads is passed over.
macro_rules! println {
    ($form:literal $($rest:tt)*) => { print!("{}\n", format_args!($form $($rest)*)) };
}

mod commands;
mod vault_cli;

// The vault's commands call it so: they are compiled into the vault's tests, too.
use backstay::stdout;
use std::process::ExitCode;

fn main() -> ExitCode {
    stdout::quietly(commands::main)
}
