//! Waiting for descriptors and for a moment on the boot-time clock, in one call.
//!
//! The moment is a timer of the kernel's on that clock, not a timeout: after a suspend it fires at
//! once instead of as much too late as the machine slept.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use model::Moment;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// Most events taken at one time.
const EVENTS_MAX: usize = 64;
/// The timer's own token; never handed out.
const TIMER: u64 = u64::MAX;

/// A set of descriptors and one timer.
pub(crate) struct Poll {
    poll: OwnedFd,
    timer: OwnedFd,
    armed: Option<Moment>,
    events: Vec<epoll::Event>,
}

impl std::fmt::Debug for Poll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Poll({:?}, until {:?})", self.poll, self.armed)
    }
}

impl Poll {
    /// Makes an empty set.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new() -> io::Result<Poll> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        epoll::add(&poll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        Ok(Poll { poll, timer, armed: None, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Watches a descriptor for input (and for the end of it).
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn add(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.poll, fd, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Watches a file of the kernel's for changes (`cgroup.events`).
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn add_changes(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::PRI | EventFlags::ET;
        Ok(epoll::add(&self.poll, fd, EventData::new_u64(token), flags)?)
    }

    /// Watches for room to write as well, or no longer.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn want_output(&self, fd: impl AsFd, token: u64, wanted: bool) -> io::Result<()> {
        let flags = if wanted { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.poll, fd, EventData::new_u64(token), flags)?)
    }

    /// Watches no longer. A descriptor that was not watched is no error.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        if let Err(errno) = epoll::delete(&self.poll, fd) {
            tracing::debug!(%errno, "a descriptor was not watched");
        }
    }

    /// Waits until a descriptor has something or the moment has come, and calls `with` for the
    /// token of each descriptor.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn wait(
        &mut self,
        until: Option<Moment>,
        mut with: impl FnMut(u64),
    ) -> io::Result<()> {
        if self.armed != until {
            self.set_timer(until)?;
            self.armed = until;
        }
        self.events.clear();
        match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut self.events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in &self.events {
            let token = event.data.u64();
            if token == TIMER {
                let mut expirations = [0u8; 8];
                match rustix::io::read(&self.timer, &mut expirations) {
                    Ok(_) | Err(rustix::io::Errno::AGAIN) => self.armed = None,
                    Err(errno) => return Err(errno.into()),
                }
            } else {
                with(token);
            }
        }
        Ok(())
    }

    fn set_timer(&self, until: Option<Moment>) -> io::Result<()> {
        // A time of zero would disarm the timer; the first nanosecond is long past.
        let ns = until.map_or(0, |moment| moment.0.max(1));
        let value =
            Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as _ };
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;
    use model::Span;

    #[test]
    fn it_waits_for_the_moment_or_a_descriptor() {
        let mut poll = Poll::new().unwrap();
        let start = sys::now();
        let until = start + Span::from_ms(20);
        let mut tokens = Vec::new();
        poll.wait(Some(until), |t| tokens.push(t)).unwrap();
        assert!(sys::now() >= until);
        poll.wait(Some(Moment::ZERO), |t| tokens.push(t)).unwrap();
        assert!(tokens.is_empty());
        let (read, write) = rustix::pipe::pipe().unwrap();
        poll.add(&read, 7).unwrap();
        rustix::io::write(&write, b"x").unwrap();
        poll.wait(None, |t| tokens.push(t)).unwrap();
        assert_eq!(tokens, [7]);
    }
}
