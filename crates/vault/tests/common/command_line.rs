//! The vault's command line, for programs that are also something else: tests and benches call
//! themselves with it, so that they need no other binary.
#![allow(unreachable_pub, missing_docs, reason = "shared by tests, benches and an example")]

#[path = "../../../backstay/src/stdout.rs"]
#[allow(dead_code, reason = "the binary prints through it, too")]
mod stdout;
#[path = "../../../backstay/src/vault_cli/mod.rs"]
mod vault_cli;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use vault_cli::output::Output;

#[derive(Parser)]
struct Line {
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
    Demo(vault_cli::demo::DemoVaultArgs),
}

/// Whether this program was called as the vault's command line.
#[allow(dead_code, reason = "the example is nothing else")]
pub fn is_wanted() -> bool {
    let first = std::env::args().nth(1).unwrap_or_default();
    ["backup", "restore", "vault", "demo"].contains(&first.as_str())
}

/// Runs what the command line says.
pub fn run() -> ExitCode {
    let line = Line::parse();
    let output = Output::of(line.json);
    let result = match &line.command {
        Command::Backup(args) => vault_cli::backup::run(args, output),
        Command::Restore(args) => vault_cli::restore::run(args, output),
        Command::Vault(command) => vault_cli::run(command, output),
        Command::Demo(args) => vault_cli::demo::run(args, output),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {}", vault::error::explain(&error));
        ExitCode::FAILURE
    })
}
