//! A node on a bench: launcher and guard as real processes in one directory, the test as agent.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::{Epoch, Moment, ResourceName, ResourceSpec, Span, Timers};

use crate::client::LauncherClient;
use crate::lease::{Beat, LeasePage};
use crate::protocol::{Event, Request, Role};
use crate::run_dir::RunDir;
use crate::sys;

/// How long anything awaited may take. Far longer than it does, because machines that run tests
/// are busy.
pub const WAIT: Duration = Duration::from_secs(10);
/// Pause between two looks at something that tells nobody when it changes.
/// The number of every instance: one after the other.
pub const NUMBER: u64 = 7;
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The longest lease of a bench.
pub(super) const LONGEST_LEASE: Span = Span::from_ms(10_000);

/// A name known to be good.
///
/// # Panics
/// Where it is not.
#[must_use]
pub fn name(text: &str) -> ResourceName {
    ResourceName::new(text).expect("a good name")
}

/// Epoch 1.`counter`.
#[must_use]
pub fn epoch(counter: u64) -> Epoch {
    Epoch { generation: 1, counter }
}

/// How a bench is set up.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// An empty directory, as short a path as possible.
    pub dir: PathBuf,
    /// Starts a launcher on the bench's `run` and `log` directories.
    pub launcher: fn(&BenchOptions) -> Command,
    /// Starts a guard.
    pub guard: fn(&BenchOptions) -> Command,
    /// Whether instances get cgroups, where this machine has them.
    pub cgroups: bool,
    /// The timers that both are to use.
    pub timers: Timers,
    /// More arguments for the launcher.
    pub launcher_args: Vec<String>,
    /// More arguments for the guard.
    pub guard_args: Vec<String>,
}

/// A node on a bench.
#[derive(Debug)]
pub struct Bench {
    /// How it was set up.
    pub options: BenchOptions,
    /// Its run directory.
    pub run_dir: RunDir,
    /// The launcher's process.
    pub launcher: Option<Child>,
    /// The guard's process.
    pub guard: Option<Child>,
    /// The connection to the launcher.
    pub client: Option<LauncherClient>,
    /// The lease page, as the agent has it.
    pub page: Arc<LeasePage>,
    events: Receiver<Event>,
    /// Every event so far, for messages.
    pub seen: Vec<Event>,
    resources: BTreeMap<ResourceName, ResourceSpec>,
    version: u64,
    keeper: Option<Keeper>,
}

/// Renews the lease as an agent does.
#[derive(Debug)]
struct Keeper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Bench {
    /// Starts launcher and guard, connects, and holds a lease.
    ///
    /// # Errors
    /// A sentence that says what didn't come.
    pub fn start(options: BenchOptions) -> Result<Bench, String> {
        let run_dir = RunDir::new(options.dir.join("run"));
        let fail = |what: &str, error: io::Error| format!("{what}: {error}");
        let launcher = (options.launcher)(&options).spawn().map_err(|e| fail("launcher", e))?;
        let guard = (options.guard)(&options).spawn().map_err(|e| fail("guard", e))?;
        let (client, events) = connect(&run_dir)?;
        let page = until("the lease page", || LeasePage::open(&run_dir.lease_page()).ok())?;
        let mut bench = Bench {
            options,
            run_dir,
            launcher: Some(launcher),
            guard: Some(guard),
            client: Some(client),
            page: Arc::new(page),
            events,
            seen: Vec::new(),
            resources: BTreeMap::new(),
            version: 0,
            keeper: None,
        };
        bench.hold_lease();
        bench.expect("the guard", |e| {
            matches!(e, Event::Hello { guard, .. } if *guard != 0)
                || matches!(e, Event::GuardBack { .. })
        })?;
        Ok(bench)
    }

    /// Renews the lease from now on.
    pub fn hold_lease(&mut self) {
        self.drop_lease();
        let (page, stop) = (Arc::clone(&self.page), Arc::new(AtomicBool::new(false)));
        let (timers, stopped) = (self.options.timers, Arc::clone(&stop));
        page.set_lease(1, Some(sys::now() + timers.lease));
        let every = Duration::from_nanos(timers.heartbeat.0);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let now = sys::now();
                page.set_lease(1, Some(now + timers.lease));
                page.beat(Beat::Agent, now);
                std::thread::park_timeout(every);
            }
        });
        self.keeper = Some(Keeper { stop, thread });
    }

    /// Renews the lease no longer; when it ends.
    pub fn drop_lease(&mut self) -> Option<Moment> {
        let keeper = self.keeper.take()?;
        keeper.stop.store(true, Ordering::Release);
        keeper.thread.thread().unpark();
        keeper.thread.join().ok()?;
        self.page.lease_end(sys::now(), LONGEST_LEASE)
    }

    /// Connects to the launcher again.
    ///
    /// # Errors
    /// A sentence.
    pub fn reconnect(&mut self) -> Result<(), String> {
        self.client = None;
        let (client, events) = connect(&self.run_dir)?;
        (self.client, self.events) = (Some(client), events);
        Ok(())
    }

    /// Starts another guard and waits until it is on duty.
    ///
    /// # Errors
    /// A sentence.
    pub fn start_guard(&mut self) -> Result<(), String> {
        self.guard = Some((self.options.guard)(&self.options).spawn().map_err(|e| e.to_string())?);
        self.expect("a guard", |e| matches!(e, Event::GuardBack { .. })).map(drop)
    }

    /// Starts another launcher and connects to it.
    ///
    /// # Errors
    /// A sentence.
    pub fn start_launcher(&mut self) -> Result<(), String> {
        let child = (self.options.launcher)(&self.options).spawn().map_err(|e| e.to_string())?;
        self.launcher = Some(child);
        self.reconnect()
    }

    /// Sends a request.
    ///
    /// # Errors
    /// A sentence.
    pub fn send(&self, request: &Request) -> Result<(), String> {
        let client = self.client.as_ref().ok_or("not connected")?;
        client.send(request).map_err(|e| e.to_string())
    }

    /// Adds a resource to the specification.
    ///
    /// # Errors
    /// A sentence.
    pub fn specify(&mut self, resource: &str, spec: ResourceSpec) -> Result<(), String> {
        self.resources.insert(name(resource), spec);
        self.version += 1;
        let (version, resources) = (self.version, self.resources.clone());
        self.send(&Request::Specify { version, resources })?;
        let want = version;
        self.expect("specified", |e| matches!(e, Event::Specified { version } if *version == want))
            .map(drop)
    }

    /// Asks for a start.
    ///
    /// # Errors
    /// A sentence.
    pub fn ask_start(&self, resource: &str, role: Role, counter: u64) -> Result<(), String> {
        let (resource, epoch) = (name(resource), epoch(counter));
        self.send(&Request::Start { resource, number: NUMBER, role, epoch })
    }

    /// Starts and waits until it is ready (a standby) or active.
    ///
    /// # Errors
    /// A sentence.
    pub fn run(&mut self, resource: &str, role: Role, counter: u64) -> Result<u32, String> {
        self.ask_start(resource, role, counter)?;
        let started = self.expect("started", |e| matches!(e, Event::Started { .. }))?;
        match role {
            Role::Standby => self.expect("ready", |e| matches!(e, Event::Ready { .. }))?,
            Role::Active => self.expect("active", |e| matches!(e, Event::Active { .. }))?,
        };
        match started {
            Event::Started { pid, .. } => Ok(pid),
            other => Err(format!("{other:?}")),
        }
    }

    /// Asks for a promotion.
    ///
    /// # Errors
    /// A sentence.
    pub fn ask_promote(&self, resource: &str, counter: u64) -> Result<(), String> {
        self.send(&Request::Promote { resource: name(resource), epoch: epoch(counter) })
    }

    /// Asks for a demotion.
    ///
    /// # Errors
    /// A sentence.
    pub fn ask_demote(&self, resource: &str, counter: u64) -> Result<(), String> {
        self.send(&Request::Demote { resource: name(resource), epoch: epoch(counter) })
    }

    /// Asks for a stop.
    ///
    /// # Errors
    /// A sentence.
    pub fn ask_stop(&self, resource: &str, counter: u64) -> Result<(), String> {
        let (resource, epoch) = (name(resource), epoch(counter));
        self.send(&Request::Stop {
            resource,
            number: NUMBER,
            epoch: Some(epoch),
            reason: "the test asks".into(),
            at_once: false,
        })
    }

    /// Waits for an event; others before it are passed over, and shown where it doesn't come.
    ///
    /// # Errors
    /// A sentence with all events so far.
    pub fn expect(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Result<Event, String> {
        let end = Instant::now() + WAIT;
        loop {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    self.seen.push(event.clone());
                    if wanted(&event) {
                        return Ok(event);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(format!("{what} did not come; events: {:#?}", self.seen));
                }
            }
        }
    }

    /// Waits until everything sent before is done, and returns the events up to there.
    ///
    /// # Errors
    /// A sentence.
    pub fn settle(&mut self) -> Result<Vec<Event>, String> {
        let from = self.seen.len();
        self.send(&Request::List)?;
        self.expect("the list", |e| matches!(e, Event::Instances { .. }))?;
        Ok(self.seen[from..].to_vec())
    }

    /// Signals one of the bench's processes.
    ///
    /// # Errors
    /// A sentence.
    pub fn signal(pid: u32, signal: rustix::process::Signal) -> Result<(), String> {
        let pid = rustix::process::Pid::from_raw(pid as i32).ok_or("process 0")?;
        rustix::process::kill_process(pid, signal).map_err(|e| e.to_string())
    }

    /// Process id of the launcher.
    #[must_use]
    pub fn launcher_pid(&self) -> u32 {
        self.launcher.as_ref().map_or(0, Child::id)
    }

    /// Process id of the guard.
    #[must_use]
    pub fn guard_pid(&self) -> u32 {
        self.guard.as_ref().map_or(0, Child::id)
    }

    /// A file of the bench.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.options.dir.join(name)
    }

    /// The moment that an active program wrote last, if it ever did.
    #[must_use]
    pub fn last_tick(path: &Path) -> Option<Moment> {
        let bytes = std::fs::read(path).ok()?;
        Some(Moment(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)))
    }

    /// Waits until an active program writes.
    ///
    /// # Errors
    /// A sentence.
    pub fn wait_for_ticks(&self, path: &Path) -> Result<(), String> {
        let from = sys::now();
        until("a tick", || Self::last_tick(path).filter(|at| *at > from)).map(drop)
    }
}

/// Waits until something is there.
///
/// # Errors
/// A sentence that names it.
pub(super) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
    let end = Instant::now() + WAIT;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > end {
            return Err(format!("{what} did not come"));
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

fn connect(run_dir: &RunDir) -> Result<(LauncherClient, Receiver<Event>), String> {
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let on_event = Arc::new(move |event| {
        let sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
        // The test may have ended before the last event.
        drop(sender.send(event));
    });
    let client = until("the launcher", || {
        let on_event = Arc::clone(&on_event);
        LauncherClient::connect(&run_dir.launcher_socket(), move |event| on_event(event)).ok()
    })?;
    Ok((client, events))
}

impl Drop for Bench {
    /// Ends both processes, also those that a test has stopped (SIGSTOP).
    fn drop(&mut self) {
        use rustix::process::Signal;
        self.drop_lease();
        for (child, signal) in
            [(self.launcher.take(), Signal::TERM), (self.guard.take(), Signal::KILL)]
        {
            let Some(mut child) = child else { continue };
            for signal in [Signal::CONT, signal] {
                if let Err(error) = Self::signal(child.id(), signal) {
                    eprintln!("a process of the bench: {error}");
                }
            }
            let ended = until("the end of a process", || match child.try_wait() {
                Ok(None) => None,
                done => Some(done),
            });
            if ended.is_err() {
                eprintln!("a process of the bench does not end and is killed");
                drop(child.kill());
                drop(child.wait());
            }
        }
    }
}
