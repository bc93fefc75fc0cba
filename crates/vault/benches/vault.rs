//! The vault's figures, beside the tools that people use today, on the same data in one run.
//!
//! `cargo xtask bench vault [MIB] [RUNS]`: directories, beside restic, borg and `cp -a`.
//! `cargo xtask bench vault postgres [SCALE] [RUNS]`: a database, beside pgBackRest.
//!
//! The program measures itself: it is also the vault's command line.

#[path = "../tests/postgres/cluster.rs"]
mod cluster;
#[path = "../tests/common/mod.rs"]
mod common;
#[path = "vault/directories.rs"]
mod directories;
#[path = "vault/postgres.rs"]
mod postgres;
#[path = "../../backstay/src/vault_cli/mod.rs"]
mod vault_cli;

use clap::{Parser, Subcommand};
use directories::Outcome;
use std::process::ExitCode;
use vault_cli::output::Output;

#[derive(Parser)]
struct Line {
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

fn main() -> Outcome<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|w| ["backup", "restore", "vault", "demo"].contains(&w.as_str())) {
        return Ok(command_line());
    }
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|w| *w != "--bench").collect();
    let number = |at: usize, usual: u64| words.get(at).map_or(Ok(usual), |text| text.parse());
    let scratch = cluster::scratch();
    let program = std::env::current_exe()?;
    match words.first() {
        Some(&"postgres") => {
            postgres::run(&program, scratch.path(), number(1, 50)?, number(2, 3)?)?;
        }
        _ => directories::run(&program, scratch.path(), number(0, 2048)?, number(1, 3)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn command_line() -> ExitCode {
    let output = Output::of(false);
    let result = match &Line::parse().command {
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
