//! Mounts the vault's commands: `backup`, `restore`, `vault …`, `demo vault`.

use std::process::ExitCode;

use crate::vault_cli::output::Output;
use crate::vault_cli::{self, CliResult};

/// A vault command with the option that all of them have.
#[derive(Debug, clap::Args)]
pub(crate) struct WithOutput<A: clap::Args> {
    #[command(flatten)]
    args: A,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Options of `vault`.
#[derive(Debug, clap::Args)]
pub(crate) struct VaultArgs {
    #[command(subcommand)]
    command: vault_cli::VaultCommand,
    /// Print one JSON document
    #[arg(long, global = true)]
    json: bool,
}

/// Options of `demo`: the cluster's, or the vault's.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DemoCommand {
    #[command(flatten)]
    cluster: backstay::demo::command::DemoArgs,
    #[command(subcommand)]
    which: Option<Which>,
}

/// Which demo, where it is not the cluster's.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Which {
    /// See data come back: a backup under writes, a flipped bit found, a mistake undone
    Vault {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        args: vault_cli::demo::DemoVaultArgs,
    },
}

fn output(json: bool) -> Output {
    Output::of(json)
}

/// Lets the vault's commands reach a cluster.
fn reach_clusters() {
    // A second call sets what is set.
    _ = vault_cli::cluster::CONNECT.set(super::remembering::connect);
}

fn code(result: CliResult) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("backstay: {error}");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            eprintln!("  because: {cause}");
            source = cause.source();
        }
        ExitCode::FAILURE
    })
}

pub(crate) fn backup(args: &WithOutput<vault_cli::backup::BackupArgs>) -> ExitCode {
    reach_clusters();
    code(vault_cli::backup::run(&args.args, output(args.json)))
}

pub(crate) fn restore(args: &WithOutput<vault_cli::restore::RestoreArgs>) -> ExitCode {
    reach_clusters();
    code(vault_cli::restore::run(&args.args, output(args.json)))
}

pub(crate) fn vault(args: &VaultArgs) -> ExitCode {
    reach_clusters();
    code(vault_cli::run(&args.command, output(args.json)))
}

pub(crate) fn demo(args: DemoCommand) -> ExitCode {
    match args.which {
        Some(Which::Vault { json, args }) => code(vault_cli::demo::run(&args, output(json))),
        None => backstay::demo::command::run(args.cluster),
    }
}
