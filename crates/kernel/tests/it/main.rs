//! One kernel driven by hand: what a cluster of one does when a second node joins.

use brain::coordinator::Now;
use brain::pulse::{Pulse, PulseConfig};
use brain::{Plants, cluster};
use journal::{Recovered, Replica, ReplicaConfig};
use kernel::{Input, Kernel, KernelConfig, Output};
use model::operation::{Operation, Outcome};
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

struct Alone {
    kernel: Kernel,
    pulse: Pulse,
    now: Now,
}

impl Alone {
    fn new() -> Alone {
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
        let recovered = Recovered::bootstrap(&[1], image).unwrap();
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
        Alone { kernel: Kernel::new(config, replica, state, now.moment), pulse, now }
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

    fn leads(&self) -> bool {
        self.kernel.leader() == Some(ReplicaId(1))
    }
}

#[test]
fn a_cluster_of_one_stays_in_office_while_a_second_node_joins() {
    let mut a = Alone::new();
    a.pass(2_000);
    assert!(a.leads(), "elected by itself");
    let token = TokenRecord {
        hash: [9; 32],
        role: TokenRole::Voter,
        node: None,
        expires: ClusterMs(1_000_000),
        used: false,
    };
    let by = "operator".to_owned();
    let operation = Operation::AddToken { token };
    let done = a.give(Input::Operate { number: 1, by: by.clone(), operation });
    assert!(matches!(done[..], [Ok(Outcome::Committed { .. })]), "{done:?}");
    let operation = Operation::Join(request("b", Some([9; 32])));
    let done = a.give(Input::Operate { number: 2, by, operation });
    assert!(matches!(done[..], [Ok(Outcome::Joined { replica: ReplicaId(2), .. })]), "{done:?}");
    for step in 0..100 {
        a.pass(100);
        assert!(a.leads(), "out of office {} ms after the join", step * 100);
    }
    assert_eq!(a.kernel.replica().membership().learners, [2]);
}
