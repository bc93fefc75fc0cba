//! The vault's commands: `backup`, `restore`, `vault …`, `demo vault`. A command is a file: its
//! arguments, and a `run` that returns the exit code.
//!
//! Exit codes: 0 done; 1 it could not be done; 2 the command line is wrong; 3 it was done and
//! something is wrong: damage found, files skipped, sides that differ.

pub(crate) mod backup;
pub(crate) mod beside;
pub(crate) mod check_proof;
pub(crate) mod cleanup;
pub(crate) mod cluster;
pub(crate) mod compare;
pub(crate) mod copy;
pub(crate) mod demo;
pub(crate) mod demo_postgres;
mod demo_room;
pub(crate) mod export;
pub(crate) mod forget;
pub(crate) mod heads;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod opening;
pub(crate) mod output;
pub(crate) mod prove;
pub(crate) mod prove_restore;
pub(crate) mod record;
pub(crate) mod restore;
pub(crate) mod restore_postgres;
pub(crate) mod run;
pub(crate) mod run_child;
pub(crate) mod schedule_status;
pub(crate) mod selftest;
pub(crate) mod status;
pub(crate) mod verify;
pub(crate) mod wal;

use clap::Subcommand;
use output::Output;
use std::process::ExitCode;
// The root's, which is the binary or a test of the vault.
use super::stdout;

/// The result of a command.
pub(crate) type CliResult = Result<ExitCode, vault::VaultError>;

/// Exit code: done, and something is wrong.
pub(crate) const EXIT_FOUND: u8 = 3;

/// `backstay vault …`.
#[derive(Debug, Subcommand)]
pub(crate) enum VaultCommand {
    /// Make a repository and its keys.
    Init(init::InitArgs),
    /// List backups, or what one holds.
    List(list::ListArgs),
    /// Per source: newest backup, newest proven one, size, what a restore would take.
    Status(status::StatusArgs),
    /// Say what of the repository can be restored.
    Verify(verify::VerifyArgs),
    /// Prove to a third party that a file was in a backup.
    Prove(prove::ProveArgs),
    /// Prove that a backup restores: restore it into a scratch place, and check it.
    ProveRestore(Box<prove_restore::ProveRestoreArgs>),
    /// Check such a proof; needs neither repository nor key.
    CheckProof(check_proof::CheckProofArgs),
    /// Compare live data with a backup, to the bit.
    Compare(compare::CompareArgs),
    /// Copy backups to another repository, checked on the way.
    Copy(copy::CopyArgs),
    /// Write a backup as a plain tar.
    Export(export::ExportArgs),
    /// Decide which backups are no longer wanted.
    Forget(forget::ForgetArgs),
    /// Give back the room of what nothing needs.
    Cleanup(cleanup::CleanupArgs),
    /// Add, rotate, revoke, split, combine and test keys.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// A database's log: stream it in, push it, fetch it back.
    #[command(subcommand)]
    Wal(wal::WalCommand),
    /// Run backups, proofs, verification and clean-up when they are due, in the foreground.
    Run(run::RunArgs),
    /// Tell the cluster how far the repository has come.
    Record(record::RecordArgs),
    /// List what the cluster remembers of repositories, or have the last word on a fork.
    Heads(heads::HeadsArgs),
    /// Try whether a place is safe for a repository.
    Selftest(selftest::SelftestArgs),
}

/// Runs a vault command.
///
/// # Errors
/// What the command could not do, in words for the operator.
pub(crate) fn run(command: &VaultCommand, output: Output) -> CliResult {
    opening::protect_memory();
    match command {
        VaultCommand::Init(args) => init::run(args, output),
        VaultCommand::List(args) => list::run(args, output),
        VaultCommand::Status(args) => status::run(args, output),
        VaultCommand::Verify(args) => verify::run(args, output),
        VaultCommand::Prove(args) => prove::run(args, output),
        VaultCommand::ProveRestore(args) => prove_restore::run(args, output),
        VaultCommand::CheckProof(args) => check_proof::run(args, output),
        VaultCommand::Compare(args) => compare::run(args, output),
        VaultCommand::Copy(args) => copy::run(args, output),
        VaultCommand::Export(args) => export::run(args, output),
        VaultCommand::Forget(args) => forget::run(args, output),
        VaultCommand::Cleanup(args) => cleanup::run(args, output),
        VaultCommand::Key(command) => key::run(command, output),
        VaultCommand::Wal(command) => wal::run(command),
        VaultCommand::Run(args) => run::run(args, output),
        VaultCommand::Record(args) => record::run(args, output),
        VaultCommand::Heads(args) => heads::run(args, output),
        VaultCommand::Selftest(args) => selftest::run(args, output),
    }
}
