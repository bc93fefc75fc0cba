//! Fetching a log ahead of the server that replays it.
//!
//! A server that recovers asks for one segment after the other (`restore_command`) and waits for
//! each. The command that answers the first question leaves a process behind, which fetches the
//! next segments into a queue beside the server's own log; the following questions are answered
//! by a rename. After the idea of pgBackRest's asynchronous `archive-get`.
//!
//! The queue is a cache and nothing rests on it: only whole segments, read and checked as those
//! that are fetched one by one, go into it; what is not there, missing or damaged is found and said
//! by the command itself. The process ends when the server has recovered or is gone, and takes the
//! queue with it.

mod aim;
mod queue;
mod server;

use super::{Catalog, Fetched, fetch_segment};
use crate::error::{Result, VaultError};
use crate::postgres::SegmentName;
use crate::repository::Repository;
use aim::{Aim, Next};
pub use queue::Queue;
pub use server::Recovering;
use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What may lie ready for a server, or one segment where those are larger.
const AHEAD_BYTES: u64 = 128 << 20;
/// Segments that are fetched at the same time; each is held in memory.
const WORKERS: u64 = 4;
/// How often the queue is looked at while the server takes from it, and while it does not.
const LOOK: Duration = Duration::from_millis(5);
const LOOK_IDLE: Duration = Duration::from_millis(100);
/// A server that takes nothing for so long streams its log meanwhile, or waits for somebody.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// Says to this program that it is the one that is left behind. An argument could be taken for
/// one of the operator's own.
const LEFT_BEHIND: &str = "BACKSTAY_WAL_AHEAD";

/// Leaves a process behind that fills the queue: this program again, with the same arguments. It
/// finds out by [`is_left_behind`].
///
/// # Errors
/// Where it cannot be started. The server lacks nothing then, it only waits longer.
pub fn leave_behind() -> Result<()> {
    // Servers before 16 hand open files of the database down: they would stay open with us.
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
    let start = || {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args_os().skip(1)).env(LEFT_BEHIND, "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Not in the server's process group: what a signal ends looks to a server that is
        // process 1, as in a container, like a session that crashed.
        command.process_group(0).spawn()
    };
    start().map(drop).map_err(VaultError::file("start", "the process that fetches ahead"))
}

/// Whether this process was left behind to fill a queue.
pub fn is_left_behind() -> bool {
    std::env::var_os(LEFT_BEHIND).is_some()
}

/// Fills a queue until the server has recovered, is gone, or nothing whole is left to fetch and
/// all of it was taken; then removes the queue. Where another process fills it, does nothing.
///
/// # Errors
/// Where a segment cannot be read or written. The server's own question finds the same, and says
/// so to whom it concerns.
pub fn fill(
    repository: &Repository,
    source: &str,
    queue: &Queue,
    server: &Recovering,
) -> Result<()> {
    let Some(_held) = queue.hold()? else { return Ok(()) };
    queue.sweep();
    let filled = fill_held(repository, source, queue, server);
    queue.remove().and(filled)
}

fn fill_held(
    repository: &Repository,
    source: &str,
    queue: &Queue,
    server: &Recovering,
) -> Result<()> {
    let archive = repository.state().archives.get(source).ok_or_else(|| {
        VaultError::NotFound(format!("the repository holds no log of `{source}`"))
    })?;
    let (store, ring) = (&**repository.store(), repository.ring());
    let segment_bytes = archive.segment_bytes;
    let catalog = Catalog::load(store, ring, source, archive.system)?;
    let fetch = |segment| match fetch_segment(store, ring, &catalog, segment, segment_bytes)? {
        Fetched::Found(bytes, stored) if stored == segment_bytes => Ok(bytes),
        _ => Err(VaultError::NotFound("a whole segment".to_owned())),
    };
    let filler = Filler {
        queue,
        goes_on: &|| server.goes_on(),
        is_whole: &|segment| aim::is_whole(&catalog, segment, segment_bytes),
        fetch: &fetch,
        segment_bytes,
        looker: Mutex::new(()),
        state: Mutex::new(State::new(segment_bytes, AHEAD_BYTES / segment_bytes)),
    };
    filler.run((AHEAD_BYTES / 2 / segment_bytes).clamp(1, WORKERS))
}

/// Whether the segment after this one is whole, so that fetching ahead is of use.
pub fn is_of_use(catalog: &Catalog, segment: SegmentName, segment_bytes: u64) -> bool {
    aim::is_whole(catalog, aim::after(segment, segment_bytes), segment_bytes)
}

struct Filler<'a> {
    queue: &'a Queue,
    goes_on: &'a (dyn Fn() -> bool + Sync),
    is_whole: &'a (dyn Fn(SegmentName) -> bool + Sync),
    fetch: &'a (dyn Fn(SegmentName) -> Result<Vec<u8>> + Sync),
    segment_bytes: u64,
    /// Held by the worker that looks for what comes next; the others wait for it.
    looker: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    aim: Aim,
    /// Being fetched: no segment is fetched by two workers.
    in_flight: BTreeSet<SegmentName>,
    /// Segments in the queue when it was last looked at.
    queued: usize,
    /// When that, or what is aimed at, last changed.
    changed: Instant,
    /// Why nothing more is fetched. What is ready stays for the server.
    failed: Option<VaultError>,
    ended: bool,
}

impl State {
    fn new(segment_bytes: u64, capacity: u64) -> State {
        State {
            aim: Aim::new(segment_bytes, capacity.max(1) as usize),
            in_flight: BTreeSet::new(),
            queued: 0,
            changed: Instant::now(),
            failed: None,
            ended: false,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Filler<'_> {
    fn run(self, workers: u64) -> Result<()> {
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| self.work());
            }
        });
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.failed.map_or(Ok(()), Err)
    }

    fn work(&self) {
        while let Some(segment) = self.wait() {
            let name = segment.file_name(self.segment_bytes);
            let written = (self.fetch)(segment).and_then(|bytes| self.queue.write(&bytes));
            let mut state = lock(&self.state);
            state.in_flight.remove(&segment);
            let done = match written {
                Ok(file) if state.aim.is_ahead(segment) && !state.ended => {
                    self.queue.publish(file, &name)
                }
                Ok(file) => self.queue.discard(file, &name),
                Err(error) => self.queue.give_up(&name).and(Err(error)),
            };
            if let Err(error) = done {
                state.failed.get_or_insert(error);
            }
        }
    }

    /// Waits for a segment to fetch; nothing where it is time to end.
    fn wait(&self) -> Option<SegmentName> {
        let _looks = lock(&self.looker);
        loop {
            match self.next() {
                Next::Fetch(segment) => return Some(segment),
                Next::Wait(pause) => thread::sleep(pause),
                Next::End => return None,
            }
        }
    }

    fn next(&self) -> Next {
        let mut state = lock(&self.state);
        let found = match state.ended || !(self.goes_on)() {
            true => Ok(Next::End),
            false => self.look(&mut state),
        };
        let next = found.unwrap_or_else(|error| {
            state.failed.get_or_insert(error);
            Next::End
        });
        if next == Next::End && !state.ended {
            state.ended = true;
            // Nobody waits for what does not come any more.
            let names = state.in_flight.iter().map(|s| s.file_name(self.segment_bytes));
            if let Err(error) = names.into_iter().try_for_each(|name| self.queue.give_up(&name)) {
                state.failed.get_or_insert(error);
            }
        }
        next
    }

    fn look(&self, state: &mut State) -> Result<Next> {
        let named = |name: &str| SegmentName::parse(name, self.segment_bytes);
        if named(&self.queue.asked()?).is_some_and(|asked| state.aim.asked(asked)) {
            state.changed = Instant::now();
        }
        let mut queued = 0;
        for name in self.queue.names()? {
            match named(&name).is_some_and(|segment| state.aim.is_ahead(segment)) {
                true => queued += 1,
                false => self.queue.give_up(&name)?,
            }
        }
        if queued != state.queued {
            (state.queued, state.changed) = (queued, Instant::now());
        }
        let State { aim, in_flight, failed, .. } = state;
        let is_there = |segment| failed.is_none() && (self.is_whole)(segment);
        let is_free = |segment| !in_flight.contains(&segment) && is_there(segment);
        if let Some(segment) = aim.next(queued, is_free) {
            self.queue.claim(&segment.file_name(self.segment_bytes))?;
            in_flight.insert(segment);
            return Ok(Next::Fetch(segment));
        }
        let idle = state.changed.elapsed();
        if idle > IDLE_MAX || (queued == 0 && state.aim.is_at_end(is_there)) {
            return Ok(Next::End);
        }
        Ok(Next::Wait(if idle > LOOK_IDLE * 10 { LOOK_IDLE } else { LOOK }))
    }
}

/// The queue of the server that asks in this working directory for a segment at `path`, and the
/// server; nothing where it is no recovering server that asks.
pub fn of_caller(path: &Path, repository: &str, source: &str) -> Option<(Queue, Recovering)> {
    let server = Recovering::here(path)?;
    let folder = path.parent()?.join(queue::FOLDER);
    let queue = Queue::new(&folder, &server.incarnation(), &format!("{repository}\n{source}"));
    Some((queue, server))
}

#[cfg(test)]
mod tests;
