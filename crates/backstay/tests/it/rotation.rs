//! Rotation of the authority on real processes: while the service runs, through crashes of the
//! coordinator, around a node that is away; and what the old authority opens afterwards.

use std::collections::BTreeSet;
use std::path::Path;

use agent::api::ApiClient;
use agent::identity::{
    Authority, CertificateRequest, Credential, Fingerprint, IdentityFiles, NodeKey, Role, Subject,
    TrustBundle, Validity, wall_s,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::cluster_rig::{NODES, TestCluster, alone};
use super::demo_rig::until;

impl TestCluster {
    fn files(&self, node: usize) -> IdentityFiles {
        IdentityFiles::new(Path::new(&self.path(node, "data")))
    }

    /// The authorities whose key a node holds, the one that issues first.
    fn keys(&self, node: usize) -> Vec<Fingerprint> {
        let kept = self.files(node).load_authorities().unwrap();
        kept.iter().map(Authority::fingerprint).collect()
    }

    /// A command as the operator; its output or what it said.
    fn order(&self, node: usize, words: &[&str]) -> Result<String, String> {
        self.order_as(&self.path(0, "data/operator.pem"), node, words)
    }

    fn order_as(&self, credential: &str, node: usize, words: &[&str]) -> Result<String, String> {
        let api = self.api(node);
        self.call(&[words, &["--credential", credential, "--api", &api]].concat())
    }

    fn authority(&self, node: usize) -> Option<Value> {
        let told = self.ask(node, &["authority", "show", "--json"])?;
        let told: Value = serde_json::from_str(&told).unwrap();
        (told["authoritative"] == true).then_some(told)
    }

    /// A person's credential, by a token.
    fn enrol(&self, role: &str, name: &str) -> String {
        let token = until("a token", || self.ask(0, &["token", "--role", role]));
        let path = self.path(0, &format!("{name}.pem"));
        let (token, path_too) = (token.trim(), path.clone());
        let words = ["join", "--node", name, "--token", token, "--credential", &path_too];
        self.call(&words).unwrap();
        path
    }

    /// The coordinator's agent crashes and is started again, as a service manager does.
    fn crash_coordinator(&mut self, among: &[usize]) {
        let scene = self.until_scene("a coordinator", among, |_| true);
        let crashed = scene.coordinator;
        kill_process(Pid::from_child(&self.agent(crashed).0), Signal::KILL).unwrap();
        self.agent_ends(crashed);
        self.start_agent(crashed);
        self.until_scene("a coordinator again", among, |_| true);
    }

    fn events(&self, node: usize) -> Vec<Value> {
        let told = until("events", || self.ask(node, &["events", "--json"]));
        serde_json::from_str(&told).unwrap()
    }

    /// The steps of rotations so far.
    fn steps(&self, node: usize) -> Vec<String> {
        let steps = self
            .events(node)
            .into_iter()
            .filter_map(|event| event["what"]["rotated"]["step"].as_str().map(str::to_owned));
        steps.collect()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn read(path: &str) -> Credential {
    Credential::from_pem(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A certificate that whoever holds an authority's key can make.
fn forged(authority: &Authority, bundle: &TrustBundle, role: Role) -> Credential {
    let key = NodeKey::generate().unwrap();
    let request = CertificateRequest::from_pem(&key.request().unwrap()).unwrap();
    let cluster = authority.certificate().cluster();
    let subject = Subject { cluster, role, name: NODES[1].parse().unwrap() };
    let validity = Validity::days(wall_s(), 30);
    let chain = authority.issue(&subject, &request, &[], validity).unwrap();
    Credential::new(bundle.clone(), &chain, key).unwrap()
}

/// Roles whose certificate of this authority a node's API still answers.
fn opens(
    cluster: &TestCluster,
    node: usize,
    authority: &Authority,
    bundle: &TrustBundle,
) -> Vec<Role> {
    let (runtime, api) = (runtime(), cluster.api(node).parse().unwrap());
    let answered = |role: &Role| {
        let client = ApiClient::new(&forged(authority, bundle, *role), &[api]).unwrap();
        runtime.block_on(client.get("/v1/status")).is_ok()
    };
    Role::ALL.into_iter().filter(answered).collect()
}

#[test]
fn a_rotation_disturbs_no_service_and_leaves_nothing_open_to_the_old_authority() {
    let _alone = alone();
    let mut cluster = TestCluster::start();
    let (ann, eve) = (cluster.enrol("operator", "ann"), cluster.enrol("viewer", "eve"));
    let old = cluster.files(0).load_authority().unwrap().unwrap();
    let before = cluster.holder();
    let assigned = |cluster: &TestCluster| {
        let moves = cluster.events(0).into_iter().filter(|e| !e["what"]["assigned"].is_null());
        moves.count()
    };
    let moves = assigned(&cluster);

    let rotate = ["authority", "rotate", "--wait", "60s"];
    let told = cluster.order(0, &rotate).unwrap();
    assert!(told.contains("2 of 3") && told.contains("still believed"), "{told}");
    let shown = until("the state of it", || cluster.authority(1));
    assert_eq!(shown["people"].as_array().unwrap().len(), 2, "{shown}");
    assert_eq!(shown["rotation"]["phase"], "renew", "{shown}");
    assert!(cluster.order(0, &["status"]).unwrap().contains("rotation of the authority"));
    // Who is not renewed yet is still let in, and believes the nodes by the old one's word.
    cluster.order_as(&eve, 1, &["status"]).expect("eve may look");
    let stale = cluster.path(0, "ann-before.pem");
    std::fs::copy(&ann, &stale).unwrap();
    cluster.order_as(&ann, 2, &["authority", "renew"]).unwrap();
    assert_eq!(read(&ann).bundle().authorities().len(), 2);

    let done = cluster.order_as(&ann, 1, &["authority", "rotate", "--finish", "--wait", "60s"]);
    assert!(done.as_ref().is_ok_and(|told| told.contains("believed no more")), "{done:?}");
    until("no rotation", || cluster.authority(0).filter(|told| told["rotation"].is_null()));
    let new = until("the old key's end", || {
        let keys: BTreeSet<_> = (0..3).map(|node| cluster.keys(node)).collect();
        let single = keys.iter().all(|keys| keys.len() == 1) && keys.len() == 1;
        single.then(|| cluster.files(0).load_authority().unwrap().unwrap())
    });
    assert_ne!(new.fingerprint(), old.fingerprint());
    let bundle = TrustBundle::new(vec![new.certificate().clone()]).unwrap();
    let knows_both = bundle.with(old.certificate().clone()).unwrap();
    for node in 0..NODES.len() {
        until("no role is let in by the old authority", || {
            opens(&cluster, node, &old, &knows_both).is_empty().then_some(())
        });
        assert_eq!(opens(&cluster, node, &new, &bundle), Role::ALL, "the new one's are");
        assert!(cluster.order_as(&eve, node, &["status"]).is_err(), "eve was not renewed");
        assert!(
            cluster.order_as(&stale, node, &["status"]).is_err(),
            "ann's certificate of before"
        );
        cluster.order_as(&ann, node, &["status"]).expect("ann was renewed");
    }
    let finished =
        cluster.events(0).into_iter().filter(|e| e["what"]["rotated"]["step"] == "finished");
    let shut_out = finished.map(|event| event["what"]["rotated"]["people"].clone()).next().unwrap();
    assert_eq!(shut_out, json!(["eve"]));
    cluster.served();
    assert_eq!(cluster.holder(), before, "one instance under one epoch all along");
    assert_eq!(assigned(&cluster), moves);
    assert_eq!(cluster.lost(), [""; 0]);

    a_name_is_refused(&cluster, &ann);
    a_leaked_key_lets_nobody_in(&mut cluster, &ann);
}

fn a_name_is_refused(cluster: &TestCluster, ann: &str) {
    let eve = cluster.enrol("operator", "mallory");
    cluster.order_as(&eve, 1, &["status"]).expect("not refused yet");
    let oneself = cluster.order_as(&eve, 1, &["authority", "revoke", "mallory"]);
    assert!(oneself.unwrap_err().contains("themselves"));
    cluster.order_as(ann, 1, &["authority", "revoke", "mallory"]).unwrap();
    for node in 0..NODES.len() {
        until("refused", || {
            let refused = cluster.order_as(&eve, node, &["status"]).err();
            refused.filter(|why| why.contains("are refused")).map(drop)
        });
        let renewed = cluster.order_as(&eve, node, &["authority", "renew"]);
        assert!(renewed.unwrap_err().contains("are refused"));
    }
    let token = cluster.order(0, &["token", "--role", "viewer"]).unwrap();
    let path = cluster.path(0, "again.pem");
    let words = ["join", "--node", "mallory", "--token", token.trim(), "--credential", &path];
    assert!(cluster.call(&words).unwrap_err().contains("this name is refused"));
}

/// The key that issues leaked: while it is replaced, nobody gets in by it.
fn a_leaked_key_lets_nobody_in(cluster: &mut TestCluster, ann: &str) {
    let leaked = cluster.files(0).load_authority().unwrap().unwrap();
    let bundle = TrustBundle::new(vec![leaked.certificate().clone()]).unwrap();
    let operator = read(&cluster.path(0, "data/operator.pem"));
    let asked = |credential: &Credential, path: &str, body: Value| {
        let client = ApiClient::new(credential, &[cluster.api(1).parse().unwrap()]).unwrap();
        runtime().block_on(client.post(path, &body)).map_err(|error| error.to_string())
    };
    asked(&operator, "/v1/authority", json!({ "compromised": true })).unwrap();
    // The doors are closed from here on.
    until("node 1 knows", || {
        let known = cluster.order_as(ann, 1, &["authority", "renew"]);
        known.err().filter(|why| why.contains("leaked")).map(drop)
    });
    let token = cluster.order(0, &["token", "--role", "viewer"]);
    assert!(token.as_ref().is_err_and(|why| why.contains("leaked")), "{token:?}");
    for role in [Role::Voter, Role::Witness, Role::Member] {
        let posing = forged(&leaked, &bundle, role);
        let request = posing.key().request().unwrap();
        let proofs = json!({ "1": "0".repeat(64), "2": "0".repeat(64), "3": "0".repeat(64) });
        let renewed = asked(&posing, "/v1/renew", json!({ "request": request, "proofs": proofs }));
        assert!(renewed.unwrap_err().contains("not proven"), "{role}");
        let rejoined = asked(&posing, "/v1/rejoin", json!({ "datagram_key": "1".repeat(64) }));
        assert!(rejoined.unwrap_err().contains("leaked"), "{role}");
    }
    cluster.order(0, &["authority", "rotate", "--compromised", "--wait", "60s"]).unwrap();
    let knows_both = {
        let new = until("one key", || cluster.files(1).load_authority().unwrap());
        bundle.with(new.certificate().clone()).unwrap()
    };
    for node in 0..NODES.len() {
        until("nothing is open to the leaked key", || {
            opens(cluster, node, &leaked, &knows_both).is_empty().then_some(())
        });
        assert!(cluster.order_as(ann, node, &["status"]).is_err(), "people join anew");
    }
    cluster.until_whole();
    cluster.enrol("viewer", "vera");
}

#[test]
fn a_rotation_goes_on_after_crashes_and_around_a_node_that_is_away() {
    let _alone = alone();
    let mut cluster = TestCluster::start();
    let scene = cluster.until_scene("a coordinator", &[0, 1, 2], |_| true);
    let away = (0..3).find(|node| *node != 0 && *node != scene.coordinator).unwrap();
    let rest: Vec<usize> = (0..3).filter(|node| *node != away).collect();
    let old = cluster.keys(0);
    cluster.kill_node(away);
    cluster.bury(away);
    let begin = ["authority", "rotate", "--wait", "2s"];
    let waits = cluster.order(0, &begin).unwrap_err();
    assert!(waits.contains(&format!("refuses: {} ", NODES[away])), "for it alone: {waits}");
    cluster.order(0, &["authority", "rotate", "--abort"]).unwrap();
    until("the new one's end", || (cluster.keys(0) == old).then_some(()));

    // Begun again, and the coordinator crashes after each step.
    cluster.order(0, &["authority", "rotate", "--wait", "1ms"]).unwrap_err();
    cluster.crash_coordinator(&rest);
    let without = ["authority", "rotate", "--wait", "60s", "--without", NODES[away]];
    until("the second step", || cluster.order(0, &without).ok());
    cluster.crash_coordinator(&rest);
    let finish = ["authority", "rotate", "--finish", "--wait", "1s"];
    let waits = cluster.order(0, &finish).unwrap_err();
    assert!(waits.contains(NODES[away]), "{waits}");
    // It believes the old authority alone, and comes back all the same.
    cluster.revive(away);
    until("the last step", || cluster.order(0, &finish).ok());
    cluster.until_whole();
    assert_eq!(cluster.steps(0), ["began", "aborted", "began", "renews", "finished"]);
    until("its own new key", || (cluster.keys(away) == cluster.keys(0)).then_some(()));
    assert_ne!(cluster.keys(0), old);

    a_node_that_was_left_behind_joins_anew(&mut cluster, away);
}

fn a_node_that_was_left_behind_joins_anew(cluster: &mut TestCluster, away: usize) {
    cluster.kill_node(away);
    cluster.bury(away);
    let without = ["--wait", "60s", "--without", NODES[away]];
    for last in [&[][..], &["--finish"]] {
        let words = [&["authority", "rotate"][..], last, &without].concat();
        until("the step", || cluster.order(0, &words).ok());
    }
    cluster.revive(away);
    let status = until("an alarm", || {
        let status = cluster.ask(0, &["status"])?;
        status.contains("left behind").then_some(status)
    });
    assert!(status.contains(&format!("{} was left behind", NODES[away])), "{status}");
    let refused = || {
        let metrics = cluster.files(0).load().unwrap().credential;
        let client = ApiClient::new(&metrics, &[cluster.api(0).parse().unwrap()]).unwrap();
        let text = runtime().block_on(client.get_text("/metrics")).ok()?;
        let counted = |line: &&str| {
            line.starts_with("backstay_connections_refused_total")
                && line.contains("reason=\"authority\"")
                && line.contains("port=\"peer\"")
        };
        let count = text.lines().find(counted)?.rsplit(' ').next()?.parse::<u64>().ok()?;
        (count > 0).then_some(())
    };
    until("it knocks in vain", refused);
    cluster.kill_node(away);
    cluster.bury(away);
    std::fs::rename(cluster.path(away, "data"), cluster.path(away, "aside")).unwrap();
    let token = until("a token", || cluster.ask(0, &["token", "--node", NODES[away]]));
    let data = cluster.path(away, "data");
    let words = ["join", "--node", NODES[away], "--token", token.trim(), "--data", &data];
    until("it joins", || cluster.call(&words).ok());
    cluster.revive(away);
    cluster.until_whole();
    let status = cluster.ask(0, &["status"]).unwrap();
    assert!(!status.contains("left behind"), "{status}");
}
