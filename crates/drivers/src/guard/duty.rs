//! The guard's loop: beat, look at the lease, stop what it no longer covers, see that it is gone.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use model::{Epoch, Moment, Span};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::armed::{ARMED_MAX, Armed, State};
use super::escalate::escalate;
use super::sole::{self, Place};
use super::statement::{Cause, Statement, Statements};
use super::watchdog::Watchdog;
use super::wire::{FromGuard, PACKET_BYTES_MAX, ToGuard};
use super::{GuardError, GuardOptions, REALTIME_PRIORITY};
use crate::lease::{Beat, LeasePage, beat_every};
use crate::packet::{self, Received};
use crate::poll::Poll;
use crate::process::containment::Asker;
use crate::process::table::ProcessTable;
use crate::sys;

/// Pause between two attempts to reach the launcher.
pub(super) const DIAL_EVERY: Span = Span::from_ms(100);
/// Packets taken from the launcher before the clock is looked at again.
const PACKETS_PER_TURN: usize = 64;

/// A launcher that has kept a connection for so long is one that welcomes nobody: of an older
/// version.
const UNWELCOMED_MAX: Span = Span::from_ms(100);

const T_SIGNAL: u64 = 1;
const T_LAUNCHER: u64 = 2;
const T_LAUNCHER_EXIT: u64 = 3;

/// The connection to the launcher.
struct Link {
    socket: OwnedFd,
    exit: Option<OwnedFd>,
    pid: i32,
    since: Moment,
    /// The launcher keeps it. Before that this guard shows no life: its beats would pass for those
    /// of another, which may be frozen.
    welcome: bool,
}

/// The guard at work.
pub(super) struct Duty {
    options: GuardOptions,
    page: LeasePage,
    incarnation: u64,
    poll: Poll,
    signals: OwnedFd,
    link: Option<Link>,
    armed: Vec<Armed>,
    table: ProcessTable,
    statements: Statements,
    watchdog: Option<Watchdog>,
    next_dial: Moment,
    garbage: u64,
    leaving: Option<Moment>,
    /// Held locked for as long as this guard lives.
    _lock: Option<File>,
}

impl Duty {
    /// Waits for the lease page, then takes everything the loop will need. `None` where the guard
    /// was told to end meanwhile.
    pub(super) fn set_up(
        options: GuardOptions,
        signals: OwnedFd,
    ) -> Result<Option<Duty>, GuardError> {
        let at = |what| move |e: io::Error| GuardError::Io(what, e);
        let mut poll = Poll::new().map_err(at("wait for events"))?;
        poll.add(&signals, T_SIGNAL).map_err(at("wait for signals"))?;
        let Some(page) = wait_for_page(&options, &mut poll, &signals)? else { return Ok(None) };
        let lock = match sole::take(&options, &page, &mut poll, &signals)? {
            Place::Mine(lock) => Some(lock),
            Place::Frozen => None,
            Place::ToldToEnd => return Ok(None),
        };
        let incarnation =
            getrandom::u64().map_err(|e| at("draw a number")(io::Error::other(e.to_string())))?;
        let path = options.run_dir.statements();
        let statements = Statements::open(&path).map_err(at("open its statements"))?;
        let watchdog = options.watchdog.as_deref().map(Watchdog::open).transpose();
        let watchdog = watchdog.map_err(at("open the hardware watchdog"))?;
        let mut table = ProcessTable::default();
        // Touches the memory that a kill will need.
        table.scan().map_err(at("read /proc"))?;
        sys::forbid_dumps().map_err(at("keep out of core dumps"))?;
        sys::survive_cut_files().map_err(at("handle SIGBUS"))?;
        let locked = sys::lock_memory().map_err(|e| e.to_string());
        let realtime = sys::realtime(REALTIME_PRIORITY).map_err(|e| e.to_string());
        tracing::info!(incarnation, ?locked, ?realtime, "the guard is ready");
        Ok(Some(Duty {
            page,
            incarnation,
            poll,
            signals,
            link: None,
            armed: Vec::with_capacity(ARMED_MAX),
            table,
            statements,
            watchdog,
            next_dial: Moment::ZERO,
            garbage: 0,
            leaving: None,
            _lock: lock,
            options,
        }))
    }

    /// Serves until told to end.
    pub(super) fn serve(&mut self) -> Result<(), GuardError> {
        let at = |what| move |e: io::Error| GuardError::Io(what, e);
        loop {
            let now = sys::now();
            self.show_life(now);
            if self.link.is_none() && now >= self.next_dial && self.leaving.is_none() {
                self.next_dial = now + DIAL_EVERY;
                self.dial();
            }
            self.enforce(now);
            self.look(now);
            if let Some(since) = self.leaving
                && (self.armed.is_empty() || now.since(since) > self.options.kill_limit)
            {
                return Ok(());
            }
            let until = self.next_wake(sys::now());
            let mut tokens = [0u64; 3];
            let mut count = 0;
            let note = |token| {
                tokens[count] = token;
                count += 1;
            };
            self.poll.wait(Some(until), note).map_err(at("wait"))?;
            for token in &tokens[..count] {
                self.on_event(*token);
            }
        }
    }

    /// Ends in order: the watchdog must not reboot the node for it.
    pub(super) fn leave(&mut self) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.disarm();
        }
    }

    /// The beat tells the launcher that this loop turns; without a connection there is nobody to
    /// tell, and another guard may be the one on duty.
    fn show_life(&mut self, now: Moment) {
        if let Some(link) = &self.link {
            if link.welcome {
                self.page.beat(Beat::Guard, now);
            } else if now.since(link.since) > UNWELCOMED_MAX {
                self.on_welcome(now);
            }
        } else if self.page.guard_incarnation() == self.incarnation {
            // Whatever the lost launcher made active was armed here: a guard that came later
            // could not know of it.
            self.page.set_clear(self.armed.is_empty().then_some(now));
        }
        let stuck = |a: &Armed| matches!(a.state, State::Killing { escalated: true, .. });
        if let Some(watchdog) = &mut self.watchdog
            && !self.armed.iter().any(stuck)
        {
            watchdog.feed(now);
        }
    }

    fn dial(&mut self) {
        let socket = match packet::dial(&self.options.run_dir.guard_socket()) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::debug!(%error, "the launcher can't be reached yet");
                return;
            }
        };
        match self.greet(socket) {
            Ok(link) => self.link = Some(link),
            Err(error) => tracing::warn!(%error, "the launcher can't be greeted"),
        }
    }

    fn greet(&self, socket: OwnedFd) -> io::Result<Link> {
        let peer = packet::peer(&socket)?;
        if !packet::trusted(peer, None) {
            return Err(io::Error::other("it runs as a user who has no business here"));
        }
        packet::send_packet(&socket, &FromGuard::Hello { incarnation: self.incarnation })?;
        self.poll.add(&socket, T_LAUNCHER)?;
        // The socket's end is enough; the process's end is a second witness of the same.
        let exit =
            Pid::from_raw(peer.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        if let Some(exit) = &exit {
            self.poll.add(exit, T_LAUNCHER_EXIT)?;
        }
        Ok(Link { socket, exit, pid: peer.pid, since: sys::now(), welcome: false })
    }

    /// From now on this guard is the one on duty.
    fn on_welcome(&mut self, now: Moment) {
        let Some(link) = self.link.as_mut().filter(|link| !link.welcome) else { return };
        link.welcome = true;
        self.page.set_guard_incarnation(self.incarnation);
        self.page.set_clear(None);
        self.page.beat(Beat::Guard, now);
        tracing::info!(launcher = link.pid, "connected to the launcher");
    }

    /// Stops everything once the lease no longer covers the time it takes to stop.
    fn enforce(&mut self, now: Moment) {
        if self.options.plants.no_fencing || self.leaving.is_some() {
            return;
        }
        // The end first, then the number: see `LeasePage::set_lease`.
        let runs = self.page.covers(now, self.options.timers.stopping, self.options.longest_lease);
        let number = runs.then(|| self.page.lease_number());
        self.kill_uncovered(now, number, Cause::LeaseEnd);
    }

    fn kill_all(&mut self, now: Moment, cause: Cause) {
        self.kill_uncovered(now, None, cause);
    }

    /// Kills what is armed under another lease than `number`. All leases are taken away first,
    /// which is a few stores; then all are killed; then told.
    fn kill_uncovered(&mut self, now: Moment, number: Option<u64>, cause: Cause) {
        let hit = |a: &Armed| a.state == State::Armed && Some(a.lease_number) != number;
        let mut covered: usize = 0;
        for armed in self.armed.iter().filter(|a| hit(a)) {
            armed.lease.revoke();
            covered += 1;
        }
        if covered == 0 {
            return;
        }
        for armed in self.armed.iter_mut().filter(|a| hit(a)) {
            armed.kill(now, cause);
        }
        let struck = |a: &&Armed| matches!(a.state, State::Killing { since, .. } if since == now);
        self.armed.iter().filter(struck).for_each(Armed::take_down);
        for at in 0..self.armed.len() {
            if matches!(self.armed[at].state, State::Killing { since, .. } if since == now) {
                self.tell_burnt(at, false);
            }
        }
        tracing::warn!(cause = cause.as_str(), covered, "active instances are stopped");
    }

    /// Takes over one that the launcher can't stop.
    fn kill_one(&mut self, resource: &str, epoch: Epoch) {
        let covered =
            |a: &Armed| a.resource == resource && a.epoch == epoch && a.state == State::Armed;
        let Some(at) = self.armed.iter().position(covered) else { return };
        self.armed[at].lease.revoke();
        self.armed[at].kill(sys::now(), Cause::StopFailed);
        self.tell_burnt(at, false);
    }

    /// Looks whether what was killed is gone.
    fn look(&mut self, now: Moment) {
        let asker = Asker { launcher: self.link.as_ref().map_or(0, |l| l.pid), known: None };
        let mut at = 0;
        while at < self.armed.len() {
            let State::Killing { since, next, escalated, cause, .. } = self.armed[at].state else {
                at += 1;
                continue;
            };
            if now < next {
                at += 1;
                continue;
            }
            let armed = &mut self.armed[at];
            let gone = match armed.strike(&mut self.table, asker) {
                Ok(gone) => gone && !self.options.plants.leftover_seen(),
                Err(error) => {
                    tracing::debug!(resource = armed.resource, %error, "can't tell yet");
                    false
                }
            };
            if gone {
                self.state_and_tell(at, true, cause);
                self.armed.swap_remove(at);
                continue;
            }
            if !escalated && now.since(since) > self.options.kill_limit {
                self.escalate(at, cause);
            }
            self.armed[at].look_later(sys::now());
            at += 1;
        }
    }

    fn escalate(&mut self, at: usize, reported: Cause) {
        if let State::Killing { escalated, .. } = &mut self.armed[at].state {
            *escalated = true;
        }
        self.state_and_tell(at, false, reported);
        let reason = escalate(&self.options.reboot);
        let armed = &self.armed[at];
        tracing::error!(resource = armed.resource, epoch = %armed.epoch, reason);
        let (resource, epoch) = (armed.resource.as_str(), armed.epoch);
        self.tell(&FromGuard::Alarm { resource, epoch, reason });
    }

    fn state_and_tell(&mut self, at: usize, empty: bool, cause: Cause) {
        let armed = &self.armed[at];
        self.statements.add(&Statement {
            at: sys::now(),
            node: self.options.node.as_str(),
            guard: self.incarnation,
            resource: &armed.resource,
            epoch: armed.epoch,
            empty,
            seen_by: armed.seen_by(),
            cause: cause.as_str(),
        });
        self.tell_burnt(at, empty);
    }

    fn tell_burnt(&self, at: usize, empty: bool) {
        let armed = &self.armed[at];
        let (resource, epoch) = (armed.resource.as_str(), armed.epoch);
        self.tell(&FromGuard::Burnt { resource, epoch, empty });
    }

    /// A launcher that doesn't read learns by looking itself; the statements hold it all.
    fn tell(&self, message: &FromGuard<'_>) {
        if let Some(link) = &self.link
            && let Err(error) = packet::send_packet(&link.socket, message)
        {
            tracing::warn!(%error, ?message, "the launcher was not told");
        }
    }

    fn next_wake(&self, now: Moment) -> Moment {
        let mut wake = now + beat_every(&self.options.timers);
        if let Some(link) = self.link.as_ref().filter(|link| !link.welcome) {
            wake = wake.min(link.since + UNWELCOMED_MAX);
        }
        let lease_end = self.page.lease_end(now, self.options.longest_lease);
        for armed in &self.armed {
            match armed.state {
                State::Armed if self.options.plants.no_fencing => {}
                State::Armed => {
                    let due = lease_end.map_or(now, |e| e.before(self.options.timers.stopping));
                    wake = wake.min(due);
                }
                State::Killing { next, .. } => wake = wake.min(next),
            }
        }
        wake
    }

    fn on_event(&mut self, token: u64) {
        match token {
            T_SIGNAL => self.on_signal(),
            T_LAUNCHER => self.on_packets(),
            T_LAUNCHER_EXIT => self.on_launcher_lost("its process ended"),
            _ => {}
        }
    }

    fn on_signal(&mut self) {
        match sys::read_signal(&self.signals) {
            Ok(None) => {}
            Ok(Some(signal)) => {
                tracing::info!(signal, armed = self.armed.len(), "the guard is told to end");
                let now = sys::now();
                self.leaving.get_or_insert(now);
                self.kill_all(now, Cause::GuardLeaves);
            }
            Err(error) => tracing::error!(%error, "signals can't be read"),
        }
    }

    fn on_launcher_lost(&mut self, how: &str) {
        let Some(link) = self.link.take() else { return };
        match link.welcome {
            true => tracing::warn!(how, armed = self.armed.len(), "the launcher is lost"),
            false => tracing::debug!(how, "the launcher keeps another guard"),
        }
        self.poll.remove(&link.socket);
        if let Some(exit) = &link.exit {
            self.poll.remove(exit);
        }
        self.kill_all(sys::now(), Cause::LauncherLost);
    }

    fn on_packets(&mut self) {
        let mut buffer = [0u8; PACKET_BYTES_MAX];
        for _ in 0..PACKETS_PER_TURN {
            let Some(link) = &self.link else { return };
            match packet::receive(&link.socket, &mut buffer) {
                Received::Nothing => return,
                Received::Closed => return self.on_launcher_lost("its connection ended"),
                Received::Packet(len) => match postcard::from_bytes(&buffer[..len]) {
                    Ok(message) => self.on_message(&message),
                    Err(_) => {
                        self.garbage += 1;
                        tracing::warn!(count = self.garbage, "a packet of garbage was dropped");
                    }
                },
            }
        }
    }

    fn on_message(&mut self, message: &ToGuard<'_>) {
        match *message {
            ToGuard::Arm { resource, epoch, .. } => match self.arm(resource, message) {
                Ok(()) => self.tell(&FromGuard::Armed { resource, epoch }),
                Err(error) => {
                    tracing::warn!(resource, %epoch, %error, "not armed");
                    let reason = "its lease file, cgroup or process can't be opened, or the node \
                                  holds no lease";
                    self.tell(&FromGuard::NotArmed { resource, epoch, reason });
                }
            },
            ToGuard::Kill { resource, epoch } => self.kill_one(resource, epoch),
            ToGuard::Welcome => self.on_welcome(sys::now()),
            ToGuard::Disarm { resource, epoch } => {
                // What is being stopped is seen through to its end.
                let covered = |a: &Armed| {
                    a.resource == resource && a.epoch <= epoch && a.state == State::Armed
                };
                if let Some(at) = self.armed.iter().position(covered) {
                    self.armed.swap_remove(at);
                }
            }
        }
    }

    fn arm(&mut self, resource: &str, message: &ToGuard<'_>) -> io::Result<()> {
        if self.leaving.is_some() {
            return Err(io::Error::other("the guard is leaving"));
        }
        let (stopping, longest) = (self.options.timers.stopping, self.options.longest_lease);
        let ToGuard::Arm { lease_number, .. } = *message else {
            return Err(io::Error::other("not an order to arm"));
        };
        if !self.page.covers_under(lease_number, sys::now(), stopping, longest) {
            return Err(io::Error::other("the node holds no lease"));
        }
        let armed = Armed::prepare(message)?;
        // The launcher may have seen the last one go before this loop looked again.
        for old in self.armed.iter_mut().filter(|a| a.resource == resource) {
            if let State::Killing { next, .. } = &mut old.state {
                *next = Moment::ZERO;
            }
        }
        self.look(sys::now());
        let full = self.armed.len() == ARMED_MAX;
        match self.armed.iter_mut().find(|a| a.resource == resource) {
            Some(old) if old.state != State::Armed => {
                return Err(io::Error::other("its last instance is still being stopped"));
            }
            Some(old) => *old = armed,
            None if full => return Err(io::Error::other("the table is full")),
            None => self.armed.push(armed),
        }
        Ok(())
    }
}

/// The launcher makes the page; a guard that starts first waits for it.
fn wait_for_page(
    options: &GuardOptions,
    poll: &mut Poll,
    signals: &OwnedFd,
) -> Result<Option<LeasePage>, GuardError> {
    let at = |what| move |e: io::Error| GuardError::Io(what, e);
    loop {
        match LeasePage::open(&options.run_dir.lease_page()) {
            Ok(page) => return Ok(Some(page)),
            Err(error) => tracing::debug!(%error, "waiting for the lease page"),
        }
        poll.wait(Some(sys::now() + DIAL_EVERY), |_| {}).map_err(at("wait"))?;
        if sys::read_signal(signals).map_err(at("read signals"))?.is_some() {
            return Ok(None);
        }
    }
}
