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

#[cfg(test)]
mod tests {
    use super::super::metrics::Metrics;

    const STATUS: &str = include_str!("../../../../docs/reference/vault-status.md");
    const API: &str = include_str!("../../../../docs/reference/api.md");

    /// One dashboard shows a `vault run` by itself and one that an agent keeps alive.
    #[test]
    fn a_job_is_told_as_vault_status_tells_it() {
        let metrics = Metrics::default();
        let labels = [("job", "backup".to_owned()), ("source", "data".to_owned())];
        metrics.vault.job_failures.get_or_create_owned(&labels).set(3);
        metrics.vault.job_last_success.get_or_create_owned(&labels).set(1.5);
        let of_source = [("repository", "r".to_owned()), ("source", "data".to_owned())];
        metrics.vault.backup_age.get_or_create_owned(&of_source).set(1.0);
        metrics.vault.proof_age.get_or_create_owned(&of_source).set(1.0);
        metrics.vault.head.get_or_create_owned(&[("repository", "r".to_owned())]).set(1);
        metrics.vault.forks.get_or_create_owned(&[("repository", "r".to_owned())]).set(1);
        let text = metrics.encode();
        for line in [
            "backstay_vault_job_failures{job=\"backup\",source=\"data\"} 3",
            "backstay_vault_job_last_success_seconds{job=\"backup\",source=\"data\"} 1.5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE backstay_vault_"));
        let names: Vec<&str> = types.filter_map(|line| line.split(' ').next()).collect();
        assert!(names.len() >= 9, "{names:?}");
        for name in names {
            let of_job = name.starts_with("job_");
            let told = STATUS.contains(&format!("`backstay_vault_{name}`"));
            assert!(told || !of_job, "{name} is told under another name by `vault status`");
            assert!(API.contains(&format!("`vault_{name}`")), "{name} is not in the reference");
        }
    }
}
