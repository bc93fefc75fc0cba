//! Applying what concerns the vault's repositories: how far their chains had come.
//!
//! A head follows the one before it only where the writer has named that one, and so has seen
//! that the new one links to it. What stands against it is noted and changes nothing else.

use model::command::{Command, Entry};
use model::state::{ClusterState, EventKind};
use model::vault::{ChainHead, ChainRecord, EARLIER_MAX, FORKS_MAX, ForkRecord};
use model::vault::{REPOSITORIES_MAX, RepositoryId, SourceNews};

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

type Change = Option<Option<EventKind>>;

pub(super) fn change(state: &mut ClusterState, index: u64, entry: &Entry) -> Change {
    match &entry.command {
        Command::RecordHead { repository, previous, head, by, sources } => {
            let said = Said { repository, previous, head, by, sources };
            record(state, index, entry.wall_ms, &said)
        }
        Command::NoteFork { repository, found, known, by } => {
            let fork = ForkRecord {
                found: *found,
                known: *known,
                by: by.clone(),
                index,
                at: state.now,
                wall_ms: entry.wall_ms,
            };
            note(state, *repository, fork)
        }
        Command::ClearFork { repository, found } => {
            let chain = state.repositories.get_mut(repository)?;
            let before = chain.forks.len();
            chain.forks.retain(|fork| fork.found != *found);
            if chain.forks.len() == before {
                return None;
            }
            if chain.forks.is_empty() {
                chain.forks_more = 0;
            }
            Some(Some(EventKind::ForkCleared { repository: *repository, found: *found }))
        }
        Command::AcceptHead { repository, instead_of, head, by } => {
            remembered(state, repository, instead_of)?;
            let chain = new(state, index, entry.wall_ms, *head, by);
            state.repositories.insert(*repository, chain);
            let (repository, instead_of, head) = (*repository, *instead_of, *head);
            Some(Some(EventKind::HeadAccepted { repository, instead_of, head }))
        }
        Command::ForgetRepository { repository, head } => {
            remembered(state, repository, head)?;
            state.repositories.remove(repository);
            Some(Some(EventKind::RepositoryForgotten { repository: *repository, head: *head }))
        }
        _ => None,
    }
}

/// What a writer says.
struct Said<'a> {
    repository: &'a RepositoryId,
    previous: &'a Option<ChainHead>,
    head: &'a ChainHead,
    by: &'a str,
    sources: &'a [SourceNews],
}

fn record(state: &mut ClusterState, index: u64, wall_ms: u64, said: &Said<'_>) -> Change {
    let fresh = new(state, index, wall_ms, *said.head, said.by);
    let is_full = state.repositories.len() >= REPOSITORIES_MAX;
    let Some(chain) = state.repositories.get_mut(said.repository) else {
        if said.previous.is_some() || is_full {
            return None;
        }
        let mut chain = fresh;
        said.sources.iter().for_each(|news| _ = chain.learn(news, said.by));
        state.repositories.insert(*said.repository, chain);
        let (repository, head) = (*said.repository, *said.head);
        return Some(Some(EventKind::RepositoryKnown { repository, head }));
    };
    if *said.previous != Some(chain.head) {
        return None;
    }
    let is_newer = said.head.number > chain.head.number;
    let has_news = said.sources.iter().any(|news| chain.is_news(news));
    if !is_newer && (*said.head != chain.head || !has_news) {
        return None;
    }
    said.sources.iter().for_each(|news| _ = chain.learn(news, said.by));
    if is_newer {
        chain.earlier.push_back(chain.head);
        while chain.earlier.len() > EARLIER_MAX {
            chain.earlier.pop_front();
        }
    }
    (chain.head, chain.by) = (fresh.head, fresh.by);
    (chain.index, chain.at, chain.wall_ms) = (fresh.index, fresh.at, fresh.wall_ms);
    // A backup a minute would drive failovers out of the history; the log has the entry.
    Some(None)
}

fn new(state: &ClusterState, index: u64, wall_ms: u64, head: ChainHead, by: &str) -> ChainRecord {
    ChainRecord {
        head,
        by: by.into(),
        index,
        at: state.now,
        wall_ms,
        earlier: VecDeque::new(),
        sources: BTreeMap::new(),
        forks: Vec::new(),
        forks_more: 0,
    }
}

fn remembered<'a>(
    state: &'a mut ClusterState,
    repository: &RepositoryId,
    head: &ChainHead,
) -> Option<&'a mut ChainRecord> {
    state.repositories.get_mut(repository).filter(|chain| chain.head == *head)
}

fn note(state: &mut ClusterState, repository: RepositoryId, fork: ForkRecord) -> Change {
    let chain = state.repositories.get_mut(&repository)?;
    let is_known = chain.head == fork.known || chain.earlier.contains(&fork.known);
    if !is_known || chain.forks.iter().any(|noted| noted.found == fork.found) {
        return None;
    }
    let (found, known, by) = (fork.found, fork.known, fork.by.clone());
    if chain.forks.len() < FORKS_MAX {
        chain.forks.push(fork);
        return Some(Some(EventKind::Forked { repository, found, known, by }));
    }
    // The alarm stands already; whoever floods it fills no history.
    chain.forks_more = chain.forks_more.saturating_add(1);
    Some(None)
}

#[cfg(test)]
mod tests;
