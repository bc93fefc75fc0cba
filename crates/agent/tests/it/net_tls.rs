//! Who is believed in TLS: rotation of the authority, and certificates that claim more than they
//! are.

use std::sync::Arc;

use agent::identity::{Credential, NodeKey, Role, Subject, TrustBundle, Validity, wall_s};
use agent::net::Tls;
use agent::net::tls::{API_PROTOCOL, PEER_PROTOCOL};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use crate::support::Issuer;

/// A handshake in memory; the error says which side refused, and why.
fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<(), String> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        feed(&mut server, &wire).map_err(|error| format!("server: {error:?}"))?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        feed(&mut client, &wire).map_err(|error| format!("client: {error:?}"))?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    panic!("a handshake takes three flights");
}

fn feed<D>(
    connection: &mut rustls::ConnectionCommon<D>,
    mut wire: &[u8],
) -> Result<(), rustls::Error> {
    while !wire.is_empty() {
        connection.read_tls(&mut wire).unwrap();
        connection.process_new_packets()?;
    }
    Ok(())
}

/// `a` dials `b` on the peer port.
fn peers(a: &Credential, b: &Credential) -> Result<(), String> {
    let (a, b) = (Tls::new(a).unwrap().now(), Tls::new(b).unwrap().now());
    handshake(&a.peer_client, &b.peer_server)
}

fn believing(bundle: &TrustBundle, issuer: &Issuer, name: &str) -> Credential {
    let key = NodeKey::generate().unwrap();
    let chain = issuer.chain(Role::Voter, name, &key, Validity::days(wall_s(), 30));
    Credential::new(bundle.clone(), &chain, key).unwrap()
}

#[test]
fn nodes_understand_each_other_at_every_step_of_a_rotation() {
    let old = Issuer::new();
    let new = Issuer::of(old.cluster);
    let both = old.bundle().with(new.authority.certificate().clone()).unwrap();
    let before = believing(&old.bundle(), &old, "a");
    let told = believing(&both, &old, "b");
    let renewed = believing(&both, &new, "c");
    let after = believing(&new.bundle(), &new, "d");
    for (one, other) in [(&before, &told), (&told, &renewed), (&renewed, &after)] {
        assert_eq!(peers(one, other), Ok(()));
        assert_eq!(peers(other, one), Ok(()));
    }
    for (one, other) in [(&before, &renewed), (&before, &after), (&told, &after)] {
        assert!(peers(one, other).is_err(), "a step was skipped");
        assert!(peers(other, one).is_err(), "a step was skipped");
    }
}

/// Whoever was away in the first step believes the old authority alone, which vouches for the new.
#[test]
fn one_that_was_away_believes_the_new_authority_by_the_old_ones_word() {
    let old = Issuer::new();
    let new = Issuer::of(old.cluster);
    let both = old.bundle().with(new.authority.certificate().clone()).unwrap();
    let endorsed = |by: &Issuer, role: Role| {
        let key = NodeKey::generate().unwrap();
        let chain = new.chain(role, "c", &key, Validity::days(wall_s(), 30));
        let endorsement = by.authority.endorse(&new.authority, wall_s()).unwrap();
        Credential::new(both.clone(), &format!("{chain}{endorsement}"), key).unwrap()
    };
    let away = believing(&old.bundle(), &old, "a");
    let renewed = endorsed(&old, Role::Voter);
    assert_eq!(peers(&away, &renewed), Ok(()));
    assert_eq!(peers(&renewed, &away), Ok(()));
    // An operator with a credential from before too.
    let ann = old.credential(Role::Operator, "ann");
    let api = Tls::new(&renewed).unwrap().now();
    let client = agent::net::tls::api_client(&ann, agent::net::verify::Expiry::Refuse).unwrap();
    assert_eq!(handshake(&client, &api.api_server), Ok(()));
    // Nobody else's word will do, and the old one's does not make an operator a node.
    let stranger = Issuer::of(old.cluster);
    for other in [endorsed(&stranger, Role::Voter), endorsed(&old, Role::Operator)] {
        assert!(peers(&away, &other).is_err());
        assert!(peers(&other, &away).is_err());
    }
    assert!(old.authority.endorse(&Issuer::new().authority, wall_s()).is_err(), "another cluster");
}

#[test]
fn after_a_rotation_no_certificate_of_the_old_authority_opens_anything() {
    // Older than the certificates that ran out.
    let old = Issuer::since(Issuer::new().cluster, 90);
    let new = Issuer::of(old.cluster);
    let after = Tls::new(&believing(&new.bundle(), &new, "d")).unwrap().now();
    for role in Role::ALL {
        for (name, old_one) in
            [("valid", old.credential(role, "x")), ("late", old.expired(role, "x"))]
        {
            let both = old.bundle().with(new.authority.certificate().clone()).unwrap();
            let key = NodeKey::from_pem(&old_one.key().to_pem()).unwrap();
            let knows_both = Credential::new(both, &old_one.chain_pem(), key).unwrap();
            let theirs = Tls::new(&knows_both).unwrap().now();
            let what = format!("{name} {role}");
            let peer = handshake(&theirs.peer_client, &after.peer_server).unwrap_err();
            assert!(peer.starts_with("server") && peer.contains("Authority"), "{what}: {peer}");
            let expiry = agent::net::verify::Expiry::Mark;
            let client = agent::net::tls::api_client(&knows_both, expiry).unwrap();
            let api = handshake(&client, &after.api_server).unwrap_err();
            assert!(api.starts_with("server") && api.contains("Authority"), "{what}: {api}");
            // Nor does anybody of now speak to it.
            let dialled = handshake(&after.peer_client, &theirs.peer_server).unwrap_err();
            // Who is no node can't be a server to begin with.
            let unfit = !role.is_node() && dialled.contains("server authentication");
            assert!(dialled.contains("Authority") || unfit, "{what}: {dialled}");
        }
    }
}

#[test]
fn a_nodes_key_cannot_issue() {
    let issuer = Issuer::new();
    let node = issuer.credential(Role::Voter, "a");
    // The node signs a certificate for an operator, with its genuine key and certificate.
    let node_key = rcgen::KeyPair::from_pem(&node.key().to_pem()).unwrap();
    let node_pem = first(&node.chain_pem());
    let posing = rcgen::Issuer::from_ca_cert_pem(&node_pem, node_key).unwrap();
    let name = "b".parse().unwrap();
    let subject = Subject { cluster: issuer.cluster, role: Role::Voter, name };
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names =
        vec![rcgen::SanType::URI(subject.to_uri().as_str().try_into().unwrap())];
    let key = NodeKey::generate().unwrap();
    let pair = rcgen::KeyPair::from_pem(&key.to_pem()).unwrap();
    let forged = params.signed_by(&pair, &posing).unwrap().pem();
    let credential = Credential::new(issuer.bundle(), &format!("{forged}{node_pem}"), key).unwrap();
    for outcome in [peers(&credential, &node), peers(&node, &credential)] {
        let refused = outcome.unwrap_err();
        assert!(refused.contains("Malformed") || refused.contains("Authority"), "{refused}");
    }
}

fn first(chain: &str) -> String {
    chain[..chain[1..].find("-----BEGIN").map_or(chain.len(), |at| at + 1)].to_string()
}

#[test]
fn an_operator_cannot_pose_as_a_server() {
    let issuer = Issuer::new();
    let operator = Tls::new(&issuer.credential(Role::Operator, "ann")).unwrap().now();
    let viewer = issuer.credential(Role::Viewer, "vera");
    let client = agent::net::tls::api_client(&viewer, agent::net::verify::Expiry::Refuse).unwrap();
    assert!(handshake(&client, &operator.api_server).is_err());
    let node = Tls::new(&issuer.credential(Role::Member, "m")).unwrap().now();
    assert!(handshake(&client, &node.api_server).is_ok());
}

#[test]
fn a_client_of_one_port_is_no_client_of_the_other() {
    let issuer = Issuer::new();
    let node = Tls::new(&issuer.credential(Role::Voter, "a")).unwrap().now();
    assert!(handshake(&node.peer_client, &node.api_server).is_err());
    assert_ne!(PEER_PROTOCOL, API_PROTOCOL);
}

#[test]
fn sessions_are_not_resumed() {
    let issuer = Issuer::new();
    let node = Tls::new(&issuer.credential(Role::Voter, "a")).unwrap().now();
    assert_eq!(node.peer_server.send_tls13_tickets, 0);
    assert_eq!(node.api_server.send_tls13_tickets, 0);
    assert!(!node.peer_server.session_storage.can_cache());
}
