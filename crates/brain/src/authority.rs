//! Rotation of the cluster's authority: which step may follow, who is still missing, what is
//! refused and why. Two authorities are believed while it goes on; no step may leave a member
//! behind that was not named.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use model::authority::{
    AUTHORITY_PEM_MAX, AuthorityId, Identity, NewAuthority, REVOKED_MAX, REVOKED_MS, Rotation,
    RotationOrder, RotationPhase, RotationStep,
};
use model::command::Command;
use model::operation::Refusal;
use model::state::{ClusterState, Member, MemberRole, TokenRole};
use model::{ClusterMs, NodeName};
use serde::{Deserialize, Serialize};

use crate::placement::View;

/// What each member says of its own certificate; none where it has said nothing.
pub type Identities = BTreeMap<NodeName, Option<Identity>>;

/// A member that the next step would leave behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Which.
    pub node: NodeName,
    /// What it lacks.
    pub lacks: Lack,
}

/// What a member lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lack {
    /// It has said nothing to this coordinator.
    Word,
    /// It does not believe the new authority yet.
    Trust,
    /// It may issue, and does not hold the new authority's key yet.
    Key,
    /// Its certificate is of the authority that is given up.
    Renewal,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lack::Word => "is not heard",
            Lack::Trust => "does not believe the new authority yet",
            Lack::Key => "does not hold the new authority's key yet",
            Lack::Renewal => "has not renewed its certificate yet",
        })
    }
}

/// What the members say, by name.
#[must_use]
pub fn identities(view: &View) -> Identities {
    let said = |report: &model::Report| report.identity.clone();
    view.iter().map(|(name, seen)| (name.clone(), seen.report.as_deref().and_then(said))).collect()
}

/// Members that the next step of the rotation under way would leave behind, by name. Those of an
/// earlier generation that have not come back count: their way back is their certificate.
#[must_use]
pub fn missing(state: &ClusterState, said: &Identities) -> Vec<Missing> {
    let Some(rotation) = &state.trust.rotation else { return Vec::new() };
    let of_member = |(node, member): (&NodeName, &Member)| {
        let said = said.get(node).and_then(Option::as_ref);
        let lacks = lack(state.trust.version, rotation, member.role, said)?;
        Some(Missing { node: node.clone(), lacks })
    };
    let absent = state.awaited.keys().filter(|node| !state.members.contains_key(*node));
    let absent = absent.map(|node| Missing { node: node.clone(), lacks: Lack::Word });
    state.members.iter().filter_map(of_member).chain(absent).collect()
}

/// What one member lacks for the next step.
fn lack(
    version: u64,
    rotation: &Rotation,
    role: MemberRole,
    said: Option<&Identity>,
) -> Option<Lack> {
    let Some(said) = said else { return Some(Lack::Word) };
    match rotation.phase {
        RotationPhase::Trust if said.trust < version => Some(Lack::Trust),
        RotationPhase::Trust if role == MemberRole::Voter && !said.keys.contains(&rotation.to) => {
            Some(Lack::Key)
        }
        RotationPhase::Renew if said.issuer != rotation.to => Some(Lack::Renewal),
        _ => None,
    }
}

/// Judges a step that an operator asks for. `None`: nothing is to be done.
pub(crate) fn rotate(
    state: &ClusterState,
    said: &Identities,
    order: RotationOrder,
) -> Result<Option<Command>, Refusal> {
    let step = match order {
        RotationOrder::Begin(new) => return begin(state, new),
        RotationOrder::Renew { without } => {
            let rotation = under_way(state)?;
            if rotation.phase == RotationPhase::Renew {
                return Ok(None);
            }
            left_behind(state, said, &without)?;
            RotationStep::Renew
        }
        RotationOrder::Finish { without } => {
            if under_way(state)?.phase == RotationPhase::Trust {
                return Err(not_now("the certificates are not renewed yet; that step comes first"));
            }
            let shut_out = left_behind(state, said, &without)?;
            quorum_is_left(state, &shut_out)?;
            nothing_is_held(state, &shut_out)?;
            RotationStep::Finish { shut_out }
        }
        RotationOrder::Abort => {
            if under_way(state)?.undone {
                return Ok(None);
            }
            RotationStep::Abort
        }
    };
    let to = under_way(state)?.to;
    Ok(Some(Command::Rotate { to, step }))
}

fn under_way(state: &ClusterState) -> Result<&Rotation, Refusal> {
    let none = || not_now("no rotation of the authority is under way");
    state.trust.rotation.as_ref().ok_or_else(none)
}

fn not_now(why: &str) -> Refusal {
    Refusal::NotNow(String::from(why))
}

fn begin(state: &ClusterState, new: NewAuthority) -> Result<Option<Command>, Refusal> {
    if let Some(rotation) = &state.trust.rotation {
        let (to, phase) = (rotation.to, rotation.phase);
        let why = format!("a rotation to {to} is under way, phase {phase}; go on with it or abort");
        return Err(Refusal::NotNow(why));
    }
    if state.trust.issuer.is_some_and(|issuer| issuer != new.from) || new.from == new.to {
        return Err(not_now("the authority was changed meanwhile; ask again"));
    }
    let fits = |pem: &str| !pem.is_empty() && pem.len() <= AUTHORITY_PEM_MAX;
    if !fits(&new.certificate) || !fits(&new.endorsement) {
        return Err(not_now("the new authority's certificate can't be one"));
    }
    let voters = state.members.values().filter(|member| member.role == MemberRole::Voter);
    let voters: BTreeSet<_> = voters.map(|member| member.replica).collect();
    let sealed: BTreeSet<_> = new.sealed.keys().copied().collect();
    let small = new.sealed.values().all(|key| key.len() <= model::authority::SEALED_KEY_MAX);
    if voters != sealed || !small {
        return Err(not_now("the voters changed meanwhile; ask again"));
    }
    Ok(Some(Command::Rotate { to: new.to, step: RotationStep::Begin(new) }))
}

/// Those that a step leaves behind, where all of them were named.
fn left_behind(
    state: &ClusterState,
    said: &Identities,
    without: &BTreeSet<NodeName>,
) -> Result<BTreeSet<NodeName>, Refusal> {
    let known =
        |node: &NodeName| state.members.contains_key(node) || state.awaited.contains_key(node);
    if let Some(unknown) = without.iter().find(|node| !known(node)) {
        return Err(Refusal::NoSuchNode(unknown.clone()));
    }
    let missing = missing(state, said);
    let unnamed = missing.iter().filter(|missing| !without.contains(&missing.node));
    let unnamed: Vec<String> =
        unnamed.map(|missing| format!("{} {}", missing.node, missing.lacks)).collect();
    if unnamed.is_empty() {
        return Ok(missing.into_iter().map(|missing| missing.node).collect());
    }
    Err(Refusal::NotNow(format!(
        "{}; wait for it, or leave it behind by name (`--without NODE`): it has to join anew then",
        unnamed.join(", ")
    )))
}

/// A cluster that shut its own quorum out could never let it in again.
fn quorum_is_left(state: &ClusterState, shut_out: &BTreeSet<NodeName>) -> Result<(), Refusal> {
    let votes = |role: MemberRole| role != MemberRole::Member;
    let voters = state.members.iter().filter(|(_, member)| votes(member.role));
    let (all, left) = voters.fold((0, 0), |(all, left), (node, _)| {
        (all + 1, left + usize::from(!shut_out.contains(node)))
    });
    if left > all / 2 {
        return Ok(());
    }
    Err(Refusal::NotNow(format!(
        "only {left} of {all} voters would be left, which is no quorum: `backstay forget` those \
         that are gone first, one after the other"
    )))
}

/// One that is shut out beats still, so that its lease goes on; but no order reaches it any more.
fn nothing_is_held(state: &ClusterState, shut_out: &BTreeSet<NodeName>) -> Result<(), Refusal> {
    let holder = |held: &model::state::ResourceState| held.node().cloned();
    let held = state.resources.iter().filter_map(|(name, held)| Some((name, holder(held)?)));
    let mut stays = held.filter(|(_, node)| shut_out.contains(node));
    let Some((resource, node)) = stays.next() else { return Ok(()) };
    Err(Refusal::NotNow(format!(
        "{node} holds {resource}, and nobody could take it from there: move it first (`backstay \
         drain {node}`)"
    )))
}

/// Nobody gets in by a key that is in wrong hands while it is being replaced.
pub(crate) fn admits(state: &ClusterState) -> Result<(), Refusal> {
    if state.trust.rotation.as_ref().is_some_and(|rotation| rotation.compromised) {
        return Err(not_now(
            "the authority is being replaced because its key leaked; nobody joins, rejoins or \
             renews over the API before that is finished",
        ));
    }
    Ok(())
}

/// Judges a request for a person's next certificate.
pub(crate) fn certify(
    state: &ClusterState,
    name: NodeName,
    role: TokenRole,
    authority: AuthorityId,
) -> Result<Command, Refusal> {
    if state.trust.revoked.contains_key(&name) {
        return Err(not_now("this name is refused"));
    }
    Ok(Command::Certify { name, role, authority })
}

/// Judges an order to refuse a person's certificates. Nodes are put out by `forget`, and nobody
/// puts themselves out: the last operator would lock the door behind them.
pub(crate) fn revoke(
    state: &ClusterState,
    now: ClusterMs,
    by: &str,
    name: NodeName,
) -> Result<Option<Command>, Refusal> {
    let trust = &state.trust;
    if name.as_str() == by {
        return Err(not_now("nobody refuses themselves; ask another operator to"));
    }
    if state.members.contains_key(&name) && !trust.people.contains_key(&name) {
        return Err(Refusal::NotNow(format!("{name} is a node: `backstay forget {name}`")));
    }
    if !trust.revoked.contains_key(&name) && trust.revoked.len() >= REVOKED_MAX {
        return Err(Refusal::NotNow(format!(
            "{REVOKED_MAX} names are refused already; rotate the authority, which refuses all"
        )));
    }
    Ok(Some(Command::Revoke { name, until: now.plus(REVOKED_MS) }))
}

#[cfg(test)]
mod tests;
