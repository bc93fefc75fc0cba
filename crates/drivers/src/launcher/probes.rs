//! Commands of health checks: run as the resource's user, in the instance's cgroup where there
//! is one, killed as a group when their time is over.

use std::os::fd::OwnedFd;

use model::spec::Probe;
use model::{Moment, ResourceName, Span};
use rustix::process::Signal;

use super::PROBES_MAX;
use super::core::{Launcher, Source};
use crate::process::containment::signal_group;
use crate::process::logs::Output;
use crate::process::plan::{self, Naming};
use crate::protocol::{Event, Refusal, Status};
use crate::sys::{self, SpawnFailure};

/// How long a command may take where the specification says nothing.
const TIMEOUT_MS: u64 = 1_000;
/// Most of a command's output that goes into the reason.
const REASON_BYTES_MAX: usize = 256;

/// One command that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) resource: ResourceName,
    pub(super) pid: i32,
    index: u32,
    pidfd: OwnedFd,
    errors: OwnedFd,
    output: Option<Output>,
    until: Option<Moment>,
}

impl Running {
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.until
    }
}

impl Launcher {
    pub(super) fn on_exec_probe(
        &mut self,
        resource: &ResourceName,
        index: u32,
    ) -> Result<(), Refusal> {
        let spec = self.resources.get(resource).ok_or(Refusal::NotSpecified)?;
        let check = spec.health.get(index as usize).ok_or(Refusal::NotSpecified)?;
        let Probe::Exec(command) = check.probe.clone() else { return Err(Refusal::NotSpecified) };
        let timeout =
            Span::from_ms(if check.timeout_ms == 0 { TIMEOUT_MS } else { check.timeout_ms });
        let process = spec.kind.program().into_owned();
        let Some(instance) = self.instance_of(resource) else { return Err(Refusal::NotRunning) };
        if instance.is_ending() {
            return Err(Refusal::NotRunning);
        }
        if self.probes.values().any(|p| p.resource == *resource && p.index == index) {
            return Err(Refusal::Busy);
        }
        if self.probes.len() >= PROBES_MAX {
            return Err(Refusal::Limit(PROBES_MAX as u32));
        }
        let host = |e: &dyn std::error::Error| Refusal::Host(e.to_string());
        let dir = instance.cgroup_dir.as_ref().map(OwnedFd::try_clone).transpose();
        let dir = dir.map_err(|e| host(&e))?;
        let (role, epoch) = (instance.role, instance.epoch);
        let run_dir = self.options.run_dir.clone();
        let naming = Naming { run_dir: &run_dir, resource, role, epoch };
        let id = self.number();
        let (output, into) = self.logs.capture(id, None).map_err(|e| host(&e))?;
        let plan = plan::plan_probe(&process, &command, naming, into, dir).map_err(|e| host(&e))?;
        let child = sys::spawn(&plan).map_err(|e| host(&e))?;
        self.poll.add(&child.pidfd, Source::ProbeExit.token(id)).map_err(|e| host(&e))?;
        if let Err(errno) = rustix::io::write(&child.gate, b"g") {
            tracing::warn!(%errno, "a child is gone before its program ran");
        }
        let running = Running {
            resource: resource.clone(),
            pid: child.pid.as_raw_pid(),
            index,
            pidfd: child.pidfd,
            errors: child.errors,
            output: Some(output),
            until: Some(sys::now() + timeout),
        };
        self.probes.insert(id, running);
        Ok(())
    }

    pub(super) fn on_probes_due(&mut self, now: Moment) {
        for probe in self.probes.values_mut() {
            if probe.until.is_some_and(|until| until <= now) {
                probe.until = None;
                end(probe);
            }
        }
    }

    pub(super) fn kill_probes_of(&mut self, resource: &ResourceName) {
        for probe in self.probes.values_mut().filter(|p| p.resource == *resource) {
            probe.until = None;
            end(probe);
        }
    }

    /// Whether the process that ended was a command of a health check.
    pub(super) fn on_probe_ended(&mut self, pid: i32, status: Status) -> bool {
        let Some(id) = self.probes.iter().find(|(_, p)| p.pid == pid).map(|(id, _)| *id) else {
            return false;
        };
        let Some(mut probe) = self.probes.remove(&id) else { return false };
        self.poll.remove(&probe.pidfd);
        // What it started in its own group goes with it.
        end(&probe);
        let said = probe.output.take().map(|o| o.finish()).unwrap_or_default();
        let failure = failure(&probe, status, &said);
        let (resource, index) = (probe.resource, probe.index);
        self.tell(&Event::ProbeResult { resource, index, failure });
        true
    }
}

fn end(probe: &Running) {
    if let Err(error) = signal_group(probe.pid, Signal::KILL) {
        tracing::warn!(resource = %probe.resource, %error, "a health check can't be killed");
    }
}

fn failure(probe: &Running, status: Status, said: &str) -> Option<String> {
    let mut report = [0u8; 8];
    let len = rustix::io::read(&probe.errors, &mut report).unwrap_or(0);
    if let Some(SpawnFailure { step, errno }) = SpawnFailure::decode(&report[..len]) {
        return Some(format!("{step} failed: {}", std::io::Error::from_raw_os_error(errno)));
    }
    let how = match status {
        Status::Code(0) => return None,
        _ if probe.until.is_none() => "it took too long and was killed".to_owned(),
        Status::Code(code) => format!("it left with status {code}"),
        Status::Signal(signal) => format!("signal {signal} ended it"),
        Status::Unknown => "nobody saw how it ended".to_owned(),
    };
    let from = said.ceil_char_boundary(said.len().saturating_sub(REASON_BYTES_MAX));
    let said = said[from..].trim();
    Some(if said.is_empty() { how } else { format!("{how}: {said}") })
}
