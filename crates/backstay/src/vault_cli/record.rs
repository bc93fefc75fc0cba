//! `vault record`: tells the cluster how far a repository has come. What a crash or a silent
//! cluster left behind is made up for here; the schedule runs it again and again.

use super::CliResult;
use super::cluster::ClusterArgs;
use super::opening::RepositoryArgs;
use super::output::Output;
use clap::Args;
use serde::Serialize;
use std::process::ExitCode;
use vault::VaultError;
use vault::cluster::{Committed, commit};

/// Tell the cluster how far the repository has come.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
}

#[derive(Serialize)]
struct Shown {
    repository: String,
    head: String,
}

/// Runs the command.
///
/// # Errors
/// Where the cluster does not remember it afterwards, or the repository lacks what it remembers.
pub(crate) fn run(args: &RecordArgs, output: Output) -> CliResult {
    let cluster = ClusterArgs { cluster: true, ..args.opening.cluster.clone() };
    let opening = RepositoryArgs { cluster, ..args.opening.clone() };
    let mut repository = opening.open()?;
    let Committed::Head(head) = commit(&mut repository)? else {
        return Err(VaultError::Refused("there is no cluster to tell".to_owned()));
    };
    let shown = Shown { repository: repository.id(), head: head.to_string() };
    output.show(&shown, |shown| {
        format!("the cluster remembers repository {} up to {}", shown.repository, shown.head)
    });
    Ok(ExitCode::SUCCESS)
}
