//! The stage on which the faults are played: cluster, relays, service, and how one fault goes.

use std::time::Duration;

use model::{Epoch, Moment, Span};

use super::cluster::Cluster;
use super::error::{DemoError, system};
use super::judge::{Freeze, Interval, Window};
use super::options::{Coordinator, DemoOptions, Fault};
use super::phases::{Phases, reasons_of};
use super::premises::{NODES, Premises};
use super::relay::Relays;
use super::service::Service;
use super::{calls, faults, wait};
use crate::orders::records::now;

/// The service is watched for so long before each fault, and again after the cluster is whole.
const CALM: Duration = Duration::from_millis(500);

/// Everything that a fault may touch.
pub(super) struct Stage {
    /// Directory and addresses.
    pub premises: Premises,
    /// Between all nodes.
    pub relays: Relays,
    /// The nine processes.
    pub cluster: Cluster,
    /// Store, client, records.
    pub service: Service,
    /// The lease of the profile.
    pub lease: Span,
}

/// Who is who when a fault comes.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    /// The active node.
    pub active: usize,
    /// The coordinator's node.
    pub coordinator: usize,
    /// The active instance.
    pub holder: Interval,
}

impl Scene {
    /// A node that is neither, or at least not the active one.
    #[must_use]
    pub(super) fn bystander(&self) -> usize {
        let others = || (0..NODES.len()).filter(|node| *node != self.active);
        let neither = others().find(|node| *node != self.coordinator);
        neither.or_else(|| others().next()).unwrap_or(self.active)
    }
}

/// How a fault went, in moments.
#[derive(Debug, Clone)]
pub(super) struct Act {
    /// When it struck.
    pub fault: Moment,
    /// When the service was seen to work again.
    pub healing: Moment,
    /// The freeze that was part of it.
    pub freeze: Option<Freeze>,
    /// What else is worth telling.
    pub note: Option<String>,
}

/// A fault that was played.
#[derive(Debug, Clone)]
pub(super) struct Played {
    /// Which.
    pub fault: Fault,
    /// Over which time it is judged.
    pub window: Window,
    /// The freeze that was part of it.
    pub freeze: Option<Freeze>,
    /// Epoch before and after, node before and after, reasons.
    pub evidence: String,
    /// Where the time went, where the service moved.
    pub phases: Option<Phases>,
}

impl Stage {
    /// Builds everything up to a whole cluster with a client at work.
    ///
    /// # Errors
    /// [`DemoError`]
    pub(super) fn set(premises: Premises, options: &DemoOptions) -> Result<Stage, DemoError> {
        let relays = Relays::start(&premises.routes()).map_err(system("start the relays"))?;
        Service::start_store(&premises)?;
        let mut cluster = Cluster::found(&premises, options)?;
        cluster.until_whole()?;
        let begun = now();
        let mut service = Service::start_client(&premises)?;
        service.until_served(begun)?;
        let lease = options.profile.timers().lease;
        Ok(Stage { premises, relays, cluster, service, lease })
    }

    /// Plays one fault from a whole cluster to a whole cluster.
    ///
    /// # Errors
    /// [`DemoError`]
    pub(super) fn play(&mut self, fault: Fault) -> Result<Played, DemoError> {
        let scene = self.arrange(fault.coordinator())?;
        let begin = now();
        wait::pass(CALM)?;
        let Act { fault: struck, healing, freeze, note } = faults::play(fault, self, &scene)?;
        self.cluster.until_whole()?;
        wait::pass(CALM)?;
        let window = Window { begin, fault: struck, healing, end: now() };
        let after = self.service.holder()?;
        let (evidence, phases) = self.account(&scene, &after, note)?;
        Ok(Played { fault, window, freeze, evidence, phases })
    }

    /// Brings coordinator and active instance to where the fault needs them.
    fn arrange(&mut self, wanted: Coordinator) -> Result<Scene, DemoError> {
        let view = self.cluster.until_whole()?;
        let (active, coordinator) = placed(view.active, view.coordinator)?;
        let target = match wanted {
            Coordinator::Elsewhere if active == coordinator => {
                (0..NODES.len()).find(|node| *node != active)
            }
            Coordinator::OnActive if active != coordinator => Some(coordinator),
            _ => None,
        };
        if let Some(target) = target {
            self.cluster.switchover(coordinator, target)?;
            self.cluster.until_seen("the service at its place", |v| v.active == Some(target))?;
        }
        let view = self.cluster.until_whole()?;
        let (active, coordinator) = placed(view.active, view.coordinator)?;
        self.service.until_served(now())?;
        Ok(Scene { active, coordinator, holder: self.service.holder()? })
    }

    /// What the cluster says about the move.
    fn account(
        &self,
        scene: &Scene,
        after: &Interval,
        note: Option<String>,
    ) -> Result<(String, Option<Phases>), DemoError> {
        let moved = after.epoch > scene.holder.epoch;
        let mut parts = vec![told(&scene.holder, after)];
        let events = self.cluster.events()?;
        // The first move after the fault is the one that answered it.
        let epoch = first_move(&events, scene.holder.epoch, after.epoch);
        if moved {
            parts.extend(reasons_of(&events, calls::RESOURCE, epoch));
        }
        parts.extend(note);
        let phases = moved.then(|| Phases::from_events(&events, calls::RESOURCE, epoch)).flatten();
        Ok((parts.join("; "), phases))
    }
}

fn placed(active: Option<usize>, coordinator: Option<usize>) -> Result<(usize, usize), DemoError> {
    let places = active.zip(coordinator);
    places.ok_or(DemoError::Answer("an active instance and a coordinator"))
}

fn told(before: &Interval, after: &Interval) -> String {
    if after.epoch == before.epoch {
        return format!("{} kept epoch {}", before.instance, before.epoch);
    }
    let (from, to) = (&before.instance, &after.instance);
    format!("{from} → {to}, epoch {} → {}", before.epoch, after.epoch)
}

/// The lowest epoch after `before` that became active.
fn first_move(events: &serde_json::Value, before: Epoch, last: Epoch) -> Epoch {
    let mut epoch = before;
    while epoch < last && epoch.generation == last.generation {
        epoch = epoch.next();
        if Phases::from_events(events, calls::RESOURCE, epoch).is_some() {
            return epoch;
        }
    }
    last
}
