//! Two nodes and a witness: which votes, and runs nothing.

use drivers::sys::now;

use super::lost::apart;
use crate::cluster::{Cluster, PATIENCE};
use crate::judge::{outage, verdict};
use crate::shell::{Done, until};

/// The last of the nodes.
const WITNESS: usize = 2;

pub(super) fn a_lost_witness_raises_an_alarm_and_moves_nothing(
    cluster: &mut Cluster,
) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    if coordinator == WITNESS || active == WITNESS {
        return Err("the witness leads or serves".into());
    }
    let from = now();
    cluster.power_off(WITNESS)?;
    let alarm = until("an alarm", PATIENCE, || {
        cluster.alarms(coordinator)?.into_iter().find(|alarm| alarm.contains("voters"))
    })?;
    // Two of three decide.
    cluster.ask(active, &["maintenance", "--node", "c", "--for", "1m"])?;
    cluster.ask(active, &["maintenance", "--node", "c", "--end"])?;
    cluster.until_served()?;
    cluster.reboot(WITNESS)?;
    let scene = cluster.until_whole()?;
    until("the end of the alarm", PATIENCE, || {
        cluster.alarms(coordinator)?.is_empty().then_some(())
    })?;
    cluster.until_served()?;
    let (longest, up) = (outage(cluster, from), cluster.times_up(from)?);
    if up != 1 || scene.active != active || scene.coordinator != coordinator {
        return Err(format!("{scene:?}; the address was brought up {up} times"));
    }
    // The active node goes: what the witness is there for.
    cluster.power_off(active)?;
    cluster.until_scene("the service elsewhere", |scene| scene.active != active)?;
    cluster.until_served()?;
    let ms = longest.as_ms();
    Ok(format!("longest pause {ms} ms under the alarm \"{alarm}\"; {}", verdict(cluster)?))
}
