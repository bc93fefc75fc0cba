//! Calls about the vault: what the cluster remembers of its repositories.

use model::operation::{Operation, Refusal};
use model::vault::SourceRecord;
use serde_json::json;

use super::backend::{Answer, NodeBackend};
use super::core::Question;
use crate::api::Reply;
use crate::api::call::{ForkBody, HeadBody};

impl NodeBackend {
    /// What is remembered. A node that speaks for itself alone may lag, and so sends the caller
    /// on, where it knows whom to.
    pub(super) async fn vault(&self, local: bool) -> Answer {
        let view = self.ask(Question::Vault).await?;
        let coordinator = view.coordinator.clone();
        let other = coordinator.filter(|node| *node != self.node && !local && !view.authoritative);
        if let Some(other) = other {
            let there = Refusal::NotCoordinator { coordinator: Some(other) };
            if let Some(elsewhere) = self.elsewhere(&there) {
                return Ok(elsewhere);
            }
        }
        Ok(Reply::Json(json!({
            "node": self.node,
            "cluster_id": self.cluster.to_string(),
            "authoritative": view.authoritative,
            "coordinator": view.coordinator,
            "repositories": view.repositories,
            "duties": view.duties,
        })))
    }

    /// Commits how far a chain has come.
    pub(super) async fn record_head(&self, by: String, body: HeadBody) -> Answer {
        let HeadBody { repository, previous, head, sources } = body;
        let operation = Operation::RecordHead { repository, previous, head, sources };
        let outcome = self.operate(by, operation).await?;
        Ok(Reply::Json(json!({ "outcome": outcome })))
    }

    /// Commits a fork; the answer is a refusal, as for whoever wanted to record one.
    pub(super) async fn report_fork(&self, by: String, body: ForkBody) -> Answer {
        let ForkBody { repository, found, known } = body;
        let outcome = self.operate(by, Operation::ReportFork { repository, found, known }).await?;
        Ok(Reply::Json(json!({ "outcome": outcome })))
    }

    /// The ages of what there is of each source, by this machine's wall clock.
    pub(super) async fn fill_vault_metrics(&self) -> Result<(), Reply> {
        let view = self.ask(Question::Vault).await?;
        let now_ms = super::core::now().wall_ms as i64;
        let m = &self.metrics.vault;
        m.clear();
        for (id, chain) in &view.repositories {
            let id = id.to_string();
            m.head.get_or_create_owned(&[("repository", id.clone())]).set(chain.head.number as i64);
            let forks = chain.forks.len() as u64 + chain.forks_more;
            m.forks.get_or_create_owned(&[("repository", id.clone())]).set(forks as i64);
            for (source, known) in &chain.sources {
                let labels = [("repository", id.clone()), ("source", source.clone())];
                let (backup, proof) = ages(known, now_ms);
                m.backup_age.get_or_create_owned(&labels).set(backup);
                m.proof_age.get_or_create_owned(&labels).set(proof);
            }
        }
        self.vault_run.fill(m);
        Ok(())
    }
}

/// Seconds since the newest backup was begun, and since the newest was proven; infinite where
/// there never was one, so that an alarm on the age needs no second rule.
fn ages(known: &SourceRecord, now_ms: i64) -> (f64, f64) {
    let age = |at_ms: Option<i64>| {
        at_ms.map_or(f64::INFINITY, |at_ms| now_ms.saturating_sub(at_ms).max(0) as f64 / 1e3)
    };
    let backup = known.newest.as_ref().map(|newest| newest.begun_ms);
    (age(backup), age(known.proven.as_ref().map(|proven| proven.at_ms)))
}

#[cfg(test)]
mod tests {
    use model::vault::ProofRecord;

    use super::*;

    #[test]
    fn what_never_was_is_infinitely_old_and_a_clock_that_was_ahead_makes_it_new() {
        let proven = |at_ms| Some(ProofRecord { number: 1, at_ms, took_ms: 1 });
        let known = |at_ms| SourceRecord { proven: proven(at_ms), ..SourceRecord::default() };
        assert_eq!(ages(&SourceRecord::default(), 5), (f64::INFINITY, f64::INFINITY));
        assert_eq!(ages(&known(1_000), 3_500).1, 2.5);
        assert_eq!(ages(&known(9_000), 3_500).1, 0.0);
    }
}
