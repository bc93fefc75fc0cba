//! Output of instances: taken from a pipe, written to files that rotate, the last of it kept in
//! memory for the report of an exit.
//!
//! Two threads serve all instances. One empties pipes and never waits for a disk; the other
//! writes. Between them lies a queue of limited length: where the disk doesn't keep up, output is
//! dropped and counted, and the instance goes on.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::spec::LogSpec;
use rustix::event::epoll;

use crate::protocol::TAIL_BYTES_MAX;

/// Bytes read from a pipe at one time.
const CHUNK_BYTES: usize = 16_384;
/// Chunks read from one pipe before others have their turn: one full pipe of 64 KiB.
const CHUNKS_PER_TURN: usize = 4;
/// Chunks waiting for the disk, all instances together: at most 16 MiB.
const QUEUE_MAX: usize = 1_024;
/// Smallest size at which a file is rotated.
const ROTATE_BYTES_MIN: u64 = 4_096;
/// Most rotated files kept.
const KEEP_MAX: u32 = 100;

/// What the writing thread is told.
enum Line {
    Open { id: u64, path: PathBuf, spec: LogSpec },
    Chunk { id: u64, bytes: Vec<u8> },
    Close { id: u64 },
}

/// One instance's pipe and what was last read from it.
#[derive(Debug)]
struct Capture {
    id: u64,
    pipe: OwnedFd,
    tail: VecDeque<u8>,
    dropped: u64,
    /// Probes have no file.
    to_file: bool,
    ended: bool,
}

/// A handle on one instance's output.
#[derive(Debug)]
pub struct Output {
    capture: Arc<Mutex<Capture>>,
    logs: Arc<Shared>,
    id: u64,
}

#[derive(Debug)]
struct Shared {
    poll: OwnedFd,
    captures: Mutex<BTreeMap<u64, Arc<Mutex<Capture>>>>,
    queue: SyncSender<Line>,
}

/// The two threads. They end with the process.
#[derive(Debug)]
pub struct Logs {
    shared: Arc<Shared>,
    dir: PathBuf,
}

/// A lock whose holder panicked still guards plain data; going on is right.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Logs {
    /// Starts the threads; files go to `dir`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn start(dir: &Path) -> io::Result<Logs> {
        fs::create_dir_all(dir)?;
        let (queue, lines) = sync_channel(QUEUE_MAX);
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let shared = Arc::new(Shared { poll, captures: Mutex::default(), queue });
        let reader = Arc::clone(&shared);
        std::thread::Builder::new().name("log-reader".into()).spawn(move || reader.read_on())?;
        std::thread::Builder::new().name("log-writer".into()).spawn(move || write_on(&lines))?;
        Ok(Logs { shared, dir: dir.to_owned() })
    }

    /// Makes a pipe; what is written to the end returned goes to the file `<name>.log`, or only
    /// to the tail where there is no `file`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn capture(
        &self,
        id: u64,
        file: Option<(&str, &LogSpec)>,
    ) -> io::Result<(Output, OwnedFd)> {
        let (pipe, into) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&pipe, rustix::fs::OFlags::NONBLOCK)?;
        if let Some((name, spec)) = file {
            let path = self.dir.join(format!("{name}.log"));
            let open = Line::Open { id, path, spec: spec.clone() };
            if self.shared.queue.try_send(open).is_err() {
                return Err(io::Error::other("the queue to the log files is full"));
            }
        }
        let capture = Capture {
            id,
            pipe,
            tail: VecDeque::new(),
            dropped: 0,
            to_file: file.is_some(),
            ended: false,
        };
        let data = epoll::EventData::new_u64(id);
        epoll::add(&self.shared.poll, &capture.pipe, data, epoll::EventFlags::IN)?;
        let capture = Arc::new(Mutex::new(capture));
        lock(&self.shared.captures).insert(id, Arc::clone(&capture));
        Ok((Output { capture, logs: Arc::clone(&self.shared), id }, into))
    }
}

impl Output {
    /// Reads what is still in the pipe, ends the capture and returns the last output.
    #[must_use]
    pub fn finish(self) -> String {
        let mut capture = lock(&self.capture);
        capture.pump(&self.logs.queue);
        let tail: Vec<u8> = capture.tail.iter().copied().collect();
        String::from_utf8_lossy(&tail).into_owned()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        lock(&self.logs.captures).remove(&self.id);
        let capture = lock(&self.capture);
        if !capture.ended {
            // Closing the pipe removes it from the poll as well; being exact costs nothing.
            if let Err(errno) = epoll::delete(&self.logs.poll, &capture.pipe) {
                tracing::debug!(%errno, "a log pipe was not in the poll");
            }
        }
        if capture.to_file && self.logs.queue.try_send(Line::Close { id: self.id }).is_err() {
            tracing::warn!("a log file stays open: the disk does not keep up");
        }
    }
}

impl Capture {
    fn pump(&mut self, queue: &SyncSender<Line>) {
        for _ in 0..CHUNKS_PER_TURN {
            let mut bytes = vec![0u8; CHUNK_BYTES];
            match rustix::io::read(&self.pipe, &mut bytes) {
                Ok(0) => {
                    self.ended = true;
                    return;
                }
                Ok(len) => {
                    bytes.truncate(len);
                    self.take(bytes, queue);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(errno) => {
                    tracing::warn!(%errno, "a log pipe can't be read");
                    self.ended = true;
                    return;
                }
            }
        }
    }

    fn take(&mut self, bytes: Vec<u8>, queue: &SyncSender<Line>) {
        let last = &bytes[bytes.len().saturating_sub(TAIL_BYTES_MAX)..];
        self.tail.extend(last);
        let over = self.tail.len().saturating_sub(TAIL_BYTES_MAX);
        self.tail.drain(..over);
        if !self.to_file {
            return;
        }
        let mut bytes = bytes;
        if self.dropped > 0 {
            let note = format!(
                "[backstay: {} bytes of output dropped, the disk did not keep up]\n",
                self.dropped
            );
            bytes.splice(0..0, note.into_bytes());
        }
        let len = bytes.len() as u64;
        match queue.try_send(Line::Chunk { id: self.id, bytes }) {
            Ok(()) => self.dropped = 0,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.dropped += len,
        }
    }
}

impl Shared {
    fn read_on(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    tracing::error!(%errno, "logs are no longer read; instances will stall");
                    return;
                }
            }
            for event in &events {
                let id = event.data.u64();
                let Some(capture) = lock(&self.captures).get(&id).cloned() else { continue };
                let mut capture = lock(&capture);
                capture.pump(&self.queue);
                if capture.ended
                    && let Err(errno) = epoll::delete(&self.poll, &capture.pipe)
                {
                    tracing::debug!(%errno, "a log pipe was not in the poll");
                }
            }
        }
    }
}

/// One instance's file.
struct LogFile {
    path: PathBuf,
    spec: LogSpec,
    file: Option<File>,
    len: u64,
}

fn write_on(lines: &Receiver<Line>) {
    let mut files: BTreeMap<u64, LogFile> = BTreeMap::new();
    while let Ok(line) = lines.recv() {
        match line {
            Line::Open { id, path, spec } => {
                files.insert(id, LogFile { path, spec, file: None, len: 0 });
            }
            Line::Chunk { id, bytes } => {
                let Some(file) = files.get_mut(&id) else { continue };
                if let Err(error) = file.write(&bytes) {
                    tracing::warn!(path = %file.path.display(), %error, "output lost");
                    file.file = None;
                }
            }
            Line::Close { id } => {
                files.remove(&id);
            }
        }
    }
}

impl LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let most = self.spec.rotate_bytes.max(ROTATE_BYTES_MIN);
        if self.file.is_some() && self.len > 0 && self.len + bytes.len() as u64 > most {
            self.rotate()?;
        }
        if self.file.is_none() {
            let file = OpenOptions::new().create(true).append(true).mode(0o640).open(&self.path)?;
            self.len = file.metadata()?.len();
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
            self.len += bytes.len() as u64;
        }
        Ok(())
    }

    /// `x.log` becomes `x.log.1`, and so on; the oldest is dropped.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        let keep = self.spec.keep.min(KEEP_MAX);
        if keep == 0 {
            return fs::remove_file(&self.path);
        }
        let numbered = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        for n in (1..keep).rev() {
            if numbered(n).exists() {
                fs::rename(numbered(n), numbered(n + 1))?;
            }
        }
        fs::rename(&self.path, numbered(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_rotate_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let spec = LogSpec { rotate_bytes: 4_096, keep: 2 };
        let mut log = LogFile { path, spec, file: None, len: 0 };
        for n in 0..5u8 {
            log.write(&[b'a' + n; 3_000]).unwrap();
        }
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["x.log", "x.log.1", "x.log.2"]);
        let first = |name: &str| fs::read(dir.path().join(name)).unwrap()[0];
        assert_eq!([first("x.log"), first("x.log.1"), first("x.log.2")], *b"edc");
    }

    #[test]
    fn the_tail_is_the_end_of_the_output_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::start(dir.path()).unwrap();
        let (output, into) = logs.capture(1, None).unwrap();
        let mut into = File::from(into);
        into.write_all(&vec![b'x'; 40_000]).unwrap();
        into.write_all(b"the end").unwrap();
        drop(into);
        let tail = output.finish();
        assert_eq!(tail.len(), TAIL_BYTES_MAX);
        assert!(tail.ends_with("the end"));
    }

    #[test]
    fn a_disk_that_does_not_keep_up_drops_and_says_so() {
        let (pipe, into) = rustix::pipe::pipe().unwrap();
        let (queue, lines) = sync_channel(1);
        let mut capture =
            Capture { id: 1, pipe, tail: VecDeque::new(), dropped: 0, to_file: true, ended: false };
        drop(into);
        capture.take(b"one".to_vec(), &queue);
        capture.take(b"two".to_vec(), &queue);
        assert_eq!(capture.dropped, 3);
        assert!(matches!(lines.recv(), Ok(Line::Chunk { bytes, .. }) if bytes == b"one"));
        capture.take(b"three".to_vec(), &queue);
        let Ok(Line::Chunk { bytes, .. }) = lines.recv() else { panic!("a chunk") };
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("[backstay: 3 bytes") && text.ends_with("three"), "{text}");
    }
}
