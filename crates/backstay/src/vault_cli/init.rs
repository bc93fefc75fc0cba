//! `vault init`: makes a repository and its keys.

use super::CliResult;
use super::opening::RepositoryArgs;
use super::output::Output;
use age::x25519::Identity;
use clap::Args;
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use vault::keys::access::{read_key_file, recovery_words, write_key_file};
use vault::keys::deletion::DeletionKey;
use vault::keys::words::for_paper;
use vault::keys::wrap::Holder;
use vault::repository::{InitRequest, NewRecipient, Repository};
use vault::store::{location, require_lock};
use vault::{Result, VaultError};

/// Make a repository and its keys.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    /// Nothing can be deleted with the keys of machines that write: deletion needs the deletion
    /// key, printed once, and the waiting time.
    #[arg(long)]
    pub(crate) append_only: bool,
    /// The bucket must lock each object by itself for at least so many days: it has object lock,
    /// and a default retention.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) object_lock: Option<u32>,
    /// Hours that forgotten backups and marked objects stay before they are deleted.
    #[arg(long, default_value_t = 24, value_name = "HOURS")]
    pub(crate) wait_hours: u32,
}

#[derive(Serialize)]
struct Made {
    repository: String,
    location: String,
    head: String,
    key_file: String,
    recovery_key: String,
    deletion_key: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Where the store is unsafe or the repository exists.
pub(crate) fn run(args: &InitArgs, output: Output) -> CliResult {
    if let Some(days) = args.object_lock {
        require_lock(&*location::open(&args.opening.repository)?, days)?;
    }
    let store = location::create(&args.opening.repository)?;
    let machine = machine_identity(&args.opening.key)?;
    let recovery = Identity::generate();
    let deletion = args.append_only.then(DeletionKey::random);
    let recipient = |holder, label: &str, identity: &Identity| NewRecipient {
        holder,
        label: label.to_owned(),
        recipient: identity.to_public().to_string(),
    };
    let request = InitRequest {
        recipients: vec![
            recipient(Holder::Machine, &super::opening::host(), &machine),
            recipient(Holder::Recovery, "recovery", &recovery),
        ],
        deletion_key: deletion.as_ref().map(DeletionKey::verifying_key),
        wait: Duration::from_secs(u64::from(args.wait_hours) * 3600),
    };
    let repository = Repository::init(store, &request, args.opening.options()?)?;
    repository.test_key(&recovery)?;
    let made = Made {
        repository: repository.id(),
        location: args.opening.repository.clone(),
        head: repository.chain().head.to_string(),
        key_file: args.opening.key.display().to_string(),
        recovery_key: recovery_words(&recovery).to_string(),
        deletion_key: deletion.map(|key| key.words().to_string()),
    };
    output.show(&made, text);
    Ok(ExitCode::SUCCESS)
}

/// The machine's key, made where it has none.
fn machine_identity(path: &Path) -> Result<Identity> {
    if path.exists() {
        return read_key_file(path);
    }
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(VaultError::file("make", folder))?;
    }
    let identity = Identity::generate();
    write_key_file(path, &identity)?;
    Ok(identity)
}

fn text(made: &Made) -> String {
    let mut text = format!(
        "Repository {} at {}\nThis machine's key: {}\n\n\
         RECOVERY KEY. Write it down now: it is not shown again, and without it the backups are\n\
         lost together with this machine.\n\n{}",
        made.repository,
        made.location,
        made.key_file,
        *for_paper(&made.recovery_key),
    );
    if let Some(words) = &made.deletion_key {
        text += &format!(
            "\nDELETION KEY. Write it down, and keep it away from the machines that back up: \
             only\nit can delete.\n\n{}",
            *for_paper(words)
        );
    }
    text
}
