//! Whether a join token is good for what it is presented for. One rule: the coordinator asks it
//! before it proposes, and the cluster machine when the entry is applied.

use model::NodeName;
use model::state::{ClusterState, JoinRequest};

/// Who presents a token.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bearer<'a> {
    /// A node that joins.
    Node(&'a JoinRequest),
    /// A person or program, under this name.
    Person(&'a NodeName),
}

/// Why the token with this hash is refused; none where it is good.
pub(crate) fn refusal(
    state: &ClusterState,
    hash: &[u8; 32],
    bearer: Bearer<'_>,
) -> Option<&'static str> {
    let Some(token) = state.tokens.get(hash) else { return Some("it is unknown or has expired") };
    let bound_to_other = |name: &NodeName| token.node.as_ref().is_some_and(|bound| bound != name);
    match bearer {
        Bearer::Node(_) if token.used => Some("it was used already; each is good for one join"),
        Bearer::Node(request) if token.role.member() != Some(request.role) => {
            Some("it is for another role")
        }
        Bearer::Node(request) if bound_to_other(&request.node) => Some("it is for another node"),
        // Without a name it can't take a member's place: a second machine that is called alike by
        // mistake would evict the first.
        Bearer::Node(request)
            if token.node.is_none() && state.members.contains_key(&request.node) =>
        {
            Some(
                "it names no node, and so lets in new ones only; to take a member's place, have a \
                 token made for that name (`backstay token --node NAME`)",
            )
        }
        Bearer::Node(_) => None,
        Bearer::Person(_) if token.used => {
            Some("it was used already; each is good for one certificate")
        }
        Bearer::Person(_) if token.role.member().is_some() => Some("it is for a node"),
        Bearer::Person(name) if bound_to_other(name) => Some("it is for another name"),
        Bearer::Person(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use model::ClusterMs;
    use model::state::{MemberRole, TokenRecord, TokenRole};

    use super::*;
    use crate::fixtures::{cluster_spec, genesis, node, request, resource_spec};

    /// The refusal of a token of this role and name, used or not; `good` is presented where it is
    /// none.
    fn judged(token: Option<(TokenRole, Option<&str>, bool)>, bearer: Bearer<'_>) -> &'static str {
        let spec = cluster_spec(&["a", "b"], resource_spec(model::spec::Standby::Cold));
        let mut state = ClusterState::default();
        crate::cluster::apply(
            &mut state,
            1,
            &model::Entry {
                by: model::ReplicaId(1),
                now: ClusterMs(0),
                wall_ms: 0,
                request: None,
                command: model::Command::Genesis(genesis(spec)),
                reasons: alloc::vec::Vec::new(),
            },
        );
        if let Some((role, name, used)) = token {
            let (hash, expires) = ([1; 32], ClusterMs(10));
            let record = TokenRecord { hash, role, node: name.map(node), expires, used };
            state.tokens.insert(hash, record);
        }
        refusal(&state, &[1; 32], bearer).unwrap_or("good")
    }

    #[test]
    fn a_token_is_good_for_its_role_its_name_and_once() {
        use TokenRole::{Member, Operator, Voter};
        let (a, b) = (request("a", Some(1)), request("b", Some(1)));
        let member = JoinRequest { role: MemberRole::Member, ..b.clone() };
        let eve = node("eve");
        let (a, b, member, eve) =
            (Bearer::Node(&a), Bearer::Node(&b), Bearer::Node(&member), Bearer::Person(&eve));
        for (token, bearer, expected) in [
            (None, b, "it is unknown"),
            (Some((Voter, None, false)), b, "good"),
            (Some((Voter, Some("b"), false)), b, "good"),
            (Some((Member, None, false)), member, "good"),
            (Some((Voter, None, true)), b, "it was used"),
            (Some((Voter, None, false)), member, "it is for another role"),
            (Some((Operator, None, false)), b, "it is for another role"),
            (Some((Voter, Some("c"), false)), b, "it is for another node"),
            (Some((Voter, None, false)), a, "it names no node"),
            (Some((Voter, Some("a"), false)), a, "good"),
            (None, eve, "it is unknown"),
            (Some((Operator, None, false)), eve, "good"),
            (Some((Operator, Some("eve"), false)), eve, "good"),
            (Some((Operator, None, true)), eve, "it was used"),
            (Some((Voter, None, false)), eve, "it is for a node"),
            (Some((Operator, Some("ann"), false)), eve, "it is for another name"),
        ] {
            let said = judged(token, bearer);
            assert!(said.starts_with(expected), "{token:?} {bearer:?}: {said}");
        }
    }
}
