//! Who of a cluster answers: asked before a new generation begins, because nobody of the old one
//! may go on beside it.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use agent::api::ApiClient;
use agent::identity::Credential;
use model::{ClusterSpec, NodeName};
use serde::{Deserialize, Serialize};

/// How long one address may take to answer.
const ANSWER: Duration = Duration::from_millis(1_500);

/// Where an agent that answers stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) node: NodeName,
    pub(crate) cluster_id: String,
    pub(crate) generation: u64,
    pub(crate) last_term: u64,
    pub(crate) last_index: u64,
    pub(crate) committed: u64,
    pub(crate) coordinator: Option<NodeName>,
}

/// What was found of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its agent says where it stands.
    Stands(Position),
    /// Something listens at one of its ports, and says nothing that we understand.
    Listens(SocketAddr, String),
    /// Nothing listens at any of its ports.
    Silent(String),
}

/// The ports of a node's agent, on each of its links.
fn doors(spec: &ClusterSpec, node: &NodeName) -> Vec<SocketAddr> {
    let Some(place) = spec.nodes.get(node) else { return Vec::new() };
    let ports = place.ports.unwrap_or(spec.ports);
    let at = |port: u16| place.links.iter().map(move |ip| SocketAddr::new(*ip, port));
    at(ports.api).chain(at(ports.peer)).collect()
}

/// Whether anything listens where this node's agent would.
pub(crate) fn knock(spec: &ClusterSpec, node: &NodeName) -> Result<SocketAddr, String> {
    let mut why = "it has no address".to_owned();
    for door in doors(spec, node) {
        match TcpStream::connect_timeout(&door, ANSWER) {
            Ok(_) => return Ok(door),
            Err(error) => why = format!("{door}: {error}"),
        }
    }
    Err(why)
}

/// Asks one node where it stands.
pub(crate) fn ask(
    runtime: &tokio::runtime::Runtime,
    credential: &Credential,
    spec: &ClusterSpec,
    node: &NodeName,
) -> Found {
    let door = match knock(spec, node) {
        Ok(door) => door,
        Err(why) => return Found::Silent(why),
    };
    let ports = spec.nodes.get(node).and_then(|place| place.ports).unwrap_or(spec.ports);
    let links = spec.nodes.get(node).map(|place| place.links.clone()).unwrap_or_default();
    let api: Vec<SocketAddr> = links.iter().map(|ip| SocketAddr::new(*ip, ports.api)).collect();
    let answer = ApiClient::new(credential, &api)
        .map_err(|error| error.to_string())
        .and_then(|client| {
            runtime.block_on(client.get("/v1/position")).map_err(|error| error.to_string())
        })
        .and_then(|answer| {
            serde_json::from_value::<Position>(answer).map_err(|error| error.to_string())
        });
    match answer {
        Ok(position) if position.node == *node => Found::Stands(position),
        Ok(position) => Found::Listens(door, format!("it is {}", position.node)),
        Err(why) => Found::Listens(door, why),
    }
}
