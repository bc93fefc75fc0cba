//! What the tests of several machines begin with: names, a resource, a specification, a genesis.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use model::spec::{
    ClusterSpec, Failback, NodeSpec, ProcessSpec, RecoverySpec, ResourceKind, ResourceSpec, Standby,
};
use model::state::{Genesis, Holder, JoinRequest, Member, MemberRole};
use model::{ClusterMs, Epoch, Heartbeat, NodeName, Profile, ReplicaId, Report, ResourceName};

/// A node's name.
pub(crate) fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// A resource's name.
pub(crate) fn named(name: &str) -> ResourceName {
    ResourceName::new(name).unwrap()
}

/// The resource of tests that need only one.
pub(crate) fn resource() -> ResourceName {
    named("r")
}

/// An epoch of the first generation.
pub(crate) fn epoch(counter: u64) -> Epoch {
    Epoch { generation: 1, counter }
}

/// A program that may run anywhere.
pub(crate) fn resource_spec(standby: Standby) -> ResourceSpec {
    ResourceSpec {
        kind: ResourceKind::Process(ProcessSpec::default()),
        standby,
        prefer: Vec::new(),
        nodes: BTreeSet::new(),
        spread: None,
        with: None,
        after: Vec::new(),
        health: Vec::new(),
        rto_ms: None,
        rpo_bytes: None,
        recovery: RecoverySpec::default(),
        failback: Failback::Manual,
    }
}

/// A holder since the beginning.
pub(crate) fn holder(name: &str, replica: ReplicaId, epoch: Epoch, active: bool) -> Holder {
    Holder {
        node: node(name),
        replica,
        epoch,
        since: ClusterMs(0),
        wall_ms: 0,
        releasing: false,
        active,
        stuck: false,
        spec_version: 1,
    }
}

/// A voter that has just joined.
pub(crate) fn voter(replica: ReplicaId) -> Member {
    Member {
        replica,
        role: MemberRole::Voter,
        datagram_key: [0; 32],
        joined: ClusterMs(0),
        drain_until: None,
        maintenance_until: None,
    }
}

/// A heartbeat that says nothing.
pub(crate) fn heartbeat(sender: ReplicaId, seq: u64, term: u64) -> Heartbeat {
    Heartbeat {
        sender,
        boot: 1,
        seq,
        term,
        ack: None,
        round: None,
        promised: None,
        grant: None,
        lapses: 0,
        stalled: false,
    }
}

/// The first report of a node that is ready, holds a lease and runs nothing.
pub(crate) fn report(replica: ReplicaId) -> Report {
    Report {
        replica,
        boot: 1,
        number: 1,
        applied: 1,
        guard: Some(1),
        ready: true,
        clear: false,
        leased: true,
        instances: Vec::new(),
        evidence: Vec::new(),
        failures: Vec::new(),
        heard: Vec::new(),
        identity: None,
    }
}

/// Voters of these names, and [`resource`].
pub(crate) fn cluster_spec(names: &[&str], spec: ResourceSpec) -> ClusterSpec {
    let voter = NodeSpec { voter: true, ..NodeSpec::default() };
    ClusterSpec {
        name: String::from("test"),
        profile: Profile::Lan,
        nodes: names.iter().map(|name| (node(name), voter.clone())).collect(),
        resources: BTreeMap::from([(resource(), spec)]),
        ..ClusterSpec::default()
    }
}

/// A voter that wants in, with the token of this byte.
pub(crate) fn request(name: &str, token: Option<u8>) -> JoinRequest {
    let token = token.map(|byte| [byte; 32]);
    JoinRequest { node: node(name), role: MemberRole::Voter, token, datagram_key: [0; 32] }
}

/// A cluster that begins with node a.
pub(crate) fn genesis(spec: ClusterSpec) -> Genesis {
    Genesis {
        cluster_id: 1,
        generation: 1,
        spec,
        text: String::new(),
        authorities: Vec::new(),
        first: request("a", None),
    }
}
