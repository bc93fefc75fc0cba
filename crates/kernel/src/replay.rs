//! What a log holds, without running it: for exports and recoveries of a stopped node.

use brain::cluster;
use journal::{EntryType, Recovered};
use model::command::{Command, Entry};
use model::state::ClusterState;

/// An entry that the node does not know to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsure {
    /// Its index.
    pub index: u64,
    /// What it says, in short.
    pub what: String,
}

/// What a log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// The control state up to the commit index that the node knows.
    pub committed: ClusterState,
    /// The control state with all entries. One that was acknowledged may be among those that the
    /// node does not know to be committed.
    pub whole: ClusterState,
    /// Entries after the commit index, oldest first.
    pub unsure: Vec<Unsure>,
}

/// Applies all that a log holds.
///
/// # Errors
/// An index whose entry or image this version does not read, and why.
pub fn replay(recovered: &Recovered) -> Result<Replayed, (u64, postcard::Error)> {
    let mut whole: ClusterState = match recovered.snapshot() {
        Some(image) => postcard::from_bytes(&image.data).map_err(|error| (image.index, error))?,
        None => ClusterState::default(),
    };
    let commit = recovered.hard_state().commit;
    let mut committed = None;
    let mut unsure = Vec::new();
    for entry in recovered.entries() {
        if entry.index > commit && committed.is_none() {
            committed = Some(whole.clone());
        }
        let normal = entry.entry_type() == EntryType::EntryNormal;
        let what = if normal && !entry.data.is_empty() {
            let decoded: Entry =
                postcard::from_bytes(&entry.data).map_err(|error| (entry.index, error))?;
            cluster::apply(&mut whole, entry.index, &decoded);
            short(&decoded.command)
        } else {
            cluster::skip(&mut whole, entry.index);
            String::from(if normal { "the beginning of a term" } else { "membership" })
        };
        if entry.index > commit {
            unsure.push(Unsure { index: entry.index, what });
        }
    }
    let committed = committed.unwrap_or_else(|| whole.clone());
    Ok(Replayed { committed, whole, unsure })
}

/// The name of a command, and what it is about.
fn short(command: &Command) -> String {
    match command {
        Command::Barrier => "a barrier".to_owned(),
        Command::Assign { resource, node, epoch, .. } => {
            format!("{resource} is given to {node} under {epoch}")
        }
        Command::Apply { version, .. } => format!("specification {version}"),
        Command::Join { request, replica } => format!("{} joins as {replica}", request.node),
        other => {
            let text = format!("{other:?}");
            let end = text.find([' ', '{', '(']).unwrap_or(text.len());
            text[..end].to_lowercase()
        }
    }
}
