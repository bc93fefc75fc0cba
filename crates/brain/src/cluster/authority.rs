//! Applying what concerns the cluster's authority and the people that hold its certificates.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use model::authority::{
    AuthorityId, CERTIFICATE_DAYS, NewAuthority, PEOPLE_MAX, Person, REVOKED_MAX, Revoked,
    Rotation, RotationPhase, RotationStep,
};
use model::state::{ClusterState, EventKind, RotatedStep, TokenRole};
use model::{ClusterMs, NodeName};

type Change = Option<Option<EventKind>>;

/// A person's certificate is remembered for as long as it is good.
const PERSON_MS: u64 = CERTIFICATE_DAYS * 24 * 3_600_000;

pub(super) fn rotate(
    state: &mut ClusterState,
    index: u64,
    to: AuthorityId,
    step: &RotationStep,
) -> Change {
    let event = match step {
        RotationStep::Begin(new) => begin(state, to, new)?,
        RotationStep::Renew => renew(state, to)?,
        RotationStep::Finish { shut_out } => finish(state, to, shut_out)?,
        RotationStep::Abort => abort(state, to)?,
    };
    state.trust.version = index;
    Some(Some(event))
}

fn begin(state: &mut ClusterState, to: AuthorityId, new: &NewAuthority) -> Option<EventKind> {
    let trust = &mut state.trust;
    let fits = new.to == to && trust.issuer.is_none_or(|issuer| issuer == new.from);
    if trust.rotation.is_some() || state.authorities.len() != 1 || !fits {
        return None;
    }
    state.authorities.push(new.certificate.clone());
    trust.issuer = Some(new.from);
    for person in trust.people.values_mut() {
        person.authority.get_or_insert(new.from);
    }
    trust.rotation = Some(Rotation {
        from: new.from,
        to,
        phase: RotationPhase::Trust,
        compromised: new.compromised,
        undone: false,
        endorsement: new.endorsement.clone(),
        sealed: new.sealed.clone(),
        began: state.now,
        wall_ms: state.wall_ms,
    });
    let step = if new.compromised { RotatedStep::BeganCompromised } else { RotatedStep::Began };
    Some(event(step, new.from, to))
}

fn event(step: RotatedStep, from: AuthorityId, to: AuthorityId) -> EventKind {
    EventKind::Rotated { step, from, to, shut_out: Vec::new(), people: Vec::new() }
}

/// From here on the other one issues. A token names the authority that it was made under, so
/// those that are left open nothing any more.
fn turn(state: &mut ClusterState, to: AuthorityId) {
    state.authorities.swap(0, 1);
    state.trust.issuer = Some(to);
    state.tokens.clear();
}

fn renew(state: &mut ClusterState, to: AuthorityId) -> Option<EventKind> {
    let rotation = state.trust.rotation.as_mut()?;
    if rotation.to != to || rotation.phase != RotationPhase::Trust {
        return None;
    }
    rotation.phase = RotationPhase::Renew;
    let from = rotation.from;
    turn(state, to);
    Some(event(RotatedStep::Renews, from, to))
}

fn finish(
    state: &mut ClusterState,
    to: AuthorityId,
    shut_out: &BTreeSet<NodeName>,
) -> Option<EventKind> {
    let trust = &mut state.trust;
    let rotation = trust.rotation.take_if(|r| r.to == to && r.phase == RotationPhase::Renew)?;
    state.authorities.truncate(1);
    state.tokens.clear();
    let out = shut_out.iter().filter(|node| state.members.contains_key(*node));
    trust.shut_out.extend(out.cloned());
    let lost = trust.people.extract_if(.., |_, person| person.authority != Some(to));
    let people = lost.map(|(name, _)| name).collect();
    let shut_out = shut_out.iter().cloned().collect();
    let (step, from) = (RotatedStep::Finished, rotation.from);
    Some(EventKind::Rotated { step, from, to, shut_out, people })
}

/// Where nothing was renewed yet, the new one is dropped; else everybody is led back to the old.
fn abort(state: &mut ClusterState, to: AuthorityId) -> Option<EventKind> {
    let trust = &mut state.trust;
    let rotation = trust.rotation.as_mut().filter(|r| r.to == to && !r.undone)?;
    let from = rotation.from;
    if rotation.phase == RotationPhase::Trust {
        trust.rotation = None;
        state.authorities.truncate(1);
        return Some(event(RotatedStep::Aborted, from, to));
    }
    (rotation.from, rotation.to, rotation.undone) = (to, from, true);
    turn(state, from);
    Some(event(RotatedStep::TurnedBack, from, to))
}

/// Remembers that a person or program was given a certificate.
pub(super) fn remember(
    state: &mut ClusterState,
    name: &NodeName,
    role: TokenRole,
    authority: Option<AuthorityId>,
) {
    let (at, wall_ms) = (state.now, state.wall_ms);
    let people = &mut state.trust.people;
    if !people.contains_key(name) && people.len() >= PEOPLE_MAX {
        let oldest = people.iter().min_by_key(|(_, person)| person.at);
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            people.remove(&name);
        }
    }
    people.insert(name.clone(), Person { role, authority, at, wall_ms });
}

pub(super) fn certify(
    state: &mut ClusterState,
    name: &NodeName,
    role: TokenRole,
    authority: AuthorityId,
) -> Change {
    let trust = &state.trust;
    let other = trust.issuer.is_some_and(|issuer| issuer != authority);
    let closed = trust.rotation.as_ref().is_some_and(|rotation| rotation.compromised);
    if role.member().is_some() || trust.revoked.contains_key(name) || other || closed {
        return None;
    }
    remember(state, name, role, Some(authority));
    Some(Some(EventKind::Certified { name: name.clone() }))
}

pub(super) fn revoke(state: &mut ClusterState, name: &NodeName, until: ClusterMs) -> Change {
    let wall_ms = state.wall_ms;
    let trust = &mut state.trust;
    if !trust.revoked.contains_key(name) && trust.revoked.len() >= REVOKED_MAX {
        return None;
    }
    trust.people.remove(name);
    trust.revoked.insert(name.clone(), Revoked { until, wall_ms });
    Some(Some(EventKind::Revoked { name: name.clone() }))
}

/// What time alone ends.
pub(super) fn expire(state: &mut ClusterState) {
    let now = state.now;
    state.trust.revoked.retain(|_, revoked| revoked.until > now);
    state.trust.people.retain(|_, person| now.since(person.at) < PERSON_MS);
}
