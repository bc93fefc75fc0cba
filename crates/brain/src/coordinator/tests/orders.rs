//! What a move is called, and what operators may order of what is left alone.

use model::state::{EventKind, Move};

use super::*;
use crate::fixtures::named;

/// The newest move of the resource.
fn last(office: &Office) -> Move {
    office.held().moves.back().cloned().unwrap()
}

/// An office whose resource is active on a hot pair, a and one more.
fn hot() -> Office {
    let mut office = Office::new(Standby::Hot, |_| {});
    let holder = office.held().holder.clone().unwrap();
    for replica in [A, B, C].into_iter().filter(|r| *r != holder.replica) {
        office.report(replica, vec![instance(InstancePhase::Standby, None)]);
    }
    office.activate();
    office.pass_for(100);
    office
}

/// The holder, told to give up, says that it has.
fn give_up(office: &mut Office) {
    let holder = office.held().holder.clone().unwrap();
    assert!(holder.releasing, "{holder:?}");
    let said =
        Evidence { ground: EvidenceGround::Demoted, ..evidence(holder.replica, holder.epoch) };
    office.report(holder.replica, Vec::new()).evidence.push(said);
    office.pass_for(100);
}

#[test]
fn a_drain_and_an_operators_failover_are_planned_moves_and_say_who_asked() {
    let mut office = hot();
    let from = alloc::string::String::from(office.holder().unwrap().0);
    office.operate(Operation::Drain { node: node(&from), for_ms: 60_000 }).unwrap();
    office.pass_for(100);
    give_up(&mut office);
    let moved = last(&office);
    assert!(moved.planned && moved.to.as_str() != from, "{moved:?}");
    assert!(moved.reasons.contains(&Reason::Draining { node: node(&from) }), "{moved:?}");

    let mut office = hot();
    office.operate(Operation::Failover { resource: resource() }).unwrap();
    office.pass_for(100);
    give_up(&mut office);
    let moved = last(&office);
    assert!(moved.planned, "{moved:?}");
    assert!(matches!(moved.reasons[0], Reason::Asked { .. }), "{moved:?}");
}

#[test]
fn a_failure_is_an_unplanned_move_and_its_first_reason() {
    let mut office = hot();
    office.fail(1);
    office.pass_for(100);
    let moved = last(&office);
    assert!(!moved.planned, "{moved:?}");
    assert!(matches!(moved.reasons[0], Reason::Failed { .. }), "{moved:?}");
}

#[test]
fn a_node_that_is_lost_while_it_gives_up_is_a_failure() {
    // Its own node is one that the coordinator can't lose.
    let mut office = hot();
    office.operate(Operation::Switchover { resource: resource(), to: Some(node("b")) }).unwrap();
    office.pass_for(100);
    give_up(&mut office);
    office.report(A, vec![instance(InstancePhase::Standby, None)]);
    office.activate();
    let (from, replica) = (node("b"), B);
    assert_eq!(last(&office).to, from);
    office.operate(Operation::Drain { node: from, for_ms: 60_000 }).unwrap();
    office.up.retain(|up| *up != replica);
    office.pass_for(2_000);
    assert!(!last(&office).planned, "{:?}", last(&office));
}

#[test]
fn what_is_in_maintenance_is_not_failed_over() {
    let mut office = hot();
    let scope = model::operation::Scope::Resource(resource());
    office.operate(Operation::Maintenance { scope: scope.clone(), for_ms: 60_000 }).unwrap();
    let refused = office.operate(Operation::Failover { resource: resource() });
    assert!(matches!(&refused, Err(Refusal::NotNow(why)) if why.contains("maintenance")));
    assert!(!office.held().holder.as_ref().unwrap().releasing);
    office.operate(Operation::EndMaintenance { scope }).unwrap();
    office.operate(Operation::Failover { resource: resource() }).unwrap();
}

#[test]
fn what_comes_after_another_waits_until_that_is_active_and_says_so() {
    let mut spec = cluster_spec(&NODES, resource_spec(Standby::Cold));
    let later = ResourceSpec { after: vec![resource()], ..resource_spec(Standby::Cold) };
    spec.resources.insert(named("later"), later);
    let mut state = first_state(resource_spec(Standby::Cold));
    state.spec = spec;
    state.resources.insert(named("later"), model::state::ResourceState::default());
    let mut office = Office::idle(state);
    for replica in [A, B, C] {
        office.report(replica, Vec::new());
    }
    office.pass_for(600);
    let placed = |office: &Office| office.state.resources[&named("later")].holder.is_some();
    assert!(office.held().holder.is_some() && !placed(&office), "the first one is not active yet");
    office.activate();
    office.pass_for(200);
    assert!(office.held().holder.as_ref().unwrap().active && placed(&office));
    let order: Vec<_> = office
        .state
        .history
        .iter()
        .filter_map(|event| match &event.what {
            EventKind::Active { resource, .. } => Some(("active", resource.clone())),
            EventKind::Assigned { resource, .. } => Some(("assigned", resource.clone())),
            _ => None,
        })
        .collect();
    let at = |what: &str, name| order.iter().position(|(w, n)| *w == what && *n == name).unwrap();
    assert!(at("active", resource()) < at("assigned", named("later")), "{order:?}");
}

#[test]
fn what_ends_in_maintenance_is_an_alarm_until_it_is_over() {
    let mut office = hot();
    let holder = office.held().holder.clone().unwrap();
    let scope = model::operation::Scope::Resource(resource());
    office.operate(Operation::Maintenance { scope: scope.clone(), for_ms: 60_000 }).unwrap();
    office.pass_for(100);
    let ended = |office: &Office| {
        office.coordinator.alarms.raised().any(|(_, what)| what.contains("is in maintenance"))
    };
    assert!(!ended(&office));
    // It runs there still, and acts no more.
    office.report(holder.replica, vec![instance(InstancePhase::Standby, None)]);
    office.pass_for(100);
    assert!(ended(&office));
    office.report(holder.replica, Vec::new());
    office.pass_for(100);
    assert!(ended(&office) && office.held().holder.as_ref().unwrap().active, "left alone");
    office.coordinator.alarms.take_changes();
    office.operate(Operation::EndMaintenance { scope }).unwrap();
    office.pass_for(100);
    let changes = office.coordinator.alarms.take_changes();
    assert!(!ended(&office) && changes.iter().any(|c| c.what.starts_with("over: ")), "{changes:?}");
}

#[test]
fn a_maintenance_ends_by_itself_and_what_ended_meanwhile_is_served_again() {
    let mut office = hot();
    let holder = office.held().holder.clone().unwrap();
    let scope = model::operation::Scope::Resource(resource());
    office.operate(Operation::Maintenance { scope, for_ms: 2_000 }).unwrap();
    let said = evidence(holder.replica, holder.epoch);
    office.report(holder.replica, Vec::new()).evidence.push(said);
    office.pass_for(1_800);
    assert_eq!(office.held().holder.as_ref().map(|h| h.epoch), Some(holder.epoch), "left alone");
    // Nobody does anything: the end was written down with the order.
    office.pass_for(600);
    let next = office.held().holder.clone().unwrap();
    assert!(next.epoch > holder.epoch && !office.state.in_maintenance(&resource()), "{next:?}");
    assert_eq!(office.held().maintenance_until, None);
}

#[test]
fn a_drain_ends_by_itself_and_its_node_is_a_place_again() {
    let mut office = hot();
    let from = alloc::string::String::from(office.holder().unwrap().0);
    office.operate(Operation::Drain { node: node(&from), for_ms: 2_000 }).unwrap();
    office.pass_for(100);
    give_up(&mut office);
    office.activate();
    let to = |office: &mut Office| {
        let to = Some(node(&from));
        office.operate(Operation::Switchover { resource: resource(), to })
    };
    let refused = to(&mut office);
    assert!(refused.is_err(), "it is drained: {refused:?}");
    // Cluster time goes on with the barriers.
    office.pass_for(3_000);
    assert_eq!(office.state.members[&node(&from)].drain_until, None);
    // Nothing runs home by itself; an operator may send it there.
    assert_ne!(office.holder().unwrap().0, from);
    to(&mut office).unwrap();
}

#[test]
fn a_switchover_says_who_asked_for_it() {
    let mut office = hot();
    let to = Some(node("c"));
    office.operate(Operation::Switchover { resource: resource(), to }).unwrap();
    office.pass_for(100);
    give_up(&mut office);
    let moved = last(&office);
    assert!(moved.planned && moved.to == node("c"), "{moved:?}");
    assert!(moved.reasons.iter().any(|r| matches!(r, Reason::Asked { .. })), "{moved:?}");
}

#[test]
fn an_order_of_before_is_no_order_to_leave() {
    let mut office = Office::new(Standby::Cold, |_| {});
    office.activate();
    office.operate(Operation::Failover { resource: resource() }).unwrap();
    office.pass_for(100);
    give_up(&mut office);
    office.activate();
    let (there, epoch) = office.holder().unwrap();
    let there = alloc::string::String::from(there);
    assert_ne!(there, "a", "it was ordered away");
    office.fail(1);
    office.pass_for(100);
    assert_eq!(office.holder(), Some((there.as_str(), epoch + 1)), "a restart in place");
}

#[test]
fn a_node_where_nothing_failed_is_not_avoided() {
    let mut office = Office::new(Standby::Hot, |s| s.prefer = vec![node("a")]);
    for replica in [B, C] {
        office.report(replica, vec![instance(InstancePhase::Standby, None)]);
    }
    office.activate();
    let holder = office.held().holder.clone().unwrap();
    let standby = vec![instance(InstancePhase::Standby, None)];
    // It gave up by itself, and stands by: its lease had ended for a moment.
    let ground = EvidenceGround::Lapsed;
    let said = Evidence { ground, ..evidence(holder.replica, holder.epoch) };
    office.report(A, standby).evidence.push(said);
    office.pass_for(100);
    assert_eq!(office.holder(), Some(("a", holder.epoch.counter + 1)));
}

#[test]
fn what_runs_nowhere_for_now_is_not_given_up() {
    // Banned on one node, the others not ready: it waits for them.
    let mut office = Office::new(Standby::Cold, |s| s.recovery.restarts = 0);
    office.activate();
    for replica in [B, C] {
        office.report(replica, Vec::new()).ready = false;
    }
    office.fail(1);
    office.pass_for(200);
    assert!(office.holder().is_none() && !office.held().bans.is_empty());
    assert_eq!(office.held().quarantine, None);
    office.report(C, Vec::new());
    office.pass_for(100);
    assert_eq!(office.holder().map(|(node, _)| node), Some("c"));

    // No node may take it, and nothing failed.
    let mut office = Office::new(Standby::Cold, |_| {});
    office.activate();
    for name in NODES {
        office.operate(Operation::Drain { node: node(name), for_ms: 60_000 }).ok();
    }
    let holder = office.held().holder.clone().unwrap();
    office.report(A, Vec::new()).evidence.push(evidence(holder.replica, holder.epoch));
    office.pass_for(200);
    assert!(office.holder().is_none(), "{:?}", office.holder());
    assert_eq!(office.held().quarantine, None);
}
