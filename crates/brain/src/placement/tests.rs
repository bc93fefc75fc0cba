use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;

use model::report::{InstanceStatus, Report};
use model::spec::{ClusterSpec, DomainKind, Domains, NodeSpec, ResourceSpec};
use model::state::{Member, ResourceState};
use model::{ClusterMs, Epoch};

use super::*;
use crate::fixtures::{holder, named, node, report, resource_spec, voter};

fn held_by(name: &str, active: bool) -> ResourceState {
    let holder = holder(name, ReplicaId(1), Epoch::default(), active);
    let last_node = Some(node(name));
    ResourceState { holder: Some(holder), last_node, ..ResourceState::default() }
}

/// Nodes a, b and c, each in a rack of its own but a and b; one resource `r`.
struct Setting {
    state: ClusterState,
    view: View,
}

impl Setting {
    fn new(standby: Standby) -> Setting {
        let mut state = ClusterState { now: ClusterMs(1_000), ..ClusterState::default() };
        let mut view = View::new();
        for (n, (name, rack)) in [("a", "1"), ("b", "1"), ("c", "2")].into_iter().enumerate() {
            let replica = ReplicaId(n as u64 + 1);
            let domains = Domains { rack: Some(rack.into()), ..Domains::default() };
            let spec = NodeSpec { domains, voter: true, ..NodeSpec::default() };
            state.spec.nodes.insert(node(name), spec);
            let member = voter(replica);
            state.members.insert(node(name), member);
            let health = NodeHealth::Healthy;
            let seen = NodeView {
                replica,
                health,
                ready: true,
                leased: true,
                caught_up: true,
                report: None,
            };
            view.insert(node(name), seen);
        }
        let spec = ClusterSpec {
            resources: BTreeMap::from([(named("r"), resource_spec(standby))]),
            ..state.spec
        };
        state.spec = spec;
        state.resources.insert(named("r"), ResourceState::default());
        Setting { state, view }
    }

    fn spec(&mut self) -> &mut ResourceSpec {
        self.state.spec.resources.get_mut(&named("r")).unwrap()
    }

    fn held(&mut self) -> &mut ResourceState {
        self.state.resources.get_mut(&named("r")).unwrap()
    }

    fn standby_on(&mut self, name: &str) {
        let status = InstanceStatus {
            resource: named("r"),
            phase: InstancePhase::Standby,
            epoch: None,
            healthy: true,
            active_at_us: 0,
        };
        let seen = self.view.get_mut(&node(name)).unwrap();
        seen.report = Some(Arc::new(Report { instances: vec![status], ..report(seen.replica) }));
    }

    fn check(&self, wish: Wish, expected: Option<&str>) {
        let (chosen, reasons) = choose(&self.state, &self.view, &named("r"), &wish);
        assert_eq!(chosen, expected.map(node), "{reasons:?}");
        assert!(!reasons.is_empty(), "every choice says why");
    }

    fn verdict(&self, name: &str) -> Result<(), WhyNot> {
        may_take(&self.state, &self.view, &named("r"), &node(name))
    }
}

#[test]
fn what_keeps_a_node_from_taking_a_resource_is_named() {
    let check = |change: &dyn Fn(&mut Setting), expected: WhyNot| {
        let mut setting = Setting::new(Standby::Cold);
        assert_eq!(setting.verdict("a"), Ok(()));
        change(&mut setting);
        assert_eq!(setting.verdict("a"), Err(expected));
    };
    let member = |s: &mut Setting, change: &dyn Fn(&mut Member)| {
        change(s.state.members.get_mut(&node("a")).unwrap());
    };
    let seen = |s: &mut Setting, change: &dyn Fn(&mut NodeView)| {
        change(s.view.get_mut(&node("a")).unwrap());
    };
    let later = Some(ClusterMs(1_001));
    check(&|s| s.state.members.retain(|name, _| *name != node("a")), WhyNot::NotJoined);
    check(&|s| member(s, &|m| m.role = MemberRole::Witness), WhyNot::Witness);
    check(&|s| s.spec().nodes = BTreeSet::from([node("b")]), WhyNot::NotInNodes);
    check(&|s| member(s, &|m| m.drain_until = later), WhyNot::Draining);
    check(&|s| member(s, &|m| m.maintenance_until = later), WhyNot::Maintenance);
    check(&|s| seen(s, &|v| v.health = NodeHealth::Suspect), WhyNot::Down);
    check(&|s| seen(s, &|v| v.caught_up = false), WhyNot::CatchingUp);
    check(&|s| seen(s, &|v| v.ready = false), WhyNot::NotReady);
    check(&|s| seen(s, &|v| v.leased = false), WhyNot::NoLease);
    let until = ClusterMs(1_001);
    let banned = WhyNot::Banned { until_ms: until.0 };
    check(&|s| s.held().bans = BTreeMap::from([(node("a"), until)]), banned);
}

#[test]
fn a_window_that_ends_now_has_ended() {
    let mut setting = Setting::new(Standby::Cold);
    let now = setting.state.now;
    setting.held().bans.insert(node("a"), now);
    let member = setting.state.members.get_mut(&node("a")).unwrap();
    (member.drain_until, member.maintenance_until) = (Some(now), Some(now));
    assert_eq!(setting.verdict("a"), Ok(()));
}

#[test]
fn it_stays_where_it_was_even_if_another_is_preferred() {
    let mut setting = Setting::new(Standby::Cold);
    setting.spec().prefer = vec![node("a")];
    setting.held().last_node = Some(node("c"));
    setting.check(Wish::default(), Some("c"));
}

#[test]
fn preference_decides_a_first_placement_and_names_break_ties() {
    let mut setting = Setting::new(Standby::Cold);
    setting.check(Wish::default(), Some("a"));
    setting.spec().prefer = vec![node("c"), node("b")];
    setting.check(Wish::default(), Some("c"));
}

#[test]
fn a_ready_standby_beats_preference_and_an_operators_target_beats_all() {
    let mut setting = Setting::new(Standby::Hot);
    setting.spec().prefer = vec![node("a")];
    setting.standby_on("b");
    setting.check(Wish::default(), Some("b"));
    setting.check(Wish { target: Some(node("c")), avoid: None }, Some("c"));
}

#[test]
fn the_node_that_is_left_is_the_last_choice_and_still_a_choice() {
    let mut setting = Setting::new(Standby::Cold);
    setting.held().last_node = Some(node("a"));
    let left = || Wish { target: None, avoid: Some(node("a")) };
    setting.check(left(), Some("b"));
    for name in ["b", "c"] {
        setting.view.get_mut(&node(name)).unwrap().health = NodeHealth::Down;
    }
    setting.check(left(), Some("a"));
    setting.view.get_mut(&node("a")).unwrap().health = NodeHealth::Down;
    setting.check(left(), None);
}

#[test]
fn a_move_leaves_the_failure_domain_where_it_can() {
    let away = || Wish { target: None, avoid: Some(node("a")) };
    let mut setting = Setting::new(Standby::Cold);
    setting.check(away(), Some("b"));
    setting.spec().spread = Some(DomainKind::Rack);
    setting.check(away(), Some("c"));
    // Another domain counts for more than a preference and an idle node, but a standby that is
    // ready for more still.
    setting.spec().prefer = vec![node("b")];
    setting.state.resources.insert(named("x"), held_by("c", true));
    setting.check(away(), Some("c"));
    setting.spec().standby = Standby::Hot;
    setting.standby_on("b");
    setting.check(away(), Some("b"));
    setting.standby_on("c");
    setting.check(away(), Some("c"));
    // Of another kind nothing is known: then all nodes are apart.
    setting.spec().spread = Some(DomainKind::Power);
    setting.check(away(), Some("b"));
    // The domain that is left is better than none.
    setting.spec().spread = Some(DomainKind::Rack);
    setting.view.get_mut(&node("c")).unwrap().health = NodeHealth::Down;
    setting.check(away(), Some("b"));
}

#[test]
fn the_least_busy_of_equals_is_chosen() {
    let mut setting = Setting::new(Standby::Cold);
    setting.state.resources.insert(named("x"), held_by("a", true));
    setting.check(Wish::default(), Some("b"));
}

#[test]
fn it_runs_with_another_only_where_that_one_is_and_stays() {
    let mut setting = Setting::new(Standby::Cold);
    setting.spec().with = Some(named("x"));
    setting.check(Wish::default(), None);
    let mut leaving = held_by("b", true);
    leaving.holder.as_mut().unwrap().releasing = true;
    setting.state.resources.insert(named("x"), leaving);
    setting.check(Wish::default(), None);
    // Its instance need not be active yet: the node waits for that.
    setting.state.resources.insert(named("x"), held_by("b", false));
    setting.check(Wish::default(), Some("b"));
}

#[test]
fn a_standby_is_ready_where_it_stands_by_and_is_healthy() {
    for (phase, healthy, ready) in [
        (InstancePhase::Standby, true, true),
        (InstancePhase::Standby, false, false),
        (InstancePhase::Starting, true, false),
    ] {
        let mut setting = Setting::new(Standby::Hot);
        setting.standby_on("a");
        let seen = setting.view.get_mut(&node("a")).unwrap();
        let report = Arc::make_mut(seen.report.as_mut().unwrap());
        (report.instances[0].phase, report.instances[0].healthy) = (phase, healthy);
        assert_eq!(seen.standby_ready(&named("r")), ready, "{phase:?} {healthy}");
        assert!(!seen.standby_ready(&named("another")));
    }
}
