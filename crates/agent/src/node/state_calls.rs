//! Calls about the control state as a whole: its export, and where this node's log stands.

use serde_json::json;

use super::backend::{Answer, NodeBackend};
use super::core::Question;
use super::state_file::{self, Source};
use crate::api::Reply;

impl NodeBackend {
    /// The control state at one index, as a file.
    pub(super) async fn export_state(&self) -> Answer {
        // The coordinator first: if it is known before, the state is no older than that.
        let coordinator = self.ask(Question::Status).await?.coordinator;
        let state = self.state().await?;
        let wall_ms = super::core::now().wall_ms;
        let source = Source { node: self.node.clone(), coordinator, wall_ms };
        Ok(Reply::Json(json!({ "file": state_file::write(&state, &source) })))
    }

    /// Where this node's log stands, and whether it knows a coordinator.
    pub(super) async fn position(&self) -> Answer {
        let coordinator = self.ask(Question::Status).await?.coordinator;
        let position = self.ask(Question::Position).await?;
        Ok(Reply::Json(json!({
            "node": self.node,
            "cluster_id": self.cluster.to_string(),
            "generation": position.generation,
            "last_term": position.last_term,
            "last_index": position.last_index,
            "committed": position.committed,
            "coordinator": coordinator,
        })))
    }
}
