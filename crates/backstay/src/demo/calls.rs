//! How the demo calls our own binary: the arguments of every command, in one place.

use std::path::Path;

use super::premises::{NODES, Premises, RUN};

/// The resource that is kept up.
pub(super) const RESOURCE: &str = "orders";

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// `--data` of a node.
fn data(premises: &Premises, node: usize) -> Vec<String> {
    vec!["--data".to_owned(), path(&premises.node_dir(node).join("data"))]
}

/// Asks one node, as the operator whose credential the first node was given.
fn asking(premises: &Premises, node: usize) -> Vec<String> {
    let credential = path(&premises.node_dir(0).join("data").join("operator.pem"));
    let api = premises.api(node).to_string();
    ["--credential", &credential, "--api", &api].map(str::to_owned).to_vec()
}

/// `--data` and `--run` of a node.
fn dirs(premises: &Premises, node: usize) -> Vec<String> {
    let dir = premises.node_dir(node);
    let (data, run) = (path(&dir.join("data")), path(&dir.join(RUN)));
    vec!["--data".to_owned(), data, "--run".to_owned(), run]
}

/// The long-running processes of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Starts and stops instances.
    Launcher,
    /// Stops what the lease no longer covers.
    Guard,
    /// Decides and talks.
    Agent,
}

impl Part {
    /// All parts, in the order in which they start.
    pub(super) const ALL: [Part; 3] = [Part::Launcher, Part::Guard, Part::Agent];

    /// The command.
    #[must_use]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Part::Launcher => "launcher",
            Part::Guard => "guard",
            Part::Agent => "agent",
        }
    }
}

/// Runs one part of a node.
#[must_use]
pub(super) fn part(premises: &Premises, node: usize, part: Part, no_fencing: bool) -> Vec<String> {
    let mut call = words(&[part.as_str()]);
    call.extend(dirs(premises, node));
    if no_fencing && part != Part::Agent {
        call.extend(words(&["--plant", "no-fencing"]));
    }
    call
}

/// Makes the cluster, with the first node. The profile is the demo's choice: nothing is measured.
#[must_use]
pub(super) fn init(premises: &Premises) -> Vec<String> {
    let config = path(&premises.file("cluster.toml"));
    let mut call = words(&["init", "--no-measure", "--config", &config, "--node", NODES[0]]);
    call.extend(data(premises, 0));
    call
}

/// Asks the first node for a token with which another may join.
#[must_use]
pub(super) fn token(premises: &Premises, node: usize) -> Vec<String> {
    let mut call = words(&["token", "--node", NODES[node]]);
    call.extend(asking(premises, 0));
    call
}

/// Joins a node with its token.
#[must_use]
pub(super) fn join(premises: &Premises, node: usize, token: &str) -> Vec<String> {
    let mut call = words(&["join", "--node", NODES[node], "--token", token]);
    call.extend(data(premises, node));
    call
}

/// Asks a node how the cluster is.
#[must_use]
pub(super) fn status(premises: &Premises, node: usize) -> Vec<String> {
    let mut call = words(&["status", "--json"]);
    call.extend(asking(premises, node));
    call
}

/// Asks a node what happened.
#[must_use]
pub(super) fn events(premises: &Premises, node: usize) -> Vec<String> {
    let mut call = words(&["events", "--json"]);
    call.extend(asking(premises, node));
    call
}

/// Moves the service as planned, asking through a node that is up.
#[must_use]
pub(super) fn switchover(premises: &Premises, asked: usize, to: usize) -> Vec<String> {
    let mut call = words(&["switchover", RESOURCE, "--to", NODES[to]]);
    call.extend(asking(premises, asked));
    call
}
