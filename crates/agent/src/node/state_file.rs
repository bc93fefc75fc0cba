//! The exported control state: a file that says what it is and what is in it, and proves it.
//!
//! Three lines of JSON, so that `head -1 FILE` shows what it is without any tool of ours:
//!
//! ```text
//! {"format":"backstay-state","version":1,"cluster":…,"generation":…,"index":…,"contains":[…]}
//! {…the control state…}
//! {"blake3":"<of the two lines before, with their ends>"}
//! ```
//!
//! It holds no key, no token and no credential. It does hold the specification as it was applied:
//! what somebody wrote into an `environment` there is in it too.

use data_encoding::HEXLOWER;
use model::state::ClusterState;
use model::{NodeName, operation::Scope};
use serde::{Deserialize, Serialize};

/// What the first line calls the file.
pub const FORMAT: &str = "backstay-state";
/// The layout that is written and read.
pub const VERSION: u32 = 1;
/// Largest file that is read, in bytes: no control state is larger.
pub const FILE_MAX: u64 = 64 << 20;

/// What is never in the file, in words.
pub const OMITS: [&str; 6] = [
    "the authority's private key (identity/authority.key on voters that run resources), also where \
     a rotation has it sealed",
    "private keys of nodes, for TLS and for datagrams",
    "credentials of operators and viewers",
    "join tokens, used or not: all are void after an import",
    "the log's entries before this index, but for the newest events",
    "programs, and the data of resources",
];

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// The cluster's name.
    pub cluster: String,
    /// Its id, 32 hexadecimal digits.
    pub cluster_id: String,
    /// Its generation.
    pub generation: u64,
    /// The log index that the state is at.
    pub index: u64,
    /// Version of the specification in it.
    pub spec_version: u64,
    /// The highest epoch given to any resource, `generation.counter`.
    pub last_epoch: String,
    /// Wall clock of the last entry, Unix milliseconds.
    pub state_wall_ms: u64,
    /// Wall clock of the export, Unix milliseconds.
    pub exported_wall_ms: u64,
    /// The node whose state it is.
    pub node: NodeName,
    /// The coordinator that the node knew then. None: what was acknowledged last may not be in it.
    pub coordinator: Option<NodeName>,
    /// What is in it, in words.
    pub contains: Vec<String>,
    /// What is not.
    pub omits: Vec<String>,
    /// Length of the second line in bytes, without its end.
    pub state_bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    blake3: String,
}

/// A file that was read and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFile {
    /// Its first line.
    pub header: Header,
    /// The control state.
    pub state: ClusterState,
    /// BLAKE3 of the first two lines, 64 hexadecimal digits.
    pub digest: String,
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// It is something else.
    #[error("it is no exported control state ({0}); `backstay state export` makes one")]
    NotOurs(String),
    /// It was written in a layout that this version does not read.
    #[error("it has layout {0}, and this version reads {VERSION}: use the version that wrote it")]
    Version(u32),
    /// It is not whole, or was changed.
    #[error("it is damaged: {0}. Nothing was done with it; take another copy, or an older export")]
    Damaged(&'static str),
    /// The state can't be read.
    #[error("its control state can't be read ({0}): use the version that wrote it")]
    State(String),
}

/// Where a state comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The node.
    pub node: NodeName,
    /// The coordinator that it knows.
    pub coordinator: Option<NodeName>,
    /// Wall clock now, Unix milliseconds.
    pub wall_ms: u64,
}

/// The file's text.
///
/// # Panics
/// Never: the state is plain data.
#[must_use]
pub fn write(state: &ClusterState, source: &Source) -> String {
    let mut kept = state.clone();
    kept.tokens.clear();
    if let Some(rotation) = &mut kept.trust.rotation {
        rotation.sealed.clear();
    }
    let body = serde_json::to_string(&kept).expect("plain data has an encoding");
    let header = Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        cluster: kept.spec.name.clone(),
        cluster_id: format!("{:032x}", kept.cluster_id),
        generation: kept.generation,
        index: kept.index,
        spec_version: kept.spec_version,
        last_epoch: kept.last_epoch.to_string(),
        state_wall_ms: kept.wall_ms,
        exported_wall_ms: source.wall_ms,
        node: source.node.clone(),
        coordinator: source.coordinator.clone(),
        contains: contents(&kept),
        omits: OMITS.map(str::to_owned).to_vec(),
        state_bytes: body.len() as u64,
    };
    let header = serde_json::to_string(&header).expect("plain data has an encoding");
    let sealed = format!("{header}\n{body}\n");
    let seal = Seal { blake3: digest(&sealed) };
    let seal = serde_json::to_string(&seal).expect("plain data has an encoding");
    format!("{sealed}{seal}\n")
}

/// Reads and verifies a file's text.
///
/// # Errors
/// [`StateFileError`]; nothing of the file is to be believed then.
pub fn read(text: &str) -> Result<StateFile, StateFileError> {
    let mut lines = text.split_inclusive('\n');
    let first = lines.next().unwrap_or_default();
    #[derive(Deserialize)]
    struct Kind {
        format: String,
        version: u32,
    }
    let kind: Kind =
        serde_json::from_str(first).map_err(|e| StateFileError::NotOurs(e.to_string()))?;
    if kind.format != FORMAT {
        return Err(StateFileError::NotOurs(format!("it calls itself {:?}", kind.format)));
    }
    if kind.version != VERSION {
        return Err(StateFileError::Version(kind.version));
    }
    let (Some(second), Some(third), None) = (lines.next(), lines.next(), lines.next()) else {
        return Err(StateFileError::Damaged("it has not three lines"));
    };
    let seal: Seal = serde_json::from_str(third)
        .map_err(|_| StateFileError::Damaged("its last line is no digest"))?;
    let digest = digest(&text[..first.len() + second.len()]);
    if !third.ends_with('\n') || seal.blake3 != digest {
        return Err(StateFileError::Damaged("its digest does not fit what is in it"));
    }
    let header: Header =
        serde_json::from_str(first).map_err(|e| StateFileError::State(e.to_string()))?;
    let state: ClusterState =
        serde_json::from_str(second).map_err(|e| StateFileError::State(e.to_string()))?;
    let same = (header.cluster_id.as_str(), header.generation, header.index)
        == (format!("{:032x}", state.cluster_id).as_str(), state.generation, state.index);
    if !same || state.cluster_id == 0 {
        return Err(StateFileError::Damaged("its first line speaks of another state"));
    }
    Ok(StateFile { header, state, digest })
}

fn digest(text: &str) -> String {
    HEXLOWER.encode(blake3::hash(text.as_bytes()).as_bytes())
}

/// What is in a control state, in words.
fn contents(state: &ClusterState) -> Vec<String> {
    let held = state.resources.values().filter(|held| held.holder.is_some()).count();
    let failures: usize = state.resources.values().map(|held| held.failures.len()).sum();
    let quarantined = state.resources.values().filter(|held| held.quarantine.is_some()).count();
    let mut contains = vec![
        format!(
            "the specification, version {}, as applied ({} bytes of text)",
            state.spec_version,
            state.spec_text.len()
        ),
        format!("{} members with role, incarnation and public datagram key", state.members.len()),
        format!("{} certificates of authorities, without keys", state.authorities.len()),
        format!(
            "{} resources: epochs, {held} holders, {failures} failures, {quarantined} quarantined",
            state.resources.len()
        ),
        format!("the newest {} events, with their reasons", state.history.len()),
        format!("how far {} repositories of the vault had come", state.repositories.len()),
    ];
    contains.extend(windows(state).into_iter().map(|what| format!("a running {what}")));
    contains
}

/// Maintenances and drains that go on, in words: they hold after an import too.
#[must_use]
pub fn windows(state: &ClusterState) -> Vec<String> {
    let runs = |end: Option<model::ClusterMs>| end.is_some_and(|end| end > state.now);
    let mut scopes = Vec::new();
    if runs(state.maintenance_until) {
        scopes.push(Scope::Cluster);
    }
    let nodes = state.members.iter().filter(|(_, member)| runs(member.maintenance_until));
    scopes.extend(nodes.map(|(name, _)| Scope::Node(name.clone())));
    let resources = state.resources.iter().filter(|(_, held)| runs(held.maintenance_until));
    scopes.extend(resources.map(|(name, _)| Scope::Resource(name.clone())));
    let drains = state.members.iter().filter(|(_, member)| runs(member.drain_until));
    let drains = drains.map(|(name, _)| format!("drain of {name}"));
    scopes.iter().map(|scope| format!("maintenance of {scope}")).chain(drains).collect()
}

#[cfg(test)]
mod tests;
