//! What the demo needs to know of the cluster, read from `backstay status --json`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::error::DemoError;
use super::premises::NODES;

/// One look at the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct View {
    /// The coordinator's node, where one is known.
    pub coordinator: Option<usize>,
    /// The node of the active instance, where one is active.
    pub active: Option<usize>,
    /// Nodes that the cluster holds healthy.
    pub healthy: BTreeSet<usize>,
    /// Nodes with a ready standby.
    pub standbys: BTreeSet<usize>,
}

impl View {
    /// Reads the answer of `status --json`.
    ///
    /// # Errors
    /// [`DemoError::Answer`] where nodes or resources are missing from it.
    pub(super) fn read(status: &Value, resource: &str) -> Result<View, DemoError> {
        let nodes = status.get("nodes").and_then(Value::as_array);
        let nodes = nodes.ok_or(DemoError::Answer("nodes"))?;
        let resources = status.get("resources").and_then(Value::as_array);
        let resources = resources.ok_or(DemoError::Answer("resources"))?;
        let mut view =
            View { coordinator: status.get("coordinator").and_then(node), ..View::default() };
        for entry in nodes.iter().filter(|n| text(n, "health") == Some("healthy")) {
            view.healthy.extend(entry.get("name").and_then(node));
        }
        let ours = resources.iter().find(|r| text(r, "name") == Some(resource));
        let instances = ours.and_then(|r| r.get("instances")).and_then(Value::as_array);
        for instance in instances.into_iter().flatten() {
            let Some(place) = instance.get("node").and_then(node) else { continue };
            match text(instance, "phase") {
                Some("active") => view.active = Some(place),
                Some("standby") => {
                    view.standbys.insert(place);
                }
                _ => {}
            }
        }
        Ok(view)
    }

    /// Whether all nodes are healthy, one is active and every other one stands by.
    #[must_use]
    pub(super) fn is_whole(&self) -> bool {
        self.coordinator.is_some()
            && self.healthy.len() == NODES.len()
            && self.active.is_some()
            && self.standbys.len() == NODES.len() - 1
    }
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

fn node(value: &Value) -> Option<usize> {
    NODES.iter().position(|name| value.as_str() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_whole_with_one_active_and_two_standbys() {
        let mut status = serde_json::json!({
            "coordinator": "b",
            "nodes": [
                { "name": "a", "health": "healthy" },
                { "name": "b", "health": "healthy" },
                { "name": "c", "health": "healthy" },
            ],
            "resources": [{ "name": "orders", "instances": [
                { "node": "a", "phase": "active" },
                { "node": "b", "phase": "standby" },
                { "node": "c", "phase": "standby" },
            ]}],
        });
        let view = View::read(&status, "orders").unwrap();
        assert_eq!((view.coordinator, view.active), (Some(1), Some(0)));
        assert!(view.is_whole());
        assert!(!View::read(&status, "other").unwrap().is_whole());
        status["resources"][0]["instances"][2]["phase"] = "starting".into();
        assert!(!View::read(&status, "orders").unwrap().is_whole());
        status["nodes"][0]["health"] = "suspect".into();
        assert_eq!(View::read(&status, "orders").unwrap().healthy.len(), 2);
        assert!(View::read(&serde_json::json!({}), "orders").is_err());
    }
}
