//! `vault key`: adds, rotates, revokes, splits, combines and tests keys.

use super::CliResult;
use super::opening::{DeletionArgs, RepositoryArgs, read_words};
use super::output::Output;
use age::x25519::Identity;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use vault::keys::access::{recovery_words, write_key_file};
use vault::keys::shares;
use vault::keys::words::for_paper;
use vault::keys::wrap::Holder;
use vault::repository::NewRecipient;

/// Add, rotate, revoke, split, combine and test keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Let another machine open the repository: give its public key (`age1…`).
    Add(AddArgs),
    /// Make a new recovery key and print it once.
    Recovery(RecoveryArgs),
    /// Make a key, split it among custodians, and print the shares once.
    Split(SplitArgs),
    /// Bring the custodians' key back from shares, as a key file.
    Combine(CombineArgs),
    /// Make new keys for what is written from now on.
    Rotate(RotateArgs),
    /// Take a key away, and rotate.
    Revoke(RevokeArgs),
    /// Prove that a key, or the shares, open the repository.
    Test(TestArgs),
}

/// `vault key add`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    /// The machine's public key.
    pub(crate) recipient: String,
    /// Its name.
    #[arg(long)]
    pub(crate) label: String,
}

/// `vault key recovery`.
#[derive(Debug, Args)]
pub(crate) struct RecoveryArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    /// Its name.
    #[arg(long, default_value = "recovery")]
    pub(crate) label: String,
}

/// `vault key split`.
#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    /// How many custodians.
    #[arg(long)]
    pub(crate) shares: u8,
    /// How many of them are needed.
    #[arg(long)]
    pub(crate) threshold: u8,
    /// Its name.
    #[arg(long, default_value = "custodians")]
    pub(crate) label: String,
}

/// `vault key combine`.
#[derive(Debug, Args)]
pub(crate) struct CombineArgs {
    /// Files with one share each.
    #[arg(required = true)]
    pub(crate) shares: Vec<PathBuf>,
    /// The key file to write.
    #[arg(long)]
    pub(crate) out: PathBuf,
}

/// `vault key rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    #[command(flatten)]
    pub(crate) deletion: DeletionArgs,
}

/// `vault key revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    #[command(flatten)]
    pub(crate) deletion: DeletionArgs,
    /// The key's name or public key; may be given more than once.
    #[arg(required = true)]
    pub(crate) keys: Vec<String>,
}

/// `vault key test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
}

#[derive(Serialize)]
struct Printed {
    label: String,
    recipient: String,
    texts: Vec<String>,
}

#[derive(Serialize)]
struct Done {
    done: String,
}

/// Runs the command.
///
/// # Errors
/// What could not be done; a mistyped word is named.
pub(crate) fn run(command: &KeyCommand, output: Output) -> CliResult {
    match command {
        KeyCommand::Add(args) => {
            let label = args.label.clone();
            let recipient = args.recipient.clone();
            let new = NewRecipient { holder: Holder::Machine, label, recipient };
            args.opening.open()?.add_key(&new)?;
            done(output, format!("`{}` opens the repository from now on", args.label))
        }
        KeyCommand::Recovery(args) => {
            let identity = Identity::generate();
            add(&args.opening, Holder::Recovery, &args.label, &identity)?;
            let texts = vec![recovery_words(&identity).to_string()];
            print(output, &args.label, &identity, texts)
        }
        KeyCommand::Split(args) => {
            let identity = Identity::generate();
            let texts = shares::split(&identity, args.threshold, args.shares)?;
            add(&args.opening, Holder::Custodians, &args.label, &identity)?;
            let texts = texts.iter().map(|t| t.to_string()).collect();
            print(output, &args.label, &identity, texts)
        }
        KeyCommand::Combine(args) => {
            let texts: vault::Result<Vec<_>> = args.shares.iter().map(|p| read_words(p)).collect();
            write_key_file(&args.out, &shares::combine(&texts?)?)?;
            done(output, format!("the custodians' key is in {}", args.out.display()))
        }
        KeyCommand::Rotate(args) => {
            let deletion = args.deletion.read()?;
            let epoch = args.opening.open()?.rotate(&[], deletion.as_ref())?;
            done(output, format!("what is written from now on is under key epoch {epoch}"))
        }
        KeyCommand::Revoke(args) => {
            let deletion = args.deletion.read()?;
            let epoch = args.opening.open()?.rotate(&args.keys, deletion.as_ref())?;
            done(
                output,
                format!(
                    "revoked; what is written from now on is under key epoch {epoch}. What was \
                 written before can still be read by whoever copied it together with that key"
                ),
            )
        }
        KeyCommand::Test(args) => {
            let repository = args.opening.open()?;
            repository.test_key(&args.opening.identity()?)?;
            done(output, "the key opens the repository and reads its newest record".to_owned())
        }
    }
}

fn add(
    opening: &RepositoryArgs,
    holder: Holder,
    label: &str,
    identity: &Identity,
) -> vault::Result<()> {
    let mut repository = opening.open()?;
    let (label, recipient) = (label.to_owned(), identity.to_public().to_string());
    repository.add_key(&NewRecipient { holder, label, recipient })?;
    repository.test_key(identity)
}

fn print(output: Output, label: &str, identity: &Identity, texts: Vec<String>) -> CliResult {
    let recipient = identity.to_public().to_string();
    let printed = Printed { label: label.to_owned(), recipient, texts };
    output.show(&printed, |printed| {
        let mut text = "Write this down now: it is not shown again.\n".to_owned();
        for (number, words) in printed.texts.iter().enumerate() {
            let count = printed.texts.len();
            let which = match count {
                1 => format!("`{}`", printed.label),
                _ => format!("share {} of {count} of `{}`", number + 1, printed.label),
            };
            text += &format!("\n{which}\n{}", *for_paper(words));
        }
        text
    });
    Ok(ExitCode::SUCCESS)
}

fn done(output: Output, done: String) -> CliResult {
    output.show(&Done { done }, |d| d.done.clone());
    Ok(ExitCode::SUCCESS)
}
