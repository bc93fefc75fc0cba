//! What writers and operators say of the vault's repositories: judged against what is remembered,
//! and turned into commands. A fork becomes an entry, too: its writer is refused once a quorum
//! knows of it.

use alloc::string::String;
use alloc::vec::Vec;

use model::command::Command;
use model::operation::Refusal;
use model::state::ClusterState;
use model::vault::{ChainHead, REPOSITORIES_MAX, RepositoryId, SourceNews, Standing, check_news};

/// What a writer says of a repository.
pub(super) struct Said {
    pub(super) repository: RepositoryId,
    pub(super) previous: Option<ChainHead>,
    pub(super) head: ChainHead,
    pub(super) sources: Vec<SourceNews>,
}

/// The command for a head; none where it is remembered already.
pub(super) fn record(
    state: &ClusterState,
    by: &str,
    said: Said,
) -> Result<Option<Command>, Refusal> {
    check_news(&said.sources).map_err(|why| Refusal::BadHead(String::from(why)))?;
    let Said { repository, previous, head, sources } = said;
    let by = String::from(by);
    let Some(chain) = state.repositories.get(&repository) else {
        if previous.is_some() {
            return Err(Refusal::HeadMoved { head: None });
        }
        if state.repositories.len() >= REPOSITORIES_MAX {
            return Err(Refusal::TooManyRepositories);
        }
        return Ok(Some(Command::RecordHead { repository, previous, head, by, sources }));
    };
    let moved = Refusal::HeadMoved { head: Some(chain.head) };
    match chain.standing(&head) {
        Standing::Against(known) => fork(state, &by, repository, head, known).map(Some),
        Standing::Known if head != chain.head => Ok(None),
        Standing::Known if !sources.iter().any(|news| chain.is_news(news)) => Ok(None),
        Standing::Known | Standing::Newer if previous == Some(chain.head) => {
            Ok(Some(Command::RecordHead { repository, previous, head, by, sources }))
        }
        Standing::Known | Standing::Newer | Standing::Unknown => Err(moved),
    }
}

/// The command that notes a fork; its answer is a refusal all the same.
pub(super) fn fork(
    state: &ClusterState,
    by: &str,
    repository: RepositoryId,
    found: ChainHead,
    known: ChainHead,
) -> Result<Command, Refusal> {
    let Some(chain) = state.repositories.get(&repository) else {
        return Err(Refusal::HeadMoved { head: None });
    };
    if chain.forks.iter().any(|noted| noted.found == found) {
        return Err(Refusal::Forked { found, known });
    }
    if chain.head != known && !chain.earlier.contains(&known) {
        return Err(Refusal::HeadMoved { head: Some(chain.head) });
    }
    if chain.standing(&found) == Standing::Known && found.number >= known.number {
        return Err(Refusal::BadHead(String::from("that record is the one remembered")));
    }
    Ok(Command::NoteFork { repository, found, known, by: String::from(by) })
}

/// The command that clears a fork.
pub(super) fn clear(
    state: &ClusterState,
    repository: RepositoryId,
    found: ChainHead,
) -> Result<Command, Refusal> {
    let chain = state.repositories.get(&repository).ok_or(Refusal::HeadMoved { head: None })?;
    if !chain.forks.iter().any(|noted| noted.found == found) {
        let why = String::from("no such fork is noted; `backstay vault heads` lists them");
        return Err(Refusal::NotNow(why));
    }
    Ok(Command::ClearFork { repository, found })
}

/// Refuses an order that names another head than the one remembered.
pub(super) fn must_be(
    state: &ClusterState,
    repository: &RepositoryId,
    head: &ChainHead,
) -> Result<(), Refusal> {
    let known = state.repositories.get(repository).map(|chain| chain.head);
    if known == Some(*head) { Ok(()) } else { Err(Refusal::HeadMoved { head: known }) }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use model::command::Entry;
    use model::vault::Digest;
    use model::{ClusterMs, ReplicaId};

    use super::*;
    use crate::cluster::apply;

    const ID: RepositoryId = RepositoryId([7; 16]);

    fn head(number: u64, byte: u8) -> ChainHead {
        ChainHead { number, hash: Digest([byte; 32]) }
    }

    fn said(previous: Option<ChainHead>, head: ChainHead) -> Said {
        Said { repository: ID, previous, head, sources: Vec::new() }
    }

    fn commit(state: &mut ClusterState, command: Command) {
        let (by, now) = (ReplicaId(1), ClusterMs(0));
        let entry = Entry { by, now, wall_ms: 0, request: None, command, reasons: Vec::new() };
        let index = state.index + 1;
        assert_eq!(apply(state, index, &entry), crate::cluster::Applied::Done);
    }

    /// Record 3, then record 5, are remembered.
    fn state() -> ClusterState {
        let mut state = ClusterState::default();
        for (previous, next) in [(None, head(3, 3)), (Some(head(3, 3)), head(5, 5))] {
            let command = record(&state, "a", said(previous, next)).unwrap().unwrap();
            commit(&mut state, command);
        }
        state
    }

    #[test]
    fn a_writer_is_told_how_its_head_stands() {
        let state = state();
        let moved = || Err(Refusal::HeadMoved { head: Some(head(5, 5)) });
        let fork = |found, known| {
            let (repository, by) = (ID, "w".to_string());
            Ok(Some(Command::NoteFork { repository, found, known, by }))
        };
        for (previous, shown, expect) in [
            (Some(head(5, 5)), head(5, 5), Ok(None)),
            (Some(head(3, 3)), head(3, 3), Ok(None)),
            (Some(head(5, 5)), head(4, 4), moved()),
            (Some(head(3, 3)), head(6, 6), moved()),
            (None, head(6, 6), moved()),
            (Some(head(5, 5)), head(5, 6), fork(head(5, 6), head(5, 5))),
            (Some(head(3, 3)), head(3, 4), fork(head(3, 4), head(3, 3))),
        ] {
            assert_eq!(record(&state, "w", said(previous, shown)), expect, "{shown}");
        }
        let next = record(&state, "w", said(Some(head(5, 5)), head(6, 6)));
        assert!(matches!(next, Ok(Some(Command::RecordHead { by, .. })) if by == "w"));
        let first = record(&ClusterState::default(), "w", said(Some(head(5, 5)), head(6, 6)));
        assert_eq!(first, Err(Refusal::HeadMoved { head: None }));
    }

    #[test]
    fn a_fork_that_is_noted_is_refused_without_another_entry() {
        let mut state = state();
        let command = record(&state, "w", said(Some(head(5, 5)), head(5, 6))).unwrap().unwrap();
        commit(&mut state, command);
        let refused = Err(Refusal::Forked { found: head(5, 6), known: head(5, 5) });
        assert_eq!(record(&state, "w", said(Some(head(5, 5)), head(5, 6))), refused);
        assert!(clear(&state, ID, head(5, 7)).is_err());
        let command = clear(&state, ID, head(5, 6)).unwrap();
        commit(&mut state, command);
        assert!(state.repositories[&ID].forks.is_empty());
    }

    #[test]
    fn a_repository_that_lacks_what_is_remembered_can_be_reported() {
        let state = state();
        let reported = fork(&state, "v", ID, head(4, 9), head(5, 5));
        assert!(matches!(reported, Ok(Command::NoteFork { .. })), "{reported:?}");
        assert!(fork(&state, "v", ID, head(3, 3), head(5, 5)).is_ok(), "it was cut back");
        assert!(fork(&state, "v", ID, head(5, 5), head(5, 5)).is_err());
        assert!(fork(&state, "v", ID, head(4, 9), head(6, 6)).is_err(), "nobody remembers that");
    }

    #[test]
    fn news_of_a_source_come_with_the_head_that_is_remembered() {
        let state = state();
        let newest = Some(model::vault::BackupRecord {
            number: 1,
            root: Digest([0; 32]),
            position: String::new(),
            host: String::from("h"),
            begun_ms: 0,
            ended_ms: 0,
        });
        let sources = vec![SourceNews { source: "s".to_string(), newest, proven: None }];
        let news = Said { sources, ..said(Some(head(5, 5)), head(5, 5)) };
        let told = record(&state, "w", news);
        assert!(matches!(told, Ok(Some(Command::RecordHead { .. }))), "{told:?}");
    }

    #[test]
    fn too_much_is_refused() {
        let mut state = state();
        let source = "x".repeat(model::vault::TEXT_MAX + 1);
        let sources = vec![SourceNews { source, newest: None, proven: None }];
        let long = Said { sources, ..said(Some(head(5, 5)), head(6, 6)) };
        assert!(matches!(record(&state, "w", long), Err(Refusal::BadHead(_))));
        for number in 0..REPOSITORIES_MAX as u8 {
            let repository = RepositoryId([100 + number; 16]);
            let one = Said { repository, ..said(None, head(1, 1)) };
            match record(&state, "w", one) {
                Ok(Some(command)) => commit(&mut state, command),
                other => {
                    assert_eq!(other, Err(Refusal::TooManyRepositories));
                    assert_eq!(state.repositories.len(), REPOSITORIES_MAX);
                    return;
                }
            }
        }
        panic!("no limit was met");
    }
}
