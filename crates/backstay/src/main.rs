//! The binary: one file per command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "backstay", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one of the programs that ship as examples
    Example(backstay::orders::command::ExampleArgs),
    /// Shows a service survive
    Demo(backstay::demo::command::DemoArgs),
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match Cli::parse().command {
        Command::Demo(args) => backstay::demo::command::run(args),
        Command::Example(args) => match backstay::orders::command::run(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("backstay: {error}");
                ExitCode::FAILURE
            }
        },
    }
}
