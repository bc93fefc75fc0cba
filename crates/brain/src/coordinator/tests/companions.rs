//! What runs with another: assigned beside it before it is active, given up together with it.

use alloc::string::String;

use super::*;
use crate::fixtures::named;

/// The service has a holder that is not active yet, and an address runs with it.
fn with_an_address() -> Office {
    let mut office = Office::new(Standby::Hot, |_| {});
    let mut spec = office.state.spec.clone();
    let (with, after) = (Some(resource()), vec![resource()]);
    let address = ResourceSpec { with, after, ..resource_spec(Standby::Cold) };
    spec.resources.insert(named("address"), address);
    let (version, text) = (office.state.spec_version + 1, String::new());
    let entry = Entry {
        by: A,
        now: office.state.now,
        wall_ms: 0,
        request: None,
        command: Command::Apply { version, spec, text },
        reasons: Vec::new(),
    };
    office.commit(vec![Decision::Propose(Box::new(entry))]);
    office
}

fn holder_of(office: &Office, name: &str) -> Option<model::state::Holder> {
    office.state.resources[&named(name)].holder.clone()
}

#[test]
fn it_is_assigned_beside_what_it_runs_with_before_that_is_active() {
    let mut office = with_an_address();
    let commands = office.pass_for(20);
    let [Command::Assign { resource, node, .. }] = &commands[..] else { panic!("{commands:?}") };
    let service = office.held().holder.clone().unwrap();
    assert_eq!((resource.as_str(), node), ("address", &service.node));
    assert!(!service.active);
}

#[test]
fn a_planned_move_releases_both_in_one_pass_and_the_companion_first() {
    let mut office = with_an_address();
    office.pass_for(20);
    let service = office.held().holder.clone().unwrap();
    let address = holder_of(&office, "address").unwrap();
    let of_address = InstanceStatus {
        resource: named("address"),
        ..instance(InstancePhase::Active, Some(address.epoch))
    };
    let of_service = instance(InstancePhase::Active, Some(service.epoch));
    office.report(service.replica, vec![of_address, of_service]);
    office.pass_for(40);
    let to = ["a", "b", "c"].map(node).into_iter().find(|n| *n != service.node).unwrap();
    let target = office.state.replica_of(&to).unwrap();
    office.report(target, vec![instance(InstancePhase::Standby, None)]);
    office.operate(Operation::Switchover { resource: resource(), to: Some(to.clone()) }).unwrap();
    let mut released = Vec::new();
    for command in office.pass_for(20) {
        let Command::Release { resource, .. } = command else { panic!("{command:?}") };
        released.push(resource);
    }
    assert_eq!(released, [named("address"), resource()]);
    assert_eq!(office.pass_for(100), [], "nothing moves before both have ended");
    for (name, epoch) in [(named("address"), address.epoch), (resource(), service.epoch)] {
        let ended = Evidence { resource: name, ..evidence(service.replica, epoch) };
        office.report(service.replica, Vec::new());
        office.reports.get_mut(&service.replica).unwrap().evidence.push(ended);
        office.pass_for(20);
    }
    office.pass_for(40);
    assert_eq!(holder_of(&office, "r").unwrap().node, to);
    assert_eq!(holder_of(&office, "address").unwrap().node, to);
}
