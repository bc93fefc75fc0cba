//! The member machine: what this node's instances should be doing, under which epoch, until when.
//!
//! It is level-triggered: [`Member::reconcile`] compares what the applied control state asks of
//! this node with what its instances do, and returns the actions that close the gap. Start-up,
//! recovery and normal work are the same loop. It acts on an assignment only under a lease, with a
//! living guard, and with a log applied far enough to know that the assignment was not taken back
//! (rules 3 and 5). What it gives up it burns, and never relabels (rules 6 and 9).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use model::report::{
    Evidence, EvidenceGround, Failure, FailureReport, Heard, InstancePhase, InstanceStatus,
    REPORT_FAILURES_MAX, Report,
};
use model::spec::{Promote, ResourceKind, Standby};
use model::state::{ClusterState, FailureKey};
use model::{Epoch, Moment, NodeName, ReplicaId, ResourceName, Span};

use crate::placement;
use crate::plant::{Plant, Plants};

/// A standby that keeps failing is restarted at most this often, in milliseconds.
const STANDBY_PAUSE_MAX_MS: u64 = 30_000;

/// What a member is made with.
#[derive(Debug, Clone)]
pub struct MemberConfig {
    /// Its node's name.
    pub node: NodeName,
    /// Its incarnation.
    pub replica: ReplicaId,
    /// Start count of its agent.
    pub boot: u64,
    /// Planted faults; none in production.
    pub plants: Plants,
}

/// The role an instance is started in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartRole {
    /// Ready to be promoted.
    Standby,
    /// Active from the start, under this epoch.
    Active(Epoch),
}

/// What the launcher has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start an instance.
    Start {
        /// Of which resource.
        resource: ResourceName,
        /// How.
        role: StartRole,
    },
    /// Make a standby active.
    Promote {
        /// Which.
        resource: ResourceName,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// Make an active one standby.
    Demote {
        /// Which.
        resource: ResourceName,
        /// The epoch it gives up.
        epoch: Epoch,
    },
    /// Stop it: ask, wait, kill.
    Stop {
        /// Which.
        resource: ResourceName,
    },
    /// Kill it at once: its epoch must end now.
    Kill {
        /// Which.
        resource: ResourceName,
    },
}

/// What launcher, guard and health checks tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceEvent {
    /// The launcher (and through it the guard) answers. What it runs is all there is.
    LauncherUp {
        /// Incarnation of the guard, where one is alive.
        guard: Option<u64>,
        /// What runs: resource, whether active or on the way there, epoch, whether ready.
        running: Vec<(ResourceName, InstancePhase, Option<Epoch>)>,
    },
    /// The launcher is gone; nothing is known of the instances.
    LauncherDown,
    /// The guard came or went.
    Guard(Option<u64>),
    /// It runs and is ready, in whatever role it was started in.
    Ready(ResourceName),
    /// It was demoted and is a standby again.
    Standby(ResourceName),
    /// It is active.
    Active(ResourceName, Epoch),
    /// It ended, and nothing is left of it. `asked`: it was stopped by us.
    Gone {
        /// Which.
        resource: ResourceName,
        /// How it ended.
        failure: Failure,
        /// Whether it was told to.
        asked: bool,
        /// How long ago it ended.
        age: Span,
    },
    /// The guard stopped it because the lease had passed, and nothing is left of it.
    Burnt(ResourceName, Epoch),
    /// It could not be started, or not promoted; it does not run, or runs as standby.
    Refused {
        /// Which.
        resource: ResourceName,
        /// How it failed.
        failure: Failure,
        /// Whether it still runs, unpromoted.
        runs: bool,
    },
    /// The launcher did nothing, for a reason that may pass (no lease, no guard, busy): ask again.
    NotNow(ResourceName),
    /// The launcher refuses this epoch for good.
    EpochRefused(ResourceName, Epoch),
    /// It was told to stop and can't be stopped.
    Stuck(ResourceName),
    /// Its health changed.
    Health {
        /// Which.
        resource: ResourceName,
        /// The check that failed and its answer; none where all pass.
        failed: Option<(String, String)>,
    },
}

/// The lease as the member needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseView {
    /// Its end; none where there is none.
    pub end: Option<Moment>,
    /// See `Pulse::lease_fresh_from`.
    pub fresh_from: u64,
    /// Leases that lapsed in this boot.
    pub lapses: u64,
    /// The guard begins to stop this long before the end.
    pub stopping: Span,
}

#[derive(Debug, Clone)]
struct Instance {
    phase: InstancePhase,
    epoch: Option<Epoch>,
    healthy: bool,
    active_at: Moment,
    /// What it was started from; a standby of another is started anew.
    kind: ResourceKind,
    /// Leases that had lapsed in this boot when it was handed its epoch.
    lapses: u64,
}

/// The member machine.
#[derive(Debug, Clone)]
pub struct Member {
    config: MemberConfig,
    launcher: bool,
    guard: Option<u64>,
    instances: BTreeMap<ResourceName, Instance>,
    /// Per resource, the highest epoch that may never be active here, why, and since when.
    burnt: BTreeMap<ResourceName, (Epoch, EvidenceGround, Moment)>,
    failures: VecDeque<(FailureReport, Moment)>,
    failures_seen: u64,
    lapses_seen: u64,
    /// Assignments up to this index were made before the present lease.
    stale_upto: u64,
    pauses: BTreeMap<ResourceName, (u32, Moment)>,
    reports: u64,
    dirty: bool,
}

impl Member {
    /// A member that knows nothing of its instances yet.
    #[must_use]
    pub fn new(config: MemberConfig) -> Member {
        Member {
            config,
            launcher: false,
            guard: None,
            instances: BTreeMap::new(),
            burnt: BTreeMap::new(),
            failures: VecDeque::new(),
            failures_seen: 0,
            lapses_seen: 0,
            stale_upto: u64::MAX,
            pauses: BTreeMap::new(),
            reports: 0,
            dirty: true,
        }
    }

    /// Whether something changed that the coordinator should hear of now.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Takes in what launcher, guard or a health check tell.
    pub fn on_event(&mut self, now: Moment, state: &ClusterState, event: InstanceEvent) {
        self.dirty = true;
        match event {
            InstanceEvent::LauncherUp { guard, running } => {
                self.launcher = true;
                self.guard = guard;
                self.adopt(now, state, running);
            }
            InstanceEvent::LauncherDown => {
                self.launcher = false;
                self.guard = None;
            }
            InstanceEvent::Guard(guard) => self.guard = guard,
            InstanceEvent::Ready(resource) => {
                let starting =
                    |i: &&mut Instance| i.phase == InstancePhase::Starting && i.epoch.is_none();
                if let Some(instance) = self.instances.get_mut(&resource).filter(starting) {
                    instance.phase = InstancePhase::Standby;
                }
            }
            InstanceEvent::Standby(resource) => self.on_standby(now, &resource),
            InstanceEvent::Active(resource, epoch) => {
                if let Some(instance) = self.instances.get_mut(&resource) {
                    instance.phase = InstancePhase::Active;
                    instance.epoch = Some(epoch);
                    instance.active_at = now;
                }
            }
            InstanceEvent::Gone { resource, failure, asked, age } => {
                self.on_gone(now, state, &resource, failure, asked, age);
            }
            InstanceEvent::Burnt(resource, epoch) => {
                self.burn(now, &resource, epoch, EvidenceGround::Lapsed);
                if self.instances.get(&resource).is_some_and(|i| i.epoch == Some(epoch)) {
                    self.instances.remove(&resource);
                }
            }
            InstanceEvent::Refused { resource, failure, runs } => {
                self.on_refused(now, &resource, failure, runs);
            }
            InstanceEvent::NotNow(resource) => self.on_not_now(now, state, &resource),
            InstanceEvent::EpochRefused(resource, epoch) => {
                self.burn(now, &resource, epoch, EvidenceGround::NeverStarted);
                self.on_not_now(now, state, &resource);
            }
            InstanceEvent::Stuck(resource) => {
                if let Some(instance) = self.instances.get_mut(&resource) {
                    instance.phase = InstancePhase::Stuck;
                }
                self.note_failure(now, &resource, None, Failure::StopFailed, Span::ZERO);
            }
            InstanceEvent::Health { resource, failed } => {
                if let Some(instance) = self.instances.get_mut(&resource) {
                    let was = core::mem::replace(&mut instance.healthy, failed.is_none());
                    if let (true, Some((check, answer))) = (was, failed) {
                        let epoch = instance.epoch;
                        let failure = Failure::Unhealthy { check, answer };
                        self.note_failure(now, &resource, epoch, failure, Span::ZERO);
                    }
                }
            }
        }
    }

    fn adopt(
        &mut self,
        now: Moment,
        state: &ClusterState,
        running: Vec<(ResourceName, InstancePhase, Option<Epoch>)>,
    ) {
        let before = core::mem::take(&mut self.instances);
        for (resource, phase, epoch) in running {
            let kind = match (before.get(&resource), state.spec.resources.get(&resource)) {
                (Some(instance), _) => instance.kind.clone(),
                (None, Some(spec)) => spec.kind.clone(),
                (None, None) => ResourceKind::Process(Default::default()),
            };
            // What was handed its epoch before this boot counts as of the boot's beginning.
            let lapses = before.get(&resource).map_or(0, |instance| instance.lapses);
            let instance = Instance { phase, epoch, healthy: true, active_at: now, kind, lapses };
            self.instances.insert(resource, instance);
        }
        // What ran under the launcher before and is not in its list is gone for good.
        for (resource, instance) in before {
            if let Some(epoch) = instance.epoch
                && !self.instances.contains_key(&resource)
            {
                self.burn(now, &resource, epoch, EvidenceGround::Empty);
            }
        }
    }

    fn on_standby(&mut self, now: Moment, resource: &ResourceName) {
        let Some(instance) = self.instances.get_mut(resource) else { return };
        instance.phase = InstancePhase::Standby;
        if let Some(epoch) = instance.epoch.take() {
            self.burn(now, resource, epoch, EvidenceGround::Demoted);
        }
    }

    fn on_gone(
        &mut self,
        now: Moment,
        state: &ClusterState,
        resource: &ResourceName,
        failure: Failure,
        asked: bool,
        age: Span,
    ) {
        let Some(instance) = self.instances.remove(resource) else { return };
        if let Some(epoch) = instance.epoch {
            self.burn(now.before(age), resource, epoch, EvidenceGround::Empty);
        }
        if !asked {
            self.note_failure(now, resource, instance.epoch, failure, age);
            self.pause(now, state, resource);
        }
    }

    /// Nothing was done: what was on its way to be started is not there, what was on its way to
    /// another role is what it was.
    fn on_not_now(&mut self, now: Moment, state: &ClusterState, resource: &ResourceName) {
        let Some(instance) = self.instances.get_mut(resource) else { return };
        match instance.phase {
            InstancePhase::Starting => {
                self.instances.remove(resource);
                self.pause(now, state, resource);
            }
            InstancePhase::Promoting => {
                instance.phase = InstancePhase::Standby;
                instance.epoch = None;
            }
            InstancePhase::Stopping if instance.epoch.is_some() => {
                instance.phase = InstancePhase::Active;
            }
            _ => {}
        }
    }

    fn on_refused(&mut self, now: Moment, resource: &ResourceName, failure: Failure, runs: bool) {
        let epoch = self.instances.get(resource).and_then(|i| i.epoch);
        if let Some(epoch) = epoch {
            self.burn(now, resource, epoch, EvidenceGround::NeverStarted);
        }
        match self.instances.get_mut(resource) {
            Some(instance) if runs => {
                instance.phase = InstancePhase::Standby;
                instance.epoch = None;
            }
            _ => {
                self.instances.remove(resource);
            }
        }
        self.note_failure(now, resource, epoch, failure, Span::ZERO);
    }

    fn pause(&mut self, now: Moment, state: &ClusterState, resource: &ResourceName) {
        let backoff = state.spec.resources.get(resource).map_or(250, |s| s.recovery.backoff_ms);
        let (count, since) = self.pauses.get(resource).copied().unwrap_or((0, now));
        let calm = now.since(since) > Span::from_ms(STANDBY_PAUSE_MAX_MS * 2);
        let count = if calm { 0 } else { count.saturating_add(1) };
        let pause = match count {
            0 => 0,
            n => (backoff << (n - 1).min(16)).min(STANDBY_PAUSE_MAX_MS),
        };
        self.pauses.insert(resource.clone(), (count, now + Span::from_ms(pause)));
    }

    fn burn(&mut self, now: Moment, resource: &ResourceName, epoch: Epoch, why: EvidenceGround) {
        let known = self.burnt.get(resource).map(|(e, _, _)| *e);
        if known.is_none_or(|known| epoch > known) {
            self.burnt.insert(resource.clone(), (epoch, why, now));
            self.dirty = true;
        }
    }

    fn is_burnt(&self, resource: &ResourceName, epoch: Epoch) -> bool {
        self.burnt.get(resource).is_some_and(|(burnt, _, _)| epoch <= *burnt)
    }

    fn note_failure(
        &mut self,
        now: Moment,
        resource: &ResourceName,
        epoch: Option<Epoch>,
        failure: Failure,
        age: Span,
    ) {
        while self.failures.len() >= REPORT_FAILURES_MAX {
            self.failures.pop_front();
        }
        self.failures_seen += 1;
        let number = self.failures_seen;
        let resource = resource.clone();
        let report = FailureReport { resource, number, epoch, failure, age_us: 0 };
        self.failures.push_back((report, now.before(age)));
    }

    /// What to do now so that the instances do what the control state asks.
    pub fn reconcile(
        &mut self,
        now: Moment,
        state: &ClusterState,
        lease: LeaseView,
    ) -> Vec<Action> {
        self.notice_lapse(now, state, lease);
        if !self.launcher {
            return Vec::new();
        }
        let mut actions = Vec::new();
        let names: Vec<ResourceName> = state
            .resources
            .keys()
            .chain(self.instances.keys().filter(|r| !state.resources.contains_key(*r)))
            .cloned()
            .collect();
        for resource in names {
            if let Some(action) = self.reconcile_one(now, state, lease, &resource) {
                self.dirty = true;
                actions.push(action);
            }
        }
        actions
    }

    /// A lapse burns what this node held, whether it runs or not; and a lease that began after a
    /// lapse (or a start) makes every assignment before it stale.
    fn notice_lapse(&mut self, now: Moment, state: &ClusterState, lease: LeaseView) {
        if lease.lapses > self.lapses_seen {
            self.lapses_seen = lease.lapses;
            self.stale_upto = u64::MAX;
        }
        if self.stale_upto == u64::MAX && lease.end.is_some() && lease.fresh_from != u64::MAX {
            self.stale_upto = lease.fresh_from;
        }
        if !self.launcher {
            return;
        }
        self.burn_lapsed(now);
        let stale_upto = if lease.end.is_some() { self.stale_upto } else { u64::MAX };
        for (resource, held) in &state.resources {
            let Some(holder) = held.holder.as_ref().filter(|h| h.replica == self.config.replica)
            else {
                continue;
            };
            let index = held.moves.back().map_or(0, |m| m.index);
            let runs = self.instances.get(resource).is_some_and(|i| i.epoch == Some(holder.epoch));
            let lapsed = self.lapses_seen > 0 && lease.end.is_none();
            if !self.is_burnt(resource, holder.epoch) {
                // At a start nothing is known of the lease before the first grant: wait for it.
                let known = lease.end.is_some() && self.stale_upto != u64::MAX;
                if !runs && known && index <= stale_upto {
                    self.burn(now, resource, holder.epoch, EvidenceGround::NeverStarted);
                } else if lapsed {
                    self.burn(now, resource, holder.epoch, EvidenceGround::Lapsed);
                }
            }
        }
    }

    /// A lease that lapsed burns what it covered even where the next one has begun already (the
    /// whole machine stood still, and the first datagram after it brought a grant): somebody else
    /// may have been given the resource in between.
    fn burn_lapsed(&mut self, now: Moment) {
        let lapsed: Vec<(ResourceName, Epoch)> = self
            .instances
            .iter()
            .filter(|(_, instance)| instance.lapses < self.lapses_seen)
            .filter_map(|(resource, instance)| Some((resource.clone(), instance.epoch?)))
            .collect();
        for (resource, epoch) in lapsed {
            self.burn(now, &resource, epoch, EvidenceGround::Lapsed);
        }
    }

    fn reconcile_one(
        &mut self,
        now: Moment,
        state: &ClusterState,
        lease: LeaseView,
        resource: &ResourceName,
    ) -> Option<Action> {
        let wanted = self.wanted(now, state, lease, resource);
        let spec = state.spec.resources.get(resource);
        let Some(instance) = self.instances.get(resource) else {
            return self.start(now, state, resource, wanted);
        };
        let epoch = instance.epoch;
        let by_socket = spec.is_some_and(|s| {
            let ResourceKind::Process(process) = &s.kind;
            process.promote == Promote::Socket
        });
        let stale_kind = spec.is_some_and(|s| s.kind != instance.kind);
        match (instance.phase, wanted) {
            (InstancePhase::Stopping | InstancePhase::Stuck, _) => None,
            // A burnt epoch or a failed health check ends now; whether it also ends well is
            // secondary.
            (_, _) if epoch.is_some_and(|e| self.is_burnt(resource, e)) => {
                self.stop(resource, true)
            }
            (_, _) if !instance.healthy => {
                if let Some(epoch) = epoch {
                    self.burn(now, resource, epoch, EvidenceGround::Empty);
                }
                self.pause(now, state, resource);
                self.stop(resource, true)
            }
            (_, Want::Nothing) => self.stop(resource, false),
            (InstancePhase::Active | InstancePhase::Promoting, Want::Active(new)) => {
                if epoch == Some(new) {
                    return None;
                }
                if self.relabels() {
                    self.instances.get_mut(resource)?.epoch = Some(new);
                    return None;
                }
                // A new epoch restarts or re-promotes, it never relabels.
                self.give_up(resource, epoch, by_socket)
            }
            (InstancePhase::Active, Want::Standby) if self.relabels() => {
                // Planted: given up on paper alone, so that the next epoch finds it running.
                let epoch = self.instances.get_mut(resource)?.epoch.take()?;
                self.burn(now, resource, epoch, EvidenceGround::Demoted);
                None
            }
            (InstancePhase::Active, Want::Standby) => self.give_up(resource, epoch, by_socket),
            // One that can't change roles is restarted by the launcher as part of its promotion.
            (InstancePhase::Standby, Want::Active(_)) if stale_kind => {
                self.stop(resource, false)
            }
            (InstancePhase::Standby, Want::Active(new)) => {
                let lapses = self.lapses_seen;
                let instance = self.instances.get_mut(resource)?;
                instance.phase = InstancePhase::Promoting;
                instance.epoch = Some(new);
                instance.lapses = lapses;
                Some(Action::Promote { resource: resource.clone(), epoch: new })
            }
            (InstancePhase::Standby, Want::Standby) if stale_kind => self.stop(resource, false),
            _ => None,
        }
    }

    fn relabels(&self) -> bool {
        self.config.plants.has(Plant::EpochRelabelled)
    }

    fn give_up(
        &mut self,
        resource: &ResourceName,
        epoch: Option<Epoch>,
        by_socket: bool,
    ) -> Option<Action> {
        let epoch = epoch.filter(|_| by_socket);
        let Some(epoch) = epoch else { return self.stop(resource, false) };
        self.instances.get_mut(resource)?.phase = InstancePhase::Stopping;
        Some(Action::Demote { resource: resource.clone(), epoch })
    }

    fn stop(&mut self, resource: &ResourceName, at_once: bool) -> Option<Action> {
        self.instances.get_mut(resource)?.phase = InstancePhase::Stopping;
        let resource = resource.clone();
        Some(if at_once { Action::Kill { resource } } else { Action::Stop { resource } })
    }

    fn start(
        &mut self,
        now: Moment,
        state: &ClusterState,
        resource: &ResourceName,
        wanted: Want,
    ) -> Option<Action> {
        let spec = state.spec.resources.get(resource)?;
        let ResourceKind::Process(process) = &spec.kind;
        let role = match wanted {
            Want::Nothing => return None,
            // Started as standby and promoted when ready, so that one path serves both.
            Want::Active(_) if process.promote == Promote::Socket => StartRole::Standby,
            Want::Active(epoch) => StartRole::Active(epoch),
            Want::Standby => StartRole::Standby,
        };
        if wanted == Want::Standby && self.pauses.get(resource).is_some_and(|(_, at)| now < *at) {
            return None;
        }
        let epoch = match role {
            StartRole::Active(epoch) => Some(epoch),
            StartRole::Standby => None,
        };
        let kind = spec.kind.clone();
        let phase = InstancePhase::Starting;
        let lapses = self.lapses_seen;
        let active_at = Moment::ZERO;
        let instance = Instance { phase, epoch, healthy: true, active_at, kind, lapses };
        self.instances.insert(resource.clone(), instance);
        Some(Action::Start { resource: resource.clone(), role })
    }

    fn wanted(
        &mut self,
        now: Moment,
        state: &ClusterState,
        lease: LeaseView,
        resource: &ResourceName,
    ) -> Want {
        let Some(spec) = state.spec.resources.get(resource) else {
            return self.unspecified(resource, state, now);
        };
        let Some(held) = state.resources.get(resource) else { return Want::Nothing };
        let standby = |wants: bool| if wants { Want::Standby } else { Want::Nothing };
        let hot = spec.standby == Standby::Hot
            && placement::may_run(state, resource, &self.config.node).is_ok();
        let Some(holder) = held.holder.as_ref().filter(|h| h.replica == self.config.replica) else {
            return standby(hot && held.quarantine.is_none());
        };
        let epoch = holder.epoch;
        if self.is_burnt(resource, epoch) {
            return standby(hot && held.quarantine.is_none());
        }
        if holder.releasing {
            let runs = self.instances.get(resource).is_some_and(|i| i.epoch == Some(epoch));
            if !runs {
                self.burn(now, resource, epoch, EvidenceGround::NeverStarted);
            }
            return standby(hot && held.quarantine.is_none());
        }
        let active_already = self.instances.get(resource).is_some_and(|i| i.epoch == Some(epoch));
        let in_time = lease.end.is_some_and(|end| now + lease.stopping * 2 < end);
        let known = state.index >= lease.fresh_from && lease.fresh_from != u64::MAX;
        if active_already || (in_time && known && self.guard.is_some()) {
            return Want::Active(epoch);
        }
        // Not yet: no lease, no guard, or not caught up. A standby may wait for it.
        if self.instances.contains_key(resource) { Want::Standby } else { standby(hot) }
    }

    fn unspecified(&mut self, resource: &ResourceName, state: &ClusterState, now: Moment) -> Want {
        let holder = state.resources.get(resource).and_then(|held| held.holder.as_ref());
        if let Some(holder) = holder.filter(|h| h.replica == self.config.replica)
            && holder.releasing
            && !self.instances.contains_key(resource)
        {
            self.burn(now, resource, holder.epoch, EvidenceGround::NeverStarted);
        }
        Want::Nothing
    }

    /// Forgets failures that the cluster has recorded.
    pub fn on_recorded(&mut self, key: FailureKey) {
        if key.replica == self.config.replica && key.boot == self.config.boot {
            self.failures.retain(|(f, _)| f.number > key.number);
        }
    }

    /// The report as of now; it counts as sent.
    pub fn report(&mut self, now: Moment, state: &ClusterState, heard: Vec<Heard>) -> Report {
        self.dirty = false;
        self.reports += 1;
        Report {
            evidence: self.evidence(now, state),
            failures: self
                .failures
                .iter()
                .map(|(f, at)| FailureReport { age_us: now.since(*at).as_us(), ..f.clone() })
                .collect(),
            heard,
            ..self.peek(state)
        }
    }

    /// What this node runs, without evidence and failures; for `status`.
    #[must_use]
    pub fn peek(&self, state: &ClusterState) -> Report {
        Report {
            replica: self.config.replica,
            boot: self.config.boot,
            number: self.reports,
            applied: state.index,
            guard: self.guard,
            ready: self.launcher && self.guard.is_some(),
            instances: self.instances.iter().map(status).collect(),
            evidence: Vec::new(),
            failures: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// Burnt epochs that the control state still lists as held here, and that no instance holds.
    fn evidence(&self, now: Moment, state: &ClusterState) -> Vec<Evidence> {
        if !self.launcher {
            return Vec::new();
        }
        let mine = |resource: &ResourceName| {
            let holder = state.resources.get(resource)?.holder.as_ref()?;
            (holder.replica == self.config.replica).then_some(holder.epoch)
        };
        let proven = |resource: &ResourceName, epoch: Epoch| {
            let holds = self.instances.get(resource).and_then(|i| i.epoch);
            holds.is_none_or(|holds| holds != epoch)
        };
        self.burnt
            .iter()
            .filter_map(|(resource, (burnt, ground, at))| {
                let epoch = mine(resource)?;
                (epoch <= *burnt && proven(resource, epoch)).then(|| Evidence {
                    resource: resource.clone(),
                    epoch,
                    replica: self.config.replica,
                    guard: self.guard,
                    ground: *ground,
                    age_us: now.since(*at).as_us(),
                })
            })
            .collect()
    }

    /// Resources that are active here now, with their epochs.
    pub fn active(&self) -> impl Iterator<Item = (&ResourceName, Epoch)> {
        self.instances
            .iter()
            .filter(|(_, i)| i.phase == InstancePhase::Active)
            .filter_map(|(r, i)| Some((r, i.epoch?)))
    }

    /// The guard's incarnation, where one lives.
    #[must_use]
    pub fn guard(&self) -> Option<u64> {
        self.guard
    }

    /// Whether the launcher answers.
    #[must_use]
    pub fn has_launcher(&self) -> bool {
        self.launcher
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Nothing,
    Standby,
    Active(Epoch),
}

fn status((resource, instance): (&ResourceName, &Instance)) -> InstanceStatus {
    InstanceStatus {
        resource: resource.clone(),
        phase: instance.phase,
        epoch: instance.epoch,
        healthy: instance.healthy,
        active_at_us: match instance.phase {
            InstancePhase::Active => Span(instance.active_at.0).as_us(),
            _ => 0,
        },
    }
}
