//! A node comes and goes, and comes and goes.

use std::time::Duration;

use super::lost::apart;
use crate::cluster::{Cluster, NODES};
use crate::judge::verdict;
use crate::shell::{Done, pass};

/// How often it goes.
const TIMES: usize = 10;
/// For how long it is away, and then there: longer and shorter than a lease.
const AWAY: Duration = Duration::from_millis(900);
const THERE: Duration = Duration::from_millis(700);

pub(super) fn a_node_that_comes_and_goes_moves_the_service_away_once(
    cluster: &mut Cluster,
) -> Done<String> {
    let (_, active) = apart(cluster)?;
    let before = cluster.holdings()?.len();
    for _ in 0..TIMES {
        cluster.network.isolate(NODES[active])?;
        pass(AWAY);
        cluster.network.heal()?;
        pass(THERE);
    }
    let scene = cluster.until_whole()?;
    cluster.until_served()?;
    let moves = cluster.holdings()?.len() - before;
    if moves != 1 || scene.active == active {
        return Err(format!("{moves} moves, and it is on {}", NODES[scene.active]));
    }
    Ok(format!("away {TIMES} times, one move; {}", verdict(cluster)?))
}
