//! The cluster that remembers heads, as the command line names it. How it is reached the program
//! says that these commands are built into: the vault alone reaches none.

use super::{CliResult, EXIT_FOUND};
use clap::Args;
use clap::builder::FalseyValueParser;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use vault::cluster::{Cluster, Committed, Link, Unable, View, commit};
use vault::error::explain;
use vault::repository::Repository;
use vault::schedule::ClusterSection;
use vault::{Result, VaultError};

/// Whom to ask what is remembered, and as whom.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Compare with what the cluster remembers, and tell it what was done
    #[arg(long, env = "BACKSTAY_VAULT_CLUSTER", value_parser = FalseyValueParser::new())]
    pub(crate) cluster: bool,
    /// With --cluster: a node's data directory on this machine; its certificate and addresses are
    /// used
    #[arg(long, value_name = "DIR", env = "BACKSTAY_DATA", default_value = "/var/lib/backstay")]
    pub(crate) data: PathBuf,
    /// With --cluster: a credential file instead
    #[arg(long, value_name = "FILE", env = "BACKSTAY_CREDENTIAL")]
    pub(crate) credential: Option<PathBuf>,
    /// With --cluster: API addresses instead, such as 10.1.0.1:7402, separated by commas
    #[arg(long, value_name = "ADDRESS", env = "BACKSTAY_API", value_delimiter = ',')]
    pub(crate) api: Vec<SocketAddr>,
}

/// Whom to call, and as whom; the vault's commands know no more.
#[derive(Clone, Debug)]
pub(crate) struct Address<'a> {
    /// A node's data directory.
    pub(crate) data: &'a Path,
    /// A credential instead of the node's.
    pub(crate) credential: Option<&'a Path>,
    /// API addresses instead of those that the node knows.
    pub(crate) api: &'a [SocketAddr],
}

impl Address<'_> {
    /// What a program says that reaches no cluster.
    fn unreached(&self) -> String {
        let shown = self.credential.unwrap_or(self.data).display();
        let count = self.api.len();
        format!(
            "this program is the vault alone and asks nobody, neither as {shown} nor at the \
             {count} addresses given; use `backstay`"
        )
    }
}

/// How a cluster is reached.
pub(crate) type Connect = fn(&Address<'_>) -> std::result::Result<Arc<dyn Cluster>, String>;

/// Set once by the program that can.
pub(crate) static CONNECT: OnceLock<Connect> = OnceLock::new();

/// A cluster that can't be reached, and why: a backup is made all the same.
struct Unreachable(String);

impl Cluster for Unreachable {
    fn view(&self, _local: bool) -> std::result::Result<View, Unable> {
        Err(Unable::Silent(self.0.clone()))
    }

    fn say(&self, _operation: &model::Operation) -> std::result::Result<(), Unable> {
        Err(Unable::Silent(self.0.clone()))
    }

    fn me(&self) -> Option<model::NodeName> {
        None
    }
}

impl ClusterArgs {
    /// The cluster, whether or not it can be reached.
    pub(crate) fn connect(&self) -> Arc<dyn Cluster> {
        let address =
            Address { data: &self.data, credential: self.credential.as_deref(), api: &self.api };
        let connected = match CONNECT.get() {
            Some(connect) => connect(&address),
            None => Err(address.unreached()),
        };
        connected.unwrap_or_else(|why| Arc::new(Unreachable(why)))
    }

    /// How a repository is tied to it, where it is.
    pub(crate) fn link(&self, is_needed: bool) -> Option<Link> {
        self.cluster.then(|| Link { cluster: self.connect(), is_needed })
    }

    /// What a schedule says of the cluster holds, too; the command line goes first.
    pub(crate) fn with(&self, section: Option<&ClusterSection>) -> ClusterArgs {
        let Some(section) = section else { return self.clone() };
        ClusterArgs {
            cluster: true,
            data: section.data.clone().unwrap_or_else(|| self.data.clone()),
            credential: self.credential.clone().or_else(|| section.credential.clone()),
            api: if self.api.is_empty() { section.api.clone() } else { self.api.clone() },
        }
    }
}

/// Has the cluster remember what was done: none where no cluster is asked, else whether it does.
/// Where it does not, that is said loudly.
pub(crate) fn tell(repository: &mut Repository) -> Result<Option<bool>> {
    match commit(repository) {
        Ok(Committed::NoCluster) => Ok(None),
        Ok(Committed::Head(_)) => Ok(Some(true)),
        Err(error @ VaultError::NotRecorded { .. }) => {
            eprintln!("NOT RECORDED: {}", explain(&error));
            Ok(Some(false))
        }
        Err(error) => Err(error),
    }
}

/// Ends a command that appended something: the cluster is told of it.
pub(crate) fn end(repository: &mut Repository) -> CliResult {
    match tell(repository)? {
        Some(false) => Ok(ExitCode::from(EXIT_FOUND)),
        _ => Ok(ExitCode::SUCCESS),
    }
}
