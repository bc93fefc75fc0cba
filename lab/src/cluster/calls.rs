//! What is asked of the nodes, with the command line, from any host, by anybody.

use super::{Cluster, NODES};
use crate::shell::{Done, run};

impl Cluster {
    pub(crate) fn command(&self, host: &str, words: &[&str]) -> Done<String> {
        run(self.network.on(host).arg(&self.setup.binary).args(words))
    }

    /// Asks one node as the operator, from that node's own host.
    pub(crate) fn ask(&self, node: usize, words: &[&str]) -> Done<String> {
        self.ask_as(&self.path("operator.pem"), node, node, words)
    }

    /// Asks one node by a credential, from another's host.
    pub(crate) fn ask_as(
        &self,
        credential: &str,
        from: usize,
        to: usize,
        words: &[&str],
    ) -> Done<String> {
        let as_whom = ["--credential", credential, "--api", &api(to)];
        self.command(NODES[from], &[words, &as_whom].concat())
    }
}

/// Where a node's API is called.
pub(crate) fn api(node: usize) -> String {
    format!("10.77.0.{}:7402", node + 1)
}
