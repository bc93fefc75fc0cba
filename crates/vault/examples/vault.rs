//! The vault's commands alone, without the cluster: what the figures are measured with.
//!
//! `cargo run --release -p backstay-vault --example vault -- backup …`

#[path = "../../backstay/src/vault_cli/mod.rs"]
mod vault_cli;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use vault_cli::output::Output;

#[derive(Parser)]
struct Arguments {
    /// As JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Backup(vault_cli::backup::BackupArgs),
    Restore(vault_cli::restore::RestoreArgs),
    #[command(subcommand)]
    Vault(vault_cli::VaultCommand),
    Demo,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::of(arguments.json);
    let result = match &arguments.command {
        Command::Backup(args) => vault_cli::backup::run(args, output),
        Command::Restore(args) => vault_cli::restore::run(args, output),
        Command::Vault(command) => vault_cli::run(command, output),
        Command::Demo => vault_cli::demo::run(output),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {}", vault::error::explain(&error));
        ExitCode::FAILURE
    })
}
