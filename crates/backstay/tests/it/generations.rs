//! A new generation on real processes: a quorum that is lost for good, and an import.

use model::Epoch;
use serde_json::Value;

use super::cluster_rig::{NODES, TestCluster, alone};
use super::demo_rig::until;

impl TestCluster {
    /// The first step of a recovery, on a node: what it shows.
    fn look(&self, node: usize) -> Result<Value, String> {
        let told = self.call(&["recover-quorum", "--json", "--data", &self.path(node, "data")])?;
        Ok(serde_json::from_str(&told).unwrap())
    }

    /// The second step, with these words instead of the right ones.
    fn recover(&self, node: usize, name: &str, token: &str, off: &[&str]) -> Result<Value, String> {
        let data = self.path(node, "data");
        let mut words = vec!["recover-quorum", "--json", "--data", &data, "--cluster", name];
        words.extend(["--token", token, "--by", "carla", "--why", "two of three burnt"]);
        off.iter().for_each(|name| words.extend(["--off", name]));
        self.call(&words).map(|told| serde_json::from_str(&told).unwrap())
    }

    fn epoch(&self) -> Epoch {
        self.holder().2.parse().unwrap()
    }

    /// The agent of a node that was away hears of the generation, ends, is started again as a
    /// service manager does, and comes back.
    fn comes_back(&mut self, node: usize) {
        assert!(!self.agent_ends(node), "{} went on in its old generation", NODES[node]);
        self.start_agent(node);
    }
}

#[test]
fn a_survivor_begins_anew_serves_once_and_the_woken_majority_never_gets_active() {
    let _alone = alone();
    let mut cluster = TestCluster::start();
    let scene = cluster.until_whole();
    cluster.served();
    let before = cluster.epoch();
    // The active node and one more burn down; the third has the log.
    let survivor = (scene.active + 1) % 3;
    let other = (scene.active + 2) % 3;
    let lost = [NODES[scene.active], NODES[other]];
    assert!(cluster.look(survivor).is_err_and(|why| why.contains("an agent runs")));
    for node in [scene.active, other] {
        cluster.kill_node(node);
        cluster.bury(node);
    }
    cluster.stop_agent(survivor);

    let shown = cluster.look(survivor).unwrap();
    let token = shown["token"].as_str().unwrap().to_owned();
    assert_eq!(shown["shown"]["lost"].as_array().unwrap().len(), 2, "{shown}");
    for (name, token, off) in [
        ("tset", token.as_str(), &lost[..]),
        ("test", "0000-0000-0000-0000", &lost[..]),
        ("test", token.as_str(), &lost[..1]),
    ] {
        assert!(cluster.recover(survivor, name, token, off).is_err(), "{name} {token} {off:?}");
    }
    assert_eq!(cluster.look(survivor).unwrap(), shown, "refusals changed something");
    let begun = cluster.recover(survivor, "test", &token, &lost).unwrap();
    let generation = begun["generation"].as_u64().unwrap();
    assert!(generation > before.generation);
    assert!(cluster.recover(survivor, "test", &token, &lost).is_err(), "a token holds once");

    cluster.start_agent(survivor);
    cluster.until_scene("the service on the survivor", &[survivor], |s| s.active == survivor);
    cluster.served();
    let after = cluster.epoch();
    assert_eq!(after.generation, generation);
    assert!(after > before && after.counter > before.counter, "{before} then {after}");
    let events = cluster.ask(survivor, &["events"]).unwrap();
    assert!(events.contains("carla") && events.contains("two of three burnt"), "{events}");

    // The old majority wakes, with its disks and certificates.
    for node in [scene.active, other] {
        cluster.revive(node);
    }
    for node in [scene.active, other] {
        cluster.comes_back(node);
    }
    cluster.until_whole();
    cluster.served();
    assert_eq!(cluster.epoch(), after, "the service was left alone");
    assert_eq!(cluster.two_active_ms(), 0);
    assert_eq!(cluster.lost(), Vec::<String>::new());
    // They are whole members again: one more loss is survived.
    cluster.kill_node(survivor);
    let others = [scene.active, other];
    cluster.until_scene("a successor", &others, |scene| scene.active != survivor);
    cluster.served();
    assert!(cluster.epoch() > after && cluster.epoch().generation == generation);
    assert_eq!(cluster.two_active_ms(), 0);
}

#[test]
fn a_majority_that_is_there_or_a_node_that_answers_is_not_recovered_around() {
    let _alone = alone();
    let mut cluster = TestCluster::start();
    cluster.until_whole();
    cluster.stop_agent(0);
    let told = cluster.look(0).unwrap_err();
    assert!(told.contains("coordinator") || told.contains("that is a quorum"), "{told}");
    cluster.start_agent(0);
    cluster.until_whole();
    cluster.served();
}

#[test]
fn an_import_begins_a_higher_generation_and_the_old_nodes_come_back_into_it() {
    let _alone = alone();
    let mut cluster = TestCluster::start();
    cluster.until_whole();
    cluster.served();
    let file = cluster.path(0, "kept.state");
    until("an export", || cluster.ask(0, &["state", "export", "--out", &file]));
    assert!(cluster.ask(0, &["state", "export", "--out", &file]).is_none(), "it is never replaced");
    let viewer = cluster.call(&["state", "show", &file]).unwrap();
    assert!(viewer.contains("verified") && viewer.contains("authority's private key"), "{viewer}");
    let before = cluster.epoch();

    let (data, kept) = (cluster.path(0, "data"), cluster.path(0, "data.kept"));
    let authority = format!("{kept}/identity/authority.key");
    let target = cluster.path(0, "data.new");
    let import = ["state", "import", &file, "--json", "--node", "a", "--data", &target];
    let told = cluster.call(&import).unwrap_err();
    assert!(told.contains("answers at"), "the cluster lives: {told}");
    cluster.off();
    std::fs::rename(&data, &kept).unwrap();
    let import = [&import[..], &["--authority", &authority]].concat();
    let shown: Value = serde_json::from_str(&cluster.call(&import).unwrap()).unwrap();
    let token = shown["token"].as_str().unwrap();
    let confirm = ["--cluster", "test", "--token", token, "--why", "a drill", "--by", "carla"];
    let half = [&import[..], &confirm, &["--off", "b"]].concat();
    assert!(cluster.call(&half).is_err_and(|told| told.contains("c is off")));
    let whole = [&import[..], &confirm, &["--off", "b", "--off", "c"]].concat();
    let begun: Value = serde_json::from_str(&cluster.call(&whole).unwrap()).unwrap();
    std::fs::rename(&target, &data).unwrap();

    cluster.start_node(0);
    cluster.until_scene("the service on a", &[0], |scene| scene.active == 0);
    cluster.served();
    let after = cluster.epoch();
    assert_eq!(Some(after.generation), begun["generation"].as_u64());
    assert!(after > before && after.counter > before.counter, "{before} then {after}");
    for node in [1, 2] {
        cluster.start_node(node);
    }
    for node in [1, 2] {
        cluster.comes_back(node);
    }
    cluster.until_whole();
    cluster.served();
    assert_eq!(cluster.two_active_ms(), 0);
    assert_eq!(cluster.lost(), Vec::<String>::new());
}

#[test]
fn two_generations_that_began_without_knowing_of_each_other_become_one_before_anything_is_placed() {
    let _alone = alone();
    let mut cluster = TestCluster::start();
    cluster.until_whole();
    cluster.served();
    cluster.kill_node(2);
    cluster.bury(2);
    // Two people at once, each of whom takes the other's node for lost.
    cluster.stop_agent(0);
    cluster.stop_agent(1);
    let generations = [(0, ["b", "c"]), (1, ["a", "c"])].map(|(node, off)| {
        let token = cluster.look(node).unwrap()["token"].as_str().unwrap().to_owned();
        cluster.recover(node, "test", &token, &off).unwrap()["generation"].as_u64().unwrap()
    });
    let higher = usize::from(generations[1] > generations[0]);
    cluster.start_agent(0);
    cluster.start_agent(1);
    cluster.comes_back(1 - higher);
    let nodes = [0, 1];
    cluster.until_scene("one coordinator", &nodes, |scene| scene.coordinator == higher);
    cluster.served();
    assert_eq!(cluster.epoch().generation, generations[higher]);
    assert_eq!(cluster.two_active_ms(), 0);
    assert_eq!(cluster.lost(), Vec::<String>::new());
}
