//! A member without a vote is in hostile hands: its key and certificate are real.

use std::path::Path;
use std::time::Duration;

use drivers::sys::now;
use rustix::process::Signal;

use super::lost::apart;
use crate::cluster::{Cluster, NODES, own_program};
use crate::datagrams::count_of;
use crate::hostile::{Hostile, Raft};
use crate::judge::{outage, verdict};
use crate::shell::{Done, until};

/// The member; all before it vote.
const MEMBER: usize = 2;
/// A term that nobody has got to.
const TERM: u8 = 100;
/// What operators may do, in words of theirs.
const DEEDS: [&[&str]; 7] = [
    &["switchover", "orders", "--to", "c"],
    &["failover", "orders", "--confirm-stopped", "a"],
    &["drain", "a", "--for", "1m"],
    &["maintenance", "--node", "a", "--for", "1m"],
    &["token", "--role", "operator"],
    &["transfer", "--to", "b"],
    &["forget", "b"],
];
/// How long it may take until enough heartbeats are captured, and until a forged one is counted.
const LISTEN: Duration = Duration::from_secs(10);
/// Enough of its own among them.
const CAPTURED: usize = 10;

/// Where heartbeats are counted whose tag is not their sender's.
const TAGGED: [&str; 2] = ["datagrams_dropped", "bad_tag"];

/// Everything that an operator may do, asked at every node.
fn calls(cluster: &Cluster, hostile: &Hostile) -> Done<usize> {
    let config = cluster.path("cluster.toml");
    let apply: &[&str] = &["apply", &config];
    let mut asked = 0;
    for node in 0..MEMBER {
        let by = |words: &[&str]| cluster.ask_as(&hostile.credential, MEMBER, node, words);
        by(&["status"]).map_err(|e| format!("it may look, and it may not: {e}"))?;
        for words in DEEDS.iter().copied().chain([apply]) {
            if let Ok(told) = by(words) {
                return Err(format!("a member was obeyed: {words:?}: {told}"));
            }
            asked += 1;
        }
    }
    Ok(asked)
}

/// Heartbeats of its own under the name of another, until the node counts one that it dropped.
fn forged(cluster: &Cluster, hostile: &Hostile, at: usize, other: usize) -> Done {
    let (own, file) = (own_program()?, cluster.path("captured"));
    let host = &cluster.nodes[MEMBER].host;
    let words = [own.as_str(), "capture-datagrams", &file];
    let listener = cluster.nodes[at].host.start(&cluster.network, "capture", &words)?;
    let captured = || count_of(Path::new(&file), hostile.replica().into()).unwrap_or(0);
    until("captured heartbeats of its own", LISTEN, || (captured() >= CAPTURED).then_some(()))?;
    drop(listener);
    let before = hostile.counted(cluster, at, &TAGGED)?;
    let (from, name) = (hostile.replica().to_string(), (other + 1).to_string());
    let words = [own.as_str(), "forge-datagrams", &file, &from, &name];
    let forger = host.start(&cluster.network, "forge", &words)?;
    until("a forged heartbeat that is dropped and counted", LISTEN, || {
        hostile.counted(cluster, at, &TAGGED).ok().filter(|count| *count > before)
    })?;
    drop(forger);
    Ok(())
}

pub(super) fn a_member_in_hostile_hands_is_held_to_its_role(cluster: &mut Cluster) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    if active == MEMBER {
        cluster.switchover(coordinator, 1 - coordinator)?;
    }
    let scene = cluster.until_whole()?;
    let (active, from) = (scene.active, now());
    let hostile = Hostile::take(cluster, MEMBER)?;
    let count = |cluster: &Cluster, words: &[&str]| -> Done<u64> {
        (0..MEMBER).map(|node| hostile.counted(cluster, node, words)).sum()
    };
    let denied = ["calls_denied", "\"role\""];
    let replica = ["connections_refused", "\"replica\""];
    let before = [count(cluster, &TAGGED)?, count(cluster, &denied)?, count(cluster, &replica)?];
    let term = cluster.status(coordinator).ok_or("no status")?["term"].clone();
    forged(cluster, &hostile, coordinator, 1 - coordinator)?;
    // Its own agent would take the connection back.
    cluster.part(MEMBER, "agent")?.signal(Signal::KILL)?;
    let asked = calls(cluster, &hostile)?;
    for (to, name) in NODES.iter().enumerate().take(MEMBER) {
        if hostile.say(cluster, to, 2 - to as u8, &[])? {
            return Err(format!("it was welcome at {} as another", name));
        }
        let kinds = [
            Raft::RequestPreVote,
            Raft::RequestVote,
            Raft::Append,
            Raft::Heartbeat,
            Raft::TimeoutNow,
        ];
        let all: Vec<Vec<u8>> = kinds.iter().map(|kind| hostile.raft(*kind, to, TERM)).collect();
        if !hostile.say(cluster, to, hostile.replica(), &all)? {
            return Err(format!("it was not welcome at {} as itself: nothing was said", name));
        }
    }
    let after = [count(cluster, &TAGGED)?, count(cluster, &denied)?, count(cluster, &replica)?];
    let status = cluster.status(coordinator).ok_or("no status")?;
    cluster.restart_part(MEMBER, "agent")?;
    let scene = cluster.until_whole()?;
    cluster.until_served()?;
    let (longest, up) = (outage(cluster, from), cluster.times_up(from)?);
    if status["term"] != term || up != 1 || scene.active != active {
        return Err(format!("term {term} and then {}, {scene:?}, {up}", status["term"]));
    }
    let counted: Vec<u64> =
        after.iter().zip(before).map(|(after, before)| after - before).collect();
    if counted[0] == 0 || counted[1] < asked as u64 || counted[2] < 2 {
        return Err(format!("not all was counted: {counted:?} of forged, {asked} and 2"));
    }
    Ok(format!(
        "{} forged heartbeats dropped, {} calls denied, another's name and a later term refused; \
         longest pause {} ms; {}",
        counted[0],
        counted[1],
        longest.as_ms(),
        verdict(cluster)?
    ))
}
