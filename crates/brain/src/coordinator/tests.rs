use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use model::Profile;
use model::command::RequestId;
use model::heartbeat::{Ack, Heartbeat, Promised};
use model::operation::{Operation, Refusal};
use model::report::{
    Evidence, EvidenceGround, Failure, FailureReport, InstancePhase, InstanceStatus, Report,
};
use model::spec::{Failback, RecoverySpec, ResourceSpec, Standby};
use model::state::{FailureKey, FailureRecord, TokenRecord, TokenRole};

use super::operations::Asker;
use super::*;
use crate::cluster;
use crate::fixtures::{
    cluster_spec, genesis, heartbeat, node, report, request, resource, resource_spec,
};
use crate::plant::Plants;
use crate::pulse::{PulseConfig, RaftView, Succession};

const NODES: [&str; 3] = ["a", "b", "c"];
const A: ReplicaId = ReplicaId(1);
const B: ReplicaId = ReplicaId(2);
const C: ReplicaId = ReplicaId(3);

/// A coordinator on node a with a log that commits at once, and two silent peers that hear.
struct Office {
    state: ClusterState,
    pulse: Pulse,
    coordinator: Coordinator,
    group: Group,
    now: Moment,
    /// Who is heard.
    up: Vec<ReplicaId>,
    reports: BTreeMap<ReplicaId, Report>,
    seq: u64,
}

impl Office {
    fn new(standby: Standby, change: impl FnOnce(&mut ResourceSpec)) -> Office {
        let mut spec = resource_spec(standby);
        spec.recovery.restarts = 1;
        change(&mut spec);
        let mut office = Office::idle(first_state(spec));
        for replica in [A, B, C] {
            office.report(replica, Vec::new());
        }
        office.pass_for(600);
        office
    }

    fn idle(state: ClusterState) -> Office {
        let now = Moment(100_000_000_000);
        let config = PulseConfig {
            me: A,
            boot: 1,
            timers: Profile::Lan.timers(),
            recorded_promise: Profile::Lan.timers().promise,
            term: 2,
            witness: false,
            plants: Plants::NONE,
        };
        let mut pulse = Pulse::new(config, Moment(50_000_000_000));
        let voters = BTreeSet::from([A, B, C]);
        pulse.set_raft(RaftView {
            term: 2,
            leader: Some(A),
            leader_heard: now,
            configurations: Some(vec![voters.clone()]),
            commit: state.index,
        });
        pulse.lead(now, 2, Succession::Elected, [A, B, C]);
        pulse.barrier_committed(now);
        let mut coordinator = Coordinator::new(A);
        coordinator.lead(now, 2, &state);
        let progress = [A, B, C].map(|r| (r, Progress { matched: 1, active: true }));
        let progress = BTreeMap::from(progress);
        let group = Group { voters, last_index: 1, progress, ..Group::default() };
        let (up, reports) = (vec![B, C], BTreeMap::new());
        Office { state, pulse, coordinator, group, now, up, reports, seq: 0 }
    }

    fn report(&mut self, replica: ReplicaId, instances: Vec<InstanceStatus>) -> &mut Report {
        let number = self.reports.get(&replica).map_or(1, |report| report.number + 1);
        let report = Report { number, applied: u64::MAX, instances, ..report(replica) };
        self.reports.insert(replica, report);
        self.reports.get_mut(&replica).unwrap()
    }

    /// Lets time pass, with a beat and a pass of the coordinator every 20 ms; what it proposes
    /// is committed at once and returned.
    fn pass_for(&mut self, ms: u64) -> Vec<Command> {
        let mut commands = Vec::new();
        for _ in 0..ms / 20 {
            self.now += Span::from_ms(20);
            commands.extend(self.pass());
        }
        commands.retain(|command| *command != Command::Barrier);
        commands
    }

    fn pass(&mut self) -> Vec<Command> {
        self.pulse.raft_thread_lives(self.now);
        self.pulse.beat(self.now);
        self.seq += 1;
        for peer in self.up.clone() {
            let ack = Ack { boot: 1, seq: self.seq };
            let heartbeat = Heartbeat {
                ack: Some(ack),
                promised: Some(Promised { term: 2, round: ack }),
                ..heartbeat(peer, self.seq, 2)
            };
            self.pulse.receive(self.now, 0, &heartbeat);
            self.pulse.heartbeat_for(self.now, peer);
        }
        for report in self.reports.values() {
            self.coordinator.on_report(self.now, report.clone());
        }
        let now = Now { moment: self.now, wall_ms: 0 };
        let made = self.coordinator.reconcile(now, &self.state, &mut self.pulse, &self.group);
        self.commit(made)
    }

    fn commit(&mut self, decisions: Vec<Decision>) -> Vec<Command> {
        let mut commands = Vec::new();
        for decision in decisions {
            let Decision::Propose(entry) = decision else { continue };
            let index = self.state.index + 1;
            let applied = cluster::apply(&mut self.state, index, &entry);
            if entry.command == Command::Barrier {
                self.pulse.barrier_committed(self.now);
            }
            self.coordinator.on_applied(self.now, &self.state, &entry, applied, true);
            commands.push(entry.command);
        }
        commands
    }

    fn operate(&mut self, operation: Operation) -> Result<Vec<Command>, Refusal> {
        let request = RequestId { replica: A, boot: 1, number: 1 };
        let asker = Asker { request, by: "ann".into() };
        let now = Now { moment: self.now, wall_ms: 0 };
        let (state, pulse, group) = (&self.state, &self.pulse, &self.group);
        let (_, made) = self.coordinator.operate(now, state, pulse, group, &asker, operation)?;
        Ok(self.commit(made))
    }

    fn held(&self) -> &model::state::ResourceState {
        &self.state.resources[&resource()]
    }

    fn holder(&self) -> Option<(&str, u64)> {
        self.held().holder.as_ref().map(|h| (h.node.as_str(), h.epoch.counter))
    }

    /// The holder's instance runs: it says so.
    fn activate(&mut self) {
        let holder = self.held().holder.clone().unwrap();
        self.report(holder.replica, vec![instance(InstancePhase::Active, Some(holder.epoch))]);
        self.pass_for(40);
        assert!(self.held().holder.as_ref().is_some_and(|h| h.active));
    }

    /// The holder's instance died: evidence, and a failure.
    fn fail(&mut self, number: u64) {
        let holder = self.held().holder.clone().unwrap();
        let failure = Failure::Exited { status: Some(1), signal: None };
        let epoch = Some(holder.epoch);
        let report = self.report(holder.replica, Vec::new());
        report.evidence.push(evidence(holder.replica, holder.epoch));
        report.failures.push(FailureReport {
            resource: resource(),
            number,
            epoch,
            failure,
            age_us: 0,
        });
    }
}

fn instance(phase: InstancePhase, epoch: Option<Epoch>) -> InstanceStatus {
    InstanceStatus { resource: resource(), phase, epoch, healthy: true, active_at_us: 0 }
}

fn evidence(replica: ReplicaId, epoch: Epoch) -> Evidence {
    let ground = EvidenceGround::Empty;
    Evidence { resource: resource(), epoch, replica, guard: Some(1), ground, age_us: 0 }
}

fn first_state(spec: ResourceSpec) -> ClusterState {
    let mut state = ClusterState::default();
    let mut commands = vec![Command::Genesis(genesis(cluster_spec(&NODES, spec)))];
    for (n, name) in NODES.into_iter().enumerate().skip(1) {
        let hash = [n as u8; 32];
        let (role, expires) = (TokenRole::Voter, ClusterMs(u64::MAX));
        let token = TokenRecord { hash, role, node: None, expires, used: false };
        commands.push(Command::AddToken { token });
        let request = request(name, Some(n as u8));
        commands.push(Command::Join { request, replica: ReplicaId(n as u64 + 1) });
    }
    for (index, command) in commands.into_iter().enumerate() {
        let entry = Entry {
            by: A,
            now: ClusterMs(0),
            wall_ms: 0,
            request: None,
            command,
            reasons: Vec::new(),
        };
        cluster::apply(&mut state, index as u64 + 1, &entry);
    }
    state
}

#[test]
fn a_resource_is_placed_once_and_stays() {
    let mut office = Office::new(Standby::Cold, |_| {});
    assert_eq!(office.holder(), Some(("a", 1)));
    office.activate();
    assert_eq!(office.pass_for(2_000), []);
}

#[test]
fn nothing_is_decided_without_authority() {
    let mut office = Office::idle(first_state(resource_spec(Standby::Cold)));
    for replica in [A, B, C] {
        office.report(replica, Vec::new());
    }
    office.up.clear();
    assert_eq!(office.pass_for(1_000), []);
}

#[test]
fn a_silent_holder_keeps_its_resource_until_its_last_grant_has_passed() {
    let mut office = Office::new(Standby::Cold, |s| s.prefer = vec![node("b")]);
    assert_eq!(office.holder(), Some(("b", 1)));
    office.activate();
    office.up = vec![C];
    let until = office.pulse.granted_until(B);
    while office.now + Span::from_ms(20) < until {
        assert_eq!(office.pass_for(20), [], "{:?} before {until:?}", office.now);
    }
    office.pass_for(40);
    assert_eq!(office.holder().map(|(_, epoch)| epoch), Some(2));
    assert_ne!(office.holder().map(|(node, _)| node), Some("b"));
    let moved = office.held().moves.back().unwrap();
    assert_eq!(moved.evidence.as_ref().map(|e| e.ground), Some(EvidenceGround::Lapsed));
}

#[test]
fn evidence_counts_for_its_own_epoch_alone() {
    let mut office = Office::new(Standby::Cold, |_| {});
    office.activate();
    let held = office.held().epoch;
    let check = |office: &mut Office, replica, counter, moves: bool| {
        let epoch = Epoch { counter, ..held };
        let report = office.report(A, vec![instance(InstancePhase::Active, Some(held))]);
        report.evidence.push(evidence(replica, epoch));
        assert_eq!(office.pass_for(20).is_empty(), !moves, "{replica} {epoch}");
    };
    check(&mut office, A, held.counter - 1, false);
    check(&mut office, A, held.counter + 1, false);
    check(&mut office, B, held.counter, false);
    check(&mut office, A, held.counter, true);
}

#[test]
fn a_hot_standby_takes_over_and_a_cold_resource_restarts_in_place() {
    for (standby, expected) in [(Standby::Hot, "c"), (Standby::Cold, "a")] {
        let mut office = Office::new(standby, |_| {});
        office.activate();
        office.report(C, vec![instance(InstancePhase::Standby, None)]);
        office.fail(1);
        office.pass_for(60);
        assert_eq!(office.holder(), Some((expected, 2)), "{standby:?}");
    }
}

#[test]
fn restart_then_move_then_no_tour_of_the_cluster() {
    let mut office = Office::new(Standby::Cold, |_| {});
    office.activate();
    office.fail(1);
    office.pass_for(60);
    assert_eq!(office.holder().map(|(node, _)| node), Some("a"), "the restart in place");
    office.activate();
    office.fail(2);
    office.pass_for(60);
    assert_eq!(office.holder().map(|(node, _)| node), Some("b"), "restarts used up");
    office.activate();
    for number in 3..8 {
        office.fail(number);
        office.pass_for(2_000);
        assert_ne!(office.holder().map(|(node, _)| node), Some("c"), "poison tours nowhere");
        if office.held().quarantine.is_some() {
            return;
        }
        office.activate();
    }
    panic!("a resource that fails alike on two nodes is never quarantined");
}

#[test]
fn a_failure_in_the_log_is_not_recorded_again() {
    let mut office = Office::new(Standby::Cold, |_| {});
    office.activate();
    office.fail(1);
    let failed = |commands: Vec<Command>| {
        commands.iter().filter(|c| matches!(c, Command::Failed { .. })).count()
    };
    let commands = office.pass_for(400);
    assert_eq!(failed(commands), 1);
}

#[test]
fn a_drain_waits_for_a_node_that_can_take_over() {
    let mut office = Office::new(Standby::Hot, |_| {});
    office.activate();
    office.operate(Operation::Drain { node: node("a"), for_ms: 60_000 }).unwrap();
    let commands = office.pass_for(1_000);
    assert_eq!(commands, [], "no standby is ready");
    office.report(B, vec![instance(InstancePhase::Standby, None)]);
    let commands = office.pass_for(40);
    assert!(matches!(commands[..], [Command::Release { .. }]), "{commands:?}");
}

#[test]
fn maintenance_leaves_alone_even_what_was_lost() {
    let mut office = Office::new(Standby::Cold, |s| s.prefer = vec![node("b")]);
    office.activate();
    let scope = model::operation::Scope::Cluster;
    office.operate(Operation::Maintenance { scope, for_ms: 5_000 }).unwrap();
    office.up = vec![C];
    assert_eq!(office.pass_for(4_000), []);
    office.pass_for(1_500);
    assert_ne!(office.holder().map(|(node, _)| node), Some("b"), "the window has ended");
}

#[test]
fn failback_waits_longer_after_each_one_that_was_regretted() {
    let mut office = Office::new(Standby::Cold, |s| {
        s.prefer = vec![node("b")];
        s.failback = Failback::AfterMs(1_000);
        s.recovery.restarts = 100;
        s.recovery.poison_nodes = 0;
    });
    office.activate();
    let mut waited = Vec::new();
    for _ in 0..4 {
        office.up = vec![C];
        office.pass_for(1_000);
        assert_ne!(office.holder().map(|(node, _)| node), Some("b"));
        office.activate();
        office.up = vec![B, C];
        office.report(B, Vec::new());
        let mut ms = 0;
        while office.holder().is_none_or(|(node, _)| node != "b") {
            office.pass_for(20);
            ms += 20;
            assert!(ms < 60_000, "it never returns");
            let releasing = office.held().holder.as_ref().filter(|h| h.releasing).cloned();
            if let Some(holder) = releasing {
                let report = office.report(holder.replica, Vec::new());
                report.evidence.push(evidence(holder.replica, holder.epoch));
            }
        }
        office.activate();
        waited.push(ms);
    }
    assert!(waited.windows(2).all(|pair| pair[1] > pair[0] * 3 / 2), "{waited:?}");
}

#[test]
fn operations_are_refused_with_their_cause() {
    let mut office = Office::new(Standby::Cold, |_| {});
    office.activate();
    let stranger = ResourceName::new("x").unwrap();
    let refusal = office.operate(Operation::Failover { resource: stranger.clone() });
    assert_eq!(refusal, Err(Refusal::NoSuchResource(stranger)));
    let node_x = node("x");
    let to = Some(node_x.clone());
    let refusal = office.operate(Operation::Switchover { resource: resource(), to });
    assert_eq!(refusal, Err(Refusal::NoSuchNode(node_x)));
    let refusal = office.operate(Operation::Drain { node: node("a"), for_ms: 0 });
    assert_eq!(refusal, Err(Refusal::BadWindow));
    office.group.progress.clear();
    let refusal = office.operate(Operation::Transfer { to: Some(node("b")) });
    assert_eq!(refusal, Err(Refusal::NoCandidate), "it does not answer");
    // In office by the votes, and what was committed before is not applied yet; or the reverse.
    let nobody = Err(Refusal::NotCoordinator { coordinator: None });
    let (now, state) = (office.now, office.state.clone());
    office.coordinator.lead(now, 2, &state);
    assert!(office.pulse.in_office());
    assert_eq!(office.operate(Operation::Failover { resource: resource() }), nobody);
    let mut office = Office::new(Standby::Cold, |_| {});
    office.pulse.renounce();
    assert_eq!(office.operate(Operation::Failover { resource: resource() }), nobody);
}

#[test]
fn the_pauses_before_restarts_double_up_to_a_limit_and_end_with_a_ban() {
    let recovery = RecoverySpec {
        restarts: 5,
        backoff_ms: 100,
        backoff_max_ms: 350,
        window_ms: 60_000,
        ..RecoverySpec::default()
    };
    let mut held = model::state::ResourceState::default();
    let mut pauses = Vec::new();
    for number in 1..=6 {
        let next = failures::consequence(&held, &recovery, &node("a"), ClusterMs(1_000));
        let until = (next.pause_ms > 0).then(|| ClusterMs(1_000 + next.pause_ms));
        assert_eq!(next.hold_until, until);
        assert_eq!(next.ban_until.is_some(), number == 6, "{number}");
        pauses.push(next.pause_ms);
        held.failures.push_back(FailureRecord {
            key: FailureKey { replica: A, boot: 1, number },
            node: node("a"),
            epoch: None,
            failure: Failure::NotReady,
            at: ClusterMs(1_000),
            wall_ms: 0,
        });
    }
    assert_eq!(pauses, [0, 100, 200, 350, 350, 0]);
}

#[test]
fn the_poison_guard_counts_nodes_with_the_same_failure_within_the_window() {
    let recovery = RecoverySpec { poison_nodes: 2, window_ms: 1_000, ..RecoverySpec::default() };
    let record = |name: &str, number, failure, at| FailureRecord {
        key: FailureKey { replica: A, boot: 1, number },
        node: node(name),
        epoch: None,
        failure,
        at: ClusterMs(at),
        wall_ms: 0,
    };
    let check = |failures: Vec<FailureRecord>, expected: bool| {
        let failures: Vec<&FailureRecord> = failures.iter().collect();
        let found = failures::poisoned(&failures, &recovery, ClusterMs(2_000)).is_some();
        assert_eq!(found, expected, "{:?}", failures);
    };
    let late = Failure::NotReady;
    let other = Failure::StopFailed;
    check(vec![record("a", 1, late.clone(), 1_500)], false);
    check(vec![record("a", 1, late.clone(), 1_500), record("a", 2, late.clone(), 1_600)], false);
    check(vec![record("a", 1, late.clone(), 1_500), record("b", 2, other, 1_600)], false);
    check(vec![record("a", 1, late.clone(), 999), record("b", 2, late.clone(), 1_600)], false);
    check(vec![record("a", 1, late.clone(), 1_000), record("b", 2, late, 1_600)], true);
}

/// The holder on b says that it can't stop its instance, and then nothing more.
fn stuck_and_silent() -> Office {
    let mut office = Office::new(Standby::Cold, |spec| spec.prefer = vec![node("b")]);
    office.activate();
    let epoch = office.held().epoch;
    office.report(B, vec![instance(InstancePhase::Stuck, Some(epoch))]);
    let commands = office.pass_for(20);
    assert_eq!(commands, [Command::Stuck { resource: resource(), epoch }]);
    office.up.retain(|replica| *replica != B);
    assert_eq!(office.pass_for(5_000), [], "its lease has lapsed, and that is not enough");
    assert!(office.coordinator.alarms().raised().any(|(_, what)| what.contains("confirm-stopped")));
    office
}

#[test]
fn what_cannot_be_stopped_keeps_its_resource_until_it_is_seen_to_be_gone() {
    let mut office = stuck_and_silent();
    let epoch = office.held().epoch;
    office.up.push(B);
    office.report(B, Vec::new()).evidence.push(evidence(B, epoch));
    office.pass_for(100);
    let holder = office.held().holder.clone().unwrap();
    assert!(holder.epoch > epoch && !holder.stuck, "{holder:?}");
}

#[test]
fn a_person_may_stand_in_for_the_proof_once_the_node_is_silent() {
    let confirm = |name: &str| Operation::ConfirmStopped { resource: resource(), node: node(name) };
    let mut office = stuck_and_silent();
    assert!(matches!(office.operate(confirm("c")), Err(Refusal::NotNow(_))), "not where it is");
    let commands = office.operate(confirm("b")).unwrap();
    assert!(matches!(&commands[..], [Command::Vacate { evidence: Some(e), .. }]
        if e.ground == EvidenceGround::Confirmed));
    office.pass_for(100);
    assert_ne!(office.holder().map(|(node, _)| node), Some("b"));

    let mut office = stuck_and_silent();
    office.up.push(B);
    office.pass_for(100);
    let refusal = office.operate(confirm("b"));
    assert!(matches!(refusal, Err(Refusal::NotNow(why)) if why.contains("still answers")));
}

#[test]
fn a_reinstalled_node_that_runs_nothing_is_proof_too() {
    let mut office = stuck_and_silent();
    let epoch = office.held().epoch;
    office.state.members.get_mut(&node("b")).unwrap().replica = ReplicaId(9);
    office.report(ReplicaId(9), Vec::new()).ready = false;
    assert_eq!(office.pass_for(100), [], "its launcher has not looked yet");
    office.report(ReplicaId(9), vec![instance(InstancePhase::Stuck, None)]);
    assert_eq!(office.pass_for(100), [], "it is still there");
    office.report(ReplicaId(9), Vec::new());
    office.pass_for(100);
    assert!(office.held().epoch > epoch);
}

mod companions;
mod generations;
mod operators;
mod orders;
mod poison;
mod unready;

const DAY_S: u64 = 86_400;

/// The alarms about certificates when all nodes say that theirs and their authority's end then.
fn certificate_alarms(ends_s: u64, authority_ends_s: u64) -> Vec<alloc::string::String> {
    let mut office = Office::new(Standby::Cold, |_| {});
    let issuer = model::authority::AuthorityId([1; 32]);
    for replica in [A, B, C] {
        let (trust, keys) = (0, Vec::new());
        let ends_s = if replica == B { ends_s } else { 30 * DAY_S };
        let told = model::authority::Identity { trust, issuer, ends_s, authority_ends_s, keys };
        office.report(replica, Vec::new()).identity = Some(told);
    }
    office.pass_for(100);
    let changes = office.coordinator.alarms().take_changes();
    let raised = office.coordinator.alarms().raised();
    let raised: Vec<_> = raised.filter(|(subject, _)| subject.is_certificate()).collect();
    let changed = changes.iter().filter(|change| change.subject.is_certificate());
    assert_eq!(changed.count(), raised.len(), "hooks are told of each, once");
    raised.into_iter().map(|(_, what)| what.into()).collect()
}

#[test]
fn a_certificate_that_could_not_renew_and_an_authority_near_its_end_are_alarms() {
    let far = 365 * DAY_S;
    assert!(certificate_alarms(7 * DAY_S, far).is_empty());
    assert!(certificate_alarms(30 * DAY_S, 90 * DAY_S).is_empty());
    for (ends_s, authority_ends_s, words) in [
        (7 * DAY_S - 1, far, "the certificate of b ends in 6 days"),
        (DAY_S, far, "the certificate of b ends in 24 h"),
        (30 * DAY_S, 90 * DAY_S - 1, "the cluster's authority ends in 89 days"),
    ] {
        let raised = certificate_alarms(ends_s, authority_ends_s);
        assert!(raised.len() == 1 && raised[0].contains(words), "{raised:?}");
    }
}

#[test]
fn a_node_that_was_left_behind_is_an_alarm_and_gets_nothing() {
    let mut office = Office::new(Standby::Cold, |spec| spec.prefer = vec![node("b")]);
    assert_eq!(office.holder().map(|(node, _)| node), Some("b"));
    office.activate();
    office.state.trust.shut_out.insert(node("c"));
    office.pass_for(100);
    let raised = office.coordinator.alarms().raised();
    assert_eq!(raised.filter(|(_, what)| what.contains("c was left behind")).count(), 1);
    let to = Some(node("c"));
    let refused = office.operate(Operation::Switchover { resource: resource(), to });
    assert!(matches!(refused, Err(Refusal::CannotPlace { .. })), "{refused:?}");
}

#[test]
fn a_rotation_that_stays_open_for_a_day_is_an_alarm() {
    let mut office = Office::new(Standby::Cold, |_| {});
    let old = model::authority::AuthorityId([1; 32]);
    office.state.trust.rotation = Some(model::authority::Rotation {
        from: old,
        to: model::authority::AuthorityId([2; 32]),
        phase: model::authority::RotationPhase::Trust,
        compromised: false,
        undone: false,
        endorsement: alloc::string::String::new(),
        sealed: BTreeMap::new(),
        began: office.state.now,
        wall_ms: 0,
    });
    let open = |office: &mut Office| {
        office.pass_for(100);
        let mut raised = office.coordinator.alarms().raised();
        raised.any(|(_, what)| what.contains("not finished since yesterday"))
    };
    assert!(!open(&mut office));
    office.state.now = ClusterMs(23 * 3_600_000);
    assert!(!open(&mut office), "it is of today");
    let began = office.state.now.0.saturating_sub(24 * 3_600_000 + 1);
    office.state.now = ClusterMs(24 * 3_600_000 + 1 + office.state.now.0);
    office.state.trust.rotation.as_mut().unwrap().began = ClusterMs(began);
    assert!(open(&mut office));
}

#[test]
fn what_was_wrong_before_a_change_of_office_is_not_told_again() {
    let mut office = Office::new(Standby::Cold, |_| {});
    office.up = vec![B];
    office.pass_for(2_000);
    let told = office.coordinator.alarms().take_changes();
    assert!(told.iter().any(|change| change.subject == alarm::Subject::Quorum), "{told:?}");
    let (now, state) = (office.now, office.state.clone());
    office.coordinator.follow();
    office.coordinator.lead(now, 2, &state);
    office.pass_for(100);
    assert_eq!(office.coordinator.alarms().take_changes(), []);
}

#[test]
fn a_node_whose_log_is_far_behind_is_given_nothing() {
    for (behind, placed) in [(CATCHING_UP_ENTRIES / 2, "b"), (CATCHING_UP_ENTRIES, "a")] {
        let mut state =
            first_state(ResourceSpec { prefer: vec![node("b")], ..resource_spec(Standby::Cold) });
        state.index = 5_000;
        let mut office = Office::idle(state);
        for replica in [A, B, C] {
            office.report(replica, Vec::new());
        }
        office.reports.get_mut(&B).unwrap().applied = 5_000 - behind;

        office.pass_for(600);
        assert_eq!(office.holder().map(|(node, _)| node), Some(placed), "{behind} behind");
    }
}
