//! When a started instance counts as ready.

use model::spec::Ready;
use model::{Epoch, ResourceName, Span};

use super::core::Launcher;
use super::instance::Stage;
use crate::process::notify;
use crate::protocol::{Event, Refusal, Role};
use crate::sys;

/// How long a start may take where the specification says nothing.
const START_MS: u64 = 30_000;

impl Launcher {
    /// The program runs.
    pub(super) fn on_started(&mut self, id: u64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let now = sys::now();
        let start_ms = if instance.spec.start_ms == 0 { START_MS } else { instance.spec.start_ms };
        let ready_at = match instance.spec.ready {
            Ready::Started => return self.on_ready(id),
            Ready::DelayMs(ms) => Some(now + Span::from_ms(ms)),
            Ready::Notify | Ready::Probe => None,
        };
        // A delay longer than the limit is meant: it is the operator's own number.
        let limit = now + Span::from_ms(start_ms);
        let until = ready_at.map_or(limit, |at| at.max(limit));
        instance.stage = Stage::Starting { until, ready_at };
    }

    /// It is ready; one that was started as active is active.
    pub(super) fn on_ready(&mut self, id: u64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.ready || instance.is_ending() {
            return;
        }
        instance.ready = true;
        let starting = matches!(instance.stage, Stage::Executing | Stage::Starting { .. });
        if starting {
            instance.stage = Stage::Running;
        }
        let (resource, epoch) = (instance.resource.clone(), instance.epoch);
        let active = starting && instance.role == Role::Active;
        self.tell(&Event::Ready { resource: resource.clone(), epoch });
        if active {
            self.tell(&Event::Active { resource, epoch });
        }
    }

    pub(super) fn on_notify(&mut self, id: u64) {
        let Some(socket) = self.instances.get(&id).and_then(|i| i.notify.as_ref()) else { return };
        match notify::drain(socket) {
            Ok(true) => self.on_ready(id),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "NOTIFY_SOCKET can't be read"),
        }
    }

    /// The agent's health checks passed.
    pub(super) fn on_probed_ready(
        &mut self,
        resource: &ResourceName,
        epoch: Epoch,
    ) -> Result<(), Refusal> {
        let Some(instance) = self.instance_of(resource) else { return Err(Refusal::NotRunning) };
        if instance.epoch != epoch {
            return Err(Refusal::StaleEpoch { highest: instance.epoch });
        }
        if instance.spec.ready != Ready::Probe
            || matches!(instance.stage, Stage::Arming { promote: false, .. } | Stage::Executing)
        {
            return Err(Refusal::Busy);
        }
        let id = instance.id;
        self.on_ready(id);
        Ok(())
    }
}
