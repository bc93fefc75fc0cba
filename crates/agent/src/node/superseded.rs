//! A node that hears of a higher generation stops for good in its own, and comes back under a new
//! incarnation. Whatever its log holds is kept, and decides nothing any more.

use model::ReplicaId;

use super::files::{DataDir, FileError, NodeFile};
use super::start::{AgentError, with_cause};
use crate::identity::{Identity, IdentityError, read_file, wall_s, write_file};

const MARK: &str = "superseded";

impl DataDir {
    /// The higher generation that this node has heard of; none where its own goes on.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn superseded(&self) -> Result<Option<u64>, FileError> {
        let path = self.path().join(MARK);
        if !path.exists() {
            return Ok(None);
        }
        let text = read_file(&path, false)?;
        text.trim().parse().map(Some).map_err(|_| FileError::Content {
            path,
            why: "it holds no number".to_owned(),
            help: "Leave it: this node comes back under a new incarnation all the same. Write the \
                   number of the present generation there.",
        })
    }

    /// Notes durably that a higher generation began: this node never runs in its own again.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn supersede(&self, generation: u64) -> Result<(), FileError> {
        Ok(write_file(&self.path().join(MARK), format!("{generation}\n").as_bytes(), 0o644)?)
    }

    fn forget_superseded(&self) -> Result<(), FileError> {
        let path = self.path().join(MARK);
        std::fs::remove_file(&path).map_err(|source| {
            FileError::Identity(IdentityError::File { action: "remove", path, source })
        })
    }
}

/// Sets the log of the old generation aside and asks the new one for an incarnation. Until it has
/// one, the node does not run.
pub(super) fn come_back(
    data: &DataDir,
    identity: &Identity,
    node: &NodeFile,
    runtime: &tokio::runtime::Runtime,
) -> Result<NodeFile, AgentError> {
    let Some(generation) = data.superseded()? else { return Ok(node.clone()) };
    let what = format!("generation {generation} began without this node");
    let aside = if data.log().exists() {
        let aside = data
            .set_log_aside(wall_s() * 1_000)
            .map_err(|error| AgentError::Io("set the log of its generation aside", error))?;
        tracing::error!(aside = %aside.display(), "{what}; its log was set aside unchanged");
        format!("; its log was kept in {}", aside.display())
    } else {
        String::new()
    };
    let renewed = runtime
        .block_on(super::join::rejoin(data, identity, node))
        .map_err(|error| AgentError::Rejoin { what, why: with_cause(&error), aside })?;
    data.forget_superseded()?;
    tracing::warn!(generation, replica = %renewed.replica, "back under a new incarnation");
    Ok(renewed)
}

/// What the node says when it stops.
pub(super) fn farewell(own: u64, generation: u64, replica: ReplicaId) -> String {
    format!(
        "generation {generation} of the cluster began while {replica} was away in generation \
         {own}: its leases, epochs and vote are void. Start it again: it sets its log aside and \
         comes back under a new incarnation"
    )
}
