use alloc::string::{String, ToString};
use alloc::vec;

use model::state::{EventKind, MemberRole, RotatedStep, TokenRecord};
use model::{Entry, ReplicaId};

use super::*;
use crate::cluster::{self, Applied};
use crate::fixtures::{cluster_spec, genesis, node, report, request, resource_spec};

const OLD: AuthorityId = AuthorityId([1; 32]);
const NEW: AuthorityId = AuthorityId([2; 32]);

/// A cluster of voters a and b and witness w, whose log commits at once.
struct Log {
    state: ClusterState,
    said: Identities,
}

fn new_authority(to: AuthorityId) -> NewAuthority {
    NewAuthority {
        from: OLD,
        to,
        certificate: String::from("NEW"),
        endorsement: String::from("NEW BY OLD"),
        sealed: BTreeMap::from([(ReplicaId(1), vec![1]), (ReplicaId(2), vec![2])]),
        compromised: false,
    }
}

fn names(names: &[&str]) -> BTreeSet<NodeName> {
    names.iter().map(|name| node(name)).collect()
}

fn renew(without: &[&str]) -> RotationOrder {
    RotationOrder::Renew { without: names(without) }
}

fn finish(without: &[&str]) -> RotationOrder {
    RotationOrder::Finish { without: names(without) }
}

impl Log {
    fn new() -> Log {
        let spec = cluster_spec(&["a", "b", "w"], resource_spec(model::spec::Standby::Cold));
        let mut log = Log { state: ClusterState::default(), said: Identities::new() };
        let mut genesis = genesis(spec);
        genesis.authorities = vec![String::from("OLD")];
        log.apply(Command::Genesis(genesis));
        for (name, role) in [("b", MemberRole::Voter), ("w", MemberRole::Witness)] {
            let request = model::state::JoinRequest { role, ..request(name, None) };
            let replica = ReplicaId(log.state.next_replica);
            // As one that comes back: tokens have tests of their own.
            let awaited = model::state::Awaited { role, barred: ReplicaId(0) };
            log.state.awaited.insert(node(name), awaited);
            assert_eq!(log.apply(Command::Join { request, replica }), Applied::Done);
        }
        for name in ["a", "b", "w"] {
            log.says(name, 0, OLD, &[OLD]);
        }
        log
    }

    fn apply(&mut self, command: Command) -> Applied {
        let index = self.state.index + 1;
        let (by, now) = (ReplicaId(1), ClusterMs(index * 1_000));
        let reasons = Vec::new();
        let entry = Entry { by, now, wall_ms: now.0, request: None, command, reasons };
        cluster::apply(&mut self.state, index, &entry)
    }

    fn says(&mut self, name: &str, trust: u64, issuer: AuthorityId, keys: &[AuthorityId]) {
        let keys = keys.to_vec();
        let said = Identity { trust, issuer, ends_s: 1, authority_ends_s: 1, keys };
        self.said.insert(node(name), Some(said));
    }

    /// Takes a step that is not refused.
    fn takes(&mut self, order: RotationOrder) {
        let command = rotate(&self.state, &self.said, order).unwrap().expect("something to do");
        assert_eq!(self.apply(command), Applied::Done);
    }

    fn refuses(&self, order: RotationOrder) -> String {
        rotate(&self.state, &self.said, order).expect_err("refused").to_string()
    }

    fn all_believe(&mut self) {
        let version = self.state.trust.version;
        for (name, keys) in [("a", &[OLD, NEW][..]), ("b", &[OLD, NEW]), ("w", &[])] {
            self.says(name, version, OLD, keys);
        }
    }

    fn all_hold(&mut self, issuer: AuthorityId) {
        let version = self.state.trust.version;
        for (name, keys) in [("a", &[OLD, NEW][..]), ("b", &[OLD, NEW]), ("w", &[])] {
            self.says(name, version, issuer, keys);
        }
    }

    fn renewing() -> Log {
        let mut log = Log::new();
        log.takes(RotationOrder::Begin(new_authority(NEW)));
        log.all_believe();
        log.takes(renew(&[]));
        log
    }

    fn last(&self) -> &EventKind {
        &self.state.history.back().unwrap().what
    }
}

#[test]
fn a_rotation_goes_from_one_authority_to_the_next_in_three_steps() {
    let mut log = Log::new();
    log.takes(RotationOrder::Begin(new_authority(NEW)));
    assert_eq!(log.state.authorities, ["OLD", "NEW"], "the first one issues");
    assert_eq!(log.state.trust.issuer, Some(OLD));
    log.all_believe();
    log.takes(renew(&[]));
    assert_eq!(log.state.authorities, ["NEW", "OLD"]);
    assert_eq!(log.state.trust.issuer, Some(NEW));
    log.all_hold(NEW);
    log.takes(finish(&[]));
    assert_eq!(log.state.authorities, ["NEW"]);
    assert_eq!((log.state.trust.issuer, &log.state.trust.rotation), (Some(NEW), &None));
    assert!(matches!(log.last(), EventKind::Rotated { step: RotatedStep::Finished, .. }));
    // And again, from there.
    let next = AuthorityId([3; 32]);
    assert!(log.refuses(RotationOrder::Begin(new_authority(next))).contains("changed meanwhile"));
    log.takes(RotationOrder::Begin(NewAuthority { from: NEW, ..new_authority(next) }));
    assert_eq!(log.state.authorities, ["NEW", "NEW"]);
}

#[test]
fn a_step_waits_for_every_member_and_says_for_whom() {
    let mut log = Log::new();
    log.takes(RotationOrder::Begin(new_authority(NEW)));
    let version = log.state.trust.version;
    for (name, trust, keys, lacks) in [
        ("a", version - 1, &[OLD, NEW][..], Some(Lack::Trust)),
        ("b", version, &[OLD][..], Some(Lack::Key)),
        ("w", version - 1, &[][..], Some(Lack::Trust)),
        ("w", version, &[][..], None),
    ] {
        log.all_believe();
        log.says(name, trust, OLD, keys);
        let expected = lacks.map(|lacks| Missing { node: node(name), lacks });
        let missing = missing(&log.state, &log.said);
        assert_eq!(missing, expected.iter().cloned().collect::<Vec<_>>(), "{name}");
        if let Some(expected) = expected {
            let why = log.refuses(renew(&[]));
            assert!(why.contains(&alloc::format!("{name} {}", expected.lacks)), "{why}");
        }
    }
    log.all_believe();
    log.said.insert(node("b"), None);
    assert!(log.refuses(renew(&[])).contains("b is not heard"));
    log.said.remove(&node("b"));
    assert!(log.refuses(renew(&[])).contains("b is not heard"), "unknown to the coordinator");
    assert!(log.refuses(renew(&["w"])).contains("b is not heard"), "another one was named");
    assert_eq!(rotate(&log.state, &log.said, renew(&["x"])), Err(Refusal::NoSuchNode(node("x"))));
    log.takes(renew(&["b"]));
}

#[test]
fn the_old_one_is_believed_until_every_certificate_is_renewed() {
    let mut log = Log::new();
    assert!(log.refuses(finish(&[])).contains("no rotation"));
    log.takes(RotationOrder::Begin(new_authority(NEW)));
    log.all_believe();
    assert!(log.refuses(finish(&[])).contains("not renewed yet"), "no step is skipped");
    log.takes(renew(&[]));
    log.all_hold(NEW);
    log.says("w", log.state.trust.version, OLD, &[]);
    assert!(log.refuses(finish(&[])).contains("w has not renewed its certificate yet"));
    log.takes(finish(&["w"]));
    assert_eq!(log.state.trust.shut_out, names(&["w"]));
    let EventKind::Rotated { shut_out, .. } = log.last() else { panic!("{:?}", log.last()) };
    assert_eq!(shut_out, &[node("w")]);
    // It is in again once it joined anew, or out for good.
    assert_eq!(log.apply(Command::Forget { node: node("w") }), Applied::Done);
    assert!(log.state.trust.shut_out.is_empty());
}

#[test]
fn only_those_that_miss_it_are_shut_out_and_never_a_quorum() {
    let mut log = Log::renewing();
    log.all_hold(NEW);
    log.takes(finish(&["w"]));
    assert!(log.state.trust.shut_out.is_empty(), "w was renewed");
    let mut log = Log::renewing();
    log.says("a", log.state.trust.version, NEW, &[OLD, NEW]);
    let why = log.refuses(finish(&["b", "w"]));
    assert!(why.contains("only 1 of 3 voters would be left"), "{why}");
    log.says("b", log.state.trust.version, NEW, &[OLD, NEW]);
    log.takes(finish(&["w"]));
}

#[test]
fn whoever_holds_something_is_not_shut_out() {
    let mut log = Log::renewing();
    log.all_hold(NEW);
    log.says("b", log.state.trust.version, OLD, &[OLD, NEW]);
    let holder = model::state::Holder {
        node: node("b"),
        replica: ReplicaId(2),
        epoch: crate::fixtures::epoch(1),
        since: ClusterMs(0),
        wall_ms: 0,
        releasing: false,
        active: true,
        stuck: false,
        spec_version: 1,
    };
    let held = log.state.resources.get_mut(&crate::fixtures::resource()).unwrap();
    held.holder = Some(holder);
    let why = log.refuses(finish(&["b"]));
    assert!(why.contains("b holds r") && why.contains("backstay drain b"), "{why}");
    log.state.resources.get_mut(&crate::fixtures::resource()).unwrap().holder = None;
    log.takes(finish(&["b"]));
}

#[test]
fn one_that_has_not_come_back_from_an_earlier_generation_is_waited_for() {
    let mut log = Log::renewing();
    log.all_hold(NEW);
    let awaited = model::state::Awaited { role: MemberRole::Voter, barred: ReplicaId(3) };
    log.state.awaited.insert(node("c"), awaited);
    assert!(log.refuses(finish(&[])).contains("c is not heard"));
    log.takes(finish(&["c"]));
}

#[test]
fn a_step_that_was_overtaken_or_repeated_changes_nothing() {
    let mut log = Log::new();
    let begin = RotationStep::Begin(new_authority(NEW));
    let shut_out = BTreeSet::new();
    for (to, step) in [
        (OLD, begin.clone()),
        (NEW, RotationStep::Renew),
        (NEW, RotationStep::Finish { shut_out: shut_out.clone() }),
        (NEW, RotationStep::Abort),
    ] {
        assert_eq!(log.apply(Command::Rotate { to, step }), Applied::Overtaken);
    }
    log.takes(RotationOrder::Begin(new_authority(NEW)));
    let early = RotationStep::Finish { shut_out: shut_out.clone() };
    for step in [begin, early] {
        let step = Command::Rotate { to: NEW, step };
        assert_eq!(log.apply(step), Applied::Overtaken, "no step is skipped or repeated");
    }
    assert!(log.refuses(RotationOrder::Begin(new_authority(NEW))).contains("under way"));
    log.all_believe();
    log.takes(renew(&[]));
    assert_eq!(rotate(&log.state, &log.said, renew(&[])), Ok(None), "asked twice");
    let other = AuthorityId([3; 32]);
    for (to, step) in [
        (NEW, RotationStep::Renew),
        (other, RotationStep::Finish { shut_out }),
        (other, RotationStep::Abort),
    ] {
        assert_eq!(log.apply(Command::Rotate { to, step }), Applied::Overtaken);
    }
}

#[test]
fn it_can_be_broken_off_until_the_old_one_is_dropped() {
    let mut log = Log::new();
    log.takes(RotationOrder::Begin(new_authority(NEW)));
    log.takes(RotationOrder::Abort);
    assert_eq!(
        (&log.state.authorities[..], log.state.trust.issuer),
        (&["OLD".into()][..], Some(OLD))
    );
    assert_eq!(log.state.trust.rotation, None, "nothing had been renewed");
    let mut log = Log::renewing();
    log.all_hold(NEW);
    log.takes(RotationOrder::Abort);
    assert!(matches!(log.last(), EventKind::Rotated { step: RotatedStep::TurnedBack, .. }));
    assert_eq!((&*log.state.authorities[0], log.state.trust.issuer), ("OLD", Some(OLD)));
    assert_eq!(rotate(&log.state, &log.said, RotationOrder::Abort), Ok(None));
    let why = log.refuses(finish(&[]));
    assert!(why.contains("a has not renewed"), "what was renewed goes back first: {why}");
    log.all_hold(OLD);
    log.takes(finish(&[]));
    assert_eq!(log.state.authorities, ["OLD"]);
    assert!(log.refuses(RotationOrder::Abort).contains("no rotation"));
}

#[test]
fn a_new_key_is_sealed_for_every_voter_and_nobody_else() {
    let log = Log::new();
    for sealed in [&[1][..], &[1, 2, 3], &[1, 3]] {
        let sealed = sealed.iter().map(|replica| (ReplicaId(*replica), vec![0])).collect();
        let order = RotationOrder::Begin(NewAuthority { sealed, ..new_authority(NEW) });
        assert!(log.refuses(order).contains("the voters changed"));
    }
    let long = vec![0; model::authority::SEALED_KEY_MAX + 1];
    let sealed = BTreeMap::from([(ReplicaId(1), long), (ReplicaId(2), vec![2])]);
    let order = RotationOrder::Begin(NewAuthority { sealed, ..new_authority(NEW) });
    assert!(log.refuses(order).contains("the voters changed"));
    for certificate in ["", &"x".repeat(AUTHORITY_PEM_MAX + 1)] {
        let certificate = String::from(certificate);
        let order = RotationOrder::Begin(NewAuthority { certificate, ..new_authority(NEW) });
        assert!(log.refuses(order).contains("can't be one"));
    }
}

#[test]
fn nobody_is_let_in_while_a_leaked_key_is_replaced() {
    let mut log = Log::new();
    assert_eq!(admits(&log.state), Ok(()));
    log.takes(RotationOrder::Begin(NewAuthority { compromised: true, ..new_authority(NEW) }));
    assert!(matches!(log.last(), EventKind::Rotated { step: RotatedStep::BeganCompromised, .. }));
    assert!(admits(&log.state).unwrap_err().to_string().contains("leaked"));
    let eve = Command::Certify { name: node("eve"), role: TokenRole::Operator, authority: OLD };
    assert_eq!(log.apply(eve), Applied::Overtaken);
    log.all_believe();
    log.takes(renew(&[]));
    assert!(admits(&log.state).is_err());
    log.all_hold(NEW);
    log.takes(finish(&[]));
    assert_eq!(admits(&log.state), Ok(()));
}

fn token(log: &mut Log, byte: u8) {
    let (role, expires) = (TokenRole::Operator, ClusterMs(u64::MAX));
    let token = TokenRecord { hash: [byte; 32], role, node: None, expires, used: false };
    assert_eq!(log.apply(Command::AddToken { token }), Applied::Done);
}

#[test]
fn people_are_known_by_the_authority_of_their_certificate() {
    let mut log = Log::new();
    token(&mut log, 1);
    token(&mut log, 2);
    for (byte, name) in [(1, "ann"), (2, "bob")] {
        let used = Command::UseToken { token: [byte; 32], name: node(name) };
        assert_eq!(log.apply(used), Applied::Done);
    }
    log.takes(RotationOrder::Begin(new_authority(NEW)));
    token(&mut log, 3);
    log.all_believe();
    log.takes(renew(&[]));
    assert!(log.state.tokens.is_empty(), "a token is bound to the authority that it names");
    let certify =
        |authority| certify(&log.state, node("ann"), TokenRole::Operator, authority).unwrap();
    let (stale, fresh) = (certify(OLD), certify(NEW));
    assert_eq!(log.apply(stale), Applied::Overtaken, "the new one issues");
    assert_eq!(log.apply(fresh), Applied::Done);
    log.all_hold(NEW);
    log.takes(finish(&[]));
    let EventKind::Rotated { people, .. } = log.last() else { panic!("{:?}", log.last()) };
    assert_eq!(people, &[node("bob")]);
    assert!(log.state.trust.people.keys().eq([&node("ann")]));
}

#[test]
fn a_refused_name_gets_no_certificate_until_none_of_it_can_be_good() {
    let mut log = Log::new();
    let now = log.state.now;
    let refuse = |log: &Log, by: &str, name| revoke(&log.state, now, by, node(name));
    assert!(refuse(&log, "ann", "ann").unwrap_err().to_string().contains("themselves"));
    assert!(refuse(&log, "ann", "b").unwrap_err().to_string().contains("backstay forget b"));
    token(&mut log, 1);
    let eve = || Command::UseToken { token: [1; 32], name: node("eve") };
    let command = refuse(&log, "ann", "eve").unwrap().unwrap();
    assert_eq!(log.apply(command), Applied::Done);
    assert_eq!(log.apply(eve()), Applied::Overtaken);
    let role = TokenRole::Operator;
    assert!(certify(&log.state, node("eve"), role, OLD).is_err());
    let forced = Command::Certify { name: node("eve"), role, authority: OLD };
    assert_eq!(log.apply(forced), Applied::Overtaken);
    let until = log.state.trust.revoked[&node("eve")].until;
    assert_eq!(until.since(now), REVOKED_MS);
    log.state.now = until;
    assert_eq!(log.apply(eve()), Applied::Done, "no old certificate of it is good any more");
}

#[test]
fn lists_of_people_and_of_refused_names_have_an_end() {
    let mut log = Log::new();
    for number in 0..REVOKED_MAX {
        let name = node(&alloc::format!("n{number}"));
        let revoked = model::authority::Revoked { until: ClusterMs(u64::MAX), wall_ms: 0 };
        log.state.trust.revoked.insert(name, revoked);
    }
    let full = revoke(&log.state, ClusterMs(0), "ann", node("eve")).unwrap_err().to_string();
    assert!(full.contains("rotate the authority"), "{full}");
    assert!(revoke(&log.state, ClusterMs(0), "ann", node("n1")).is_ok(), "it is one already");
    let one_more = Command::Revoke { name: node("eve"), until: ClusterMs(u64::MAX) };
    assert_eq!(log.apply(one_more), Applied::Overtaken);
    for number in 0..=model::authority::PEOPLE_MAX {
        let name = node(&alloc::format!("p{number}"));
        let certify = Command::Certify { name, role: TokenRole::Viewer, authority: OLD };
        assert_eq!(log.apply(certify), Applied::Done);
    }
    assert_eq!(log.state.trust.people.len(), model::authority::PEOPLE_MAX);
    assert!(!log.state.trust.people.contains_key(&node("p0")), "the oldest is forgotten");
}

#[test]
fn what_members_say_is_read_from_their_reports_and_silence_is_told_apart_from_absence() {
    let told = Identity { trust: 3, issuer: NEW, ends_s: 1, authority_ends_s: 1, keys: vec![] };
    let report = |identity| model::Report { identity, ..report(ReplicaId(1)) };
    let seen = |report: Option<model::Report>| crate::placement::NodeView {
        replica: ReplicaId(1),
        health: crate::placement::NodeHealth::Healthy,
        ready: true,
        leased: true,
        caught_up: true,
        report: report.map(alloc::sync::Arc::new),
    };
    let view = View::from([
        (node("a"), seen(Some(report(Some(told.clone()))))),
        (node("b"), seen(Some(report(None)))),
        (node("w"), seen(None)),
    ]);
    let expected = [(node("a"), Some(told)), (node("b"), None), (node("w"), None)];
    assert_eq!(identities(&view), Identities::from(expected));
}
