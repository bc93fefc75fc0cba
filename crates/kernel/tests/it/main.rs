//! One kernel driven by hand: what a cluster of one does when a second node joins.

use brain::coordinator::Now;
use brain::pulse::{Pulse, PulseConfig};
use brain::{Plants, cluster};
use journal::{Message, MessageType, Recovered, Replica, ReplicaConfig, encode_message};
use kernel::{Input, Kernel, KernelConfig, Output, PeerMessage};
use model::heartbeat::Heartbeat;
use model::operation::{Operation, Outcome, Refusal};
use model::state::{ClusterState, Genesis, JoinRequest, MemberRole, TokenRecord, TokenRole};
use model::{
    ClusterMs, ClusterSpec, Command, Entry, Moment, NodeName, NodeSpec, Profile, ReplicaId,
};

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn request(node: &str, token: Option<[u8; 32]>) -> JoinRequest {
    JoinRequest { node: name(node), role: MemberRole::Voter, token, datagram_key: [7; 32] }
}

/// A heartbeat that says nothing.
fn silent() -> Heartbeat {
    Heartbeat {
        sender: B,
        boot: 1,
        seq: 0,
        term: 1,
        ack: None,
        round: None,
        promised: None,
        grant: None,
        lapses: 0,
        stalled: false,
    }
}

/// The second node.
const B: ReplicaId = ReplicaId(2);

struct Alone {
    kernel: Kernel,
    pulse: Pulse,
    now: Now,
    sent: Vec<(ReplicaId, PeerMessage)>,
}

impl Alone {
    fn new() -> Alone {
        Alone::among(&[1])
    }

    /// The first of these voters, as it begins.
    fn among(voters: &[u64]) -> Alone {
        let mut spec =
            ClusterSpec { name: "one".into(), profile: Profile::Lan, ..Default::default() };
        for node in ["a", "b"] {
            let place = NodeSpec { voter: true, ..Default::default() };
            spec.nodes.insert(name(node), place);
        }
        let genesis = Genesis {
            cluster_id: 1,
            generation: 1,
            spec,
            text: String::new(),
            authorities: Vec::new(),
            first: request("a", None),
        };
        let entry = Entry {
            by: ReplicaId(1),
            now: ClusterMs(0),
            wall_ms: 0,
            request: None,
            command: Command::Genesis(genesis),
            reasons: Vec::new(),
        };
        let mut state = ClusterState::default();
        cluster::apply(&mut state, 1, &entry);
        let image = postcard::to_allocvec(&state).unwrap();
        let recovered = Recovered::bootstrap(voters, image).unwrap();
        let replica = Replica::new(ReplicaConfig::new(1), recovered).unwrap();
        let now = Now { moment: Moment(1_000_000_000), wall_ms: 0 };
        let timers = Profile::Lan.timers();
        let config = PulseConfig {
            me: ReplicaId(1),
            boot: 1,
            timers,
            recorded_promise: timers.promise,
            term: 1,
            witness: false,
            plants: Plants::NONE,
        };
        let pulse = Pulse::new(config, now.moment);
        let config = KernelConfig { node: name("a"), replica: ReplicaId(1), boot: 1 };
        Alone { kernel: Kernel::new(config, replica, state, now.moment), pulse, now, sent: vec![] }
    }

    /// Gives an input, makes every write durable at once, and returns the answers.
    fn give(&mut self, input: Input) -> Vec<Result<Outcome, model::Refusal>> {
        let mut inputs = vec![input];
        let mut answers = Vec::new();
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            self.kernel.handle(&mut self.pulse, self.now, input, &mut out);
            for output in out {
                match output {
                    Output::Write(write) => inputs.push(Input::Written(write.id)),
                    Output::RecordPromise(p) => inputs.push(Input::PromiseRecorded(p)),
                    Output::Answer(_, answer) => answers.push(answer),
                    Output::Send(to, message) => self.sent.push((to, message)),
                    Output::Halt(why) => panic!("{why}"),
                    _ => {}
                }
            }
        }
        answers
    }

    /// Lets time pass in steps of a heartbeat.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 20 {
            self.now.moment.0 += 20_000_000;
            self.pulse.beat(self.now.moment);
            self.give(Input::Tick);
        }
    }

    /// Lets a second node in, in a role.
    fn admit(&mut self, role: TokenRole) {
        let expires = ClusterMs(1_000_000);
        let token = TokenRecord { hash: [9; 32], role, node: None, expires, used: false };
        let by = "operator".to_owned();
        let operation = Operation::AddToken { token };
        let done = self.give(Input::Operate { number: 1, by: by.clone(), operation });
        assert!(matches!(done[..], [Ok(Outcome::Committed { .. })]), "{done:?}");
        let role = role.member().unwrap();
        let operation = Operation::Join(JoinRequest { role, ..request("b", Some([9; 32])) });
        let done = self.give(Input::Operate { number: 2, by, operation });
        assert!(matches!(done[..], [Ok(Outcome::Joined { replica: B, .. })]), "{done:?}");
    }

    /// The second node says something; what it is answered.
    fn hear(&mut self, message: PeerMessage) -> Vec<PeerMessage> {
        self.sent.clear();
        self.give(Input::Peer(B, message));
        self.sent.drain(..).map(|(_, message)| message).collect()
    }

    /// How long it takes until it stands, in milliseconds; hears the second voter or doesn't.
    fn stands_after(&mut self, heard: bool) -> u64 {
        for beat in 1..=500 {
            if heard {
                let heartbeat = Heartbeat { sender: B, seq: beat, ..silent() };
                assert!(self.pulse.receive(self.now.moment, 0, &heartbeat));
            }
            self.pass(20);
            if !self.sent.is_empty() {
                return beat * 20;
            }
        }
        panic!("it never stood");
    }

    fn leads(&self) -> bool {
        self.kernel.leader() == Some(ReplicaId(1))
    }
}

/// A majority that slept through the recovery of its quorum must hear of it before it leads.
#[test]
fn a_voter_that_began_meets_the_others_before_it_stands() {
    assert!(Alone::among(&[1, 2]).stands_after(true) < 1_000, "its own promise is all it awaits");
    let unheard = Alone::among(&[1, 2]).stands_after(false);
    assert!((2_000..2_500).contains(&unheard), "{unheard} ms");
    let mut lone = Alone::new();
    lone.pass(1_000);
    assert!(lone.leads(), "whoever is alone has nobody to meet");
}

#[test]
fn a_cluster_of_one_stays_in_office_while_a_second_node_joins() {
    let mut a = Alone::new();
    a.pass(2_000);
    assert!(a.leads(), "elected by itself");
    a.admit(TokenRole::Voter);
    for step in 0..100 {
        a.pass(100);
        assert!(a.leads(), "out of office {} ms after the join", step * 100);
    }
    assert_eq!(a.kernel.replica().membership().learners, [2]);
}

/// A message of the log library from the second node, so many terms ahead.
fn raft(a: &Alone, kind: MessageType, ahead: u64) -> PeerMessage {
    let term = a.kernel.replica().role().term + ahead;
    let mut message = Message { to: 1, from: B.0, term, ..Message::default() };
    message.set_msg_type(kind);
    PeerMessage::Raft { bytes: encode_message(&message).unwrap(), proof: None }
}

fn drain_a() -> PeerMessage {
    let operation = Operation::Drain { node: name("a"), for_ms: 60_000 };
    PeerMessage::Operate { number: 1, boot: 1, by: "operator".to_owned(), operation }
}

#[test]
fn a_member_without_a_vote_is_held_to_its_role() {
    let mut a = Alone::new();
    a.pass(2_000);
    a.admit(TokenRole::Member);
    a.pass(1_000);
    let (state, term) = (a.kernel.state().clone(), a.kernel.replica().role().term);

    let answers = a.hear(drain_a());
    let refusal = Refusal::NotCoordinator { coordinator: Some(name("a")) };
    let refused = PeerMessage::Answer { number: 1, boot: 1, result: Err(refusal) };
    assert!(answers.contains(&refused), "whoever asked there is sent here: {answers:?}");
    for kind in [
        MessageType::MsgAppend,
        MessageType::MsgHeartbeat,
        MessageType::MsgRequestVote,
        MessageType::MsgRequestPreVote,
        MessageType::MsgTimeoutNow,
        MessageType::MsgRequestVoteResponse,
    ] {
        for ahead in [0, 1, 1_000] {
            a.hear(raft(&a, kind, ahead));
            assert!(a.leads(), "{kind:?}, {ahead} terms ahead");
        }
    }
    a.hear(raft(&a, MessageType::MsgAppendResponse, 1));
    a.hear(raft(&a, MessageType::MsgHeartbeatResponse, 1));
    let lie = Ok(Outcome::Committed { index: 1 });
    a.hear(PeerMessage::Answer { number: 1, boot: 1, result: lie });
    assert_eq!(a.kernel.filtered().role, 1 + 6 * 3 + 2 + 1, "each is counted");
    a.pass(1_000);
    assert!(a.leads() && a.kernel.replica().role().term == term, "it stays in office");
    assert_eq!(a.kernel.state().members, state.members, "nothing was drained");

    a.hear(raft(&a, MessageType::MsgHeartbeatResponse, 0));
    assert_eq!(a.kernel.filtered().role, 22, "what a learner answers is heard");
}

#[test]
fn a_voter_forwards_what_its_operators_ask() {
    let mut a = Alone::new();
    a.pass(2_000);
    a.admit(TokenRole::Voter);
    a.hear(drain_a());
    a.pass(100);
    let drained = a.kernel.state().members[&name("a")].drain_until;
    assert!(drained.is_some(), "it was committed");
    assert_eq!(a.kernel.filtered().role, 0);
}

#[test]
fn a_token_is_good_once_for_its_role_and_until_its_end() {
    let mut a = Alone::new();
    a.pass(2_000);
    a.admit(TokenRole::Member);
    let ask = |a: &mut Alone, operation| {
        let by = "somebody".to_owned();
        a.give(Input::Operate { number: 3, by, operation }).pop().expect("an answer")
    };
    let join = |role, token| Operation::Join(JoinRequest { role, ..request("b", token) });
    let refused = |outcome| match outcome {
        Err(Refusal::BadToken(why)) => why,
        other => panic!("{other:?}"),
    };
    let members = a.kernel.state().members.clone();
    let used = refused(ask(&mut a, join(MemberRole::Member, Some([9; 32]))));
    assert!(used.contains("used already"), "{used}");
    let other = refused(ask(&mut a, join(MemberRole::Voter, Some([8; 32]))));
    assert!(other.contains("unknown or has expired"), "{other}");
    refused(ask(&mut a, join(MemberRole::Voter, None)));
    let person = Operation::UseToken { token: [9; 32], name: name("eve") };
    let used = refused(ask(&mut a, person));
    assert!(used.contains("used already"), "{used}");

    for (byte, role) in [(10, TokenRole::Member), (11, TokenRole::Viewer)] {
        let expires = ClusterMs(20_000);
        let token = TokenRecord { hash: [byte; 32], role, node: None, expires, used: false };
        ask(&mut a, Operation::AddToken { token }).expect("a new token");
    }
    let role = refused(ask(&mut a, join(MemberRole::Voter, Some([10; 32]))));
    assert!(role.contains("another role"), "{role}");
    let node = Operation::UseToken { token: [10; 32], name: name("eve") };
    assert!(refused(ask(&mut a, node)).contains("for a node"));
    refused(ask(&mut a, join(MemberRole::Voter, Some([11; 32]))));
    a.pass(30_000);
    let late = refused(ask(&mut a, join(MemberRole::Member, Some([10; 32]))));
    assert!(late.contains("expired"), "{late}");
    assert_eq!(a.kernel.state().members, members, "nobody got in");
}

#[test]
fn a_coordinator_that_stood_still_does_not_speak_for_the_cluster() {
    let mut a = Alone::new();
    a.pass(2_000);
    assert!(a.kernel.status(&a.pulse, a.now.moment).authoritative);
    // Nothing ran for ten seconds, and the first thing that runs is a question.
    a.now.moment.0 += 10_000_000_000;
    assert!(!a.kernel.status(&a.pulse, a.now.moment).authoritative, "others may have decided");
    // Nor does it say that nothing is to be done.
    let state = a.kernel.state();
    let (spec, text) = (state.spec.clone(), state.spec_text.clone());
    let operation = Operation::Apply { spec, text, base: None };
    let by = "operator".to_owned();
    let answers = a.give(Input::Operate { number: 5, by, operation });
    assert!(matches!(answers[..], [Err(Refusal::NotCoordinator { .. })]), "{answers:?}");
    a.pass(2_000);
    assert!(a.kernel.status(&a.pulse, a.now.moment).authoritative, "back in office");
}
