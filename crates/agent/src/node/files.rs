//! The data directory: what is where, and the small files of ours in it.
//!
//! `identity/` is the identity module's, `log/` the journal's. Beside them: `node.json` (who this
//! node is), `promise` (the largest promise ever made), `local.toml` (what concerns only this
//! node's place in the network; optional, the operator's), and on the first node what `init`
//! measured.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use model::{NodeName, Profile, ReplicaId, Span};
use serde::{Deserialize, Serialize};

use crate::identity::{IdentityError, read_file, write_file};
use crate::net::DialMap;

/// A node's data directory.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

/// Who this node is: written by `init` and `join`, read by `agent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFile {
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster_id: String,
    /// The cluster's name.
    pub cluster: String,
    /// This node's name.
    pub node: NodeName,
    /// Its incarnation.
    pub replica: ReplicaId,
    /// Whether its log has existed: if so and it is gone, the disk was lost, and this
    /// incarnation must not come back.
    pub log_existed: bool,
    /// Whether an agent of this incarnation has run: only then the lease page may show a lease of
    /// its own. What an earlier incarnation was granted is nothing to it.
    #[serde(default)]
    pub ran: bool,
    /// The profile when it joined; the log says what it is now.
    pub profile: Profile,
    /// Where the others' API answered last, for renewing and rejoining.
    pub endpoints: Vec<SocketAddr>,
}

/// Why a file of the data directory is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Reading or writing failed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its content makes no sense.
    #[error("{path} can't be understood: {why}. {help}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// What to do.
        help: &'static str,
    },
    /// There is none.
    #[error(
        "{0} holds no node: run `backstay init` for a cluster's first node or `backstay join` for \
         a further one"
    )]
    NoNode(PathBuf),
}

impl DataDir {
    /// Names a directory; makes nothing.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> DataDir {
        DataDir(path.into())
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The log's directory.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The operator's credential, on the node that founded the cluster.
    #[must_use]
    pub fn operator(&self) -> PathBuf {
        self.0.join("operator.pem")
    }

    /// What was measured of the machines before the cluster was founded.
    #[must_use]
    pub fn measurement(&self) -> PathBuf {
        self.0.join("measurement.toml")
    }

    /// Makes the directory where there is none, for its owner alone.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(&self) -> std::io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    /// Where the output of instances goes, unless said otherwise.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.0.join("output")
    }

    /// Reads who this node is.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn node(&self) -> Result<NodeFile, FileError> {
        let path = self.0.join("node.json");
        if !path.exists() {
            return Err(FileError::NoNode(self.0.clone()));
        }
        let text = read_file(&path, false)?;
        serde_json::from_str(&text).map_err(|error| FileError::Content {
            path,
            why: error.to_string(),
            help: "Restore it, or set the directory aside and join again.",
        })
    }

    /// Writes who this node is.
    ///
    /// # Errors
    /// [`FileError::Identity`].
    ///
    /// # Panics
    /// Never: the file is plain data.
    pub fn set_node(&self, node: &NodeFile) -> Result<(), FileError> {
        let text = serde_json::to_string_pretty(node).expect("plain data has an encoding");
        Ok(write_file(&self.0.join("node.json"), text.as_bytes(), 0o644)?)
    }

    /// The largest promise ever recorded.
    ///
    /// # Errors
    /// [`FileError`]: without it this node can't know what it promised.
    pub fn promise(&self) -> Result<Span, FileError> {
        let path = self.0.join("promise");
        if !path.exists() {
            return Ok(Span::ZERO);
        }
        let text = read_file(&path, false)?;
        text.trim().parse().map(Span).map_err(|_| FileError::Content {
            path,
            why: "it holds no number".to_owned(),
            help: "Write the longest promise of any profile there: 4000000000 (nanoseconds).",
        })
    }

    /// Records a larger promise durably (DESIGN.md, rule 1).
    ///
    /// # Errors
    /// [`FileError::Identity`].
    pub fn set_promise(&self, promise: Span) -> Result<(), FileError> {
        Ok(write_file(&self.0.join("promise"), format!("{}\n", promise.0).as_bytes(), 0o644)?)
    }

    /// What concerns only this node's place in the network.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn local(&self) -> Result<LocalFile, FileError> {
        let path = self.0.join("local.toml");
        if !path.exists() {
            return Ok(LocalFile::default());
        }
        let text = read_file(&path, false)?;
        let help = "It may hold [dial.peer] and [dial.heartbeat] with lines like \
                    \"b/0\" = \"192.0.2.1:7400\".";
        toml::from_str(&text).map_err(|error| FileError::Content {
            path,
            why: error.to_string(),
            help,
        })
    }

    /// Sets a damaged or foreign log aside and returns where it went.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_log_aside(&self, wall_ms: u64) -> std::io::Result<PathBuf> {
        let aside = self.0.join(format!("log.aside-{wall_ms}"));
        std::fs::rename(self.log(), &aside)?;
        std::fs::File::open(&self.0)?.sync_all()?;
        Ok(aside)
    }
}

/// `local.toml`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalFile {
    /// Where to dial instead of the stated addresses.
    #[serde(default)]
    pub dial: Dial,
}

/// `[dial]` of `local.toml`: keys are `NODE/LINK`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dial {
    /// For the peer port.
    #[serde(default)]
    pub peer: std::collections::BTreeMap<String, SocketAddr>,
    /// For the heartbeat port.
    #[serde(default)]
    pub heartbeat: std::collections::BTreeMap<String, SocketAddr>,
}

impl LocalFile {
    /// The map that the transport uses.
    ///
    /// # Errors
    /// A key that is no `NODE/LINK`.
    pub fn dial_map(&self) -> Result<DialMap, String> {
        type Side = std::collections::BTreeMap<(NodeName, u8), SocketAddr>;
        let side = |map: &std::collections::BTreeMap<String, SocketAddr>| {
            let entry = |(key, address): (&String, &SocketAddr)| Ok((dial_key(key)?, *address));
            map.iter().map(entry).collect::<Result<Side, String>>()
        };
        Ok(DialMap { peer: side(&self.dial.peer)?, heartbeat: side(&self.dial.heartbeat)? })
    }
}

fn dial_key(key: &str) -> Result<(NodeName, u8), String> {
    let wrong = || format!("{key:?} in local.toml is no NODE/LINK, such as \"b/0\"");
    let (node, link) = key.split_once('/').ok_or_else(wrong)?;
    Ok((node.parse().map_err(|_| wrong())?, link.parse().map_err(|_| wrong())?))
}
