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
    pub(super) standbys: BTreeSet<usize>,
    /// Whether the coordinator said so: what others say is their own view only.
    pub(super) authoritative: bool,
}

impl View {
    /// Reads the answer of `status --json`.
    ///
    /// # Errors
    /// [`DemoError::Answer`] where nodes or resources are missing from it.
    pub(super) fn read(status: &Value, resource: &str) -> Result<View, DemoError> {
        let list = |key| status.get(key).and_then(Value::as_array);
        let nodes = list("nodes").ok_or(DemoError::Answer("nodes"))?;
        let resources = list("resources").ok_or(DemoError::Answer("resources"))?;
        let mut view = View {
            coordinator: status.get("coordinator").and_then(node),
            authoritative: flag(status, "authoritative"),
            ..View::default()
        };
        // A node without launcher and guard is heard, but runs nothing.
        let whole = |n: &&Value| text(n, "health") == Some("healthy") && flag(n, "ready");
        for entry in nodes.iter().filter(whole) {
            view.healthy.extend(entry.get("name").and_then(node));
        }
        if let Some(ours) = resources.iter().find(|r| text(r, "name") == Some(resource)) {
            let settled = flag(ours, "active") && !flag(ours, "releasing");
            view.active = ours.get("node").and_then(node).filter(|_| settled);
            let standbys = ours.get("standbys").and_then(Value::as_array);
            view.standbys.extend(standbys.into_iter().flatten().filter_map(node));
        }
        Ok(view)
    }

    /// Whether all nodes are healthy, one is active and every other one stands by.
    #[must_use]
    pub(super) fn is_whole(&self) -> bool {
        self.authoritative
            && self.coordinator.is_some()
            && self.healthy.len() == NODES.len()
            && self.active.is_some()
            && self.standbys.len() == NODES.len() - 1
    }
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
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
        let whole = serde_json::json!({
            "coordinator": "b",
            "authoritative": true,
            "nodes": [
                { "name": "a", "health": "healthy", "ready": true },
                { "name": "b", "health": "healthy", "ready": true },
                { "name": "c", "health": "healthy", "ready": true },
            ],
            "resources": [{ "name": "orders", "node": "a", "active": true, "releasing": false,
                            "standbys": ["b", "c"] }],
        });
        let view = View::read(&whole, "orders").unwrap();
        assert_eq!((view.coordinator, view.active), (Some(1), Some(0)));
        assert!(view.is_whole());
        assert!(!View::read(&whole, "other").unwrap().is_whole());
        assert!(View::read(&serde_json::json!({}), "orders").is_err());
        for (pointer, other) in [
            ("/coordinator", Value::Null),
            ("/authoritative", false.into()),
            ("/nodes/0/health", "suspect".into()),
            ("/nodes/2/ready", false.into()),
            ("/resources/0/active", false.into()),
            ("/resources/0/releasing", true.into()),
            ("/resources/0/standbys/1", "a-stranger".into()),
        ] {
            let mut status = whole.clone();
            *status.pointer_mut(pointer).unwrap() = other;
            assert!(!View::read(&status, "orders").unwrap().is_whole(), "{pointer}");
        }
    }
}
