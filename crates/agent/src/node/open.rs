//! Reads a data directory at a start; a node whose log is lost or damaged comes back under a new
//! incarnation.

use std::collections::BTreeMap;
use std::time::Duration;

use journal::{OpenError, Options, RealDisk, Recovered, Segments};
use model::NodeName;
use model::state::ClusterState;

use super::files::{DataDir, NodeFile};
use super::start::{AgentError, with_cause};
use crate::identity::{Identity, IdentityFiles, wall_s};

/// How often all known nodes are asked for specification and members.
const OUTLINE_ROUNDS: usize = 20;
/// Pause between two rounds.
const OUTLINE_PAUSE: Duration = Duration::from_millis(250);

/// Everything read from disk at a start.
pub(super) struct Disk {
    pub(super) node: NodeFile,
    pub(super) identity: Identity,
    pub(super) start: u64,
    pub(super) segments: Segments<RealDisk>,
    pub(super) recovered: Recovered,
    pub(super) state: ClusterState,
}

/// Reads everything, and asks for a new incarnation where the log is lost or damaged.
pub(super) fn open(data: &DataDir, runtime: &tokio::runtime::Runtime) -> Result<Disk, AgentError> {
    if super::generation::complete(data)? {
        tracing::warn!("a recovery of the quorum that was begun is complete now");
    }
    let files = IdentityFiles::new(data.path());
    let mut node = data.node()?;
    let identity = super::renewal::at_start(data, files.load()?, &node.endpoints, runtime);
    node = super::superseded::come_back(data, &identity, &node, runtime)?;
    let start = files.next_start(wall_s() * 1_000)?;
    let log = |error: &dyn std::fmt::Display| AgentError::Log(error.to_string());
    let (segments, recovered) = match open_log(data)? {
        Ok((segments, recovered)) if recovered.is_empty() && node.log_existed => {
            let what = "the log that this incarnation wrote is gone".to_owned();
            drop(segments);
            node = rejoin(data, &identity, &node, runtime, what, String::new())?;
            open_log(data)?.map_err(|error| log(&error))?
        }
        Ok(opened) => opened,
        Err(error @ OpenError::Damaged { .. }) => {
            let what = format!("the log is damaged ({error})");
            let aside = data
                .set_log_aside(wall_s() * 1_000)
                .map_err(|error| AgentError::Io("set the damaged log aside", error))?;
            tracing::error!(aside = %aside.display(), "{what}; it was set aside unchanged");
            let hint = format!("; the damaged log was kept in {}", aside.display());
            node = NodeFile { log_existed: true, ..node };
            node = rejoin(data, &identity, &node, runtime, what, hint)?;
            open_log(data)?.map_err(|error| log(&error))?
        }
        Err(error) => return Err(log(&error)),
    };
    for note in recovered.notes() {
        tracing::warn!(?note, "start-up mended the log");
    }
    if !node.log_existed {
        node.log_existed = true;
        data.set_node(&node)?;
    }
    let state = match recovered.snapshot() {
        Some(snapshot) => postcard::from_bytes(&snapshot.data).map_err(|error| {
            AgentError::Log(format!(
                "the control state on disk can't be read ({error}): it was written by another \
                 version; use that one or upgrade in the documented order"
            ))
        })?,
        None => ClusterState::default(),
    };
    Ok(Disk { node, identity, start, segments, recovered, state })
}

type Opened = Result<(Segments<RealDisk>, Recovered), OpenError>;

/// Opens the log in its directory, which is made where there is none: at the first start, and
/// after a damaged one was set aside.
fn open_log(data: &DataDir) -> Result<Opened, AgentError> {
    std::fs::create_dir_all(data.log())
        .map_err(|error| AgentError::Io("make its log directory", error))?;
    Ok(RealDisk::open(&data.log())
        .map_err(OpenError::from)
        .and_then(|disk| Segments::open(disk, Options::default())))
}

fn rejoin(
    data: &DataDir,
    identity: &Identity,
    node: &NodeFile,
    runtime: &tokio::runtime::Runtime,
    what: String,
    aside: String,
) -> Result<NodeFile, AgentError> {
    tracing::error!("{what}; asking the cluster for a new incarnation");
    runtime
        .block_on(super::join::rejoin(data, identity, node))
        .map_err(|error| AgentError::Rejoin { what, why: with_cause(&error), aside })
}

type Outline = (model::ClusterSpec, BTreeMap<NodeName, model::state::Member>);

/// A node that has just joined has no control state yet: it asks the cluster for specification
/// and members, to know its own addresses and to let its peers in. The log's image of the state
/// replaces this outline as soon as it comes. Whoever is asked may have come back a moment ago
/// and know as little: then others are asked, for a while.
pub(super) fn fetch_outline(
    disk: &Disk,
    runtime: &tokio::runtime::Runtime,
) -> Result<Outline, AgentError> {
    let ask = |endpoint: &std::net::SocketAddr| {
        let client = crate::api::ApiClient::new(&disk.identity.credential, &[*endpoint])
            .map_err(|error| error.to_string())?;
        let answer = runtime.block_on(client.get("/v1/spec")).map_err(|e| e.to_string())?;
        read_outline(&answer, &disk.node.node)
    };
    let mut why = "the cluster's endpoints are not known".to_owned();
    for round in 0..OUTLINE_ROUNDS {
        if round > 0 {
            tracing::warn!(why, "nobody tells specification and members; asking again");
            std::thread::sleep(OUTLINE_PAUSE);
        }
        for endpoint in &disk.node.endpoints {
            match ask(endpoint) {
                Ok(outline) => return Ok(outline),
                Err(error) => why = format!("{endpoint}: {error}"),
            }
        }
    }
    Err(AgentError::Log(format!(
        "no node tells specification and members, which a node that has just joined needs to \
         begin ({why}); start this node again once the cluster has a coordinator"
    )))
}

/// Only an answer that knows the node itself is of any use to it.
fn read_outline(answer: &serde_json::Value, me: &NodeName) -> Result<Outline, String> {
    let text = answer.get("text").and_then(|t| t.as_str()).unwrap_or_default();
    let spec = config::parse(text, "cluster.toml").spec;
    let spec = spec.ok_or("its specification can't be read; it may know none yet")?;
    let members: BTreeMap<NodeName, model::state::Member> =
        serde_json::from_value(answer["members"].clone()).map_err(|error| error.to_string())?;
    match members.contains_key(me) {
        true => Ok((spec, members)),
        false => Err(format!("it knows no node {me}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_set_aside_has_an_empty_one_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        drop(open_log(&data).unwrap().unwrap());
        let aside = data.set_log_aside(1).unwrap();
        let (_, recovered) = open_log(&data).unwrap().unwrap();
        assert!(recovered.is_empty() && aside.exists());
    }

    #[test]
    fn an_outline_is_taken_from_one_that_knows_the_node() {
        let me: NodeName = "c".parse().unwrap();
        let text = "[cluster]\nname = \"x\"\n\n[[node]]\nname = \"c\"\nlinks = [\"10.0.0.3\"]\n";
        let member = model::state::Member {
            replica: model::ReplicaId(3),
            role: model::state::MemberRole::Voter,
            datagram_key: [0; 32],
            joined: model::ClusterMs(0),
            drain_until: None,
            maintenance_until: None,
        };
        let members = serde_json::json!({ "c": member });
        let good = serde_json::json!({ "text": text, "members": members });
        assert!(read_outline(&good, &me).is_ok());
        // One that has just come back itself.
        let empty = serde_json::json!({ "text": "", "members": {} });
        assert!(read_outline(&empty, &me).is_err());
        let other = serde_json::json!({ "text": text, "members": {} });
        assert!(read_outline(&other, &me).unwrap_err().contains("no node c"));
    }
}
