//! The machine's processes, read from `/proc` into a table of fixed size: how instances without
//! a cgroup are found, by session, process group, descent, and the environment they were given.
//!
//! Scanning allocates nothing, because the guard does it when memory may be short.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};
use rustix::process::Pid;

/// Most processes looked at. The largest default `pid_max` is 4,194,304, but machines that run
/// that many have cgroups; what does not fit counts as "can't tell".
pub const PROCESSES_MAX: usize = 65_536;
/// Most bytes of a process's environment that are searched.
const ENVIRON_BYTES: usize = 32_768;
/// Most generations between a program and a process it started that are followed.
const DEPTH_MAX: usize = 64;

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
    /// Ended, not yet reaped.
    pub dead: bool,
}

/// Parses `/proc/<pid>/stat` (proc_pid_stat(5)). The name in brackets may contain anything, so
/// counting starts at the last bracket.
#[must_use]
pub fn parse_stat(stat: &[u8]) -> Option<Process> {
    let open = stat.iter().position(|b| *b == b'(')?;
    let close = stat.iter().rposition(|b| *b == b')')?;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let pid = text(stat.get(..open)?)?.trim().parse().ok()?;
    let mut field = text(stat.get(close + 1..)?)?.split_ascii_whitespace();
    let state = field.next()?;
    let parent = field.next()?.parse().ok()?;
    let group = field.next()?.parse().ok()?;
    let session = field.next()?.parse().ok()?;
    // Fields 7 to 19 lie between session (6) and number of threads (20).
    let threads: u64 = field.nth(13)?.parse().ok()?;
    let started = field.nth(1)?.parse().ok()?;
    // A leader that ended while its threads run is no corpse.
    let dead = matches!(state, "Z" | "X") && threads <= 1;
    Some(Process { pid, parent, group, session, started, dead })
}

/// How one instance's processes are told from all others.
#[derive(Debug, Clone, Copy)]
pub struct Family<'a> {
    /// Leading process: also session and process group.
    pub leader: i32,
    /// When it started; a process of the same number that started at another time is a stranger.
    pub started: u64,
    /// The launcher, to which orphans fall; 0 where it is gone and they may be anywhere.
    pub launcher: i32,
    /// Value of `BACKSTAY_SOCKET` in their environment.
    pub socket: &'a str,
    /// Children of the launcher that are no orphans (other leaders, probes). `None`: the caller
    /// doesn't know them, and an orphan without our environment is left to the launcher.
    pub known: Option<&'a [i32]>,
}

/// A table of processes and its buffers.
pub struct ProcessTable {
    rows: Vec<Process>,
    member: Vec<bool>,
    entries: Vec<MaybeUninit<u8>>,
    environ: Vec<u8>,
    overflow: bool,
}

impl std::fmt::Debug for ProcessTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProcessTable({} rows)", self.rows.len())
    }
}

impl Default for ProcessTable {
    fn default() -> Self {
        ProcessTable {
            rows: Vec::with_capacity(PROCESSES_MAX),
            member: Vec::with_capacity(PROCESSES_MAX),
            entries: vec![MaybeUninit::uninit(); 32_768],
            environ: vec![0; ENVIRON_BYTES],
            overflow: false,
        }
    }
}

impl ProcessTable {
    /// Reads all processes.
    ///
    /// # Errors
    /// `/proc` can't be read.
    pub fn scan(&mut self) -> io::Result<()> {
        self.rows.clear();
        self.overflow = false;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, c"/proc", flags, Mode::empty())?;
        let mut entries = RawDir::new(&dir, &mut self.entries);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if !name.to_bytes().first().is_some_and(u8::is_ascii_digit) {
                continue;
            }
            // One that ended meanwhile is simply gone.
            let Some(process) = read_stat(name.to_bytes()) else { continue };
            if self.rows.len() == PROCESSES_MAX {
                self.overflow = true;
                break;
            }
            self.rows.push(process);
        }
        // In order of their numbers already, as the kernel lists them; made sure of here.
        self.rows.sort_unstable_by_key(|p| p.pid);
        Ok(())
    }

    /// Calls `with` for every living process of a family and returns their number; `None` where
    /// the table was too small to tell.
    pub fn each(&mut self, family: &Family<'_>, mut with: impl FnMut(&Process)) -> Option<usize> {
        self.mark(family);
        let mut living = 0;
        for (row, member) in self.rows.iter().zip(&self.member) {
            if *member && !row.dead {
                living += 1;
                with(row);
            }
        }
        (!self.overflow).then_some(living)
    }

    fn mark(&mut self, family: &Family<'_>) {
        let reused =
            self.rows.iter().any(|p| p.pid == family.leader && p.started != family.started);
        self.member.clear();
        for at in 0..self.rows.len() {
            let row = self.rows[at];
            let ours = row.pid == family.leader && row.started == family.started;
            let led = !reused
                && row.started >= family.started
                && (row.group == family.leader || row.session == family.leader);
            let orphan = !ours && !led && !row.dead && self.is_orphan_of(&row, family);
            self.member.push(ours || led || orphan);
        }
        for _ in 0..DEPTH_MAX {
            if !self.mark_children() {
                break;
            }
        }
    }

    /// Marks children of what is marked; whether there were any.
    fn mark_children(&mut self) -> bool {
        let mut found = false;
        for at in 0..self.rows.len() {
            if self.member[at] {
                continue;
            }
            let parent = self.rows[at].parent;
            let by_pid = self.rows.binary_search_by_key(&parent, |p| p.pid);
            if by_pid.is_ok_and(|p| self.member[p]) {
                self.member[at] = true;
                found = true;
            }
        }
        found
    }

    fn is_orphan_of(&mut self, row: &Process, family: &Family<'_>) -> bool {
        if row.started < family.started || (family.launcher != 0 && row.parent != family.launcher) {
            return false;
        }
        if family.known.is_some_and(|known| known.contains(&row.pid)) {
            return false;
        }
        match self.socket_of(row.pid) {
            Some(socket) => socket == family.socket.as_bytes(),
            // It hides its origin. Under the launcher it must be some instance's, and whoever
            // asks with knowledge of the others takes it for theirs.
            None => family.launcher != 0 && family.known.is_some(),
        }
    }

    /// The value of `BACKSTAY_SOCKET` that a process was started with.
    pub fn socket_of(&mut self, pid: i32) -> Option<&[u8]> {
        let len = read_proc(pid, b"/environ\0", &mut self.environ)?;
        let environ = self.environ.get(..len)?;
        environ.split(|b| *b == 0).find_map(|entry| entry.strip_prefix(b"BACKSTAY_SOCKET="))
    }

    /// All living processes that were started with a `BACKSTAY_SOCKET` below this directory.
    pub fn each_below(&mut self, dir: &[u8], mut with: impl FnMut(&Process)) -> Option<usize> {
        let mut living = 0;
        for at in 0..self.rows.len() {
            let row = self.rows[at];
            if !row.dead && self.socket_of(row.pid).is_some_and(|s| s.starts_with(dir)) {
                living += 1;
                with(&row);
            }
        }
        (!self.overflow).then_some(living)
    }
}

fn read_stat(pid: &[u8]) -> Option<Process> {
    let mut buffer = [0u8; 1_024];
    let pid = std::str::from_utf8(pid).ok()?.parse().ok()?;
    let len = read_proc(pid, b"/stat\0", &mut buffer)?;
    parse_stat(buffer.get(..len)?)
}

/// When a process started, in clock ticks since boot.
#[must_use]
pub fn started(pid: i32) -> Option<u64> {
    let mut buffer = [0u8; 1_024];
    let len = read_proc(pid, b"/stat\0", &mut buffer)?;
    Some(parse_stat(buffer.get(..len)?)?.started)
}

/// The number handed out last: the last field of `/proc/loadavg` (proc_loadavg(5)).
#[must_use]
pub fn newest_pid() -> Option<i32> {
    let mut buffer = [0u8; 128];
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = openat(CWD, c"/proc/loadavg", flags, Mode::empty()).ok()?;
    let len = rustix::io::read(&fd, &mut buffer).ok()?;
    let text = std::str::from_utf8(buffer.get(..len)?).ok()?;
    text.split_ascii_whitespace().next_back()?.parse().ok()
}

fn read_proc(pid: i32, file: &[u8], into: &mut [u8]) -> Option<usize> {
    use std::io::Write;
    let mut path = [0u8; 32];
    let mut cursor = &mut path[..];
    write!(cursor, "/proc/{pid}").ok()?;
    cursor.write_all(file).ok()?;
    let path = CStr::from_bytes_until_nul(&path).ok()?;
    let fd = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    rustix::io::read(&fd, into).ok()
}

/// Kills one process, and nothing that took over its number: the descriptor is opened first,
/// then the start time compared, then the signal sent.
///
/// # Errors
/// What the kernel says; a process that is gone already is no error.
pub fn kill_exactly(process: &Process) -> io::Result<()> {
    use rustix::io::Errno;
    use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let Some(pid) = Pid::from_raw(process.pid) else { return Ok(()) };
    let fd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    if started(process.pid) != Some(process.started) {
        return Ok(());
    }
    match pidfd_send_signal(&fd, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let stat = b"42 (a) Z 1 (b) S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 12345 1 2";
        let row = parse_stat(stat).unwrap();
        let want =
            Process { pid: 42, parent: 7, group: 8, session: 9, started: 12_345, dead: false };
        assert_eq!(row, want);
        assert_eq!(parse_stat(b"42 (x"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn a_leader_that_ended_while_its_threads_run_is_alive() {
        let stat = |threads: u32| {
            format!("5 (x) Z 1 5 5 0 -1 0 1 2 3 4 5 6 7 8 20 0 {threads} 0 99 1 2").into_bytes()
        };
        assert!(parse_stat(&stat(1)).unwrap().dead);
        assert!(!parse_stat(&stat(2)).unwrap().dead);
    }

    #[test]
    fn this_process_is_found_with_its_children_and_nobody_else() {
        let mut child = std::process::Command::new("/bin/sleep")
            .arg("60")
            .env("BACKSTAY_SOCKET", "/x/i/y.sock")
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        let mut table = ProcessTable::default();
        table.scan().unwrap();
        let me = std::process::id() as i32;
        let family = Family {
            leader: me,
            started: started(me).unwrap(),
            launcher: 0,
            socket: "/no/such",
            known: None,
        };
        let mut seen = Vec::new();
        table.each(&family, |p| seen.push(p.pid)).unwrap();
        assert!(seen.contains(&me) && seen.contains(&pid), "{seen:?}");
        assert!(!seen.contains(&1));
        let mut below = Vec::new();
        // The child shows its environment once it runs its program.
        for _ in 0..1_000 {
            table.each_below(b"/x/i/", |p| below.push(p.pid)).unwrap();
            if !below.is_empty() {
                break;
            }
            std::thread::yield_now();
        }
        assert_eq!(below.first(), Some(&pid));
        let stranger = Process { pid, started: 1, ..Process::default() };
        kill_exactly(&stranger).unwrap();
        assert_eq!(child.try_wait().unwrap(), None, "another start time is another process");
        let real = Process { pid, started: started(pid).unwrap(), ..Process::default() };
        kill_exactly(&real).unwrap();
        child.wait().unwrap();
    }
}
