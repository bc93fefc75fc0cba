//! Reads the log of a node whose agent does not run: for an export, and for a recovery.
//!
//! It holds the log's lock as long as it lives, so no agent starts meanwhile. It changes nothing
//! but what a start would mend: a torn tail that nobody was told of.

pub use journal::End;
use journal::{Chain, OpenError, Options, RealDisk, Recovered, Segments};
use kernel::replay::{Replayed, Unsure, replay};
use model::state::ClusterState;

use super::files::{DataDir, FileError, NodeFile};

/// Most entries beyond the known commit index that are described one by one.
pub const TAIL_SHOWN: usize = 20;

/// Why a stopped node can't be read.
#[derive(Debug, thiserror::Error)]
pub enum StoppedError {
    /// Files of the data directory.
    #[error(transparent)]
    File(#[from] FileError),
    /// An agent has it.
    #[error(
        "an agent runs on this directory: stop it first (`systemctl stop backstay-agent`). If \
         `backstay status` shows a coordinator, the cluster lives and nothing is to be recovered"
    )]
    Running,
    /// It has no log.
    #[error("{0} holds no log: this node never had the cluster's state, or lost it")]
    NoLog(std::path::PathBuf),
    /// Its log is of no use.
    #[error("this node's log can't be read: {0}")]
    Log(String),
    /// A higher generation exists.
    #[error(
        "this node has heard that generation {0} began: what it holds is over. Start its agent: it \
         comes back under a new incarnation by itself"
    )]
    Superseded(u64),
}

/// What a stopped node holds.
pub struct Stopped {
    /// Who it is.
    pub node: NodeFile,
    /// The control state up to the commit index that it knows.
    pub committed: ClusterState,
    /// The control state with all entries it holds. An entry that was acknowledged may be among
    /// those that it does not know to be committed.
    pub whole: ClusterState,
    /// Where its log ends.
    pub end: End,
    /// The log's chain there.
    pub chain: Chain,
    /// Entries after the commit index, the newest [`TAIL_SHOWN`].
    pub unsure: Vec<Unsure>,
    /// How many entries are after the commit index.
    pub unsure_count: u64,
    /// The term on disk.
    pub term: u64,
    _lock: Segments<RealDisk>,
}

/// Reads a stopped node.
///
/// # Errors
/// [`StoppedError`].
pub fn read(data: &DataDir) -> Result<Stopped, StoppedError> {
    let node = data.node()?;
    if let Some(generation) = data.superseded()? {
        return Err(StoppedError::Superseded(generation));
    }
    if !data.log().exists() {
        return Err(StoppedError::NoLog(data.path().to_path_buf()));
    }
    let (segments, recovered) = open(data)?;
    if recovered.is_empty() {
        return Err(StoppedError::NoLog(data.path().to_path_buf()));
    }
    let Replayed { committed, whole, unsure } = replay(&recovered).map_err(|(index, error)| {
        StoppedError::Log(format!(
            "entry {index} was written by another version ({error}): use that one"
        ))
    })?;
    if whole.cluster_id == 0 {
        return Err(StoppedError::NoLog(data.path().to_path_buf()));
    }
    let unsure_count = unsure.len() as u64;
    let newest = unsure.into_iter().rev().take(TAIL_SHOWN).rev().collect();
    Ok(Stopped {
        node,
        committed,
        whole,
        end: recovered.end(),
        chain: recovered.end_chain(),
        unsure: newest,
        unsure_count,
        term: recovered.hard_state().term.max(recovered.end().term),
        _lock: segments,
    })
}

fn open(data: &DataDir) -> Result<(Segments<RealDisk>, Recovered), StoppedError> {
    let log = |error: &dyn std::fmt::Display| StoppedError::Log(error.to_string());
    let disk = RealDisk::open(&data.log()).map_err(|error| {
        let locked = error.kind == std::io::ErrorKind::WouldBlock;
        if locked { StoppedError::Running } else { log(&error) }
    })?;
    Segments::open(disk, Options::default()).map_err(|error| match error {
        OpenError::Damaged { .. } => StoppedError::Log(format!(
            "{error}. What comes after the damage is lost here, so nothing is founded on it: use \
             another survivor, or `backstay state import` of the newest export"
        )),
        other => log(&other),
    })
}
