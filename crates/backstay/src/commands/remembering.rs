//! How the vault's commands reach the cluster that remembers heads.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::api::call::{ForkBody, HeadBody};
use agent::api::{ApiClient, ClientError};
use agent::identity::{Credential, IdentityFiles, read_file};
use agent::node::files::DataDir;
use model::{NodeName, Operation};
use serde_json::Value;
use vault::cluster::{Cluster, Unable, View};

use crate::vault_cli::cluster::Address;

/// How long an answer may take: longer than an operation waits for its commit.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// A cluster at the other end of its API.
struct Remote {
    client: ApiClient,
    runtime: tokio::runtime::Runtime,
    me: Option<NodeName>,
}

/// Gets ready to ask. Nothing is sent yet.
///
/// # Errors
/// What is missing, in words.
pub(crate) fn connect(address: &Address<'_>) -> Result<Arc<dyn Cluster>, String> {
    let data = DataDir::new(address.data);
    let credential = credential(address, &data)?;
    let endpoints: Vec<SocketAddr> = match address.api {
        [] => agent::node::known_endpoints(&data),
        given => given.to_vec(),
    };
    let client = ApiClient::new(&credential, &endpoints).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let me = data.node().ok().map(|node| node.node);
    Ok(Arc::new(Remote { client: client.within(ANSWER_MAX), runtime, me }))
}

/// A node speaks as itself: it may say what it backed up, and change nothing else.
fn credential(address: &Address<'_>, data: &DataDir) -> Result<Credential, String> {
    let identity = IdentityFiles::new(data.path());
    let from = |path: &Path| {
        let pem = read_file(path, true).map_err(|error| error.to_string())?;
        Credential::from_pem(&pem).map_err(|error| error.to_string())
    };
    match address.credential {
        Some(path) => from(path),
        None if identity.exist() => {
            identity.load().map(|identity| identity.credential).map_err(|error| error.to_string())
        }
        None if data.operator().exists() => from(&data.operator()),
        None => Err(format!(
            "there is no certificate in {}: name a node's directory with --data, or a credential \
             file with --credential",
            data.path().display()
        )),
    }
}

impl Remote {
    fn post(&self, path: &str, body: impl serde::Serialize) -> Result<(), Unable> {
        let body =
            serde_json::to_value(body).map_err(|error| Unable::Refused(error.to_string()))?;
        self.runtime.block_on(self.client.post(path, &body)).map(|_: Value| ()).map_err(unable)
    }
}

impl Cluster for Remote {
    fn view(&self, local: bool) -> Result<View, Unable> {
        let path = if local { "/v1/vault?local=true" } else { "/v1/vault" };
        let value = self.runtime.block_on(self.client.get(path)).map_err(unable)?;
        serde_json::from_value(value).map_err(|error| {
            Unable::Refused(format!("its answer can't be understood ({error}); compare versions"))
        })
    }

    fn say(&self, operation: &Operation) -> Result<(), Unable> {
        match operation.clone() {
            Operation::RecordHead { repository, previous, head, sources } => {
                self.post("/v1/vault/heads", HeadBody { repository, previous, head, sources })
            }
            Operation::ReportFork { repository, found, known } => {
                self.post("/v1/vault/forks", ForkBody { repository, found, known })
            }
            operation => self.post("/v1/operations", operation),
        }
    }

    fn me(&self) -> Option<NodeName> {
        self.me.clone()
    }
}

/// What a failed call means to the vault.
fn unable(error: ClientError) -> Unable {
    let text = error.to_string();
    match error {
        ClientError::Refused { problem, .. } if problem.code == "head-moved" => Unable::Moved,
        ClientError::Refused { problem, .. } if problem.code == "forked" => {
            Unable::Forked(problem.message)
        }
        ClientError::Refused { status: 503 | 504, .. }
        | ClientError::Unreachable { .. }
        | ClientError::NoEndpoint
        | ClientError::Circle
        | ClientError::Unknown { .. } => Unable::Silent(text),
        ClientError::Refused { .. } | ClientError::Answer { .. } | ClientError::Identity(_) => {
            Unable::Refused(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use agent::api::Problem;

    use super::*;

    #[test]
    fn a_no_is_told_from_silence() {
        let refused = |status: u16, code: &str| {
            let problem = Problem::new(code, "what", "help");
            unable(ClientError::Refused { node: "a".to_owned(), status, problem })
        };
        assert_eq!(refused(409, "head-moved"), Unable::Moved);
        assert_eq!(refused(409, "forked"), Unable::Forked("what".to_owned()));
        assert!(matches!(refused(503, "busy"), Unable::Silent(_)));
        assert!(matches!(refused(504, "unknown-outcome"), Unable::Silent(_)));
        assert!(matches!(refused(403, "role"), Unable::Refused(_)));
        assert!(matches!(unable(ClientError::NoEndpoint), Unable::Silent(_)));
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let address = Address { data: folder.path(), credential: None, api: &[] };
        assert!(connect(&address).err().unwrap().contains("--credential"));
    }
}
