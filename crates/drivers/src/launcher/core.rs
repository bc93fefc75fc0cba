//! The launcher's state and its one loop.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use model::{Epoch, Moment, ResourceName, ResourceSpec, Span};
use rustix::fs::FlockOperation;

use super::agent_link::{AgentLink, Reading};
use super::enforce::GuardWatch;
use super::epochs::EpochBook;
use super::guard_link::GuardLink;
use super::instance::Instance;
use super::probes::Running;
use super::{LauncherError, LauncherOptions, leftovers};
use crate::lease::{Beat, LeasePage, beat_limit};
use crate::poll::Poll;
use crate::process::cgroup::{self, CgroupRoot};
use crate::process::logs::Logs;
use crate::process::table::ProcessTable;
use crate::protocol::{Event, Gone, Why};
use crate::sys;

/// What a descriptor belongs to: the upper byte of its token. The rest is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Source {
    Signals,
    AgentListener,
    Agent,
    GuardListener,
    Guard,
    Exit,
    Errors,
    TalkListener,
    Talk,
    Notify,
    Cgroup,
    ProbeExit,
}

impl Source {
    const ALL: [Source; 12] = [
        Source::Signals,
        Source::AgentListener,
        Source::Agent,
        Source::GuardListener,
        Source::Guard,
        Source::Exit,
        Source::Errors,
        Source::TalkListener,
        Source::Talk,
        Source::Notify,
        Source::Cgroup,
        Source::ProbeExit,
    ];

    pub(super) const fn token(self, number: u64) -> u64 {
        (self as u64) << 56 | number
    }

    fn of(token: u64) -> Option<(Source, u64)> {
        let source = *Source::ALL.get((token >> 56) as usize)?;
        Some((source, token & ((1 << 56) - 1)))
    }
}

/// The launcher at work.
pub(super) struct Launcher {
    pub(super) options: LauncherOptions,
    pub(super) number: u64,
    pub(super) page: LeasePage,
    pub(super) poll: Poll,
    pub(super) signals: OwnedFd,
    pub(super) agent: AgentLink,
    pub(super) guard: GuardLink,
    pub(super) watch: GuardWatch,
    pub(super) epochs: EpochBook,
    pub(super) cgroups: Option<CgroupRoot>,
    pub(super) logs: Logs,
    pub(super) table: ProcessTable,
    pub(super) version: u64,
    pub(super) resources: BTreeMap<ResourceName, ResourceSpec>,
    pub(super) instances: BTreeMap<u64, Instance>,
    pub(super) gone: BTreeMap<ResourceName, Gone>,
    pub(super) probes: BTreeMap<u64, Running>,
    /// Numbers instances, probes and outputs; never used twice.
    pub(super) next_number: u64,
    /// Lines of instances that were dropped because they say nothing we know.
    pub(super) talk_garbage: u64,
    pub(super) leaving: Option<Moment>,
    /// Held locked for as long as this launcher lives.
    _lock: File,
}

impl Launcher {
    /// Takes the run directory, kills what an earlier launcher left behind, and serves.
    pub(super) fn set_up(
        options: LauncherOptions,
        signals: OwnedFd,
    ) -> Result<Launcher, LauncherError> {
        let at = |what| move |e: io::Error| LauncherError::Io(what, e);
        let run_dir = &options.run_dir;
        run_dir.create().map_err(at("make its run directory"))?;
        let lock = take_lock(&options)?;
        rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))
            .map_err(|e| at("become the reaper of its instances")(e.into()))?;
        raise_descriptors();
        let name = cgroup::root_name(options.node.as_str(), run_dir.path());
        let cgroups = CgroupRoot::prepare(&options.cgroups, &name).map_err(at("use cgroups"))?;
        let mut table = ProcessTable::default();
        leftovers::kill(run_dir, cgroups.as_ref(), &mut table, &options.plants)?;
        let page = LeasePage::create(&run_dir.lease_page(), options.longest_lease)?;
        if let Some(uid) = options.agent_uid {
            std::os::unix::fs::chown(run_dir.lease_page(), Some(uid), None)
                .map_err(at("hand the lease page to the agent"))?;
        }
        let poll = Poll::new().map_err(at("wait for events"))?;
        let agent = AgentLink::bind(&run_dir.launcher_socket(), options.agent_uid)
            .map_err(at("serve the agent"))?;
        let guard = GuardLink::bind(&run_dir.guard_socket()).map_err(at("serve the guard"))?;
        poll.add(&signals, Source::Signals.token(0)).map_err(at("wait for signals"))?;
        poll.add(&agent.listener, Source::AgentListener.token(0)).map_err(at("serve the agent"))?;
        poll.add(&guard.listener, Source::GuardListener.token(0)).map_err(at("serve the guard"))?;
        let epochs = EpochBook::load(&run_dir.epochs(), &run_dir.statements())
            .map_err(at("read the epochs seen"))?;
        let logs = Logs::start(&options.log_dir).map_err(at("keep logs"))?;
        let number =
            getrandom::u64().map_err(|e| at("draw a number")(io::Error::other(e.to_string())))?;
        sys::forbid_dumps().map_err(at("keep out of core dumps"))?;
        sys::survive_cut_files().map_err(at("handle SIGBUS"))?;
        tracing::info!(cgroups = cgroups.is_some(), "the launcher is ready");
        Ok(Launcher {
            number,
            page,
            poll,
            signals,
            agent,
            guard,
            watch: GuardWatch::default(),
            epochs,
            cgroups,
            logs,
            table,
            version: 0,
            resources: BTreeMap::new(),
            instances: BTreeMap::new(),
            gone: BTreeMap::new(),
            probes: BTreeMap::new(),
            next_number: 1,
            talk_garbage: 0,
            leaving: None,
            _lock: lock,
            options,
        })
    }

    /// Serves until told to end and everything is stopped.
    pub(super) fn serve(mut self) -> Result<(), LauncherError> {
        let mut tokens = Vec::with_capacity(64);
        loop {
            let now = sys::now();
            self.page.beat(Beat::Launcher, now);
            self.enforce(now);
            self.on_time(now);
            if let Some(done) = self.left(now) {
                return done;
            }
            let until = self.next_wake(sys::now());
            tokens.clear();
            self.poll
                .wait(until, |token| tokens.push(token))
                .map_err(|e| LauncherError::Io("wait for events", e))?;
            for token in &tokens {
                if let Some((source, number)) = Source::of(*token) {
                    self.on_event(source, number);
                }
            }
        }
    }

    fn on_event(&mut self, source: Source, number: u64) {
        match source {
            Source::Signals => self.on_signals(),
            Source::AgentListener => self.on_agent_connecting(),
            Source::Agent => self.on_agent(number),
            Source::GuardListener => self.on_guard_connecting(),
            Source::Guard => self.on_guard(),
            Source::Exit | Source::ProbeExit => self.reap(),
            Source::Errors => self.on_executed(number),
            Source::TalkListener => self.on_talk_connecting(number),
            Source::Talk => self.on_talk(number),
            Source::Notify => self.on_notify(number),
            Source::Cgroup => self.on_cgroup_changed(number),
        }
    }

    fn on_signals(&mut self) {
        loop {
            match sys::read_signal(&self.signals) {
                Ok(Some(libc::SIGCHLD)) => self.reap(),
                Ok(Some(signal)) => {
                    tracing::info!(signal, "the launcher is told to end");
                    self.leave();
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "signals can't be read");
                    return;
                }
            }
        }
    }

    fn leave(&mut self) {
        if self.leaving.is_some() {
            return;
        }
        self.leaving = Some(sys::now());
        let ids: Vec<u64> = self.instances.keys().copied().collect();
        for id in ids {
            self.stop(id, Why::Shutdown);
        }
    }

    /// The result of leaving, once there is one. The longest wait is that of the instances
    /// themselves, and then that for what can't be killed.
    fn left(&mut self, now: Moment) -> Option<Result<(), LauncherError>> {
        let since = self.leaving?;
        if !self.instances.is_empty() {
            let stuck =
                self.instances.values().all(|i| i.phase() == crate::protocol::Phase::Unkillable);
            let waited = now.since(since) > super::KILL_LIMIT * 3;
            return (stuck && waited)
                .then_some(Err(LauncherError::Unstoppable(self.instances.len())));
        }
        if let Some(cgroups) = &self.cgroups
            && let Err(error) = cgroups.remove_self()
        {
            tracing::warn!(%error, "the cgroup of the instances stays");
        }
        Some(Ok(()))
    }

    fn next_wake(&self, now: Moment) -> Option<Moment> {
        let due = self.instances.values().filter_map(Instance::next_due);
        let probes = self.probes.values().filter_map(Running::next_due);
        due.chain(probes).chain(self.enforce_wake(now)).min()
    }

    /// What is due by time.
    fn on_time(&mut self, now: Moment) {
        let due = |i: &&Instance| i.next_due().is_some_and(|due| due <= now);
        let ids: Vec<u64> = self.instances.values().filter(due).map(|i| i.id).collect();
        for id in ids {
            self.on_due(id, now);
        }
        self.on_probes_due(now);
    }

    fn on_agent_connecting(&mut self) {
        match self.agent.accept() {
            Ok(Some(stream)) => {
                tracing::info!("an agent connected");
                self.set_agent(Some(stream));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a connection can't be taken"),
        }
    }

    fn set_agent(&mut self, stream: Option<std::os::unix::net::UnixStream>) {
        if let Some(old) = self.agent.replace(stream) {
            self.poll.remove(&old);
        }
        let token = Source::Agent.token(self.agent.number);
        if let Some(stream) = &self.agent.stream
            && let Err(error) = self.poll.add(stream, token)
        {
            tracing::error!(%error, "the agent's connection can't be watched");
            self.agent.replace(None);
        }
    }

    fn on_agent(&mut self, number: u64) {
        if number != self.agent.number {
            return;
        }
        if !self.agent.flush() {
            return self.set_agent(None);
        }
        let reading = self.agent.read();
        loop {
            match self.agent.next_request() {
                Ok(Some(request)) => self.on_request(request),
                Ok(None) => break,
                Err(error) => {
                    self.agent.garbage += 1;
                    tracing::warn!(%error, count = self.agent.garbage, "a connection was dropped");
                    return self.set_agent(None);
                }
            }
            if number != self.agent.number {
                return;
            }
        }
        match reading {
            Ok(Reading::Open | Reading::More) => self.watch_agent_output(),
            Ok(Reading::Closed) => self.set_agent(None),
            Err(error) => {
                tracing::info!(%error, "the agent's connection broke");
                self.set_agent(None);
            }
        }
    }

    /// Tells the agent, if there is one.
    pub(super) fn tell(&mut self, event: &Event) {
        tracing::debug!(?event);
        if self.agent.tell(event) {
            self.watch_agent_output();
        } else {
            tracing::warn!("the agent does not read; its connection is dropped");
            self.set_agent(None);
        }
    }

    fn watch_agent_output(&mut self) {
        let token = Source::Agent.token(self.agent.number);
        let wanted = self.agent.wants_output();
        if wanted == self.agent.watching_output {
            return;
        }
        self.agent.watching_output = wanted;
        if let Some(stream) = &self.agent.stream
            && let Err(error) = self.poll.want_output(stream, token, wanted)
        {
            tracing::error!(%error, "the agent's connection can't be watched");
        }
    }

    /// The instance of a resource.
    pub(super) fn instance_of(&self, resource: &ResourceName) -> Option<&Instance> {
        self.instances.values().find(|i| i.resource == *resource)
    }

    /// A number that was never used before.
    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Whether the lease covers `margin` from now on.
    pub(super) fn covered(&self, margin: Span) -> bool {
        self.page.covers(sys::now(), margin, self.options.longest_lease)
    }

    /// Whether the lease that an instance became active under covers `margin` from now on.
    pub(super) fn covers(&self, instance: &Instance, margin: Span) -> bool {
        let (number, longest) = (instance.lease_number, self.options.longest_lease);
        self.page.covers_under(number, sys::now(), margin, longest)
    }

    /// How old the guard's beat may be.
    pub(super) fn beat_limit(&self) -> Span {
        beat_limit(&self.options.timers)
    }

    /// Marks an epoch as burnt.
    pub(super) fn burn(&mut self, resource: &ResourceName, epoch: Epoch) {
        self.epochs.burn(resource, epoch);
    }
}

fn take_lock(options: &LauncherOptions) -> Result<File, LauncherError> {
    let path = options.run_dir.lock();
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| LauncherError::Io("open its lock", e))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(LauncherError::Locked(options.run_dir.path().to_owned()))
        }
        Err(errno) => Err(LauncherError::Io("take its lock", errno.into())),
    }
}

/// Every instance takes about ten descriptors; the hard limit is what the system permits.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }) {
        tracing::warn!(%error, "the limit of open files can't be raised");
    }
}
