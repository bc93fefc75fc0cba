//! Planned changes of place: the service moves to a node, the coordinator's office to another.

use std::time::Duration;

use super::{Cluster, NODES, ORDERS};
use crate::shell::{Done, until};

/// How often a node is asked to coordinate, and how long that may take each time.
const TRANSFERS_MAX: usize = 12;
const TRANSFER_WAIT: Duration = Duration::from_secs(5);

impl Cluster {
    /// Moves the service as planned, to a node, and waits until it is there.
    pub(crate) fn switchover(&self, asked: usize, to: usize) -> Done {
        self.ask(asked, &["switchover", ORDERS, "--to", NODES[to]])?;
        self.until_scene("the service at its place", |scene| scene.active == to).map(drop)
    }

    /// Hands the coordinator's office to a node. One that has just begun is bound by what it
    /// promised before and does not stand: it is asked again.
    pub(crate) fn transfer(&self, asked: usize, to: usize) -> Done {
        for _ in 0..TRANSFERS_MAX {
            let asked = self.ask(asked, &["transfer", "--to", NODES[to]]);
            let look = || self.seen(&|scene| scene.coordinator == to);
            match (until("an office", TRANSFER_WAIT, look), asked) {
                (Ok(_), _) => return Ok(()),
                (Err(_), Err(refused)) => eprintln!("asked again: {refused}"),
                (Err(_), Ok(_)) => {}
            }
        }
        Err(format!("{} was never made coordinator\n{}", NODES[to], self.told()))
    }
}
