//! The room in which `demo vault` plays: a directory, and a child that plays in it. The child may
//! end in any way, of a signal too: then whatever it started is ended, and the directory goes.
//! What a killed demonstration left is removed by the next.

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use vault::{Result, VaultError};

/// Tells the child its parent and its room, as `PID:DIRECTORY`.
const ROOM: &str = "BACKSTAY_DEMO_ROOM";
/// How such directories are called, before the process's number.
const NAME: &str = "backstay-demo-vault-";
/// Locked while the demonstration lives.
const LOCK: &str = "lock";
/// Between looks at the child, or at what it leaves behind.
const PAUSE: Duration = Duration::from_millis(20);
/// What a demonstration started ends by itself within this time, or is killed.
const GRACE: Duration = Duration::from_secs(3);
/// A killed process is gone within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the child ended.
pub(super) enum Ended {
    /// By itself; and what it printed.
    Itself(ExitStatus, Vec<u8>),
    /// This process was told to end by this signal.
    Told(Signal),
}

/// The room, where this process is the child.
///
/// # Errors
/// Where the parent is gone already, or this process cannot be tied to it.
pub(super) fn of_child() -> Result<Option<PathBuf>> {
    let Some(told) = std::env::var_os(ROOM) else { return Ok(None) };
    let told = told.to_string_lossy().into_owned();
    let gone = || VaultError::Refused("the demonstration has ended".to_owned());
    let (parent, room) = told.split_once(':').ok_or_else(gone)?;
    let tied = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    tied.map_err(|e| VaultError::file("tie to its parent", "the demonstration")(e.into()))?;
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if now.as_deref() != Some(parent) {
        return Err(gone());
    }
    Ok(Some(PathBuf::from(room)))
}

/// Runs this program again in a room of its own, and leaves nothing behind. The call must come
/// from a thread that lives as long as the child: the kernel ties a child to it.
///
/// # Errors
/// Where the room or the child cannot be made, or something stays behind.
pub(super) fn play() -> Result<Ended> {
    let signals = watch_signals()?;
    remove_abandoned()?;
    let room = Room::make()?;
    let ended = room.play(&signals);
    room.clear()?;
    ended
}

struct Room {
    path: PathBuf,
    /// Held while this value lives.
    _lock: File,
}

impl Room {
    fn make() -> Result<Room> {
        let path = std::env::temp_dir().join(format!("{NAME}{}", std::process::id()));
        fs::create_dir(&path).map_err(VaultError::file("make", path.clone()))?;
        let lock = File::create(path.join(LOCK)).and_then(|file| {
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        });
        Ok(Room { _lock: lock.map_err(VaultError::file("lock", path.clone()))?, path })
    }

    fn play(&self, signals: &Receiver<Signal>) -> Result<Ended> {
        let failed = VaultError::file("run", "the demonstration");
        let mut told = std::ffi::OsString::from(format!("{}:", std::process::id()));
        told.push(&self.path);
        let start = || {
            // A group of its own: Ctrl-C reaches this process alone.
            Command::new(std::env::current_exe()?)
                .args(std::env::args_os().skip(1))
                .env(ROOM, told)
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
        };
        let mut child = start().map_err(failed)?;
        let waited = wait(&mut child, signals);
        // A child that has ended needs no end.
        let _ = child.kill();
        let _ = child.wait();
        waited.map_err(VaultError::file("wait for", "the demonstration"))
    }

    fn clear(self) -> Result<()> {
        clear(&self.path)
    }
}

fn wait(child: &mut Child, signals: &Receiver<Signal>) -> io::Result<Ended> {
    let mut output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).map(|_| bytes)
    });
    loop {
        match signals.recv_timeout(PAUSE) {
            Ok(signal) => return Ok(Ended::Told(signal)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        if let Some(status) = child.try_wait()? {
            let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            return Ok(Ended::Itself(status, read?));
        }
    }
}

/// Ends what lives in a room, and removes it.
fn clear(room: &Path) -> Result<()> {
    let failed = || VaultError::file("clear up", room.to_owned());
    end_all(room).map_err(failed())?;
    fs::remove_dir_all(room).map_err(failed())
}

/// Ends every process of a room: a server first in its own way, in which it gives its shared memory
/// back.
fn end_all(room: &Path) -> io::Result<()> {
    let begun = Instant::now();
    let mut told = Vec::new();
    loop {
        let all = processes(room)?;
        if all.is_empty() {
            return Ok(());
        }
        for pid in all {
            let signal = match begun.elapsed() >= GRACE {
                true => Signal::KILL,
                false if told.contains(&pid) => continue,
                false => Signal::QUIT,
            };
            told.push(pid);
            match kill_process(pid, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if begun.elapsed() >= PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(PAUSE);
    }
}

/// The processes of a room: they were told of it, or are a server's that works in it, which lets go
/// of what it was told.
fn processes(room: &Path) -> io::Result<Vec<Pid>> {
    let told = [b":", room.as_os_str().as_bytes()].concat();
    let of_room = |process: &Path| {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        let mut words = environment.split(|byte| *byte == 0);
        let is_told = |word: &[u8]| word.starts_with(ROOM.as_bytes()) && word.ends_with(&told);
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let works = fs::read_link(process.join("cwd")).is_ok_and(|at| at.starts_with(room));
        words.any(is_told) || (works && name.trim_end() == "postgres")
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(pid) = number.and_then(Pid::from_raw)
            && pid != rustix::process::getpid()
            && of_room(&entry.path())
        {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Removes the rooms of demonstrations that were killed: nobody holds their locks.
fn remove_abandoned() -> Result<()> {
    let folder = std::env::temp_dir();
    let failed = || VaultError::file("look for what an earlier one left in", folder.clone());
    let own = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(&folder).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let number = entry.file_name().to_str().and_then(|n| n.strip_prefix(NAME)?.parse().ok());
        let is_room = entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == own);
        if let Some(number) = number
            && is_room
            && is_abandoned(&entry.path(), number)
        {
            clear(&entry.path())?;
        }
    }
    Ok(())
}

fn is_abandoned(room: &Path, number: u32) -> bool {
    // Numbers come again: then it is the lock that tells. One without is being made, or cleared.
    let is_free = |lock: File| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
    !Path::new("/proc").join(number.to_string()).exists()
        || File::open(room.join(LOCK)).is_ok_and(is_free)
}

/// From now on signals to end are told here, and end nothing by themselves.
fn watch_signals() -> Result<Receiver<Signal>> {
    let failed = || VaultError::file("watch", "signals");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(failed())?;
    let entered = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).map_err(failed())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed())?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed())?;
    drop(entered);
    let (told, signals) = channel();
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let signal = tokio::select! {
                    _ = terminate.recv() => Signal::TERM,
                    _ = interrupt.recv() => Signal::INT,
                    _ = hangup.recv() => Signal::HUP,
                };
                if told.send(signal).is_err() {
                    return;
                }
            }
        });
    });
    Ok(signals)
}
