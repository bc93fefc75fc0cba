//! Certificates that this node gives out, where it holds an authority's key: to those who join
//! with a token, to those who renew; and the authority itself, shown and rotated.

use model::authority::{AuthorityId, NewAuthority, RotationOrder};
use model::operation::{Operation, Outcome};
use model::state::{ClusterState, JoinRequest, MemberRole, TokenRecord, TokenRole};
use model::{ClusterSpec, NodeName, ReplicaId};
use serde_json::{Value, json};

use super::backend::{Answer, NodeBackend, denied, endpoints, internal};
use super::core::Question;
use super::join::Welcome;
use super::{proof, trust};
use crate::api::call::{BeginRotation, CreateToken, Join, Renewal};
use crate::api::{Problem, Refusal, Reply};
use crate::identity::{
    Authority, AuthorityCertificate, Caller, CertificateRequest, DatagramPublicKey, IdentityFiles,
    JoinToken, Role, Subject, Validity, sealed_key, token, wall_s,
};

impl NodeBackend {
    fn files(&self) -> IdentityFiles {
        IdentityFiles::new(self.data.path())
    }

    /// The authority that issues, where this node holds its key.
    fn authority(&self, state: &ClusterState) -> Result<Authority, Reply> {
        match trust::issuing(&self.files(), state.trust.issuer) {
            Ok(Some(authority)) => Ok(authority),
            Ok(None) => Err(Reply::Refused(
                Refusal::Unavailable,
                Problem::new(
                    "no-authority",
                    format!(
                        "node {} does not hold the key of the authority that issues",
                        self.node
                    ),
                    "Ask a voter that runs resources.",
                ),
            )),
            Err(error) => Err(internal(error)),
        }
    }

    /// A certificate for a holder over the key of a request.
    fn issue(
        &self,
        state: &ClusterState,
        authority: &Authority,
        subject: &Subject,
        request: &CertificateRequest,
    ) -> Result<String, Reply> {
        let node = state.spec.nodes.get(&subject.name).filter(|_| subject.role.is_node());
        let links = node.map(|node| node.links.clone()).unwrap_or_default();
        let validity = Validity::days(wall_s(), super::found::CERTIFICATE_DAYS);
        let chain = authority.issue(subject, request, &links, validity).map_err(internal)?;
        Ok(chain + trust::endorsement(state).unwrap_or_default())
    }

    pub(super) async fn create_token(&self, by: String, request: CreateToken) -> Answer {
        let state = self.state().await?;
        if let Some(problem) = nobody_to_join(&state.spec, &request) {
            return Err(Reply::Refused(Refusal::NotFound, problem));
        }
        let authority = self.authority(&state)?;
        let addresses = endpoints(&state.spec, &self.node);
        let token = JoinToken::new(
            self.cluster,
            authority.fingerprint(),
            request.role,
            request.name.clone(),
            addresses,
        );
        let life = request.life_ms.unwrap_or(token::LIFE_MS);
        let record = TokenRecord {
            hash: token::hash(token.secret()),
            role: token_role(request.role),
            node: request.name,
            expires: state.now.plus(life),
            used: false,
        };
        self.operate(by, Operation::AddToken { token: record }).await?;
        Ok(Reply::Json(json!({ "token": *token.to_text(), "expires_ms": life })))
    }

    pub(super) async fn join(&self, join: Join) -> Answer {
        let hash = token::hash(&join.secret);
        let state = self.state().await?;
        let authority = self.authority(&state)?;
        let record = state.tokens.get(&hash);
        let record = record.ok_or_else(|| denied("the join token is unknown or has expired"))?;
        let role = identity_role(record.role);
        let by = join.name.to_string();
        let replica = match (record.role.member(), join.datagram_key) {
            (Some(member), Some(key)) => {
                let request = JoinRequest {
                    node: join.name.clone(),
                    role: member,
                    token: Some(hash),
                    datagram_key: key.0,
                };
                match self.operate(by, Operation::Join(request)).await? {
                    Outcome::Joined { replica, .. } => Some(replica),
                    _ => return Err(internal("a join ended otherwise")),
                }
            }
            (None, _) => {
                let operation = Operation::UseToken { token: hash, name: join.name.clone() };
                self.operate(by, operation).await?;
                None
            }
            (Some(_), None) => return Err(denied("the token is for a node, which names its key")),
        };
        let subject = Subject { cluster: self.cluster, role, name: join.name };
        let certificate = self.issue(&state, &authority, &subject, &join.request)?;
        let issues = role == Role::Voter;
        let others = if issues { self.other_keys(&authority)? } else { Vec::new() };
        let welcome = Welcome {
            certificate,
            authorities: believed(&state, &authority),
            cluster: state.spec.name.clone(),
            replica,
            profile: state.spec.profile,
            endpoints: endpoints(&state.spec, &self.node),
            authority_key: issues.then(|| authority.key_pem().to_string()),
            other_authorities: others,
        };
        serde_json::to_value(welcome).map(Reply::Json).map_err(internal)
    }

    /// The keys that this node holds beside the issuing authority's, each behind its certificate:
    /// a voter that joins in the middle of a rotation has no sealed one.
    fn other_keys(&self, issuing: &Authority) -> Result<Vec<String>, Reply> {
        let kept = self.files().load_authorities().map_err(internal)?;
        let others = kept.iter().filter(|other| other.fingerprint() != issuing.fingerprint());
        let text =
            |other: &Authority| format!("{}{}", other.certificate().to_pem(), *other.key_pem());
        Ok(others.map(text).collect())
    }

    pub(super) async fn renew(&self, caller: Option<Caller>, renewal: &Renewal) -> Answer {
        let caller = caller.ok_or_else(|| denied("renewing needs a certificate"))?;
        let state = self.state().await?;
        let authority = self.authority(&state)?;
        if caller.role.is_node() {
            self.may_renew(&state, &caller.name, renewal)?;
        } else {
            // A person's certificate is known by an entry of the log; it says no where the name is
            // refused.
            let operation = Operation::Certify {
                name: caller.name.clone(),
                role: token_role(caller.role),
                authority: authority.fingerprint().into(),
            };
            self.operate(caller.name.to_string(), operation).await?;
        }
        let certificate = self.issue(&state, &authority, &caller.subject(), &renewal.request)?;
        Ok(Reply::Json(json!({
            "certificate": certificate, "authorities": believed(&state, &authority)
        })))
    }

    /// A node renews while it is a member. While the authority's key is in wrong hands, its
    /// certificate proves nothing: then its datagram key has to.
    fn may_renew(
        &self,
        state: &ClusterState,
        name: &NodeName,
        renewal: &Renewal,
    ) -> Result<(), Reply> {
        let member = state.members.get(name);
        let member = member.ok_or_else(|| denied("this node is no member any more"))?;
        if !state.trust.rotation.as_ref().is_some_and(|rotation| rotation.compromised) {
            return Ok(());
        }
        let mine = self.files().load().map_err(internal)?.datagram;
        let me: ReplicaId = state.replica_of(&self.node).unwrap_or(ReplicaId(0));
        let theirs = DatagramPublicKey(member.datagram_key);
        let body = &renewal.body;
        let proven = |proof: &String| proof::holds(&body.request, proof, &mine, &theirs);
        match body.proofs.get(&me.0).is_some_and(proven) {
            true => Ok(()),
            false => Err(denied(
                "the authority is being replaced because its key leaked, and this request is not \
                 proven by the node's datagram key",
            )),
        }
    }

    /// Makes a new authority and proposes that everybody believes it. Its key leaves this node
    /// sealed for each voter alone, itself among them.
    pub(super) async fn begin_rotation(&self, by: String, begin: BeginRotation) -> Answer {
        let state = self.state().await?;
        let present = self.authority(&state)?;
        let name = present.certificate().cluster_name();
        let new = Authority::create(self.cluster, name, wall_s()).map_err(internal)?;
        let voters = state.members.values().filter(|member| member.role == MemberRole::Voter);
        let sealed = voters.map(|member| {
            let key = DatagramPublicKey(member.datagram_key);
            let sealed = sealed_key::seal(&new, &key);
            sealed.map(|sealed| (member.replica, sealed)).ok_or(member.replica)
        });
        let sealed = sealed.collect::<Result<_, ReplicaId>>();
        let unusable = |replica| internal(format!("the datagram key of {replica} can't be used"));
        let to: AuthorityId = new.fingerprint().into();
        let order = NewAuthority {
            from: present.fingerprint().into(),
            to,
            certificate: new.certificate().to_pem(),
            endorsement: present.endorse(&new, wall_s()).map_err(internal)?,
            sealed: sealed.map_err(unusable)?,
            compromised: begin.compromised,
        };
        let outcome = self.operate(by, Operation::Rotate(RotationOrder::Begin(order))).await?;
        Ok(Reply::Json(json!({ "authority": to, "outcome": outcome })))
    }

    /// Who issues, who is believed, and who rests on which; from the coordinator, which has heard
    /// the members.
    pub(super) async fn show_authority(&self) -> Answer {
        let status = self.ask(Question::Status).await?;
        if let (false, Some(coordinator)) = (status.authoritative, &status.coordinator)
            && *coordinator != self.node
        {
            let coordinator = Some(coordinator.clone());
            let refusal = model::Refusal::NotCoordinator { coordinator };
            if let Some(elsewhere) = self.elsewhere(&refusal) {
                return Err(elsewhere);
            }
        }
        let state = self.state().await?;
        let nodes = status.nodes.iter().filter(|node| node.replica.is_some()).map(
            |node| json!({ "name": node.name, "role": node.role, "certificate": node.certificate }),
        );
        let people = state.trust.people.iter().map(|(name, person)| {
            let authority = person.authority.or(state.trust.issuer);
            json!({
                "name": name, "role": person.role, "authority": authority,
                "since_wall_ms": person.wall_ms
            })
        });
        let revoked = state.trust.revoked.iter().map(|(name, revoked)| {
            let left_ms = revoked.until.since(state.now);
            json!({ "name": name, "since_wall_ms": revoked.wall_ms, "for_ms": left_ms })
        });
        Ok(Reply::Json(json!({
            "cluster": status.cluster, "authoritative": status.authoritative,
            "authorities": authorities(&state), "rotation": status.rotation,
            "nodes": nodes.collect::<Vec<Value>>(), "people": people.collect::<Vec<Value>>(),
            "revoked": revoked.collect::<Vec<Value>>(), "shut_out": state.trust.shut_out,
        })))
    }
}

/// The authorities that are believed, PEM.
fn believed(state: &ClusterState, issuing: &Authority) -> String {
    match state.authorities.is_empty() {
        true => issuing.certificate().to_pem(),
        false => state.authorities.concat(),
    }
}

/// The authorities that are believed, the one that issues first.
fn authorities(state: &ClusterState) -> Vec<Value> {
    let read = |(at, pem): (usize, &String)| match AuthorityCertificate::from_pem(pem) {
        Ok(authority) => json!({
            "fingerprint": authority.fingerprint().to_string(), "ends_s": authority.expires_s(),
            "issues": at == 0
        }),
        Err(error) => json!({ "error": error.to_string(), "issues": at == 0 }),
    };
    state.authorities.iter().enumerate().map(read).collect()
}

/// Why nobody could join with such a token: what lets a node in stands in the specification.
fn nobody_to_join(spec: &ClusterSpec, request: &CreateToken) -> Option<Problem> {
    let name = request.name.as_ref().filter(|_| request.role.is_node())?;
    (!spec.nodes.contains_key(name)).then(|| {
        Problem::new(
            "not-found",
            format!("the specification has no node {name}, so a token would let nobody in"),
            format!(
                "Add a [[node]] named \"{name}\" to the file, `backstay apply`, then `backstay \
                 token --node {name}` again."
            ),
        )
    })
}

fn token_role(role: Role) -> TokenRole {
    match role {
        Role::Voter => TokenRole::Voter,
        Role::Witness => TokenRole::Witness,
        Role::Member => TokenRole::Member,
        Role::Operator => TokenRole::Operator,
        Role::Viewer => TokenRole::Viewer,
    }
}

fn identity_role(role: TokenRole) -> Role {
    match role {
        TokenRole::Voter => Role::Voter,
        TokenRole::Witness => Role::Witness,
        TokenRole::Member => Role::Member,
        TokenRole::Operator => Role::Operator,
        TokenRole::Viewer => Role::Viewer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_for_a_node_that_is_not_specified_is_none() {
        let mut spec = ClusterSpec::default();
        spec.nodes.insert("a".parse().unwrap(), model::spec::NodeSpec::default());
        let asked = |role, name: Option<&str>| {
            let name = name.map(|name| name.parse().unwrap());
            nobody_to_join(&spec, &CreateToken { role, name, life_ms: None })
        };
        let refused = asked(Role::Voter, Some("zz")).expect("it is refused");
        for part in ["[[node]] named \"zz\"", "`backstay apply`", "token --node zz"] {
            assert!(refused.help.contains(part), "{}", refused.help);
        }
        assert!(asked(Role::Member, Some("zz")).is_some());
        assert_eq!(asked(Role::Voter, Some("a")), None);
        assert_eq!(asked(Role::Voter, None), None);
        assert_eq!(asked(Role::Operator, Some("ann")), None, "a person is in no specification");
    }
}
