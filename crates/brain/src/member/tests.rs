use alloc::string::String;
use alloc::vec;

use model::command::{Command, Entry};
use model::spec::{ResourceKind, ResourceSpec, Standby};
use model::state::ClusterState;
use model::{ClusterMs, Profile};

use super::*;
use crate::cluster;
use crate::fixtures::{cluster_spec, epoch, genesis, named, node, resource, resource_spec};
use crate::plant::Plants;

const ME: ReplicaId = ReplicaId(1);
const NOW: Moment = Moment(100_000_000_000);

/// Node a, alone, with launcher and guard, and a lease that goes on.
struct Node {
    state: ClusterState,
    member: Member,
    lease: LeaseView,
}

impl Node {
    fn new(spec: ResourceSpec) -> Node {
        let config = MemberConfig { node: node("a"), replica: ME, boot: 1, plants: Plants::NONE };
        let lease = LeaseView {
            end: Some(NOW + Span::from_ms(500)),
            fresh_from: 0,
            lapses: 0,
            stopping: Profile::Lan.timers().stopping,
        };
        let state = ClusterState::default();
        let mut node = Node { state, member: Member::new(config), lease };
        node.commit(Command::Genesis(genesis(cluster_spec(&["a"], spec))));
        node.tell(InstanceEvent::LauncherUp { session: 1, guard: Some(7), running: vec![] });
        node
    }

    fn commit(&mut self, command: Command) {
        let (now, index) = (ClusterMs(0), self.state.index + 1);
        let (request, reasons) = (None, vec![]);
        let entry = Entry { by: ME, now, wall_ms: 0, request, command, reasons };
        cluster::apply(&mut self.state, index, &entry);
    }

    fn assign(&mut self, counter: u64) {
        let previous = self.state.resources[&resource()].epoch;
        let (resource, epoch, evidence) = (resource(), epoch(counter), None);
        let (node, replica) = (node("a"), ME);
        self.commit(Command::Assign { resource, node, replica, previous, epoch, evidence });
    }

    fn tell(&mut self, event: InstanceEvent) {
        self.member.on_event(NOW, &self.state, event);
    }

    fn act(&mut self) -> Vec<Action> {
        self.member.reconcile(NOW, &self.state, self.lease)
    }

    fn proven(&mut self) -> Vec<Epoch> {
        let report = self.member.report(NOW, &self.state, vec![]);
        report.evidence.iter().map(|e| e.epoch).collect()
    }

    /// Started as active under an epoch, and active; its number.
    fn activate(&mut self, counter: u64) -> u64 {
        self.assign(counter);
        let actions = self.act();
        let [Action::Start { number, role: StartRole::Active(e), .. }] = actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(e, epoch(counter));
        self.tell(InstanceEvent::Active(resource(), e));
        number
    }

    fn gone(&mut self, number: u64) {
        let failure = Failure::Exited { status: Some(0), signal: None };
        let (resource, asked, age) = (resource(), true, Span::ZERO);
        self.tell(InstanceEvent::Gone { resource, number, failure, asked, age });
    }
}

fn cold() -> ResourceSpec {
    let mut spec = resource_spec(Standby::Cold);
    if let ResourceKind::Process(process) = &mut spec.kind {
        process.promote = model::spec::Promote::Restart;
    }
    spec
}

#[test]
fn the_end_of_an_earlier_instance_is_not_the_end_of_this_one() {
    let mut node = Node::new(cold());
    let first = node.activate(1);
    node.gone(first);
    assert_eq!(node.proven(), [epoch(1)]);
    let second = node.activate(2);
    assert_ne!(first, second);
    // The answer to a stop that crossed the first one's end on the way.
    node.gone(first);
    assert_eq!(node.proven(), [], "the second one runs");
    assert_eq!(node.act(), []);
    node.gone(second);
    assert_eq!(node.proven(), [epoch(2)]);
}

/// A program that is not there can't be started however often one tries.
#[test]
fn a_standby_that_cannot_be_started_is_tried_again_after_a_pause() {
    let mut node = Node::new(resource_spec(Standby::Hot));
    let mut starts = 0;
    for _ in 0..20 {
        for action in node.act() {
            let Action::Start { resource, .. } = action else { panic!("{action:?}") };
            starts += 1;
            let failure = Failure::StartFailed("no such file".into());
            node.tell(InstanceEvent::Refused { resource, failure, runs: false });
        }
    }
    assert_eq!(starts, 1, "not again before time has passed");
    let later = NOW + Span::from_ms(60_000);
    let again = node.member.reconcile(later, &node.state, node.lease);
    assert!(matches!(again[..], [Action::Start { .. }]), "{again:?}");
}

/// Seed 70155443 of the simulator: it was tried again at once, and again, each time with a failure
/// for the log, and the coordinator had no evidence by which it could go elsewhere.
#[test]
fn what_is_started_to_be_promoted_and_fails_is_the_coordinators_again() {
    let refused = |resource, _| InstanceEvent::Refused {
        resource,
        failure: Failure::StartFailed("too many open files".into()),
        runs: false,
    };
    let gone = |resource, number| InstanceEvent::Gone {
        resource,
        number,
        failure: Failure::Exited { status: Some(1), signal: None },
        asked: false,
        age: Span::ZERO,
    };
    let ways: [&dyn Fn(ResourceName, u64) -> InstanceEvent; 2] = [&refused, &gone];
    for fail in ways {
        let mut spec = cold();
        if let ResourceKind::Process(process) = &mut spec.kind {
            process.promote = model::spec::Promote::Socket;
        }
        let mut node = Node::new(spec);
        node.assign(1);
        let actions = node.act();
        let [Action::Start { number, role: StartRole::Standby, .. }] = actions[..] else {
            panic!("{actions:?}")
        };
        node.tell(fail(resource(), number));
        assert_eq!(node.act(), [], "not under the same epoch");
        assert_eq!(node.proven(), [epoch(1)]);
        let failures: Vec<_> = node.member.failures.iter().map(|(f, _)| f.epoch).collect();
        assert_eq!(failures, [Some(epoch(1))]);
        node.assign(2);
        assert!(matches!(node.act()[..], [Action::Start { .. }]), "the next one at once");
    }
}

#[test]
fn the_guards_word_is_evidence_and_the_launchers_ends_the_instance() {
    let mut node = Node::new(cold());
    let number = node.activate(1);
    let burnt = |gone| InstanceEvent::Burnt { resource: resource(), epoch: epoch(1), gone };
    node.tell(burnt(false));
    assert_eq!(node.proven(), [], "killed is not gone");
    node.tell(burnt(true));
    assert_eq!(node.proven(), [epoch(1)]);
    node.assign(2);
    assert_eq!(node.act(), [], "the launcher still clears up");
    node.gone(number);
    assert!(matches!(node.act()[..], [Action::Start { .. }]));
}

#[test]
fn an_instance_that_cannot_be_stopped_is_no_evidence() {
    let mut node = Node::new(cold());
    node.activate(1);
    node.lease.lapses = 1;
    let stop = node.act();
    assert!(matches!(stop[..], [Action::Stop { at_once: true, epoch: Some(_), .. }]), "{stop:?}");
    node.tell(InstanceEvent::StopFailed(resource()));
    node.tell(InstanceEvent::Stuck(resource()));
    assert_eq!((node.proven(), node.act()), (vec![], vec![]));
    let report = node.member.peek(&node.state);
    assert_eq!(report.instances[0].phase, InstancePhase::Stuck);
    assert_eq!(report.instances[0].epoch, Some(epoch(1)));
}

#[test]
fn what_the_launcher_did_not_do_undoes_only_that() {
    let mut node = Node::new(cold());
    node.activate(1);
    for what in [Undone::Start, Undone::Promote] {
        node.tell(InstanceEvent::NotNow(resource(), what));
        assert_eq!(node.act(), [], "{what:?} of an active one");
    }
    let mut node = Node::new(cold());
    node.assign(1);
    node.act();
    node.tell(InstanceEvent::NotNow(resource(), Undone::End));
    assert_eq!(node.act(), [], "the start goes on");
    node.tell(InstanceEvent::NotNow(resource(), Undone::Start));
    assert!(matches!(node.act()[..], [Action::Start { .. }]), "asked again");
}

#[test]
fn a_list_of_old_burnt_epochs_takes_no_instance_away() {
    let mut node = Node::new(cold());
    let number = node.activate(3);
    let running = Running {
        resource: resource(),
        number,
        phase: InstancePhase::Stopping,
        epoch: Some(epoch(3)),
    };
    node.tell(InstanceEvent::LauncherUp { session: 1, guard: Some(7), running: vec![running] });
    let (resource, epoch) = (resource(), epoch(3));
    node.tell(InstanceEvent::Burnt { resource, epoch, gone: false });
    assert_eq!(node.proven(), [], "it is still being stopped");
    node.gone(number);
    assert_eq!(node.proven(), [epoch]);
}

/// An agent that starts again has applied less than the one before it had.
#[test]
fn a_log_that_lags_takes_nothing_from_what_it_does_not_know() {
    let mut before = Node::new(cold());
    let number = before.activate(3);
    let (phase, epoch) = (InstancePhase::Active, Some(epoch(3)));
    let running = Running { resource: resource(), number, phase, epoch };
    let up = InstanceEvent::LauncherUp { session: 1, guard: Some(7), running: vec![running] };
    let mut after = Node::new(cold());
    after.tell(up.clone());
    assert_eq!(after.act(), [], "nobody here knows of its epoch yet");
    after.assign(3);
    assert_eq!(after.act(), [], "it is as it should be");
    // What the log has gone beyond is given up as ever.
    let mut later = Node::new(cold());
    later.assign(3);
    later.assign(4);
    later.tell(up);
    assert!(matches!(later.act()[..], [Action::Stop { .. }]), "an older epoch");
}

/// One that dies now and then, and runs for longer than the window in between, is not punished
/// for what is forgotten.
#[test]
fn a_standby_that_ran_for_a_whole_window_waits_for_the_first_pause_alone() {
    let mut node = Node::new(resource_spec(Standby::Hot));
    let recovery = node.state.spec.resources[&resource()].recovery.clone();
    let mut now = NOW;
    for round in 0..10 {
        node.lease.end = Some(now + Span::from_ms(500));
        let started = node.member.reconcile(now, &node.state, node.lease);
        let [Action::Start { number, .. }] = started[..] else { panic!("{round}: {started:?}") };
        let failure = Failure::Exited { status: Some(1), signal: None };
        let (resource, asked, age) = (resource(), false, Span::ZERO);
        let gone = InstanceEvent::Gone { resource, number, failure, asked, age };
        now += Span::from_ms(recovery.window_ms * 2);
        node.member.on_event(now, &node.state, gone);
        now += Span::from_ms(recovery.backoff_ms);
    }
}

/// Node a with resource r, which changes its role by a socket, and an address with it.
fn beside_another() -> Node {
    let mut service = resource_spec(Standby::Hot);
    if let ResourceKind::Process(process) = &mut service.kind {
        process.promote = model::spec::Promote::Socket;
    }
    let mut node = Node::new(service);
    let mut spec = node.state.spec.clone();
    spec.resources.insert(named("address"), ResourceSpec { with: Some(resource()), ..cold() });
    let (version, text) = (node.state.spec_version + 1, String::new());
    node.commit(Command::Apply { version, spec, text });
    let start = node.act();
    assert!(matches!(start[..], [Action::Start { role: StartRole::Standby, .. }]), "{start:?}");
    node.tell(InstanceEvent::Ready(resource()));
    node
}

fn assign_both(node: &mut Node) {
    node.assign(1);
    let (resource, previous, evidence) = (named("address"), Epoch::default(), None);
    let (name, replica) = (crate::fixtures::node("a"), ME);
    let epoch = epoch(2);
    node.commit(Command::Assign { resource, node: name, replica, previous, epoch, evidence });
}

#[test]
fn what_runs_with_another_waits_until_that_one_is_active_here() {
    let mut node = beside_another();
    assign_both(&mut node);
    let promote = node.act();
    assert!(matches!(promote[..], [Action::Promote { .. }]), "the service alone: {promote:?}");
    assert_eq!(node.act(), []);
    node.tell(InstanceEvent::Active(resource(), epoch(1)));
    let [Action::Start { resource, role: StartRole::Active(e), .. }] = &node.act()[..] else {
        panic!("then its address")
    };
    assert_eq!((resource.as_str(), *e), ("address", epoch(2)));
}

#[test]
fn what_others_run_with_is_demoted_after_them() {
    let mut node = beside_another();
    assign_both(&mut node);
    node.act();
    node.tell(InstanceEvent::Active(resource(), epoch(1)));
    let start = node.act();
    let [Action::Start { number, .. }] = start[..] else { panic!("{start:?}") };
    node.tell(InstanceEvent::Active(named("address"), epoch(2)));
    for (resource, epoch) in [(named("address"), epoch(2)), (resource(), epoch(1))] {
        node.commit(Command::Release { resource, epoch });
    }
    let stop = node.act();
    assert!(matches!(stop[..], [Action::Stop { number: n, .. }] if n == number), "{stop:?}");
    assert_eq!(node.act(), [], "the service goes on until its address is gone");
    let failure = Failure::Exited { status: Some(0), signal: None };
    let (asked, age) = (true, Span::ZERO);
    let resource = named("address");
    node.tell(InstanceEvent::Gone { resource, number, failure, asked, age });
    let demote = node.act();
    assert!(matches!(demote[..], [Action::Demote { .. }]), "{demote:?}");
}

#[test]
fn nothing_is_clear_but_what_somebody_sees_to_be() {
    let mut node = Node::new(cold());
    let clear = |node: &Node| node.member.peek(&node.state).clear;
    assert!(!clear(&node), "launcher and guard are there: that is what counts");
    node.tell(InstanceEvent::Guard(None));
    assert!(clear(&node), "the launcher sees that it runs nothing");
    node.tell(InstanceEvent::Clear(true));
    node.tell(InstanceEvent::LauncherDown);
    assert!(!clear(&node), "what was said beside a launcher is of before");
    node.tell(InstanceEvent::Clear(false));
    assert!(!clear(&node), "the guard said that something is active");
    node.tell(InstanceEvent::Clear(true));
    assert!(clear(&node), "the guard sees that all is over");

    let mut node = Node::new(cold());
    node.activate(1);
    node.tell(InstanceEvent::Guard(None));
    assert!(!clear(&node), "it is active");
}

#[test]
fn an_active_instance_that_fails_its_check_is_burnt_and_killed() {
    let mut node = Node::new(cold());
    let number = node.activate(1);
    assert_eq!(node.act(), []);
    let failed = Some(("port".into(), "closed".into()));
    node.tell(InstanceEvent::Health { resource: resource(), failed });
    let actions = node.act();
    let [Action::Stop { at_once: true, .. }] = actions[..] else { panic!("{actions:?}") };
    assert_eq!(node.proven(), [], "it may be active still");
    node.gone(number);
    assert_eq!(node.proven(), [epoch(1)]);
    assert_eq!(node.act(), [], "its epoch is used up");
}

#[test]
fn a_lapse_of_the_lease_burns_what_was_held_under_it_until_a_newer_assignment() {
    let mut node = Node::new(cold());
    let number = node.activate(1);
    node.lease = LeaseView { end: None, fresh_from: u64::MAX, lapses: 1, ..node.lease };
    let actions = node.act();
    assert!(matches!(actions[..], [Action::Stop { at_once: true, .. }]), "{actions:?}");
    node.gone(number);
    assert_eq!(node.proven(), [epoch(1)]);
    assert_eq!(node.act(), [], "without a lease nothing is begun");
    // The first grant after it does not say yet how far the log has to be applied.
    node.assign(2);
    let index = node.state.index;
    node.lease.end = Some(NOW + Span::from_ms(500));
    assert_eq!(node.act(), [], "the assignment may be of before the lapse");
    assert_eq!(node.proven(), [], "and may be of after it");
    node.lease.fresh_from = index;
    assert_eq!(node.act(), []);
    assert_eq!(node.proven(), [epoch(2)], "it is of before");
    node.assign(3);
    let actions = node.act();
    assert!(matches!(actions[..], [Action::Start { .. }]), "{actions:?}");
}

#[test]
fn a_failure_that_a_snapshot_holds_is_told_no_more() {
    let mut node = Node::new(cold());
    node.assign(1);
    node.act();
    node.tell(InstanceEvent::StopFailed(resource()));
    let told = |node: &mut Node| {
        let report = node.member.report(NOW, &node.state, vec![]);
        report.failures.iter().map(|f| f.number).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut node), [1]);
    // Another start's, and another node's.
    for (replica, boot) in [(ME, 2), (ReplicaId(2), 1), (ME, 1)] {
        node.member.on_snapshot(&node.state);
        assert_eq!(told(&mut node), [1]);
        let key = model::state::FailureKey { replica, boot, number: 1 };
        let (resource, node_name, failure) = (resource(), self::node("a"), Failure::StopFailed);
        let (epoch, ban_until, hold_until) = (None, None, None);
        node.commit(Command::Failed {
            resource,
            key,
            node: node_name,
            epoch,
            failure,
            ban_until,
            hold_until,
        });
    }
    node.member.on_snapshot(&node.state);
    assert_eq!(told(&mut node), []);
}

#[test]
fn what_is_started_as_active_is_no_standby_when_it_is_ready() {
    let mut node = Node::new(cold());
    node.assign(1);
    node.act();
    node.tell(InstanceEvent::Ready(resource()));
    let report = node.member.peek(&node.state);
    assert_eq!(report.instances[0].phase, InstancePhase::Starting);
    node.tell(InstanceEvent::Active(resource(), epoch(1)));
    node.tell(InstanceEvent::Ready(resource()));
    let report = node.member.peek(&node.state);
    assert_eq!(report.instances[0].phase, InstancePhase::Active);
}

#[test]
fn a_lease_that_comes_or_goes_is_told_at_once() {
    let mut node = Node::new(cold());
    node.act();
    node.member.report(NOW, &node.state, vec![]);
    node.act();
    assert!(!node.member.is_dirty(), "nothing has changed");
    let lease = node.lease;
    node.lease = LeaseView { end: None, ..lease };
    node.act();
    assert!(node.member.is_dirty() && !node.member.peek(&node.state).leased);
    node.member.report(NOW, &node.state, vec![]);
    node.lease = lease;
    node.act();
    assert!(node.member.is_dirty() && node.member.peek(&node.state).leased);
}
