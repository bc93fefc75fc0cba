//! The lab's own eyes: what says who holds the address.

use std::time::Duration;

use drivers::sys::now;

use crate::cluster::{ADDRESS, Cluster, NODES};
use crate::judge::verdict;
use crate::shell::{Done, ip, pass};

/// So often each host gets the address and loses it.
const TIMES: usize = 100;
/// For so long, and for so long not.
const LASTS: Duration = Duration::from_millis(4);

pub(super) fn whoever_watches_the_address_misses_no_change(cluster: &mut Cluster) -> Done<String> {
    cluster.until_whole()?;
    for node in 0..NODES.len() {
        cluster.power_off(node)?;
    }
    let from = now();
    for name in NODES {
        let namespace = cluster.network.namespace(name);
        let set = |word: &str| ip(&format!("-n {namespace} address {word} {ADDRESS}/24 dev eth0"));
        ip(&format!("-n {namespace} link set eth0 up"))?;
        for _ in 0..TIMES {
            set("add")?;
            pass(LASTS);
            set("del")?;
            pass(LASTS);
        }
    }
    let seen = cluster.holdings()?.iter().filter(|holding| holding.from > from).count();
    if seen != TIMES * NODES.len() {
        return Err(format!("{TIMES} times on each of {} hosts, seen {seen} times", NODES.len()));
    }
    Ok(format!("{seen} times up and down, all seen; {}", verdict(cluster)?))
}
