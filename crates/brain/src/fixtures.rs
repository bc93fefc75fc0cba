//! What the tests of several machines begin with: names, a resource, a specification, a genesis.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use model::spec::{
    ClusterSpec, Failback, NodeSpec, ProcessSpec, RecoverySpec, ResourceKind, ResourceSpec, Standby,
};
use model::state::{Genesis, JoinRequest, MemberRole};
use model::{Epoch, NodeName, Profile, ResourceName};

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
