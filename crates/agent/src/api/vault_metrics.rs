//! What `/metrics` tells of the vault: what the cluster remembers of its repositories, and the
//! `vault run` beside this agent.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::metrics::Float;

/// Labels: `repository`.
pub type PerRepository = [(&'static str, String); 1];
/// Labels: `repository` and `source`, or `job` and `source`.
pub type PerSource = [(&'static str, String); 2];

/// The vault's metrics. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct VaultMetrics {
    /// Number of the newest record of a repository's chain that is remembered.
    pub head: Family<PerRepository, Gauge>,
    /// Records that stand against what is remembered.
    pub forks: Family<PerRepository, Gauge>,
    /// Age of a source's newest backup, in seconds.
    pub backup_age: Family<PerSource, Float>,
    /// Age of its newest proof.
    pub proof_age: Family<PerSource, Float>,
    /// Whether this agent is to keep a `vault run` alive.
    pub run_wanted: Gauge,
    /// Whether the `vault run` beside this agent lives.
    pub run_up: Gauge,
    /// How often it was started.
    pub run_starts: Gauge,
    /// Failures of a job since its last run that ended well.
    pub job_failures: Family<PerSource, Gauge>,
    /// When the last run of a job that ended well began, in seconds since 1970.
    pub job_last_success: Family<PerSource, Float>,
}

impl VaultMetrics {
    /// Forgets all labels: what is gone is not told any more.
    pub fn clear(&self) {
        self.head.clear();
        self.forks.clear();
        self.backup_age.clear();
        self.proof_age.clear();
        self.job_failures.clear();
        self.job_last_success.clear();
    }

    pub(super) fn register(self, registry: &mut Registry) {
        registry.register("vault_head", "Newest record of a repository remembered", self.head);
        registry.register("vault_forks", "Records against what is remembered", self.forks);
        let mut seconds = |name: &str, help: &str, metric| {
            registry.register_with_unit(name, help, Unit::Seconds, metric);
        };
        seconds("vault_newest_backup_age", "Age of a source's newest backup", self.backup_age);
        seconds("vault_newest_proof_age", "Age of a source's newest proof", self.proof_age);
        seconds(
            "vault_job_last_success",
            "When a job's last good run began",
            self.job_last_success,
        );
        let wanted = "Whether this agent keeps a vault run alive";
        registry.register("vault_run_wanted", wanted, self.run_wanted);
        registry.register("vault_run_up", "Whether the vault run beside it lives", self.run_up);
        registry.register("vault_run_starts", "How often it was started", self.run_starts);
        registry.register("vault_job_failures", "A job's failures since then", self.job_failures);
    }
}
