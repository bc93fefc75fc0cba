//! A cluster that remembers heads: what it says is compared when a repository is opened, and told
//! once something was appended.
//!
//! The repository comes first. A crash in between leaves the cluster behind by some records; the
//! next one who commits sees that the newer head follows the remembered one, and says so. Nothing
//! is ever recorded whose link to what is remembered was not read.

use crate::chain::{Backup, Head, State, newest_of};
use crate::error::{Rememberer, Result, VaultError};
use crate::repository::Repository;
use model::NodeName;
use model::operation::Operation;
use model::vault::{
    BackupRecord, ChainHead, ChainRecord, Digest, Duty, ProofRecord, RepositoryId, SOURCES_MAX,
    SourceNews, TEXT_MAX,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often a writer looks again when another one came first.
pub const COMMIT_TRIES_MAX: u32 = 8;

/// What a cluster says.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct View {
    /// The node that says it.
    pub node: String,
    /// Nothing newer was acknowledged to anyone.
    pub authoritative: bool,
    /// What is remembered.
    pub repositories: BTreeMap<RepositoryId, ChainRecord>,
    /// Where tasks of resources run.
    pub duties: Vec<Duty>,
}

/// Why a cluster did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unable {
    /// Nobody answered, or not in time; it may have been done.
    Silent(String),
    /// What is remembered has changed meanwhile: look again.
    Moved,
    /// It stands against what is remembered; that is noted.
    Forked(String),
    /// It said no.
    Refused(String),
}

impl std::fmt::Display for Unable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unable::Moved => f.write_str("other writers came first each time"),
            Unable::Silent(why) | Unable::Forked(why) | Unable::Refused(why) => f.write_str(why),
        }
    }
}

/// A cluster that remembers.
pub trait Cluster: Send + Sync {
    /// What it remembers. `local`: what the node asked knows by itself will do.
    ///
    /// # Errors
    /// [`Unable`].
    fn view(&self, local: bool) -> std::result::Result<View, Unable>;

    /// Has an operation committed.
    ///
    /// # Errors
    /// [`Unable`].
    fn say(&self, operation: &Operation) -> std::result::Result<(), Unable>;

    /// The node that this machine is; none where it is none.
    fn me(&self) -> Option<NodeName>;
}

/// How a repository is tied to a cluster.
#[derive(Clone)]
pub struct Link {
    /// Who remembers.
    pub cluster: Arc<dyn Cluster>,
    /// Whether a repository opens only after the cluster was asked. A backup must not wait for a
    /// cluster; whoever wants to know what is fresh must.
    pub is_needed: bool,
}

/// The head as the cluster writes it.
pub fn chain_head(head: &Head) -> ChainHead {
    ChainHead { number: head.seq, hash: Digest(head.hash) }
}

fn head_of(head: &ChainHead) -> Head {
    Head { seq: head.number, hash: head.hash.0 }
}

/// Compares an opened repository with what the cluster remembers of it.
pub(crate) fn compare(repository: &mut Repository) -> Result<()> {
    let Some(link) = repository.cluster().cloned() else { return Ok(()) };
    let view = match view(&link) {
        Ok(view) => view,
        Err(why) if link.is_needed => return Err(VaultError::ClusterSilent(why.to_string())),
        Err(why) => {
            repository.note(format!("the cluster could not be asked what it remembers: {why}"));
            return Ok(());
        }
    };
    if !view.authoritative {
        repository.note(format!(
            "{} speaks for itself alone (no quorum answers): the cluster may remember a newer \
             record than it says",
            view.node
        ));
    }
    match view.repositories.get(&id(repository)) {
        Some(known) => contain(repository, &link, known),
        None => Ok(()),
    }
}

fn view(link: &Link) -> std::result::Result<View, Unable> {
    // Without a quorum, what one node knows is worth more than nothing.
    link.cluster.view(false).or_else(|_| link.cluster.view(true))
}

fn id(repository: &Repository) -> RepositoryId {
    RepositoryId(repository.ring().repository)
}

/// Checks that the repository contains what is remembered, and tells the cluster where it doesn't.
fn contain(repository: &mut Repository, link: &Link, known: &ChainRecord) -> Result<()> {
    let Err(error) = repository.must_contain(head_of(&known.head), Rememberer::Cluster) else {
        return Ok(());
    };
    let error = Box::new(error);
    if matches!(*error, VaultError::RolledBack { .. }) {
        let found = chain_head(&repository.chain().head);
        let (repository, known) = (id(repository), known.head);
        match link.cluster.say(&Operation::ReportFork { repository, found, known }) {
            Ok(()) | Err(Unable::Forked(_)) => {}
            // The repository is what matters, and whoever asks is told of it all the same.
            Err(why) => return Err(VaultError::NotReported { why: why.to_string(), error }),
        }
    }
    Err(*error)
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// No cluster is asked.
    NoCluster,
    /// The cluster remembers this head of the chain, or a later one.
    Head(Head),
}

/// Has the cluster remember how far the repository has come, and what there is of its sources.
///
/// # Errors
/// [`VaultError::NotRecorded`] where it does not; [`VaultError::RolledBack`] where the repository
/// lacks what is remembered.
pub fn commit(repository: &mut Repository) -> Result<Committed> {
    let Some(link) = repository.cluster().cloned() else { return Ok(Committed::NoCluster) };
    let (mut last, mut silences) = (Unable::Moved, 0);
    for _ in 0..COMMIT_TRIES_MAX {
        let silent = |why: Unable, repository: &Repository| not_recorded(repository, &why);
        let view = link.cluster.view(false).map_err(|why| silent(why, repository))?;
        let known = view.repositories.get(&id(repository));
        if let Some(known) = known {
            contain(repository, &link, known)?;
        }
        let from = known.map_or(0, |known| known.head.number);
        repository.chain().require_whole(from, "the cluster is not told of what can't be read")?;
        let head = chain_head(&repository.chain().head);
        let sources = news(repository.state(), known);
        if known.is_some_and(|known| known.head == head) && sources.is_empty() {
            return Ok(Committed::Head(repository.chain().head));
        }
        let (repository_id, previous) = (id(repository), known.map(|known| known.head));
        let operation =
            Operation::RecordHead { repository: repository_id, previous, head, sources };
        match link.cluster.say(&operation) {
            Ok(()) => return Ok(Committed::Head(repository.chain().head)),
            // It may have been done: the next look says.
            Err(why @ Unable::Silent(_)) if silences == 0 => (last, silences) = (why, 1),
            Err(Unable::Moved) => last = Unable::Moved,
            Err(why) => return Err(not_recorded(repository, &why)),
        }
    }
    Err(not_recorded(repository, &last))
}

fn not_recorded(repository: &Repository, why: &Unable) -> VaultError {
    VaultError::NotRecorded { number: repository.chain().head.seq, why: why.to_string() }
}

/// What the cluster does not know yet of the sources: the newest backup and proof of each, of as
/// many as it keeps.
fn news(state: &State, known: Option<&ChainRecord>) -> Vec<SourceNews> {
    let mut by_source: BTreeMap<&str, Vec<(u64, &Backup)>> = BTreeMap::new();
    for (number, backup) in &state.backups {
        let too_long = [&backup.source, &backup.host, &backup.subject.position];
        if backup.source.is_empty() || too_long.iter().any(|text| text.len() > TEXT_MAX) {
            continue;
        }
        by_source.entry(&backup.source).or_default().push((*number, backup));
    }
    let mut all: Vec<SourceNews> = by_source
        .into_iter()
        .map(|(source, backups)| {
            let proof = |(number, _): &(u64, &Backup)| {
                let proof = state.proven.get(number)?;
                let (at_ms, took_ms) = (proof.time_ms, proof.took_ms);
                Some(ProofRecord { number: *number, at_ms, took_ms })
            };
            SourceNews {
                source: source.to_owned(),
                proven: backups.iter().rev().find_map(proof),
                newest: newest_of(backups).map(backup_record),
            }
        })
        .collect();
    all.sort_by_key(|news| std::cmp::Reverse(news.newest.as_ref().map(|newest| newest.number)));
    all.truncate(SOURCES_MAX);
    all.retain(|news| known.is_none_or(|known| known.is_news(news)));
    all
}

fn backup_record((number, backup): (u64, &Backup)) -> BackupRecord {
    BackupRecord {
        number,
        root: Digest(backup.subject.root),
        position: backup.subject.position.clone(),
        host: backup.host.clone(),
        begun_ms: backup.subject.begun_ms,
        ended_ms: backup.subject.ended_ms,
    }
}
