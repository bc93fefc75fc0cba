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
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What may lie ready for a server.
const AHEAD_BYTES: u64 = 128 << 20;
/// Segments that are fetched at the same time; each is held in memory.
const WORKERS: u64 = 4;
/// How often the queue is looked at while the server takes from it, and while it does not.
const LOOK: Duration = Duration::from_millis(5);
const LOOK_IDLE: Duration = Duration::from_millis(100);
/// A server that takes nothing for so long waits for somebody, and its disk is its own again.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Leaves a process behind that fills the queue: this program again, with the same arguments and
/// `more`.
///
/// # Errors
/// Where it cannot be started. The server lacks nothing then, it only waits longer.
pub fn leave_behind(more: &str) -> Result<()> {
    // Servers before 16 hand open files of the database down: they would stay open with us.
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
    let start = || {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args_os().skip(1)).arg(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    };
    start().map(drop).map_err(VaultError::file("start", "the process that fetches ahead"))
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
    // Out of the server's process group: a process that a signal ended would look to a server
    // that is process 1, as in a container, like a session that crashed.
    if let Err(error) = rustix::process::setsid() {
        return Err(VaultError::file("leave", "the server's process group")(error.into()));
    }
    let Some(_held) = queue.hold()? else { return Ok(()) };
    queue.remove_others();
    let archive = repository.state().archives.get(source).ok_or_else(|| {
        VaultError::NotFound(format!("the repository holds no log of `{source}`"))
    })?;
    let (store, ring) = (&**repository.store(), repository.ring());
    let segment_bytes = archive.segment_bytes;
    let catalog = Catalog::load(store, ring, source, archive.system)?;
    let filler = Filler {
        queue,
        server,
        catalog: &catalog,
        fetch: &|segment| match fetch_segment(store, ring, &catalog, segment, segment_bytes)? {
            Fetched::Found(bytes, stored) if stored == segment_bytes => Ok(bytes),
            _ => Err(VaultError::NotFound("a whole segment".to_owned())),
        },
        state: Mutex::new(State {
            aim: Aim::new(segment_bytes, (AHEAD_BYTES / segment_bytes).max(1) as usize),
            queued: 0,
            changed: Instant::now(),
            failed: None,
            ended: false,
        }),
        segment_bytes,
    };
    let workers = (AHEAD_BYTES / 2 / segment_bytes).clamp(1, WORKERS);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| filler.work());
        }
    });
    queue.remove()?;
    let state = filler.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.failed.map_or(Ok(()), Err)
}

/// Whether the segment after this one is whole, so that fetching ahead is of use.
pub fn is_of_use(catalog: &Catalog, segment: SegmentName, segment_bytes: u64) -> bool {
    aim::is_whole(catalog, aim::after(segment, segment_bytes), segment_bytes)
}

struct Filler<'a> {
    queue: &'a Queue,
    server: &'a Recovering,
    catalog: &'a Catalog,
    fetch: &'a (dyn Fn(SegmentName) -> Result<Vec<u8>> + Sync),
    state: Mutex<State>,
    segment_bytes: u64,
}

struct State {
    aim: Aim,
    /// Segments in the queue when it was last looked at.
    queued: usize,
    /// When that, or what is aimed at, last changed.
    changed: Instant,
    /// Why nothing more is fetched. What is ready stays for the server.
    failed: Option<VaultError>,
    ended: bool,
}

impl Filler<'_> {
    fn work(&self) {
        loop {
            let segment = match self.next() {
                Next::Fetch(segment) => segment,
                Next::Wait(pause) => {
                    thread::sleep(pause);
                    continue;
                }
                Next::End => return,
            };
            let name = segment.file_name(self.segment_bytes);
            if let Err(error) = (self.fetch)(segment).and_then(|b| self.queue.put(&name, &b)) {
                self.queue.give_up(&name);
                self.lock().failed.get_or_insert(error);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a worker does next.
    fn next(&self) -> Next {
        let mut state = self.lock();
        let found = match state.ended || !self.server.goes_on() {
            true => Ok(Next::End),
            false => self.look(&mut state),
        };
        let next = found.unwrap_or_else(|error| {
            state.failed.get_or_insert(error);
            Next::End
        });
        state.ended = next == Next::End;
        next
    }

    fn look(&self, state: &mut State) -> Result<Next> {
        let named = |name: &str| SegmentName::parse(name, self.segment_bytes);
        if named(&self.queue.asked()?).is_some_and(|asked| state.aim.asked(asked)) {
            state.changed = Instant::now();
        }
        let mut queued = self.queue.names()?;
        queued.retain(|name| {
            let is_ahead = named(name).is_some_and(|segment| state.aim.is_ahead(segment));
            if !is_ahead {
                self.queue.give_up(name);
            }
            is_ahead
        });
        if queued.len() != state.queued {
            (state.queued, state.changed) = (queued.len(), Instant::now());
        }
        let has_failed = state.failed.is_some();
        let is_there = |s| !has_failed && aim::is_whole(self.catalog, s, self.segment_bytes);
        if let Some(segment) = state.aim.next(queued.len(), is_there) {
            self.queue.claim(&segment.file_name(self.segment_bytes))?;
            state.queued += 1;
            return Ok(Next::Fetch(segment));
        }
        let idle = state.changed.elapsed();
        if idle > IDLE_MAX || (queued.is_empty() && state.aim.is_at_end(is_there)) {
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
    let queue = Queue::new(&folder, &server, &format!("{repository}\n{source}"));
    Some((queue, server))
}
