//! A new generation waits for what the ones before may still hold.

use super::*;

#[test]
fn a_new_generation_places_nothing_before_every_older_lease_has_passed() {
    let mut state = first_state(resource_spec(Standby::Cold));
    state.generation = 5;
    state.wait_out = Some(model::state::WaitOut { ms: 10_000 });
    let mut office = Office::idle(state);
    for replica in [A, B, C] {
        office.report(replica, Vec::new());
    }
    // The longest lease, stretched by the drift between two clocks.
    assert_eq!(office.pass_for(10_000), []);
    let waits = |office: &mut Office| {
        let mut raised = office.coordinator.alarms().raised();
        raised.any(|(subject, what)| {
            *subject == alarm::Subject::Generation && what.contains("for 10 s")
        })
    };
    assert!(waits(&mut office), "an operator who looks is told what is waited for");
    let (over, place) = (office.pass_for(20), office.pass_for(20));
    assert_eq!(over, [Command::WaitedOut { generation: 5 }]);
    assert!(matches!(&place[..], [Command::Assign { epoch, .. }] if epoch.generation == 5));
    assert!(!waits(&mut office));
}

#[test]
fn a_successor_waits_anew_for_older_generations_and_recorded_waits_are_not_repeated() {
    let mut state = first_state(resource_spec(Standby::Cold));
    state.wait_out = Some(model::state::WaitOut { ms: 10_000 });
    let mut office = Office::idle(state);
    assert_eq!(office.pass_for(9_900), []);
    office.pulse.set_raft(RaftView { term: 3, leader: Some(A), ..office.pulse.raft().clone() });
    office.pulse.lead(office.now, 3, Succession::Elected, [A, B, C]);
    office.coordinator.lead(office.now, 3, &office.state);
    assert!(!office.pass_for(9_900).contains(&Command::WaitedOut { generation: 1 }));
    assert!(office.state.wait_out.is_some());
    office.state.wait_out = None;
    assert!(!office.pass_for(200).contains(&Command::WaitedOut { generation: 1 }));
}

#[test]
fn a_lone_founder_is_granted_no_absence_while_nodes_of_an_older_generation_are_awaited() {
    let check = |members: &[&str], awaited: bool, granted: bool| {
        let mut office = Office::new(Standby::Cold, |_| {});
        office.state.members.retain(|name, _| members.contains(&name.as_str()));
        if awaited {
            let (role, barred) = (model::state::MemberRole::Voter, ReplicaId(9));
            let one = model::state::Awaited { role, barred };
            office.state.awaited.insert(node("z"), one);
        }
        let now = Now { moment: office.now, wall_ms: 0 };
        let made = office.coordinator.absence(now, &office.state, A, 1, 1, 5_000);
        assert_eq!(!made.is_empty(), granted, "{members:?} {awaited}");
    };
    check(&["a"], true, false);
    check(&["a"], false, true);
    check(&["a", "b"], true, true);
}
