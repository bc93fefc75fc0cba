//! Nothing is wrong: an operator wants it so.

use drivers::sys::now;

use crate::cluster::Cluster;
use crate::judge::{outage, verdict};
use crate::shell::Done;

pub(super) fn a_switchover_loses_nothing(cluster: &mut Cluster) -> Done<String> {
    let scene = cluster.until_whole()?;
    let begun = now();
    cluster.switchover(scene.coordinator, (scene.active + 1) % 3)?;
    cluster.until_served()?;
    let outage = outage(cluster, begun);
    Ok(format!("an outage of {} ms; {}", outage.as_ms(), verdict(cluster)?))
}
