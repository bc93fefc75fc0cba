//! `/metrics` of a running agent: what it measures grows while it works.

use agent::api::ApiClient;
use agent::identity::Credential;

use super::cluster_rig::{TestCluster, alone};
use super::demo_rig::until;

/// The samples of these families that are shown now, added up over their labels.
fn read(cluster: &TestCluster, node: usize, families: &[&str]) -> Vec<f64> {
    let credential = std::fs::read_to_string(cluster.path(0, "data/operator.pem")).unwrap();
    let credential = Credential::from_pem(&credential).unwrap();
    let client = ApiClient::new(&credential, &[cluster.api(node).parse().unwrap()]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = runtime.block_on(client.get_text("/metrics")).unwrap();
    let sum = |family: &&str| -> f64 {
        let samples = text.lines().filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            let name = name.split('{').next()?;
            (name == format!("backstay_{family}")).then(|| value.parse::<f64>().unwrap())
        });
        samples.sum()
    };
    families.iter().map(sum).collect()
}

#[test]
fn what_an_agent_measures_grows_while_it_works() {
    let _alone = alone();
    let mut cluster = TestCluster::start();
    let scene = cluster.until_whole();
    let coordinator = scene.coordinator;
    let growing = [
        "fsync_seconds_count",
        "fsync_seconds_sum",
        "commit_seconds_count",
        "commit_seconds_sum",
        "stall_seconds_count",
        "heartbeats_sent_total",
        "heartbeats_received_total",
    ];
    let before = read(&cluster, coordinator, &growing);
    until("every figure's growth", || {
        let after = read(&cluster, coordinator, &growing);
        before.iter().zip(&after).all(|(before, after)| after > before).then_some(())
    });
    let steady = ["peer_connected", "issuer_remaining_seconds", "certificate_remaining_seconds"];
    until("both peers' connections", || {
        let now = read(&cluster, coordinator, &steady);
        (now[0] == 2.0 && now[1] > now[2] && now[2] > 0.0).then_some(())
    });
    let failovers = read(&cluster, coordinator, &["failovers_total"])[0];
    if scene.active == coordinator {
        cluster.switchover(coordinator, (coordinator + 1) % 3);
    }
    let active = cluster.until_whole().active;
    cluster.kill_node(active);
    until("a counted failover", || {
        let now = read(&cluster, coordinator, &["failovers_total"])[0];
        (now == failovers + 1.0).then_some(())
    });
}
