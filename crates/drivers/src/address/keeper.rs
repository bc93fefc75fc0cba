//! The program that holds an address. As a standby it waits; told to become active (or started
//! as such), it looks whether somebody else has the address, adds it, announces it, and says so.
//! It announces it
//! again and again, and at once when somebody else claims it; it ends when the address or the
//! interface's carrier is gone, which the launcher then tells as a failure.
//!
//! It decides nothing about who may hold the address. That it stops in time is the guard's work,
//! which kills it and takes the address down.

use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use model::{Epoch, Moment, Span};

use super::announce::Schedule;
use super::interface;
use super::netlink::{Changes, Netlink};
use super::talk::{Say, Talk, Told};
use super::wire::Wire;
use super::{AddressAt, AddressHandle};
use crate::lease::InstanceLease;
use crate::poll::Poll;
use crate::protocol::Role;
use crate::sys;

/// How long answers to the probes are waited for. A host on the same network answers in its
/// kernel, within a fraction of a millisecond; one that is slower is seen by its later frames.
const DETECT: Span = Span::from_ms(2);
/// Pause between the probes, of which there are two.
const PROBE_PAUSE: Span = Span::from_ms(1);
/// For so long a look ahead of the order counts, unless somebody claims the address meanwhile.
const LOOK_LASTS: Span = Span::from_ms(20);
/// A conflict that lasts is told again after so long.
const TELL_EVERY: Span = Span::from_ms(10_000);

const T_SIGNAL: u64 = 1;
const T_TALK: u64 = 2;
const T_WIRE: u64 = 3;
const T_CHANGES: u64 = 4;

/// Why the keeper ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// It must be started by the launcher.
    #[error("{0} is not set: the launcher starts this program, nobody else does")]
    NotLaunched(&'static str),
    /// The kernel.
    #[error("it can't {0}")]
    Io(&'static str, #[source] io::Error),
    /// The interface is gone, or has no hardware address of Ethernet.
    #[error("interface {0} is gone, or is no Ethernet: nobody could be told of the address")]
    NoInterface(u32),
    /// It was started as active, and can't be.
    #[error("{0}")]
    NotActive(String),
    /// Somebody removed it.
    #[error("{0} was removed from the interface, and not by Backstay")]
    Removed(AddressAt),
    /// Nobody can reach it.
    #[error("{0} has no carrier: nobody can reach the address there")]
    NoCarrier(String),
}

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Standby,
    /// Looks whether somebody else has the address; without an epoch, ahead of the order.
    Detecting {
        epoch: Option<Epoch>,
        until: Moment,
        second_probe: Option<Moment>,
    },
    Active {
        schedule: Schedule,
    },
}

struct Keeper {
    at: AddressAt,
    handle: AddressHandle,
    netlink: Netlink,
    wire: Wire,
    changes: Changes,
    talk: Talk,
    lease: InstanceLease,
    signals: OwnedFd,
    state: State,
    /// Whether it was said that it is ready: a standby once it is there, one that is started as
    /// active once the address is up.
    ready: bool,
    conflicts: u64,
    told: Option<Moment>,
    /// When it was found free, ahead of the order.
    found_free: Option<Moment>,
}

fn at(what: &'static str) -> impl Fn(io::Error) -> KeeperError {
    move |error| KeeperError::Io(what, error)
}

/// Holds an address until told to end (SIGTERM, SIGINT).
///
/// # Errors
/// [`KeeperError`].
pub fn run(address: AddressAt) -> Result<(), KeeperError> {
    let signals = sys::signal_fd(&[libc::SIGTERM, libc::SIGINT]).map_err(at("take signals"))?;
    let mut keeper = Keeper::set_up(address, signals)?;
    let done = keeper.serve();
    // Also where it ends by a failure. The launcher looks itself whether it is gone.
    let down = keeper.handle.take_down().map_err(at("remove the address"));
    done.and(down)
}

/// A path that the launcher puts into the environment.
fn named(name: &'static str) -> Result<PathBuf, KeeperError> {
    env::var_os(name).map(PathBuf::from).ok_or(KeeperError::NotLaunched(name))
}

/// The epoch to be active under from the start, if there is one.
fn started_as() -> Result<Option<Epoch>, KeeperError> {
    let text = |name: &'static str| env::var(name).map_err(|_| KeeperError::NotLaunched(name));
    if text("BACKSTAY_ROLE")? != Role::Active.as_str() {
        return Ok(None);
    }
    let epoch = text("BACKSTAY_EPOCH")?.parse().ok();
    epoch.map(Some).ok_or(KeeperError::NotLaunched("BACKSTAY_EPOCH"))
}

impl Keeper {
    fn set_up(address: AddressAt, signals: OwnedFd) -> Result<Keeper, KeeperError> {
        let netlink = Netlink::open().map_err(at("ask the kernel"))?;
        let found = interface::look(&netlink, address.interface).map_err(at("list interfaces"))?;
        let hardware = found.and_then(|interface| interface.hardware);
        let own = hardware.ok_or(KeeperError::NoInterface(address.interface))?;
        let mut keeper = Keeper {
            at: address,
            handle: AddressHandle::open(address).map_err(at("change addresses"))?,
            netlink,
            wire: Wire::open(address, own).map_err(at("open its interface"))?,
            changes: Changes::watch().map_err(at("watch its interface"))?,
            talk: Talk::connect(&named("BACKSTAY_SOCKET")?).map_err(at("reach the launcher"))?,
            lease: InstanceLease::open(&named("BACKSTAY_LEASE")?).map_err(at("open its lease"))?,
            signals,
            state: State::Standby,
            ready: false,
            conflicts: 0,
            told: None,
            found_free: None,
        };
        match started_as()? {
            Some(epoch) => keeper.on_promote(epoch)?,
            None => keeper.say_ready()?,
        }
        Ok(keeper)
    }

    fn say_ready(&mut self) -> Result<(), KeeperError> {
        self.ready = true;
        let path = named("NOTIFY_SOCKET")?;
        let tell = || UnixDatagram::unbound()?.send_to(b"READY=1", path);
        tell().map(drop).map_err(at("say that it is ready"))
    }

    fn serve(&mut self) -> Result<(), KeeperError> {
        let mut poll = Poll::new().map_err(at("wait for events"))?;
        poll.add(&self.signals, T_SIGNAL).map_err(at("wait for signals"))?;
        poll.add(&self.talk, T_TALK).map_err(at("wait for the launcher"))?;
        poll.add(&self.wire, T_WIRE).map_err(at("wait for frames"))?;
        poll.add(&self.changes, T_CHANGES).map_err(at("wait for changes"))?;
        loop {
            self.on_time(sys::now())?;
            let (mut tokens, mut count) = ([0u64; 4], 0);
            let note = |token| {
                tokens[count] = token;
                count += 1;
            };
            poll.wait(self.next_wake(), note).map_err(at("wait"))?;
            for token in &tokens[..count] {
                match *token {
                    T_SIGNAL => return Ok(()),
                    T_TALK => self.on_lines()?,
                    T_WIRE => self.on_frames(sys::now())?,
                    _ => self.on_changes()?,
                }
            }
        }
    }

    fn next_wake(&self) -> Option<Moment> {
        match &self.state {
            State::Standby => None,
            State::Detecting { until, second_probe, .. } => Some(second_probe.unwrap_or(*until)),
            State::Active { schedule } => Some(schedule.next()),
        }
    }

    fn on_time(&mut self, now: Moment) -> Result<(), KeeperError> {
        match &mut self.state {
            State::Standby => Ok(()),
            State::Detecting { second_probe: second @ Some(_), .. }
                if second.is_some_and(|due| due <= now) =>
            {
                *second = None;
                self.wire.probe().map_err(at("probe"))
            }
            State::Detecting { epoch, until, .. } if *until <= now => {
                let epoch = *epoch;
                // What waits to be read was said in time.
                self.on_frames(now)?;
                match (&self.state, epoch) {
                    (State::Detecting { .. }, Some(epoch)) => self.take(epoch),
                    (State::Detecting { .. }, None) => {
                        (self.state, self.found_free) = (State::Standby, Some(now));
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            State::Detecting { .. } => Ok(()),
            State::Active { schedule } => {
                if schedule.is_due(now)
                    && let Err(error) = self.wire.announce()
                {
                    // Without a carrier; that is noticed where its state is looked at.
                    eprintln!("the address can't be announced: {error}");
                }
                Ok(())
            }
        }
    }

    fn on_lines(&mut self) -> Result<(), KeeperError> {
        for told in self.talk.hear().map_err(at("hear the launcher"))? {
            match told {
                Told::Promote { epoch } => self.on_promote(epoch)?,
                Told::Prepare {} if matches!(self.state, State::Standby) => self.look(None)?,
                Told::Prepare {} => {}
                Told::Demote { .. } => {
                    self.handle.take_down().map_err(at("remove the address"))?;
                    self.state = State::Standby;
                    self.say(&Say::Standby {})?;
                }
            }
        }
        Ok(())
    }

    fn on_promote(&mut self, epoch: Epoch) -> Result<(), KeeperError> {
        let found = interface::look(&self.netlink, self.at.interface);
        let found = found.map_err(at("list interfaces"))?;
        match found {
            Some(interface) if !interface.running => {
                return self.fail(KeeperError::NoCarrier(interface.name).to_string());
            }
            None => return self.fail(KeeperError::NoInterface(self.at.interface).to_string()),
            Some(_) => {}
        }
        if let State::Detecting { epoch: ahead @ None, .. } = &mut self.state {
            *ahead = Some(epoch);
            return Ok(());
        }
        let now = sys::now();
        // What waits to be read may be a claim.
        self.on_frames(now)?;
        match self.found_free.take() {
            Some(found) if now.since(found) <= LOOK_LASTS => self.take(epoch),
            _ => self.look(Some(epoch)),
        }
    }

    /// Asks who has the address.
    fn look(&mut self, epoch: Option<Epoch>) -> Result<(), KeeperError> {
        self.found_free = None;
        // Frames of before say nothing about now: the one who held it may just have given it up.
        self.wire.hear().map_err(at("read frames"))?;
        let now = sys::now();
        self.wire.probe().map_err(at("probe"))?;
        let second_probe = Some(now + PROBE_PAUSE);
        self.state = State::Detecting { epoch, until: now + DETECT, second_probe };
        Ok(())
    }

    /// Nobody else has it: it is ours from here on, if the lease still says so.
    fn take(&mut self, epoch: Epoch) -> Result<(), KeeperError> {
        if !self.lease.allows(epoch, sys::now()) {
            return self.fail("its lease ended before the address was added".to_owned());
        }
        if let Err(error) = self.netlink.add(self.at) {
            return self.fail(format!("the address can't be added: {error}"));
        }
        let mut schedule = Schedule::begin(sys::now());
        schedule.is_due(sys::now());
        self.wire.announce().map_err(at("announce the address"))?;
        self.state = State::Active { schedule };
        if !self.ready {
            return self.say_ready();
        }
        self.say(&Say::Active { epoch: epoch.to_string() })
    }

    fn fail(&mut self, reason: String) -> Result<(), KeeperError> {
        if !self.ready {
            return Err(KeeperError::NotActive(reason));
        }
        eprintln!("{reason}");
        self.state = State::Standby;
        self.say(&Say::Failed { reason })
    }

    fn on_frames(&mut self, now: Moment) -> Result<(), KeeperError> {
        let Some(other) = self.wire.hear().map_err(at("read frames"))? else { return Ok(()) };
        let [a, b, c, d, e, f] = other;
        let other = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        let ip = self.at.ip;
        match &mut self.state {
            State::Standby => {
                self.found_free = None;
                Ok(())
            }
            State::Detecting { epoch: None, .. } => {
                // It is looked at again when the order comes: it may be given up until then.
                self.state = State::Standby;
                Ok(())
            }
            State::Detecting { .. } => {
                self.fail(format!("{ip} is in use by the host with the hardware address {other}"))
            }
            State::Active { schedule } => {
                schedule.again(now);
                self.conflicts += 1;
                if self.told.is_none_or(|told| now.since(told) > TELL_EVERY) {
                    self.told = Some(now);
                    let count = self.conflicts;
                    eprintln!(
                        "{ip} is claimed by {other} too ({count} times so far): announced again"
                    );
                }
                Ok(())
            }
        }
    }

    fn on_changes(&mut self) -> Result<(), KeeperError> {
        self.changes.drain().map_err(at("read changes"))?;
        if !matches!(self.state, State::Active { .. }) {
            return Ok(());
        }
        // A list that changed while it was read is asked for again: the change comes here too.
        match self.handle.is_gone() {
            Ok(true) => return Err(KeeperError::Removed(self.at)),
            Ok(false) => {}
            Err(error) => eprintln!("the address can't be looked at: {error}"),
        }
        match interface::look(&self.netlink, self.at.interface) {
            Ok(Some(interface)) if interface.running => Ok(()),
            Ok(Some(interface)) => Err(KeeperError::NoCarrier(interface.name)),
            Ok(None) => Err(KeeperError::NoInterface(self.at.interface)),
            Err(error) => {
                eprintln!("the interface can't be looked at: {error}");
                Ok(())
            }
        }
    }

    fn say(&mut self, say: &Say) -> Result<(), KeeperError> {
        self.talk.say(say).map_err(at("tell the launcher"))
    }
}
