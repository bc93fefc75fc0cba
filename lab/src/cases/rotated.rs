//! The authority is replaced under way: in order, and because its key leaked.

use std::process::Command;

use drivers::sys::now;

use super::lost::apart;
use crate::cluster::{Cluster, NODES, PATIENCE};
use crate::judge::{outage, verdict};
use crate::shell::{Done, run, until};
use rustix::process::Signal;

/// Longest wait for a step of a rotation.
const WAIT: &str = "60s";

/// What somebody kept of an authority that is replaced.
struct Kept {
    authority: String,
    operator: String,
}

impl Kept {
    /// Copies what is valid now.
    fn copy(cluster: &Cluster, name: &str) -> Done<Kept> {
        let copy = |from: &str, what: &str| {
            let to = cluster.path(&format!("{name}-{what}.pem"));
            std::fs::copy(from, &to).map_err(|e| format!("{from}: {e}"))?;
            Ok::<_, String>(to)
        };
        let authority = format!("{}/identity/authority.pem", cluster.of(0, "data"));
        Ok(Kept {
            authority: copy(&authority, "authority")?,
            operator: copy(&cluster.path("operator.pem"), "operator")?,
        })
    }

    /// Whether somebody else's program takes a node's certificate for one of this authority.
    fn issued(&self, cluster: &Cluster, node: usize) -> bool {
        let certificate = format!("{}/identity/node.pem", cluster.of(node, "data"));
        let words = ["verify", "-CAfile", &self.authority, &certificate];
        run(Command::new("openssl").args(words)).is_ok()
    }

    /// Whether a node still obeys the credential of before.
    fn obeyed(&self, cluster: &Cluster, node: usize) -> Done<bool> {
        match cluster.ask_as(&self.operator, node, node, &["status"]) {
            Ok(_) => Ok(true),
            Err(why) if why.contains("certificate") || why.contains("authority") => Ok(false),
            Err(why) => Err(format!("refused for another reason: {why}")),
        }
    }

    /// Nobody, node or person, is what it is by this authority's word any more.
    fn until_worthless(&self, cluster: &Cluster) -> Done {
        for (node, name) in NODES.iter().enumerate() {
            until(&format!("a new certificate of {name}"), PATIENCE, || {
                (!self.issued(cluster, node)).then_some(())
            })?;
            until(&format!("{name}'s refusal of the old operator"), PATIENCE, || {
                (self.obeyed(cluster, node) == Ok(false)).then_some(())
            })
            .map_err(|why| format!("{why}: {:?}", self.obeyed(cluster, node)))?;
        }
        Ok(())
    }
}

/// In order: a coordinator is lost between the steps.
fn in_order(cluster: &mut Cluster, coordinator: usize) -> Done {
    let old = Kept::copy(cluster, "first")?;
    for (node, name) in NODES.iter().enumerate() {
        if !old.issued(cluster, node) || !old.obeyed(cluster, node)? {
            return Err(format!("{name} is not of the first authority"));
        }
    }
    cluster.ask(coordinator, &["authority", "rotate", "--wait", WAIT])?;
    cluster.part(coordinator, "agent")?.signal(Signal::KILL)?;
    cluster.restart_part(coordinator, "agent")?;
    let scene = cluster.until_whole()?;
    cluster.ask(scene.coordinator, &["authority", "renew"])?;
    cluster.ask(scene.coordinator, &["authority", "rotate", "--finish", "--wait", WAIT])?;
    old.until_worthless(cluster)
}

/// The key leaked: nobody is told beforehand, and people join anew.
fn in_haste(cluster: &Cluster) -> Done {
    let leaked = Kept::copy(cluster, "leaked")?;
    let scene = cluster.until_whole()?;
    if !leaked.issued(cluster, 0) || !leaked.obeyed(cluster, 0)? {
        return Err("the second authority is not in force".into());
    }
    let words = ["authority", "rotate", "--compromised", "--wait", WAIT];
    cluster.ask(scene.coordinator, &words)?;
    leaked.until_worthless(cluster)
}

pub(super) fn an_authority_is_replaced_twice_and_nothing_moves(
    cluster: &mut Cluster,
) -> Done<String> {
    let (coordinator, active) = apart(cluster)?;
    let from = now();
    in_order(cluster, coordinator)?;
    in_haste(cluster)?;
    // The one beside the founding node's data is renewed; all others would have to join anew.
    let (renewed, own) = (cluster.of(0, "data/operator.pem"), cluster.path("operator.pem"));
    until("the founding node's operator", PATIENCE, || {
        std::fs::copy(&renewed, &own).ok()?;
        cluster.status(0)
    })?;
    cluster.until_served()?;
    let (longest, up) = (outage(cluster, from), cluster.times_up(from)?);
    if up != 1 {
        return Err(format!("the address was brought up {up} times"));
    }
    let scene = cluster.until_whole()?;
    if scene.active != active {
        return Err(format!("{scene:?}"));
    }
    Ok(format!(
        "in order, through a crash of the coordinator, and after a leak; openssl takes no node's \
         certificate for the old ones'; longest pause {} ms; {}",
        longest.as_ms(),
        verdict(cluster)?
    ))
}
