//! Begins a new generation on disk: after a majority of the voters was lost for good, or from an
//! exported file. What it means is `brain::cluster::refound`; here are files.
//!
//! A recovery replaces the log of a stopped node. It is written beside the old one first; then
//! `refound.json` says what is to become of both; then they are swapped. A crash at any point
//! leaves either the old generation or, at the next start, the new one. The old log is kept.

use std::fs::File;
use std::path::PathBuf;

use brain::cluster::refound::{INDEX_MARGIN, TERM_MARGIN, longest_lease_ms, next_generation};
use brain::cluster::refound::{RefoundError, refound};
use data_encoding::HEXLOWER;
use journal::{End, Options, RealDisk, Recovered, Replica, ReplicaConfig, Segments};
use model::state::{ClusterState, JoinRequest, MemberRole, RefoundKind, Refounding};
use model::{Epoch, NodeName, ReplicaId};
use serde::{Deserialize, Serialize};

use super::files::{DataDir, FileError, NodeFile};
use super::found::issue;
use super::stopped::Stopped;
use crate::identity::{
    Authority, ClusterId, DatagramKey, Identity, IdentityError, IdentityFiles, Role, Subject,
    TrustBundle, read_file, wall_s, write_file,
};

/// Who begins a generation, and why.
#[derive(Debug, Clone)]
pub struct Told {
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// Nodes that this person says are off.
    pub off: Vec<NodeName>,
    /// An epoch that some store is known to have accepted: the new ones are above it.
    pub above: Option<Epoch>,
}

/// What began.
#[derive(Debug, Clone, Serialize)]
pub struct Begun {
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster_id: String,
    /// The generation.
    pub generation: u64,
    /// The index at which it begins.
    pub index: u64,
    /// The founder's incarnation.
    pub replica: ReplicaId,
    /// Nothing is placed for so long after the first election, in milliseconds.
    pub wait_ms: u64,
    /// Where the old log was set aside.
    pub aside: Option<PathBuf>,
    /// The operator's credential, where a new one was made.
    pub operator: Option<PathBuf>,
}

/// Why no generation could begin. The old state is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Files.
    #[error(transparent)]
    File(#[from] FileError),
    /// Identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The state does not allow it.
    #[error("no generation can begin: {0}")]
    Refound(#[from] RefoundError),
    /// The file system or the log.
    #[error("the new log can't be {0}: {1}. Nothing was changed")]
    Log(&'static str, String),
    /// A directory that is in use.
    #[error(
        "{0} already holds a node. To import on this machine, set the directory aside first; its \
         identity/authority.key can be given with --authority, so that the other nodes may come \
         back by their certificates"
    )]
    Exists(PathBuf),
    /// The founder must vote and run things.
    #[error(
        "node {0} can't begin a generation: {1}. Export the state here (`backstay state export \
         --stopped`) and import it on a machine of a voter"
    )]
    NoVoter(NodeName, &'static str),
    /// The authority is that of another cluster.
    #[error("the authority belongs to cluster {theirs}, and the exported state to {ours}")]
    Authority {
        /// Whose it is.
        theirs: ClusterId,
        /// Whose state it is.
        ours: ClusterId,
    },
}

/// What is still to be done of a recovery; `refound.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pending {
    /// The old log goes there.
    aside: PathBuf,
    /// Who the node is from now on.
    node: NodeFile,
}

/// Begins a new generation on a survivor, from all that its log holds. The agent must not run;
/// `stopped` holds the lock that sees to it.
///
/// # Errors
/// [`BeginError`].
pub fn recover(data: &DataDir, stopped: Stopped, told: &Told) -> Result<Begun, BeginError> {
    let before = &stopped.whole;
    let me = stopped.node.node.clone();
    may_found(before, &me)?;
    let datagram_key = IdentityFiles::new(data.path()).load()?.datagram.public().0;
    let request = JoinRequest { node: me, role: MemberRole::Voter, token: None, datagram_key };
    let with = Refounding {
        keep_identities: true,
        cluster_id: before.cluster_id,
        authorities: before.authorities.clone(),
        ..refounding(RefoundKind::Recovered, before, stopped.end.index, request, told)
    };
    let state = refound(before, &with, brain::Plants::NONE)?;
    let term = stopped.term + TERM_MARGIN;
    let next = data.path().join(NEXT_LOG);
    remove_leftover(&next)?;
    let replica = begin_log(&next, &state, &with.founder.node, term)?;
    let aside = data.path().join(format!("log.aside-{}", with.wall_ms));
    let node = NodeFile {
        replica,
        log_existed: true,
        ran: false,
        profile: state.spec.profile,
        ..stopped.node.clone()
    };
    let pending = Pending { aside: aside.clone(), node };
    let text = serde_json::to_string_pretty(&pending).expect("plain data has an encoding");
    write_file(&data.path().join(PENDING), text.as_bytes(), 0o644)?;
    // From here on there is no way back, and a start would do the rest.
    drop(stopped);
    complete(data)?;
    Ok(begun(&state, replica, Some(aside), None))
}

/// What `import` is given.
#[derive(Debug)]
pub struct Import {
    /// The exported control state.
    pub state: ClusterState,
    /// The node that this machine becomes.
    pub node: NodeName,
    /// Its data directory, which holds no node yet.
    pub data: DataDir,
    /// The old authority, where its key was kept; a new one is made otherwise.
    pub authority: Option<Authority>,
}

impl Import {
    /// Refuses what can't be imported, without making anything.
    ///
    /// # Errors
    /// [`BeginError`].
    pub fn check(&self) -> Result<(), BeginError> {
        let files = IdentityFiles::new(self.data.path());
        if files.exist() || self.data.node().is_ok() || self.data.log().exists() {
            return Err(BeginError::Exists(self.data.path().to_path_buf()));
        }
        may_found(&self.state, &self.node)?;
        let ours = ClusterId(self.state.cluster_id.to_be_bytes());
        match self.authority.as_ref().map(|a| a.certificate().cluster()) {
            Some(theirs) if theirs != ours => Err(BeginError::Authority { theirs, ours }),
            _ => Ok(()),
        }
    }
}

/// Founds the cluster anew from an exported control state, under a higher generation.
///
/// # Errors
/// [`BeginError`].
pub fn import(import: Import, told: &Told) -> Result<Begun, BeginError> {
    import.check()?;
    let Import { state: before, node, data, authority } = import;
    let files = IdentityFiles::new(data.path());
    data.create().map_err(|error| BeginError::Log("given a directory", error.to_string()))?;
    let keep_identities = authority.is_some();
    let (cluster, authority) = match authority {
        Some(authority) => (authority.certificate().cluster(), authority),
        None => {
            let cluster = ClusterId::random();
            (cluster, Authority::create(cluster, &before.spec.name, wall_s())?)
        }
    };
    let bundle = TrustBundle::new(vec![authority.certificate().clone()])?;
    let datagram = DatagramKey::generate();
    let (role, token) = (MemberRole::Voter, None);
    let datagram_key = datagram.public().0;
    let request = JoinRequest { node: node.clone(), role, token, datagram_key };
    let with = Refounding {
        keep_identities,
        cluster_id: u128::from_be_bytes(cluster.0),
        authorities: vec![authority.certificate().to_pem()],
        ..refounding(RefoundKind::Imported, &before, before.index, request, told)
    };
    let state = refound(&before, &with, brain::Plants::NONE)?;
    let links = state.spec.nodes.get(&node).map(|n| n.links.clone()).unwrap_or_default();
    let subject = Subject { cluster, role: Role::Voter, name: node.clone() };
    let credential = issue(&authority, &bundle, &subject, &links)?;
    files.save_authority(&authority)?;
    let name = NodeName::new("operator").expect("a plain name");
    let operator = Subject { cluster, role: Role::Operator, name };
    let pem = issue(&authority, &bundle, &operator, &[])?.to_pem();
    write_file(&data.operator(), pem.as_bytes(), 0o600)?;
    // The term of the exported state is not known, and need not be: no replica of it is one here.
    let replica = begin_log(&data.log(), &state, &node, TERM_MARGIN)?;
    data.set_node(&NodeFile {
        cluster_id: HEXLOWER.encode(&cluster.0),
        cluster: state.spec.name.clone(),
        endpoints: super::backend::endpoints(&state.spec, &node),
        node,
        replica,
        log_existed: true,
        ran: false,
        profile: state.spec.profile,
    })?;
    // The certificate comes last: with it, the rest is there too.
    files.save(&Identity { credential, datagram })?;
    Ok(begun(&state, replica, None, Some(data.operator())))
}

/// Finishes a recovery that was begun. True where there was one.
///
/// # Errors
/// [`FileError`]; trying again goes on where it ended.
pub fn complete(data: &DataDir) -> Result<bool, FileError> {
    let path = data.path().join(PENDING);
    if !path.exists() {
        return Ok(false);
    }
    let text = read_file(&path, false)?;
    let pending: Pending = serde_json::from_str(&text).map_err(|e| FileError::Content {
        path: path.clone(),
        why: e.to_string(),
        help: "Look at log.recovering and the logs set aside, and ask for help: this node must \
               not start before it is clear which of them is its log.",
    })?;
    let failed = |path: &PathBuf, e: std::io::Error| {
        FileError::Identity(IdentityError::File { action: "swap", path: path.clone(), source: e })
    };
    let (next, log) = (data.path().join(NEXT_LOG), data.log());
    if next.exists() {
        if log.exists() {
            std::fs::rename(&log, &pending.aside).map_err(|e| failed(&log, e))?;
        }
        std::fs::rename(&next, &log).map_err(|e| failed(&next, e))?;
        sync(data).map_err(|e| failed(&log, e))?;
    }
    data.set_node(&pending.node)?;
    std::fs::remove_file(&path).map_err(|e| failed(&path, e))?;
    sync(data).map_err(|e| failed(&path, e))?;
    Ok(true)
}

fn sync(data: &DataDir) -> std::io::Result<()> {
    File::open(data.path())?.sync_all()
}

const PENDING: &str = "refound.json";
const NEXT_LOG: &str = "log.recovering";

/// Only a node that votes and runs things can lead the first steps of a generation.
fn may_found(state: &ClusterState, node: &NodeName) -> Result<(), BeginError> {
    let refused = |why| Err(BeginError::NoVoter(node.clone(), why));
    match state.spec.nodes.get(node) {
        None => refused("the specification does not name it"),
        Some(place) if place.witness => refused("it is a witness"),
        Some(place) if !place.voter => refused("it has no vote"),
        Some(_) => Ok(()),
    }
}

fn refounding(
    kind: RefoundKind,
    before: &ClusterState,
    last_index: u64,
    founder: JoinRequest,
    told: &Told,
) -> Refounding {
    let above = told.above.map_or(0, |epoch| epoch.generation);
    let random = u64::from_be_bytes(crate::identity::random());
    Refounding {
        kind,
        cluster_id: 0,
        generation: next_generation(before.generation, above, wall_s(), random),
        index: last_index.max(before.index) + INDEX_MARGIN,
        founder,
        keep_identities: false,
        authorities: Vec::new(),
        wait_ms: longest_lease_ms(),
        off: told.off.clone(),
        by: told.by.clone(),
        why: told.why.clone(),
        wall_ms: super::core::now().wall_ms,
    }
}

fn begun(
    state: &ClusterState,
    replica: ReplicaId,
    aside: Option<PathBuf>,
    operator: Option<PathBuf>,
) -> Begun {
    Begun {
        cluster_id: format!("{:032x}", state.cluster_id),
        generation: state.generation,
        index: state.index,
        replica,
        wait_ms: state.wait_out.map_or(0, |wait| wait.ms),
        aside,
        operator,
    }
}

fn remove_leftover(path: &PathBuf) -> Result<(), BeginError> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(BeginError::Log("begun beside a leftover", e.to_string()))
        }
        _ => Ok(()),
    }
}

/// Writes a log that begins with this state, with its founder as the only voter.
fn begin_log(
    path: &PathBuf,
    state: &ClusterState,
    founder: &NodeName,
    term: u64,
) -> Result<ReplicaId, BeginError> {
    let failed = |e: &dyn std::fmt::Display| BeginError::Log("written", e.to_string());
    let replica = state.replica_of(founder).ok_or_else(|| failed(&"it has no founder"))?;
    let image = postcard::to_allocvec(state).map_err(|e| failed(&e))?;
    std::fs::create_dir_all(path).map_err(|e| failed(&e))?;
    let disk = RealDisk::open(path).map_err(|e| failed(&e))?;
    let (mut segments, empty) = Segments::open(disk, Options::default()).map_err(|e| failed(&e))?;
    if !empty.is_empty() {
        return Err(failed(&"there is a log already"));
    }
    let at = End { index: state.index, term };
    let recovered = Recovered::bootstrap_at(&[replica.0], image, at).map_err(|e| failed(&e))?;
    let mut log = Replica::new(ReplicaConfig::new(replica.0), recovered).map_err(|e| failed(&e))?;
    while let Some(work) = log.work() {
        if let Some(write) = work.write {
            let id = write.id;
            segments.commit(&[write]).map_err(|e| failed(&e))?;
            log.written(id);
        }
    }
    Ok(replica)
}

#[cfg(test)]
mod tests;
