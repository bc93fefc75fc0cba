//! Where a task of the vault runs in a cluster: on the node where a resource is active, or on a
//! standby of it. From the control state alone, so that every node answers alike.
//!
//! Several standbys are ranked. The control state does not say which of them lives, so the first
//! one's turn is now and each later one's a while after it: whoever finds in the log that it was
//! done leaves it. Two that do it at once hurt nothing but the load.

use alloc::vec::Vec;

use model::spec::Standby;
use model::state::ClusterState;
use model::vault::Duty;
use model::{NodeName, ResourceName};

use crate::placement;

/// Where tasks of each resource run.
#[must_use]
pub fn duties(state: &ClusterState) -> Vec<Duty> {
    state.spec.resources.keys().map(|resource| duty(state, resource)).collect()
}

fn duty(state: &ClusterState, resource: &ResourceName) -> Duty {
    let held = state.resources.get(resource);
    let holder = held.and_then(|held| held.holder.as_ref());
    let active = holder.filter(|holder| holder.active && !holder.releasing);
    let spec = state.spec.resources.get(resource);
    let is_hot = spec.is_some_and(|spec| spec.standby == Standby::Hot);
    let stands_by = |node: &&NodeName| {
        let is_held = holder.is_some_and(|holder| holder.node == **node);
        is_hot && !is_held && placement::may_run(state, resource, node).is_ok()
    };
    let mut standbys: Vec<NodeName> = state.members.keys().filter(stands_by).cloned().collect();
    // The node that would be preferred for the active role is spared longest.
    let prefer = spec.map_or(&[][..], |spec| &spec.prefer[..]);
    let wish = |node: &NodeName| prefer.iter().rev().position(|preferred| preferred == node);
    standbys.sort_by_key(|node| wish(node).map_or(0, |place| place + 1));
    Duty { resource: resource.clone(), active: active.map(|holder| holder.node.clone()), standbys }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use model::state::MemberRole;
    use model::{ClusterMs, ReplicaId};

    use super::*;
    use crate::cluster;
    use crate::fixtures::{
        cluster_spec, epoch, genesis, holder, node, request, resource, resource_spec,
    };
    use model::command::{Command, Entry};

    /// Nodes a, b, c; the resource is active on b.
    fn state(standby: Standby) -> ClusterState {
        let mut state = ClusterState::default();
        let names = ["a", "b", "c"];
        let command = Command::Genesis(genesis(cluster_spec(&names, resource_spec(standby))));
        let (by, now) = (ReplicaId(1), ClusterMs(0));
        let entry = Entry { by, now, wall_ms: 0, request: None, command, reasons: Vec::new() };
        cluster::apply(&mut state, 1, &entry);
        let mut member = state.members[&node("a")].clone();
        for (number, name) in names.iter().enumerate() {
            member.replica = ReplicaId(number as u64 + 1);
            state.members.insert(request(name, None).node, member.clone());
        }
        hold(&mut state, "b", true);
        state
    }

    fn hold(state: &mut ClusterState, name: &str, active: bool) {
        let replica = state.members[&node(name)].replica;
        let holder = holder(name, replica, epoch(1), active);
        state.resources.get_mut(&resource()).unwrap().holder = Some(holder);
    }

    fn check(state: &ClusterState, active: Option<&str>, standbys: &[&str]) {
        let duties = duties(state);
        assert_eq!(duties.len(), 1);
        assert_eq!(duties[0].active, active.map(node));
        let standbys: Vec<NodeName> = standbys.iter().map(|name| node(name)).collect();
        assert_eq!(duties[0].standbys, standbys);
    }

    #[test]
    fn a_takeover_moves_the_duty() {
        let mut state = state(Standby::Hot);
        check(&state, Some("b"), &["a", "c"]);
        hold(&mut state, "a", false);
        check(&state, None, &["b", "c"]);
        hold(&mut state, "a", true);
        check(&state, Some("a"), &["b", "c"]);
        state.resources.get_mut(&resource()).unwrap().holder = None;
        check(&state, None, &["a", "b", "c"]);
    }

    #[test]
    fn who_may_not_run_it_stands_not_by() {
        let mut hot = state(Standby::Hot);
        hot.now = ClusterMs(10);
        hot.members.get_mut(&node("a")).unwrap().drain_until = Some(ClusterMs(20));
        check(&hot, Some("b"), &["c"]);
        hot.members.get_mut(&node("c")).unwrap().role = MemberRole::Witness;
        check(&hot, Some("b"), &[]);
        check(&state(Standby::Cold), Some("b"), &[]);
    }

    #[test]
    fn the_preferred_node_is_spared_longest() {
        let mut state = state(Standby::Hot);
        state.spec.resources.get_mut(&resource()).unwrap().prefer = vec![node("a"), node("b")];
        check(&state, Some("b"), &["c", "a"]);
        hold(&mut state, "c", true);
        check(&state, Some("c"), &["b", "a"]);
    }
}
