//! What operators ask for, and what becomes of it.

use model::vault::{ChainHead, Digest, RepositoryId};

use super::*;

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);

fn head(number: u64, byte: u8) -> ChainHead {
    ChainHead { number, hash: Digest([byte; 32]) }
}

#[test]
fn a_specification_is_taken_over_whole_or_not_at_all() {
    let mut office = Office::new(Standby::Cold, |_| {});
    let (present, base) = (office.state.spec.clone(), Some(office.state.spec_version));
    let text = alloc::string::String::new;
    let apply = |spec, base| Operation::Apply { spec, text: text(), base };
    assert_eq!(office.operate(apply(present.clone(), base)), Ok(Vec::new()), "nothing is new");
    let mut new = present.clone();
    new.resources.get_mut(&resource()).unwrap().rto_ms = Some(1_000);
    let stale = office.operate(apply(new.clone(), base.map(|version| version + 1)));
    assert!(matches!(stale, Err(Refusal::VersionMismatch { .. })), "{stale:?}");
    let mut another = new.clone();
    another.name = "another".into();
    let mut without = new.clone();
    without.nodes.remove(&node("c"));
    let mut large = new.clone();
    for n in 0..=model::spec::RESOURCES_MAX {
        let name = crate::fixtures::named(&alloc::format!("r{n}"));
        large.resources.insert(name, resource_spec(Standby::Cold));
    }
    for wrong in [another, without, large] {
        let refused = office.operate(apply(wrong, None));
        assert!(matches!(refused, Err(Refusal::BadSpec(_))), "{refused:?}");
    }
    let taken = office.operate(apply(new.clone(), base)).unwrap();
    assert!(matches!(&taken[..], [Command::Apply { spec, .. }] if *spec == new), "{taken:?}");
}

#[test]
fn the_voter_that_is_furthest_is_handed_the_office() {
    let mut office = Office::new(Standby::Cold, |_| {});
    for (replica, matched) in [(A, 20), (B, 9), (C, 8)] {
        office.group.progress.insert(replica, Progress { matched, active: true });
    }
    let renounced = Command::Renounce { term: 2, candidate: B };
    assert_eq!(office.operate(Operation::Transfer { to: None }), Ok(vec![renounced]));
}

#[test]
fn a_leaked_key_lets_nobody_in_and_keeps_nobody_from_working() {
    let mut office = Office::new(Standby::Cold, |_| {});
    let id = |byte| model::authority::AuthorityId([byte; 32]);
    office.state.trust.rotation = Some(model::authority::Rotation {
        from: id(1),
        to: id(2),
        phase: model::authority::RotationPhase::Trust,
        compromised: true,
        undone: false,
        endorsement: alloc::string::String::new(),
        sealed: BTreeMap::new(),
        began: office.state.now,
        wall_ms: 0,
    });
    let rejoin = office.operate(Operation::Rejoin(request("c", None)));
    assert!(matches!(rejoin, Err(Refusal::NotNow(_))), "{rejoin:?}");
    assert!(office.operate(Operation::Drain { node: node("c"), for_ms: 1_000 }).is_ok());
}

#[test]
fn orders_on_a_repository_name_what_is_remembered() {
    let mut office = Office::new(Standby::Cold, |_| {});
    let repository = REPOSITORY;
    let (known, found) = (head(5, 5), head(5, 6));
    let sources = Vec::new();
    let recorded = Operation::RecordHead { repository, previous: None, head: known, sources };
    office.operate(recorded).unwrap();
    office.operate(Operation::ReportFork { repository, found, known }).unwrap();
    assert_eq!(office.state.repositories[&repository].forks.len(), 1);
    office.pass_for(40);
    let mut raised = office.coordinator.alarms().raised();
    assert!(raised.any(|(_, what)| what.contains("has two histories")));
    drop(raised);
    office.operate(Operation::ClearFork { repository, found }).unwrap();
    assert!(office.state.repositories[&repository].forks.is_empty());
    let moved = Err(Refusal::HeadMoved { head: Some(known) });
    let accept = |instead_of| Operation::AcceptHead { repository, instead_of, head: found };
    let forget = |head| Operation::ForgetRepository { repository, head };
    assert_eq!(office.operate(accept(head(4, 4))), moved);
    assert_eq!(office.operate(forget(head(4, 4))), moved);
    office.operate(accept(known)).unwrap();
    assert_eq!(office.state.repositories[&repository].head, found);
    office.operate(forget(found)).unwrap();
    assert!(office.state.repositories.is_empty());
}
