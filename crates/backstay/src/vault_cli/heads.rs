//! `vault heads`: what the cluster remembers of repositories, and an operator's word on forks.

use super::cluster::ClusterArgs;
use super::output::{Output, ago};
use super::{CliResult, EXIT_FOUND};
use clap::Args;
use model::Operation;
use model::vault::{ChainHead, ChainRecord, RepositoryId};
use std::process::ExitCode;
use vault::cluster::{Unable, View};
use vault::repository::wall_clock;
use vault::{Result, VaultError};

/// List what the cluster remembers of repositories, or have the last word on a fork.
#[derive(Debug, Args)]
pub(crate) struct HeadsArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// What is remembered holds: end the alarm of this record, as `REPOSITORY/NUMBER:HASH`.
    #[arg(long, value_name = "FORK", value_parser = named)]
    pub(crate) clear_fork: Option<(RepositoryId, ChainHead)>,
    /// Another history holds from now on: this is its newest record.
    #[arg(long, value_name = "RECORD", value_parser = named, conflicts_with = "clear_fork")]
    pub(crate) accept: Option<(RepositoryId, ChainHead)>,
    /// Forget a repository, named with the record that is remembered.
    #[arg(long, value_name = "RECORD", value_parser = named,
        conflicts_with_all = ["clear_fork", "accept"])]
    pub(crate) forget: Option<(RepositoryId, ChainHead)>,
}

/// Reads `REPOSITORY/NUMBER:HASH`.
fn named(text: &str) -> std::result::Result<(RepositoryId, ChainHead), String> {
    let parts = text.split_once('/');
    let parts = parts.and_then(|(id, head)| Some((id.parse().ok()?, head.parse().ok()?)));
    parts.ok_or_else(|| "write REPOSITORY/NUMBER:HASH, as `vault heads` prints it".to_owned())
}

/// Runs the command.
///
/// # Errors
/// Where the cluster does not answer or refuses.
pub(crate) fn run(args: &HeadsArgs, output: Output) -> CliResult {
    let cluster = args.cluster.connect();
    if let Some(operation) = order(args, || cluster.view(false).map_err(silent))? {
        cluster.say(&operation).map_err(refused)?;
    }
    let view = cluster.view(false).or_else(|_| cluster.view(true)).map_err(silent)?;
    if !view.authoritative {
        eprintln!("warning: {} speaks for itself alone: it may know less than all", view.node);
    }
    let is_forked = view.repositories.values().any(|chain| !chain.forks.is_empty());
    output.show(&view.repositories, |_| text(&view));
    Ok(if is_forked { ExitCode::from(EXIT_FOUND) } else { ExitCode::SUCCESS })
}

/// What the operator orders, if anything.
fn order(args: &HeadsArgs, view: impl Fn() -> Result<View>) -> Result<Option<Operation>> {
    if let Some((repository, found)) = args.clear_fork {
        return Ok(Some(Operation::ClearFork { repository, found }));
    }
    if let Some((repository, head)) = args.forget {
        return Ok(Some(Operation::ForgetRepository { repository, head }));
    }
    let Some((repository, head)) = args.accept else { return Ok(None) };
    let view = view()?;
    let known = view.repositories.get(&repository).ok_or_else(|| {
        VaultError::NotFound(format!("the cluster remembers no repository {repository}"))
    })?;
    Ok(Some(Operation::AcceptHead { repository, instead_of: known.head, head }))
}

fn silent(why: Unable) -> VaultError {
    VaultError::Refused(format!("the cluster could not be asked: {why}"))
}

fn refused(why: Unable) -> VaultError {
    match why {
        Unable::Moved => VaultError::Refused(
            "the cluster remembers another record by now; look at `backstay vault heads`".into(),
        ),
        why => VaultError::Refused(format!("nothing was changed, as far as is known: {why}")),
    }
}

fn text(view: &View) -> String {
    if view.repositories.is_empty() {
        return "The cluster remembers no repository.".to_owned();
    }
    let each = view.repositories.iter().map(|(id, chain)| one(id, chain));
    each.collect::<Vec<_>>().join("\n")
}

fn one(id: &RepositoryId, chain: &ChainRecord) -> String {
    let now_ms = wall_clock()();
    let wall_ms = i64::try_from(chain.wall_ms).unwrap_or(i64::MAX);
    let mut text = format!("{id}/{}\n  said by {} {}", chain.head, chain.by, ago(now_ms, wall_ms));
    for (source, known) in &chain.sources {
        text += &format!("\n  {source}:");
        text += &known.newest.as_ref().map_or(" no backup".to_owned(), |newest| {
            let number = newest.number;
            format!(" backup {number} of {}, {}", newest.host, ago(now_ms, newest.begun_ms))
        });
        text += &known.proven.as_ref().map_or(", NEVER PROVEN".to_owned(), |proven| {
            format!(", {} proven {}", proven.number, ago(now_ms, proven.at_ms))
        });
    }
    for fork in &chain.forks {
        text += &format!(
            "\n  FORK {id}/{}\n    stands against {}, shown by {}",
            fork.found, fork.known, fork.by
        );
    }
    if chain.forks_more > 0 {
        text += &format!("\n  and {} more forks", chain.forks_more);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_fork_is_named_whole() {
        let good = format!("{}/42:{}", "ab".repeat(16), "9f".repeat(32));
        let (id, head) = super::named(&good).unwrap();
        assert_eq!(format!("{id}/{head}"), good);
        for bad in ["", "42:9f", &good[1..], &good[..90]] {
            assert!(super::named(bad).unwrap_err().contains("NUMBER:HASH"), "{bad}");
        }
    }
}
