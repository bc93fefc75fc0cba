//! A stand-in for the launcher: starts order servers and their store as real processes, hands
//! them role, lease and socket as the launcher does, and takes them down again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use backstay::demo::judge::{Interval, Intervals};
use backstay::orders::records::{StoreCounts, StoreRecord};
use drivers::lease::InstanceLease;
use model::Moment;

/// Longest wait for anything that should happen at once; only a failing test meets it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something is there.
pub(crate) fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// An address that nobody else uses: the process id picks the network, so that two runs side by
/// side never meet, and each call gets a host of its own.
pub(crate) fn free_address() -> SocketAddr {
    static HOST: AtomicU8 = AtomicU8::new(1);
    let [high, low] = ((std::process::id() % 65_000) as u16).to_be_bytes();
    let host = HOST.fetch_add(1, Ordering::Relaxed);
    assert!(host < 250, "more addresses than hosts: use another octet");
    (Ipv4Addr::new(127, high, low, host), 7_400).into()
}

/// A child that is killed when it goes out of scope.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    fn start(command: &mut Command) -> Process {
        Process(command.spawn().unwrap())
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The state letter of `/proc/PID/stat`.
    fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        stat[stat.rfind(')').unwrap() + 2..].chars().next().unwrap()
    }

    pub(crate) fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
        until("the stop", || (self.state() == 'T').then_some(()));
    }

    pub(crate) fn wake(&self) {
        self.signal(rustix::process::Signal::CONT);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Killing one that was waited for already does nothing.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn backstay(program: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    command.args(["example", program]).stdin(Stdio::null());
    command
}

/// A connection that sends lines and reads lines.
pub(crate) struct Lines(BufReader<TcpStream>);

impl Lines {
    pub(crate) fn connect(address: SocketAddr) -> Lines {
        let stream = until("the connection", || TcpStream::connect(address).ok());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Lines(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub(crate) fn receive(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.receive()
    }

    /// Whether the other side ended the connection.
    pub(crate) fn is_over(&mut self) -> bool {
        self.0.read(&mut [0; 1]).is_ok_and(|n| n == 0)
    }
}

/// The store.
pub(crate) struct Store {
    pub(crate) address: SocketAddr,
    _process: Process,
    records: PathBuf,
}

impl Store {
    pub(crate) fn start(dir: &Path) -> Store {
        let (address, records) = (free_address(), dir.join("store.jsonl"));
        let mut command = backstay("orders-store");
        command.arg("--listen").arg(address.to_string()).arg("--records").arg(&records);
        let process = Process::start(&mut command);
        drop(Lines::connect(address));
        Store { address, _process: process, records }
    }

    pub(crate) fn ask(&self, line: &str) -> String {
        Lines::connect(self.address).ask(line)
    }

    pub(crate) fn counts(&self) -> StoreCounts {
        serde_json::from_str(&self.ask("count")).unwrap()
    }

    pub(crate) fn records(&self) -> Vec<StoreRecord> {
        let text = std::fs::read_to_string(&self.records).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A server and what the launcher holds of it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    lease: InstanceLease,
    control: BufReader<UnixStream>,
}

impl Server {
    /// Starts a standby in the directory `dir/name`.
    pub(crate) fn start(dir: &Path, name: &str, store: &Store, more: &[&str]) -> Server {
        let home = dir.join(name);
        std::fs::create_dir(&home).unwrap();
        let (socket, lease_path) = (home.join("socket"), home.join("lease"));
        let lease = InstanceLease::create(&lease_path).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let address = free_address();
        let mut command = backstay("orders-server");
        command
            .arg("--listen")
            .arg(format!("{name}={address}"))
            .args(["--store", &store.address.to_string()])
            .arg("--active-log")
            .arg(dir.join("active.jsonl"))
            .args(more)
            .env("BACKSTAY_ROLE", "standby")
            .env("BACKSTAY_SOCKET", &socket)
            .env("BACKSTAY_LEASE", &lease_path);
        let process = Process::start(&mut command);
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Server { address, process, lease, control: BufReader::new(stream) }
    }

    /// Writes the lease file as the launcher does: `until_ns` on the boot-time clock.
    pub(crate) fn lease(&self, epoch: &str, until_ns: u64) {
        self.lease.activate(epoch.parse().unwrap(), 1, Moment(until_ns));
    }

    fn tell(&mut self, line: &str) -> String {
        self.control.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        self.control.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    /// Grants a lease without end and promotes.
    pub(crate) fn promote(&mut self, epoch: &str) {
        self.lease(epoch, u64::MAX);
        let answer = self.tell(&format!(r#"{{"event":"promote","epoch":"{epoch}"}}"#));
        assert_eq!(answer, format!(r#"{{"event":"active","epoch":"{epoch}"}}"#));
    }

    pub(crate) fn demote(&mut self, epoch: &str) {
        let answer = self.tell(&format!(r#"{{"event":"demote","epoch":"{epoch}"}}"#));
        assert_eq!(answer, r#"{"event":"standby"}"#);
    }

    pub(crate) fn ask(&self, line: &str) -> String {
        Lines::connect(self.address).ask(line)
    }
}

/// The client, with standard input held open until it is to stop.
pub(crate) struct Client {
    process: Process,
    records: PathBuf,
}

impl Client {
    pub(crate) fn start(dir: &Path, servers: &[&Server], store: &Store) -> Client {
        let servers: Vec<String> = servers.iter().map(|s| s.address.to_string()).collect();
        Client::start_at(dir, &servers, store)
    }

    /// Starts it for servers that somebody else runs.
    pub(crate) fn start_at(dir: &Path, servers: &[String], store: &Store) -> Client {
        let records = dir.join("client.jsonl");
        let mut command = backstay("orders-client");
        command
            .args(["--servers", &servers.join(","), "--store", &store.address.to_string()])
            .arg("--records")
            .arg(&records)
            .stdin(Stdio::piped());
        Client { process: Process::start(&mut command), records }
    }

    pub(crate) fn records(&self) -> Vec<backstay::orders::records::OrderRecord> {
        let Ok(text) = std::fs::read_to_string(&self.records) else { return Vec::new() };
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until orders sent after this moment have been acknowledged.
    pub(crate) fn acknowledged_after(&self, moment: Moment) {
        until("an acknowledged order", || {
            self.records().iter().any(|o| o.sent > moment && o.acknowledged.is_some()).then_some(())
        });
    }

    /// Ends the standard input, waits for the end, returns everything.
    pub(crate) fn stop(mut self) -> Vec<backstay::orders::records::OrderRecord> {
        drop(self.process.0.stdin.take());
        assert!(self.process.0.wait().unwrap().success());
        self.records()
    }
}

/// What all servers wrote into the shared log.
pub(crate) fn intervals(dir: &Path) -> Vec<Interval> {
    let mut intervals = Intervals::default();
    let text = std::fs::read_to_string(dir.join("active.jsonl")).unwrap_or_default();
    for line in text.lines() {
        intervals.add(serde_json::from_str(line).unwrap());
    }
    intervals.list()
}
