//! The life of certificates, through agents that run: they renew themselves, also after they ran
//! out, and a token lets in once.

use std::path::Path;

use agent::identity::{
    Authority, Caller, CertificateRequest, Credential, IdentityFiles, NodeKey, Validity, wall_s,
    write_file,
};

use super::cluster_rig::{NODES, TestCluster, alone};
use super::demo_rig::until;

const DAY_S: u64 = 86_400;

/// Made 90 days ago for 30.
fn ran_out() -> Validity {
    Validity { begins_s: wall_s() - 90 * DAY_S, ends_s: wall_s() - 60 * DAY_S }
}

/// Past its two thirds, and good for another day.
fn due() -> Validity {
    Validity { begins_s: wall_s() - 29 * DAY_S, ends_s: wall_s() + DAY_S }
}

/// Replaces the certificate of a node by one for the same key and another time.
fn age(authority: &Authority, data: &Path, validity: Validity) -> Caller {
    let files = IdentityFiles::new(data);
    let old = files.load().unwrap().credential;
    let request = CertificateRequest::from_pem(&old.key().request().unwrap()).unwrap();
    let (subject, addresses) = (old.caller().subject(), old.addresses());
    assert_eq!(addresses.len(), 2, "a certificate names the node's links");
    let chain = authority.issue(&subject, &request, &addresses, validity).unwrap();
    files.replace_certificate(&chain).unwrap().credential.caller()
}

fn age_operator(authority: &Authority, path: &Path) {
    let old = Credential::from_pem(&std::fs::read_to_string(path).unwrap()).unwrap();
    let request = CertificateRequest::from_pem(&old.key().request().unwrap()).unwrap();
    let chain = authority.issue(&old.caller().subject(), &request, &[], ran_out()).unwrap();
    let key = NodeKey::from_pem(&old.key().to_pem()).unwrap();
    let aged = Credential::new(old.bundle().clone(), &chain, key).unwrap();
    assert!(aged.caller().expired);
    write_file(path, aged.to_pem().as_bytes(), 0o600).unwrap();
}

/// Waits until a node's certificate is a new one.
fn renewed(data: &Path, old: &Caller) {
    until("a renewed certificate", || {
        let now = IdentityFiles::new(data).load().unwrap().credential;
        let caller = now.caller();
        let fresh = caller.fingerprint != old.fingerprint && caller.expires_s > wall_s() + DAY_S;
        fresh.then(|| {
            assert_eq!(caller.subject(), old.subject());
            assert_eq!(now.addresses().len(), 2, "it still names the node's links");
        })
    });
}

#[test]
fn a_cluster_that_was_off_for_longer_than_certificates_live_comes_up_and_renews_them() {
    let _alone = alone();
    let mut cluster = TestCluster::start();
    cluster.off();
    let paths: Vec<String> = (0..NODES.len()).map(|n| cluster.path(n, "data")).collect();
    let data: Vec<&Path> = paths.iter().map(Path::new).collect();
    let authority = IdentityFiles::new(data[0]).load_authority().unwrap().unwrap();
    // One node may issue and needs nobody. Another can't: it has to ask with what ran out, and
    // whom it asks ran out too.
    std::fs::remove_file(data[2].join("identity/authority.key")).unwrap();
    let old: Vec<Caller> = data.iter().map(|data| age(&authority, data, ran_out())).collect();
    assert!(old.iter().all(|caller| caller.expired));
    age_operator(&authority, &data[0].join("operator.pem"));
    cluster.start_node(0);
    renewed(data[0], &old[0]);
    cluster.on();
    data.iter().zip(&old).for_each(|(data, old)| renewed(data, old));

    // What runs and is only due renews itself too; nobody is asked to do anything.
    cluster.off();
    let old: Vec<Caller> = data.iter().map(|data| age(&authority, data, due())).collect();
    cluster.on();
    data.iter().zip(&old).for_each(|(data, old)| renewed(data, old));

    a_token_lets_in_once(&cluster);
}

fn a_token_lets_in_once(cluster: &TestCluster) {
    let token = until("a token", || cluster.ask(0, &["token", "--role", "viewer"]));
    let credential = cluster.path(0, "viewer.pem");
    let token = token.trim();
    let words = ["join", "--node", "eve", "--token", token, "--credential", &credential];
    cluster.call(&words).unwrap();
    let told = cluster.call(&words).expect_err("it was used");
    assert!(told.contains("token"), "{told}");
    let status = ["status", "--json", "--credential", &credential];
    let api = cluster.api(1);
    cluster.call(&[&status[..], &["--api", &api]].concat()).expect("a viewer may look");
}
