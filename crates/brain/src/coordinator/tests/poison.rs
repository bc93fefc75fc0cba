//! What failed alike on several nodes, and what keeps it from touring the cluster.

use alloc::borrow::ToOwned;
use alloc::string::String;

use super::*;

fn standbys(office: &mut Office) {
    let active = office.held().holder.as_ref().map(|holder| holder.replica);
    for replica in [A, B, C].into_iter().filter(|replica| Some(*replica) != active) {
        office.report(replica, vec![instance(InstancePhase::Standby, None)]);
    }
}

/// It failed on two nodes alike, and runs again where it failed last.
fn poisoned() -> (Office, String) {
    let mut office = Office::new(Standby::Hot, |spec| {
        (spec.recovery.restarts, spec.recovery.poison_nodes) = (100, 2);
    });
    office.activate();
    let mut places = vec![];
    for number in 1..=2 {
        standbys(&mut office);
        places.push(office.holder().unwrap().0.to_owned());
        office.fail(number);
        office.pass_for(2_000);
    }
    let (first, second) = (&places[0], &places[1]);
    assert_ne!(first, second, "a hot standby takes over");
    assert_eq!(office.holder().map(|(n, _)| n), Some(second.as_str()), "and the tour ends there");
    let second = second.clone();
    office.activate();
    standbys(&mut office);
    (office, second)
}

#[test]
fn what_failed_alike_on_a_second_node_tours_no_further_even_with_hot_standbys() {
    poisoned();
}

#[test]
fn the_loss_of_its_node_is_no_failure_of_its_own() {
    let (mut office, last) = poisoned();
    let replica = office.held().holder.as_ref().unwrap().replica;
    if replica == A {
        // Not the coordinator's own node, which can't be silent to itself.
        return;
    }
    office.up.retain(|up| *up != replica);
    office.pass_for(1_000);
    let holder = office.holder().map(|(node, _)| node.to_owned());
    assert!(holder.is_some_and(|node| node != last), "it moves as any other would");
}

#[test]
fn an_operator_moves_it_all_the_same_and_once() {
    let (mut office, last) = poisoned();
    let to = node(if last == "b" { "c" } else { "b" });
    let operation = Operation::Switchover { resource: resource(), to: Some(to.clone()) };
    let mut commands = office.operate(operation).unwrap();
    for _ in 0..50 {
        commands.extend(office.pass_for(20));
        let releasing = office.held().holder.as_ref().filter(|h| h.releasing).cloned();
        if let Some(holder) = releasing {
            let report = office.report(holder.replica, Vec::new());
            report.evidence.push(evidence(holder.replica, holder.epoch));
        }
    }
    assert_eq!(office.holder().map(|(node, _)| node), Some(to.as_str()));
    let assigned = commands.iter().filter(|c| matches!(c, Command::Assign { .. })).count();
    assert_eq!(assigned, 1, "{commands:?}");
}

#[test]
fn a_planned_move_whose_target_is_lost_ends_where_the_service_ends_up() {
    let mut office = Office::new(Standby::Hot, |_| {});
    office.activate();
    standbys(&mut office);
    let from = office.held().holder.clone().unwrap();
    let to = if from.node == node("b") { C } else { B };
    let name = office.state.node_of(to).unwrap().clone();
    let operation = Operation::Switchover { resource: resource(), to: Some(name.clone()) };
    office.operate(operation).unwrap();
    office.pass_for(20);
    assert!(office.held().holder.as_ref().is_some_and(|holder| holder.releasing));
    // Demoted, while the target has just become unable to take it.
    office.report(to, Vec::new()).ready = false;
    office.report(from.replica, Vec::new()).evidence.push(evidence(from.replica, from.epoch));
    let commands = office.pass_for(2_000);
    let ends = commands.iter().filter(|c| matches!(c, Command::EndSwitchover { .. })).count();
    let assigned = commands.iter().filter(|c| matches!(c, Command::Assign { .. })).count();
    assert_eq!((ends, assigned), (1, 1), "{commands:?}");
    assert_ne!(office.holder().map(|(node, _)| node), Some(name.as_str()));
}
