//! What the control state says of certificates, and this node's files and TLS kept in step with
//! it: whom it believes, which keys it holds, whom it refuses.
//!
//! A start finds a control state on disk that may be older than what this node already goes by:
//! the version in the bundle's file decides, and an older one changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use model::authority::{AuthorityId, Identity as Told, KEYS_MAX, RotationPhase};
use model::state::{ClusterState, MemberRole};
use model::{NodeName, ReplicaId};

use super::backend::endpoints;
use crate::identity::{
    Authority, AuthorityCertificate, Identity, IdentityError, IdentityFiles, TrustBundle,
    sealed_key,
};
use crate::net::Tls;

/// A node's place in the cluster, as its certificate and its renewal need it.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Where the others' API answers.
    pub endpoints: Vec<SocketAddr>,
    /// This node's addresses, which its certificate names.
    pub links: Vec<IpAddr>,
    /// What the cluster has agreed on.
    pub trust: TrustView,
    /// Public datagram keys of those who may issue.
    pub voters: BTreeMap<ReplicaId, [u8; 32]>,
}

/// The part of the control state that is about certificates, for one node.
#[derive(Debug, Clone, Default)]
pub struct TrustView {
    version: u64,
    authorities: Vec<String>,
    issuer: Option<AuthorityId>,
    endorsement: Option<String>,
    /// The key of a new authority, sealed for those who may issue, where this node may.
    sealed: Option<(AuthorityId, BTreeMap<ReplicaId, Vec<u8>>)>,
    revoked: BTreeSet<NodeName>,
}

impl Place {
    /// The place of a node.
    #[must_use]
    pub fn of(state: &ClusterState, me: &NodeName) -> Place {
        let links = state.spec.nodes.get(me).map(|node| node.links.clone()).unwrap_or_default();
        let votes = |role| role == MemberRole::Voter;
        let voters = state.members.values().filter(|member| votes(member.role));
        Place {
            endpoints: endpoints(&state.spec, me),
            links,
            trust: TrustView::of(state, me),
            voters: voters.map(|member| (member.replica, member.datagram_key)).collect(),
        }
    }
}

impl TrustView {
    fn of(state: &ClusterState, me: &NodeName) -> TrustView {
        let trust = &state.trust;
        let issues = state.members.get(me).is_some_and(|m| m.role == MemberRole::Voter);
        let sealed = trust.rotation.as_ref().filter(|rotation| issues && !rotation.undone);
        TrustView {
            version: trust.version,
            authorities: state.authorities.clone(),
            issuer: trust.issuer,
            endorsement: endorsement(state).map(str::to_owned),
            sealed: sealed.map(|rotation| (rotation.to, rotation.sealed.clone())),
            revoked: trust.revoked.keys().cloned().collect(),
        }
    }

    /// Whether a certificate of this issuer is to be renewed though its time has not come.
    #[must_use]
    pub fn wants_another(&self, issuer: Option<AuthorityId>) -> bool {
        self.issuer.is_some() && self.issuer != issuer
    }

    /// Who issues; none where the authority was never rotated.
    #[must_use]
    pub fn issuer(&self) -> Option<AuthorityId> {
        self.issuer
    }

    /// The authorities that are believed; none where the control state does not say yet.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn bundle(&self) -> Result<Option<TrustBundle>, IdentityError> {
        match self.version {
            0 => Ok(None),
            _ => TrustBundle::from_pem(&self.authorities.concat()).map(Some),
        }
    }

    /// A chain with what goes behind it at the moment.
    #[must_use]
    pub fn endorsed(&self, chain: String) -> String {
        match &self.endorsement {
            Some(endorsement) => chain + endorsement,
            None => chain,
        }
    }
}

/// What goes behind a certificate that is issued now: whoever was away believes the old authority
/// alone, which has vouched for the new one.
#[must_use]
pub fn endorsement(state: &ClusterState) -> Option<&str> {
    let rotation = state.trust.rotation.as_ref()?;
    let shown = rotation.phase == RotationPhase::Renew && !rotation.undone;
    shown.then_some(&rotation.endorsement)
}

/// The authority that issues, of those whose key this node keeps.
///
/// # Errors
/// [`IdentityError`].
pub fn issuing(
    files: &IdentityFiles,
    issuer: Option<AuthorityId>,
) -> Result<Option<Authority>, IdentityError> {
    let mut kept = files.load_authorities()?.into_iter();
    Ok(match issuer {
        Some(issuer) => kept.find(|authority| AuthorityId::from(authority.fingerprint()) == issuer),
        None => kept.next(),
    })
}

/// Brings files and TLS in step. True where something was changed.
///
/// # Errors
/// [`IdentityError`]; it is tried again.
pub fn follow(files: &IdentityFiles, tls: &Tls, view: &TrustView) -> Result<bool, IdentityError> {
    tls.refuse(view.revoked.clone());
    if view.version == 0 || view.version < files.trust_version()? {
        return Ok(false);
    }
    let changed = view.version != files.trust_version()?;
    let Some(bundle) = view.bundle()? else { return Ok(false) };
    // The keys first: whoever says that it believes the new authority holds its key too.
    keep_keys(files, view, &bundle)?;
    if changed {
        files.replace_bundle(&bundle, view.version)?;
        tls.replace(&files.load()?.credential)?;
        tracing::info!(version = view.version, "authorities that are believed: {}", names(&bundle));
    }
    Ok(changed)
}

fn names(bundle: &TrustBundle) -> String {
    let names = bundle.authorities().iter().map(|a| a.fingerprint().to_string());
    names.collect::<Vec<_>>().join(", ")
}

/// Keeps the keys of the authorities that are believed, the one that issues first: opens the
/// sealed one where it is new, and wipes what is believed no more.
fn keep_keys(
    files: &IdentityFiles,
    view: &TrustView,
    bundle: &TrustBundle,
) -> Result<(), IdentityError> {
    let mut kept = files.load_authorities()?;
    let before: Vec<_> = kept.iter().map(Authority::fingerprint).collect();
    let new =
        view.sealed.as_ref().filter(|(to, _)| !before.iter().any(|print| *to == (*print).into()));
    if let Some((to, sealed)) = new {
        kept.extend(opened(files, bundle, *to, sealed)?);
    }
    let place = |authority: &Authority| {
        bundle.authorities().iter().position(|a| a.fingerprint() == authority.fingerprint())
    };
    kept.retain(|authority| place(authority).is_some());
    kept.sort_by_key(place);
    let after: Vec<_> = kept.iter().map(Authority::fingerprint).collect();
    if after == before || after.is_empty() {
        return Ok(());
    }
    files.save_authorities(&kept.iter().collect::<Vec<_>>())
}

/// The new authority, where one of the sealed keys is for this node.
fn opened(
    files: &IdentityFiles,
    bundle: &TrustBundle,
    to: AuthorityId,
    sealed: &BTreeMap<ReplicaId, Vec<u8>>,
) -> Result<Option<Authority>, IdentityError> {
    let named = |a: &&AuthorityCertificate| AuthorityId::from(a.fingerprint()) == to;
    let Some(certificate) = bundle.authorities().iter().find(named) else { return Ok(None) };
    let mine = files.load()?.datagram;
    let opened = sealed.values().find_map(|key| sealed_key::open(key, &mine, certificate).ok());
    if opened.is_none() {
        // A node that came back with another datagram key: it gets the key when it joins anew.
        tracing::warn!(authority = %to, "no sealed key of the new authority is for this node");
    }
    Ok(opened)
}

/// What this node tells of its certificate.
///
/// # Errors
/// [`IdentityError`].
pub fn told(files: &IdentityFiles, identity: &Identity) -> Result<Told, IdentityError> {
    let credential = &identity.credential;
    let issuer = credential.issuer().map(AuthorityId::from).unwrap_or(AuthorityId([0; 32]));
    let authorities = credential.bundle().authorities();
    let own = authorities.iter().find(|a| AuthorityId::from(a.fingerprint()) == issuer);
    let keys = files.load_authorities()?;
    let keys = keys.iter().take(KEYS_MAX).map(|authority| authority.fingerprint().into());
    Ok(Told {
        trust: files.trust_version()?,
        issuer,
        ends_s: credential.caller().expires_s,
        authority_ends_s: own.map_or(0, AuthorityCertificate::expires_s),
        keys: keys.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{
        CertificateRequest, ClusterId, Credential, DatagramKey, NodeKey, Role, Subject, Validity,
        wall_s,
    };

    struct Rig {
        _directory: tempfile::TempDir,
        files: IdentityFiles,
        tls: Tls,
        old: Authority,
        new: Authority,
        mine: DatagramKey,
    }

    fn rig() -> Rig {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityFiles::new(directory.path());
        let cluster = ClusterId::random();
        let authority = || Authority::create(cluster, "exchange-a", wall_s()).unwrap();
        let (old, new) = (authority(), authority());
        let key = NodeKey::generate().unwrap();
        let request = CertificateRequest::from_pem(&key.request().unwrap()).unwrap();
        let subject = Subject { cluster, role: Role::Voter, name: "a".parse().unwrap() };
        let chain = old.issue(&subject, &request, &[], Validity::days(wall_s(), 30)).unwrap();
        let bundle = TrustBundle::new(vec![old.certificate().clone()]).unwrap();
        let credential = Credential::new(bundle, &chain, key).unwrap();
        let tls = Tls::new(&credential).unwrap();
        let mine = DatagramKey::generate();
        let datagram = DatagramKey::from_text(&mine.to_text()).unwrap();
        files.save(&Identity { credential, datagram }).unwrap();
        files.save_authority(&old).unwrap();
        Rig { _directory: directory, files, tls, old, new, mine }
    }

    impl Rig {
        /// What the control state says in a version: these are believed, the first one issues.
        fn view(
            &self,
            version: u64,
            authorities: &[&Authority],
            sealed_for: &DatagramKey,
        ) -> TrustView {
            let sealed = sealed_key::seal(&self.new, &sealed_for.public()).unwrap();
            TrustView {
                version,
                authorities: authorities.iter().map(|a| a.certificate().to_pem()).collect(),
                issuer: authorities.first().map(|authority| authority.fingerprint().into()),
                endorsement: None,
                sealed: Some((
                    self.new.fingerprint().into(),
                    BTreeMap::from([(ReplicaId(1), sealed)]),
                )),
                revoked: BTreeSet::new(),
            }
        }

        fn believed(&self) -> Vec<crate::identity::Fingerprint> {
            let bundle = self.files.load().unwrap().credential.bundle().clone();
            bundle.authorities().iter().map(AuthorityCertificate::fingerprint).collect()
        }

        fn keys(&self) -> Vec<crate::identity::Fingerprint> {
            self.files.load_authorities().unwrap().iter().map(Authority::fingerprint).collect()
        }
    }

    #[test]
    fn files_follow_a_rotation_and_the_key_that_issues_comes_first() {
        let rig = rig();
        let (old, new) = (rig.old.fingerprint(), rig.new.fingerprint());
        for (version, authorities, expected) in [
            (4, &[&rig.old, &rig.new][..], vec![old, new]),
            (7, &[&rig.new, &rig.old], vec![new, old]),
            (9, &[&rig.new], vec![new]),
        ] {
            let view = rig.view(version, authorities, &rig.mine);
            assert!(follow(&rig.files, &rig.tls, &view).unwrap());
            assert_eq!((rig.believed(), rig.keys()), (expected.clone(), expected));
            assert_eq!(rig.files.trust_version().unwrap(), version);
            assert!(!follow(&rig.files, &rig.tls, &view).unwrap(), "it is in step");
            let told = told(&rig.files, &rig.files.load().unwrap()).unwrap();
            assert_eq!((told.trust, told.issuer), (version, old.into()), "not renewed here");
            assert!(view.wants_another(Some(old.into())) == (version > 4));
        }
    }

    #[test]
    fn a_state_that_is_older_than_the_files_changes_nothing() {
        let rig = rig();
        let finished = rig.view(9, &[&rig.new], &rig.mine);
        assert!(follow(&rig.files, &rig.tls, &finished).unwrap());
        let before = (rig.believed(), rig.keys());
        let stale = rig.view(4, &[&rig.old, &rig.new], &rig.mine);
        assert!(!follow(&rig.files, &rig.tls, &stale).unwrap());
        let none = TrustView::default();
        assert!(!follow(&rig.files, &rig.tls, &none).unwrap(), "never rotated, as far as it knows");
        assert_eq!((rig.believed(), rig.keys()), before);
    }

    #[test]
    fn a_key_that_is_sealed_for_another_node_stays_closed() {
        let rig = rig();
        let other = DatagramKey::generate();
        let view = rig.view(4, &[&rig.old, &rig.new], &other);
        assert!(follow(&rig.files, &rig.tls, &view).unwrap(), "it believes all the same");
        assert_eq!(rig.keys(), [rig.old.fingerprint()]);
        let told = told(&rig.files, &rig.files.load().unwrap()).unwrap();
        assert_eq!(told.keys, [AuthorityId::from(rig.old.fingerprint())], "and says so");
    }

    #[test]
    fn whoever_holds_no_key_gets_none_and_wipes_none() {
        let rig = rig();
        let mut view = rig.view(4, &[&rig.new, &rig.old], &rig.mine);
        view.sealed = None;
        assert!(follow(&rig.files, &rig.tls, &view).unwrap());
        assert_eq!(rig.keys(), [rig.old.fingerprint()], "no voter: nothing was sealed for it");
    }
}
