//! The connection to the guard: one at a time; while it stands, another guard is sent away.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use model::{Epoch, ResourceName};

use super::core::{Launcher, Source};
use super::instance::Stage;
use crate::guard::wire::{FromGuard, PACKET_BYTES_MAX, ToGuard};
use crate::packet::{self, Received};
use crate::process::containment::Containment;
use crate::protocol::{Event, Role};

/// Packets taken before others have their turn.
const PACKETS_PER_TURN: usize = 256;

/// The socket and the present connection.
#[derive(Debug)]
pub(super) struct GuardLink {
    pub(super) listener: OwnedFd,
    pub(super) socket: Option<OwnedFd>,
    /// 0 before the guard's greeting.
    pub(super) incarnation: u64,
    pub(super) garbage: u64,
}

impl GuardLink {
    pub(super) fn bind(path: &Path) -> io::Result<GuardLink> {
        let listener = packet::serve(path)?;
        Ok(GuardLink { listener, socket: None, incarnation: 0, garbage: 0 })
    }

    /// Whether a guard has greeted and is connected.
    pub(super) fn is_up(&self) -> bool {
        self.socket.is_some() && self.incarnation != 0
    }
}

impl Launcher {
    pub(super) fn on_guard_connecting(&mut self) {
        let socket = match packet::accept(&self.guard.listener) {
            Ok(Some(socket)) => socket,
            Ok(None) => return,
            Err(error) => return tracing::warn!(%error, "a guard can't be taken"),
        };
        let trusted = packet::peer(&socket).is_ok_and(|peer| packet::trusted(peer, None));
        if trusted && self.is_guard_missed(crate::sys::now()) {
            self.on_guard_lost("it shows no life, and another is there");
        }
        if !trusted || self.guard.socket.is_some() {
            tracing::warn!(trusted, "a guard is sent away: another is on duty, or it is none");
            return;
        }
        if let Err(error) = self.poll.add(&socket, Source::Guard.token(0)) {
            return tracing::error!(%error, "the guard's connection can't be watched");
        }
        if let Err(error) = packet::send_packet(&socket, &ToGuard::Welcome) {
            // It goes on duty a little later all the same.
            tracing::warn!(%error, "the guard can't be welcomed");
        }
        self.guard.socket = Some(socket);
        self.on_guard();
    }

    pub(super) fn on_guard(&mut self) {
        let mut buffer = [0u8; PACKET_BYTES_MAX];
        for _ in 0..PACKETS_PER_TURN {
            let Some(socket) = &self.guard.socket else { return };
            match packet::receive(socket, &mut buffer) {
                Received::Nothing => return,
                Received::Closed => return self.on_guard_lost("its connection ended"),
                Received::Packet(len) => match postcard::from_bytes(&buffer[..len]) {
                    Ok(message) => self.on_guard_message(&message),
                    Err(_) => {
                        self.guard.garbage += 1;
                        let count = self.guard.garbage;
                        tracing::warn!(count, "a packet of garbage was dropped");
                    }
                },
            }
        }
    }

    /// Without a living guard nothing is active: `enforce` sees to that at once.
    pub(super) fn on_guard_lost(&mut self, how: &str) {
        let Some(socket) = self.guard.socket.take() else { return };
        self.poll.remove(&socket);
        tracing::warn!(how, "the guard is lost");
        if std::mem::take(&mut self.guard.incarnation) != 0 {
            self.tell(&Event::GuardLost);
        }
        self.enforce(crate::sys::now());
    }

    fn on_guard_message(&mut self, message: &FromGuard<'_>) {
        match *message {
            FromGuard::Hello { incarnation } => {
                self.guard.incarnation = incarnation;
                self.watch.begin(crate::sys::now());
                tracing::info!(guard = incarnation, "a guard is there");
                self.tell(&Event::GuardBack { guard: incarnation });
            }
            FromGuard::Armed { resource, epoch } => self.on_armed(resource, epoch, None),
            FromGuard::NotArmed { resource, epoch, reason } => {
                self.on_armed(resource, epoch, Some(reason));
            }
            FromGuard::Burnt { resource, epoch, empty } => {
                let Ok(resource) = ResourceName::new(resource) else { return };
                self.burn(&resource, epoch);
                let guard = self.guard.incarnation;
                self.tell(&Event::Burnt { resource: resource.clone(), epoch, guard, empty });
                self.on_burnt(&resource, epoch);
            }
            FromGuard::Alarm { resource, epoch, reason } => {
                let Ok(resource) = ResourceName::new(resource) else { return };
                let reason = reason.to_owned();
                self.tell(&Event::GuardAlarm { resource, epoch, reason });
            }
        }
    }

    /// Asks the guard to arm an instance; false where it can't be asked.
    pub(super) fn arm(&mut self, id: u64, epoch: Epoch) -> bool {
        let lease_number = self.page.lease_number();
        let Some(instance) = self.instances.get_mut(&id) else { return false };
        instance.lease_number = lease_number;
        let Some(socket) = self.guard.socket.as_ref().filter(|_| self.guard.is_up()) else {
            return false;
        };
        let run_dir = &self.options.run_dir;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let cgroup = match &instance.containment {
            Containment::Cgroup(cgroup) => text(&cgroup.path),
            Containment::Tree(_) => String::new(),
        };
        let address = instance.address.as_ref().map(|a| a.at().to_string()).unwrap_or_default();
        let message = ToGuard::Arm {
            resource: instance.resource.as_str(),
            epoch,
            cgroup: &cgroup,
            pid: instance.pid.unsigned_abs(),
            started: instance.started,
            lease: &text(&run_dir.instance_lease(&instance.resource)),
            lease_number,
            socket: &text(&run_dir.instance_socket(&instance.resource)),
            address: &address,
        };
        match packet::send_packet(socket, &message) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the guard can't be asked to arm");
                false
            }
        }
    }

    /// What the launcher can't stop is the guard's: it tries as well, and then forces a reboot or
    /// says that it may not. Without a guard the instance counted as lost before.
    pub(super) fn hand_to_guard(&mut self, resource: &ResourceName, epoch: Epoch) {
        let Some(socket) = &self.guard.socket else { return };
        let message = ToGuard::Kill { resource: resource.as_str(), epoch };
        if let Err(error) = packet::send_packet(socket, &message) {
            tracing::warn!(%error, %resource, "the guard can't be told to kill");
        }
    }

    /// Tells the guard that an instance needs it no longer.
    pub(super) fn disarm(&mut self, resource: &ResourceName, epoch: Epoch) {
        let Some(socket) = &self.guard.socket else { return };
        let message = ToGuard::Disarm { resource: resource.as_str(), epoch };
        if let Err(error) = packet::send_packet(socket, &message) {
            // It then kills an empty cgroup at worst.
            tracing::warn!(%error, %resource, "the guard can't be told to disarm");
        }
    }

    fn on_armed(&mut self, resource: &str, epoch: Epoch, refused: Option<&str>) {
        let waits = |i: &&super::instance::Instance| {
            i.resource.as_str() == resource
                && i.epoch == epoch
                && matches!(i.stage, Stage::Arming { .. })
        };
        let Some(id) = self.instances.values().find(waits).map(|i| i.id) else {
            // Given up meanwhile: what it armed is no longer wanted.
            if refused.is_none()
                && let Ok(name) = ResourceName::new(resource)
                && !self.instance_of(&name).is_some_and(|i| i.armed && i.epoch == epoch)
            {
                self.disarm(&name, epoch);
            }
            return;
        };
        match refused {
            None => self.on_arm_confirmed(id),
            Some(reason) => {
                tracing::warn!(resource, reason, "the guard refused");
                self.on_arm_failed(id);
            }
        }
    }

    /// The guard has killed an instance; the rest of its end is the launcher's own work.
    fn on_burnt(&mut self, resource: &ResourceName, epoch: Epoch) {
        let hit = |i: &&super::instance::Instance| {
            i.resource == *resource && i.role == Role::Active && i.epoch <= epoch
        };
        if let Some(id) = self.instances.values().find(hit).map(|i| i.id) {
            self.kill(id, crate::protocol::Why::LeaseEnd);
        }
    }
}
