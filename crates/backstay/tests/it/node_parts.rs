//! Agent, launcher and guard apart: what becomes of the service when one of them goes.

use backstay::orders::records::now;
use model::Moment;

use super::cluster_rig::{TestCluster, alone};
use super::demo_rig::until;

/// Longest outage that an agent's restart may cost, in milliseconds, beside what the machine
/// itself costs when nothing happens.
const RESTART_OUTAGE_MAX_MS: u64 = 100;

/// Lets so many orders through, so that there is a calm stretch to compare with.
fn calm(cluster: &TestCluster) -> Moment {
    let begin = now();
    for _ in 0..50 {
        cluster.served();
    }
    begin
}

#[test]
fn a_restart_of_the_agent_leaves_the_service_untouched() {
    let _alone = alone();
    let mut cluster = TestCluster::start();
    let scene = cluster.until_whole();
    let calm_begin = calm(&cluster);
    let before = cluster.holder();
    let begin = now();
    cluster.restart_agent(scene.active);
    let others = [(scene.active + 1) % 3, (scene.active + 2) % 3];
    cluster.until_scene("a coordinator", &others, |_| true);
    cluster.until_whole();
    cluster.served();
    let end = now();
    assert_eq!(cluster.holder(), before, "same instance, process and epoch");
    assert_eq!(cluster.instance(scene.active), Some(before.1));
    let machine_ms = cluster.longest_gap_ms(calm_begin, begin);
    let outage_ms = cluster.longest_gap_ms(begin, end);
    assert!(
        outage_ms <= RESTART_OUTAGE_MAX_MS + machine_ms,
        "{outage_ms} ms without an order, {machine_ms} ms when nothing happened"
    );
}

#[test]
fn the_guard_stops_an_active_instance_whose_agent_is_frozen() {
    let _alone = alone();
    let cluster = TestCluster::start();
    let scene = cluster.until_whole();
    let (_, pid, epoch) = cluster.holder();
    cluster.agent(scene.active).freeze();
    until("the instance's end", || (cluster.instance(scene.active) != Some(pid)).then_some(()));
    let others = [(scene.active + 1) % 3, (scene.active + 2) % 3];
    cluster.until_scene("a successor", &others, |now| now.active != scene.active);
    cluster.served();
    assert!(cluster.holder().2 > epoch, "{:?} after {epoch}", cluster.holder());
    assert_eq!(cluster.two_active_ms(), 0);
    cluster.agent(scene.active).wake();
    let whole = cluster.until_whole();
    assert_ne!(whole.active, scene.active, "woken, it is a standby");
    assert_eq!(cluster.two_active_ms(), 0);
}

#[test]
fn a_coordinators_death_leaves_the_services_of_other_nodes_running() {
    let _alone = alone();
    let mut cluster = TestCluster::start();
    let mut scene = cluster.until_whole();
    if scene.coordinator == scene.active {
        cluster.switchover(scene.coordinator, (scene.active + 1) % 3);
        scene = cluster.until_whole();
        cluster.served();
    }
    assert_ne!(scene.coordinator, scene.active);
    let before = cluster.holder();
    cluster.kill_node(scene.coordinator);
    let bystander = 3 - scene.coordinator - scene.active;
    let after = cluster.until_scene("a new coordinator", &[scene.active, bystander], |now| {
        now.coordinator != scene.coordinator
    });
    cluster.served();
    assert_eq!(after.active, scene.active);
    assert_eq!(cluster.holder(), before, "same instance, process and epoch");
    assert_eq!(cluster.instance(scene.active), Some(before.1));
}
