//! The simulated cluster's specification and first state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use brain::cluster::apply;
use model::command::Entry;
use model::spec::{
    ClusterSpec, Failback, NodeSpec, ProcessSpec, Promote, RecoverySpec, ResourceKind,
    ResourceSpec, Standby,
};
use model::state::{ClusterState, Genesis, JoinRequest, MemberRole, TokenRecord, TokenRole};
use model::{ClusterMs, Command, NodeName, ReplicaId, ResourceName};

use crate::plan::{Kind, Plan};
use crate::rng::Rng;

/// The name of a node by number.
pub(crate) fn node_name(n: usize) -> NodeName {
    NodeName::new(["a", "b", "c", "d", "e"][n]).expect("a plain name")
}

/// The resources' names, in the order of their numbers.
pub(crate) const RESOURCES: [&str; 5] = ["address", "batch", "gateway", "ledger", "pinned"];

/// The name of a resource by number.
pub(crate) fn resource_name(r: usize) -> ResourceName {
    ResourceName::new(RESOURCES[r]).expect("a plain name")
}

/// The resource that runs with another, and that other.
pub(crate) const WITH: (usize, usize) = (0, 2);

/// Resources that are placed only while another is active, and that other.
pub(crate) const WAITS: [(usize, usize); 2] = [WITH, (1, 3)];

/// The number of a resource.
pub(crate) fn resource_number(name: &ResourceName) -> Option<usize> {
    RESOURCES.iter().position(|known| *known == name.as_str())
}

fn resource(promote: Promote, standby: Standby, rng: &mut Rng) -> ResourceSpec {
    let process = ProcessSpec {
        command: vec!["/bin/service".into()],
        promote,
        start_ms: 5_000,
        stop_ms: 500,
        promote_ms: 1_000,
        stop_signal: "SIGTERM".into(),
        ..ProcessSpec::default()
    };
    ResourceSpec {
        kind: ResourceKind::Process(process),
        standby,
        prefer: Vec::new(),
        nodes: BTreeSet::new(),
        spread: None,
        with: None,
        after: Vec::new(),
        health: Vec::new(),
        rto_ms: None,
        rpo_bytes: None,
        recovery: RecoverySpec {
            restarts: rng.range(1, 4) as u32,
            window_ms: 15_000,
            backoff_ms: 100,
            backoff_max_ms: 2_000,
            node_ban_ms: 6_000,
            poison_nodes: 2 + rng.below(2) as u32,
        },
        failback: Failback::Manual,
    }
}

/// The specification of a plan.
pub(crate) fn specification(plan: &Plan, rng: &mut Rng) -> ClusterSpec {
    let mut nodes = BTreeMap::new();
    for (n, kind) in plan.kinds.iter().enumerate() {
        let link = |l: u8| IpAddr::V4(Ipv4Addr::new(10, l, 0, n as u8 + 1));
        let spec = NodeSpec {
            links: vec![link(1), link(2)],
            witness: *kind == Kind::Witness,
            voter: *kind != Kind::Member,
            ..NodeSpec::default()
        };
        nodes.insert(node_name(n), spec);
    }
    let mut gateway = resource(Promote::Socket, Standby::Hot, rng);
    gateway.prefer = vec![node_name(0)];
    if rng.permille(300) {
        gateway.failback = Failback::AfterMs(rng.range(1_000, 8_000));
    }
    let mut address = resource(Promote::Restart, Standby::Cold, rng);
    address.with = Some(resource_name(WITH.1));
    let mut batch = resource(Promote::Socket, Standby::Hot, rng);
    batch.after = vec![resource_name(WAITS[1].1)];
    let ledger = resource(Promote::Restart, Standby::Cold, rng);
    let mut pinned = resource(Promote::Socket, Standby::Hot, rng);
    pinned.nodes = BTreeSet::from([node_name(1)]);
    let all = [address, batch, gateway, ledger, pinned];
    let resources = all.into_iter().enumerate().map(|(r, spec)| (resource_name(r), spec));
    ClusterSpec {
        name: "sim".into(),
        profile: plan.profile,
        nodes,
        resources: resources.collect(),
        ..ClusterSpec::default()
    }
}

/// The role of a node.
pub(crate) fn role(kind: Kind) -> MemberRole {
    match kind {
        Kind::Voter => MemberRole::Voter,
        Kind::Witness => MemberRole::Witness,
        Kind::Member => MemberRole::Member,
    }
}

/// The request of a node that joins.
pub(crate) fn join_request(plan: &Plan, n: usize) -> JoinRequest {
    let role = role(plan.kinds[n]);
    JoinRequest { node: node_name(n), role, token: None, datagram_key: [n as u8; 32] }
}

/// The state that the log begins with: everyone has joined, node `n` as replica `n + 1`.
pub(crate) fn first_state(plan: &Plan, spec: ClusterSpec) -> ClusterState {
    let mut state = ClusterState::default();
    let genesis = Genesis {
        cluster_id: u128::from(plan.seed) + 1,
        generation: 1,
        spec,
        text: String::new(),
        authorities: Vec::new(),
        first: join_request(plan, 0),
    };
    let mut commands = vec![Command::Genesis(genesis)];
    for n in 1..plan.kinds.len() {
        let hash = [n as u8; 32];
        let role = match plan.kinds[n] {
            Kind::Voter => TokenRole::Voter,
            Kind::Witness => TokenRole::Witness,
            Kind::Member => TokenRole::Member,
        };
        let token =
            TokenRecord { hash, role, node: None, expires: ClusterMs(u64::MAX), used: false };
        let request = JoinRequest { token: Some(hash), ..join_request(plan, n) };
        commands.push(Command::AddToken { token });
        commands.push(Command::Join { request, replica: ReplicaId(n as u64 + 1) });
    }
    for (index, command) in commands.into_iter().enumerate() {
        let entry = Entry {
            by: ReplicaId(1),
            now: ClusterMs(0),
            wall_ms: 0,
            request: None,
            command,
            reasons: Vec::new(),
        };
        apply(&mut state, index as u64 + 1, &entry);
    }
    assert_eq!(state.members.len(), plan.kinds.len(), "every node has joined");
    state.index = journal::FIRST_INDEX;
    state.history.clear();
    state.tokens.clear();
    state
}
