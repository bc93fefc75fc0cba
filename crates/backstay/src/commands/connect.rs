//! How a command reaches the cluster: whose certificate it shows, whom it asks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent::api::{ApiClient, ClientError};
use agent::identity::{Credential, read_file};
use agent::node::files::DataDir;
use serde_json::Value;

use super::Failure;

/// For so long the coordinator is asked on behalf of whoever wants to look.
const ELSEWHERE: Duration = Duration::from_millis(700);

/// Options of every command that talks to the cluster.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Connect {
    /// Data directory of a node on this machine: its operator's certificate and addresses are used
    #[arg(long, value_name = "DIR", env = "BACKSTAY_DATA", default_value = "/var/lib/backstay")]
    data: PathBuf,
    /// A credential file (certificate and key) instead
    #[arg(long, value_name = "FILE", env = "BACKSTAY_CREDENTIAL")]
    credential: Option<PathBuf>,
    /// API addresses instead, such as 10.1.0.1:7402; several separated by commas
    #[arg(long, value_name = "ADDRESS", env = "BACKSTAY_API", value_delimiter = ',')]
    api: Vec<SocketAddr>,
    /// Print one JSON value
    #[arg(long)]
    pub(crate) json: bool,
}

/// A connection to the cluster, for commands that wait for their answer.
pub(crate) struct Cluster {
    client: ApiClient,
    runtime: tokio::runtime::Runtime,
}

impl Connect {
    /// Gets ready to ask. Nothing is sent yet.
    pub(crate) fn open(&self) -> Result<Cluster, Failure> {
        let path = self.credential_path();
        if !path.exists() {
            return Err(Failure::new(format!(
                "there is no credential at {}: name a node's directory with --data, or a \
                 credential file with --credential (make one with `backstay token --role \
                 operator` and `backstay join`)",
                path.display()
            )));
        }
        let pem = read_file(&path, true).map_err(Failure::new)?;
        let credential = Credential::from_pem(&pem).map_err(Failure::new)?;
        let client = ApiClient::new(&credential, &self.endpoints()).map_err(failure)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Cluster { client, runtime })
    }

    /// The data directory that was named.
    pub(crate) fn data(&self) -> DataDir {
        DataDir::new(&self.data)
    }

    /// The credential file that was named, or the one of the data directory.
    pub(crate) fn credential_path(&self) -> PathBuf {
        let own = || DataDir::new(&self.data).operator();
        self.credential.clone().unwrap_or_else(own)
    }

    /// API addresses that were named, or those that the node in the data directory knows.
    pub(crate) fn endpoints(&self) -> Vec<SocketAddr> {
        match self.api.is_empty() {
            true => agent::node::known_endpoints(&DataDir::new(&self.data)),
            false => self.api.clone(),
        }
    }
}

impl Cluster {
    /// GET.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.runtime.block_on(self.client.get(path)).map_err(failure)
    }

    /// GET, as the coordinator sees it where it can be reached, else as the node that answers.
    pub(crate) fn of_coordinator(&self, path: &str) -> Result<Value, Failure> {
        let path_there = format!("{path}?of=coordinator");
        let there = async { tokio::time::timeout(ELSEWHERE, self.client.get(&path_there)).await };
        // One that was just lost is not waited for: whoever asks wants to see what is left.
        match self.runtime.block_on(there) {
            Ok(Ok(seen)) => Ok(seen),
            _ => self.get(path),
        }
    }

    /// POST of JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.runtime.block_on(self.client.post(path, body)).map_err(failure)
    }

    /// POST of text.
    pub(crate) fn post_text(&self, path: &str, body: &str) -> Result<Value, Failure> {
        self.runtime.block_on(self.client.post_text(path, body)).map_err(failure)
    }

    /// An operation.
    pub(crate) fn operate(&self, operation: &model::Operation) -> Result<Value, Failure> {
        let body = serde_json::to_value(operation).map_err(Failure::new)?;
        self.post("/v1/operations", &body)
    }
}

/// A failed call's exit status.
pub(crate) fn failure(error: ClientError) -> Failure {
    let status = match &error {
        ClientError::Refused { status: 504, .. } => 6,
        ClientError::Refused { .. } => 4,
        ClientError::Unreachable { .. } | ClientError::NoEndpoint | ClientError::Circle => 5,
        ClientError::Unknown { .. } => 6,
        ClientError::Answer { .. } | ClientError::Identity(_) => 1,
    };
    let passing = match &error {
        ClientError::Refused { status, problem, .. } => *status == 503 || problem.code == "not-now",
        ClientError::Unreachable { .. } | ClientError::Circle => true,
        _ => false,
    };
    Failure::with(status, error).passing(passing)
}
