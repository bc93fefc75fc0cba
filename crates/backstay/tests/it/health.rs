//! Health checks of real instances: what is not ready is not active, what fails its check is
//! started again and then moved, and hooks are told of the move alone.

use serde_json::Value;

use super::cluster_rig::{NODES, TestCluster, alone};
use super::demo_rig::until;

/// A program that is healthy as long as a file of its node is there, and a hook that keeps what it
/// is told.
fn add_checked(cluster: &TestCluster) -> String {
    let own = cluster.path(0, "");
    let dir = own.strip_suffix("/a/").expect("a directory for each node");
    let file = format!("{dir}/cluster.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    // Only one runs at a time; where, its lease's path says: /tmp/DIRECTORY/NODE/run/…
    let run = format!("echo $BACKSTAY_LEASE > {dir}/where; exec sleep 1000");
    let check = format!("test -e {dir}/$(cut -d/ -f4 {dir}/where).healthy");
    let checked = format!(
        "\n[[resource]]\nname = \"checked\"\nkind = \"process\"\nstandby = \"cold\"\n\
         command = [\"/bin/sh\", \"-c\", \"{run}\"]\nready = \"probe\"\nstart_ms = 4000\n\
         health = [{{ exec = [\"/bin/sh\", \"-c\", \"{check}\"], every_ms = 50, failures = 2 }}]\n\
         recovery = {{ restarts = 1, backoff_ms = 0, poison_nodes = 9 }}\n\
         [[hook]]\non = [\"failover\"]\ncommand = [\"/bin/sh\", \"-c\", \
         \"cat >> {dir}/told; echo >> {dir}/told\"]\n"
    );
    std::fs::write(&file, before + &checked).unwrap();
    until("the new specification", || cluster.ask(0, &["apply", &file, "--quiet"]));
    dir.to_owned()
}

/// How the resource stands, as the coordinator sees it.
fn checked(cluster: &TestCluster) -> Option<Value> {
    let status = cluster.ask(1, &["status", "--json"])?;
    let status: Value = serde_json::from_str(&status).unwrap();
    status["resources"].as_array()?.iter().find(|r| r["name"] == "checked").cloned()
}

fn active_on(cluster: &TestCluster) -> Option<String> {
    let now = checked(cluster)?;
    let active = now["active"] == true && now["running"] == true;
    now["node"].as_str().filter(|_| active).map(str::to_owned)
}

#[test]
fn a_failed_check_restarts_then_moves_and_one_that_never_passed_makes_nothing_active() {
    let _alone = alone();
    let cluster = TestCluster::start();
    let dir = add_checked(&cluster);
    let healthy = |node: &str| format!("{dir}/{node}.healthy");
    until("a place", || Some(checked(&cluster)?["node"].as_str()?.to_owned()));
    assert_eq!(active_on(&cluster), None, "its check has not passed yet");
    for node in NODES {
        std::fs::write(healthy(node), "").unwrap();
    }
    // On a busy machine its time to get ready may have been over by then, and it be elsewhere.
    let place = until("its first passed check", || active_on(&cluster));
    let failures = |now: Option<Value>| now.and_then(|now| now["failures"].as_u64()).unwrap_or(0);
    let old = failures(checked(&cluster));
    std::fs::remove_file(healthy(&place)).unwrap();
    until("a failure", || (failures(checked(&cluster)) > old).then_some(()));
    let there = until("another node", || active_on(&cluster).filter(|node| *node != place));
    let explained = cluster.ask(0, &["explain", "checked"]).unwrap();
    assert!(explained.contains("unplanned move from"), "{explained}");
    assert!(explained.contains("check"), "{explained}");
    // The restart in place was no failover; the move was one.
    let told = until("the hook's word", || {
        std::fs::read_to_string(format!("{dir}/told")).ok().filter(|told| told.contains("checked"))
    });
    let told: Vec<Value> =
        told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let ours: Vec<&Value> = told.iter().filter(|t| t["detail"]["resource"] == "checked").collect();
    assert_eq!(ours.len(), 1, "{told:?}");
    assert_eq!(
        (&ours[0]["detail"]["from"], &ours[0]["detail"]["to"]),
        (&place.into(), &there.into())
    );
    assert_eq!(cluster.two_active_ms(), 0);
}
