//! Puts an agent together, runs it, and takes it apart.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brain::pulse::PulseConfig;
use brain::{Plants, Pulse};
use drivers::run_dir::RunDir;
use journal::{Replica, ReplicaConfig, Writer};
use kernel::{Input, Kernel, KernelConfig};
use model::state::MemberRole;
use model::{NodeName, Profile, ReplicaId, Timers};

use super::backend::NodeBackend;
use super::checks::Checks;
use super::core::{Core, CoreInput, Ended};
use super::figures::{Commits, Figures, HeartbeatCounters};
use super::files::{DataDir, FileError, NodeFile};
use super::launcher_link::{LauncherLink, LauncherPort};
use super::open::{Disk, fetch_outline, open};
use super::peers::{PeerTable, ports};
use super::pulse_thread::{PulseThread, bind};
use super::shared::{HeartbeatPeers, INPUTS_MAX, LeaseBoard, Shared, lock};
use super::trust::Place;
use super::vault_run::{self, VaultOptions, VaultRun};
use crate::api::{ApiServer, Limits, Metrics};
use crate::identity::{ClusterId, IdentityError};
use crate::net::Peers;
use crate::net::seal::{Opener, Sealer};
use crate::net::tls::Tls;

/// How long a planned absence may last: an agent that is told to end (SIGTERM) asks for it, so
/// that its restart or upgrade leaves the instances running.
pub const ABSENCE_MS: u64 = 10_000;
/// How long the end waits for that to be committed.
const ABSENCE_WAIT: Duration = Duration::from_millis(1_000);

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// The data directory.
    pub data: DataDir,
    /// The run directory, shared with launcher and guard.
    pub run: RunDir,
    /// The `vault run` to keep alive beside the agent, where one is wanted.
    pub vault: Option<VaultOptions>,
}

/// Why an agent can't run, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Files of the data directory.
    #[error(transparent)]
    File(#[from] FileError),
    /// Identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Another process has the data directory.
    #[error(
        "another process holds {}: an agent runs on it already, or a command reads it while it is \
         stopped. Two on one log would destroy it, so nothing was touched. `fuser -v {}` names \
         it; end it first, or name another directory with --data",
        .0.display(), .0.display()
    )]
    Held(std::path::PathBuf),
    /// The log.
    #[error("{0}")]
    Log(String),
    /// The log is lost or damaged and the cluster could not be asked for a new incarnation.
    #[error(
        "{what}; this node must come back under a new incarnation, and the cluster could not be \
         asked for one: {why}. Start it again when the others are up{aside}"
    )]
    Rejoin {
        /// What is wrong with the log.
        what: String,
        /// Why the cluster could not be asked.
        why: String,
        /// Where the damaged log is.
        aside: String,
    },
    /// A socket.
    #[error(
        "{address} can't be listened on ({source}): is another agent running, and does this \
         machine have that address?"
    )]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Threads, sockets, signals.
    #[error("the agent can't {0}: {1}")]
    Io(&'static str, std::io::Error),
    /// `local.toml`.
    #[error("{0}")]
    Local(String),
    /// The node stopped because it can't go on safely.
    #[error("this node stopped: {0}")]
    Halted(String),
}

/// Runs an agent until it is told to end or can't go on.
///
/// # Errors
/// [`AgentError`].
pub fn run(options: &AgentOptions) -> Result<(), AgentError> {
    let _sole = super::sole::take(&options.data)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .thread_name("agent-io")
        .enable_all()
        .build()
        .map_err(|error| AgentError::Io("start its event loop", error))?;
    let disk = open(&options.data, &runtime)?;
    let mut agent = Agent::assemble(options, disk, &runtime)?;
    let ended = agent.serve(&runtime);
    runtime.shutdown_timeout(Duration::from_millis(200));
    match ended {
        Ended::Stopped => Ok(()),
        Ended::Halted(why) => Err(AgentError::Halted(why)),
    }
}

struct Agent {
    core: Option<std::thread::JoinHandle<Ended>>,
    heartbeats: Option<std::thread::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    shared: Arc<Shared>,
    api: Option<ApiServer>,
    vault: Option<VaultKept>,
}

/// The `vault run` beside the agent: told to stop by the one, gone with the other.
struct VaultKept {
    stop: tokio::sync::watch::Sender<bool>,
    keeping: tokio::task::JoinHandle<()>,
}

impl VaultKept {
    fn start(options: VaultOptions, run: VaultRun, runtime: &tokio::runtime::Runtime) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        VaultKept { stop, keeping: runtime.spawn(vault_run::keep(options, run, stopped)) }
    }
}

impl Agent {
    fn assemble(
        options: &AgentOptions,
        mut disk: Disk,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<Agent, AgentError> {
        let unlocked = drivers::sys::lock_memory();
        let me = disk.node.replica;
        let name = disk.node.node.clone();
        let cluster = cluster_id(&disk.node)?;
        let dial = options.data.local()?.dial_map().map_err(AgentError::Local)?;
        let (inputs, received) = sync_channel(INPUTS_MAX);
        let now = drivers::sys::now();
        if disk.state.cluster_id == 0 {
            (disk.state.spec, disk.state.members) = fetch_outline(&disk, runtime)?;
        }
        let spec = disk.state.spec.clone();
        let timers = match disk.state.cluster_id {
            0 => disk.node.profile.timers(),
            _ => disk.state.spec.timers(),
        };
        let (pulse, lease_number) = pulse(options, &disk, timers, now)?;
        if !disk.node.ran {
            disk.node.ran = true;
            options.data.set_node(&disk.node)?;
        }
        let mut board = LeaseBoard::default();
        board.begin_at(lease_number);
        let shared = Arc::new(Shared {
            pulse: Mutex::new(pulse),
            inputs,
            heartbeat_peers: Mutex::new(Arc::new(HeartbeatPeers::default())),
            lease: Mutex::new(board),
            shortfalls: Mutex::default(),
            generation: Arc::new(AtomicU64::new(disk.state.generation)),
            dropped_inputs: std::sync::atomic::AtomicU64::new(0),
        });
        if let Err(error) = unlocked {
            shared.shortfall(format!(
                "memory is not locked ({error}): a machine short of it can delay heartbeats; \
                 grant CAP_IPC_LOCK"
            ));
        }
        let node = spec.nodes.get(&name).cloned().unwrap_or_default();
        let ports = ports(&spec, &name);
        let metrics = Arc::new(Metrics::default());
        let tls = Arc::new(Tls::new(&disk.identity.credential)?);
        let listen = |port: u16| -> Vec<SocketAddr> {
            node.links.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
        };
        let sockets = bind(&node.links, ports.heartbeat)
            .map_err(|(address, source)| AgentError::Bind { address, source })?;
        let members: Arc<Mutex<BTreeMap<NodeName, ReplicaId>>> = Arc::default();
        let peers = start_peers(
            runtime,
            crate::net::Local { replica: me.0, listen: listen(ports.peer) },
            &tls,
            &shared,
            crate::net::PeerOptions {
                stall: Duration::from_nanos(timers.lease.0 * 2),
                handshake: Duration::from_secs(3),
                dial: dial.clone(),
                belongs: belongs(&members),
                counters: metrics.counters.clone(),
                generations: generations(&shared),
            },
        )?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = PulseThread {
            shared: Arc::clone(&shared),
            sockets,
            sealer: Sealer::new(cluster, me.0, disk.start),
            opener: Opener::new(cluster, me.0, metrics.counters.clone()),
            key: disk.identity.datagram,
            stop: Arc::clone(&stop),
            metrics: Arc::clone(&metrics),
            counters: HeartbeatCounters::default(),
        };
        let heartbeats = std::thread::Builder::new()
            .name("heartbeats".into())
            .spawn(move || thread.run())
            .map_err(|error| AgentError::Io("start its heartbeat thread", error))?;

        let report = Arc::clone(&shared);
        let writer = Writer::spawn(disk.segments, move |result| match result {
            Ok(id) => {
                report.give(Input::Written(id));
            }
            Err(fatal) => report.offer(CoreInput::LogFailed(with_cause(&fatal))),
        })
        .map_err(|error| AgentError::Io("start its log thread", error))?;
        let replica = Replica::new(replica_config(me, &timers), disk.recovered)
            .map_err(|error| AgentError::Log(error.to_string()))?;
        let config = KernelConfig { node: name.clone(), replica: me, boot: disk.start };
        let kernel = Kernel::new(config, replica, disk.state.clone(), now);
        let port = LauncherPort::default();
        let checks =
            Arc::new(Checks::new(runtime.handle().clone(), Arc::clone(&shared), port.clone()));
        let launcher = LauncherLink::start(
            options.run.clone(),
            Arc::clone(&shared),
            Arc::clone(&checks),
            port,
        )
        .map_err(|error| AgentError::Io("start its launcher thread", error))?;
        let (notices, noticed) = tokio::sync::mpsc::channel(super::hooks::NOTICES_MAX);
        let (newest_event, newest) = tokio::sync::watch::channel(0);
        let (reconfigurations, reconfigured) = tokio::sync::watch::channel(0);
        let state = Arc::new(Mutex::new(Arc::new(disk.state)));
        let figures = Figures::new(writer.reader());
        let core = Core {
            kernel,
            shared: Arc::clone(&shared),
            inputs: received,
            writer,
            peers: PeerTable::new(peers, me, dial, members),
            launcher,
            checks,
            data: options.data.clone(),
            run: options.run.clone(),
            notices,
            newest_event,
            reconfigurations,
            state: Arc::clone(&state),
            waiting: BTreeMap::new(),
            operations: 0,
            metrics: Arc::clone(&metrics),
            commits: Commits::default(),
        };
        let core = std::thread::Builder::new()
            .name("core".into())
            .spawn(move || core.run())
            .map_err(|error| AgentError::Io("start its core thread", error))?;
        runtime.spawn(super::hooks::run(noticed, Arc::clone(&state)));
        let (known, me_too) = (Arc::clone(&state), name.clone());
        let renewing = super::renewal::keep(
            options.data.clone(),
            Arc::clone(&tls),
            Arc::clone(&metrics),
            Arc::clone(&shared),
            reconfigured,
            move || Place::of(&lock(&known), &me_too),
        );
        runtime.spawn(renewing);
        let vault_run = VaultRun::default();
        let vault = options.vault.clone();
        let vault = vault.map(|vault| VaultKept::start(vault, vault_run.clone(), runtime));
        let backend = Arc::new(NodeBackend {
            shared: Arc::clone(&shared),
            data: options.data.clone(),
            node: name,
            cluster,
            state,
            newest_event: newest,
            metrics: Arc::clone(&metrics),
            figures,
            vault_run,
        });
        let api = ApiServer::start(
            runtime.handle(),
            &listen(ports.api),
            tls,
            metrics,
            backend,
            Limits::default(),
        )
        .map_err(|error| AgentError::Bind { address: error.address, source: error.source })?;
        tracing::info!(node = %disk.node.node, replica = %me, "agent started");
        let (core, heartbeats) = (Some(core), Some(heartbeats));
        Ok(Agent { core, heartbeats, stop, shared, api: Some(api), vault })
    }

    /// Serves until SIGTERM or SIGINT, or until the core thread ends.
    fn serve(&mut self, runtime: &tokio::runtime::Runtime) -> Ended {
        let core = self.core.take().expect("the core thread was started");
        let told = runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut term), Ok(mut int)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return false;
            };
            loop {
                tokio::select! {
                    _ = term.recv() => return true,
                    _ = int.recv() => return true,
                    () = tokio::time::sleep(Duration::from_millis(100)) => {
                        if core.is_finished() {
                            return false;
                        }
                    }
                }
            }
        });
        // It ends while the leave is taken.
        self.vault.iter().for_each(|vault| _ = vault.stop.send_replace(true));
        if told {
            self.take_leave();
        }
        self.shared.offer(CoreInput::Stop);
        let ended = core.join().unwrap_or_else(|_| Ended::Halted("the core panicked".to_owned()));
        self.stop.store(true, Ordering::Relaxed);
        if let Some(heartbeats) = self.heartbeats.take()
            && heartbeats.join().is_err()
        {
            tracing::error!("the heartbeat thread panicked");
        }
        if let Some(vault) = self.vault.take() {
            let ended = tokio::time::timeout(vault_run::END_WAIT * 2, vault.keeping);
            if !runtime.block_on(ended).is_ok_and(|ended| ended.is_ok()) {
                tracing::warn!("`vault run` may live on for a moment");
            }
        }
        if let Some(api) = self.api.take() {
            runtime.block_on(api.stop(Duration::from_millis(200)));
        }
        ended
    }

    /// Rule 7: asks for a lease that lasts while this agent restarts, and waits a moment for it.
    fn take_leave(&self) {
        let before = lock(&self.shared.pulse).lease_end();
        if before.is_none() || !self.shared.give(Input::WantAbsence { for_ms: ABSENCE_MS }) {
            return;
        }
        let began = std::time::Instant::now();
        while began.elapsed() < ABSENCE_WAIT {
            let now = drivers::sys::now();
            let end = lock(&self.shared.pulse).lease_end();
            let long = lock(&self.shared.pulse).timers().lease * 2;
            if end.is_some_and(|end| end.since(now) > long) {
                self.shared.publish_lease(now);
                tracing::info!("leaving; the lease lasts while this agent restarts");
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        tracing::warn!("leaving without a longer lease: instances stop if the restart takes long");
    }
}

/// An error with everything behind it, in one line.
pub(super) fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn cluster_id(node: &NodeFile) -> Result<ClusterId, AgentError> {
    u128::from_str_radix(&node.cluster_id, 16)
        .map(|id| ClusterId(id.to_be_bytes()))
        .map_err(|_| AgentError::Local(format!("{:?} is no cluster id", node.cluster_id)))
}

fn pulse(
    options: &AgentOptions,
    disk: &Disk,
    timers: Timers,
    now: model::Moment,
) -> Result<(Pulse, u64), AgentError> {
    let witness =
        disk.state.members.get(&disk.node.node).is_some_and(|m| m.role == MemberRole::Witness);
    let config = PulseConfig {
        me: disk.node.replica,
        boot: disk.start,
        timers,
        recorded_promise: options.data.promise()?,
        term: disk.recovered.hard_state().term,
        witness,
        plants: Plants::NONE,
    };
    let mut pulse = Pulse::new(config, now);
    let longest = model::Span::from_ms(ABSENCE_MS).max(timers.lease);
    let page = drivers::lease::LeasePage::open(&options.run.lease_page()).ok();
    if let Some(page) = page.as_ref().filter(|_| !disk.node.ran) {
        // An earlier incarnation was granted what it shows: that ends here, for guard and launcher
        // too, before this one is noted as having run.
        page.set_lease(page.lease_number().wrapping_add(1), None);
    }
    pulse.adopt_lease(now, page.as_ref().and_then(|page| page.lease_end(now, longest)));
    Ok((pulse, page.map_or(0, |page| page.lease_number())))
}

/// A witness has the priority of all: a lower one can deadlock an election where logs are equally
/// long and differ in their last term (the simulator's seed 102086). It stands last by its turn.
fn replica_config(me: ReplicaId, timers: &Timers) -> ReplicaConfig {
    let ticks = (timers.promise.0 / timers.heartbeat.0) as usize;
    ReplicaConfig {
        heartbeat_ticks: 2,
        election_ticks: ticks.saturating_sub(2).max(3),
        snapshot_after_entries: 10_000,
        snapshot_after_bytes: 8 << 20,
        ..ReplicaConfig::new(me.0)
    }
}

fn generations(shared: &Arc<Shared>) -> crate::net::Generations {
    let to = Arc::clone(shared);
    let superseded = Arc::new(move |higher| to.offer(CoreInput::Superseded(higher)));
    crate::net::Generations { mine: Arc::clone(&shared.generation), superseded }
}

fn belongs(members: &Arc<Mutex<BTreeMap<NodeName, ReplicaId>>>) -> crate::net::Belongs {
    let members = Arc::clone(members);
    Arc::new(move |name, replica| lock(&members).get(name) == Some(&ReplicaId(replica)))
}

fn start_peers(
    runtime: &tokio::runtime::Runtime,
    local: crate::net::Local,
    tls: &Arc<Tls>,
    shared: &Arc<Shared>,
    options: crate::net::PeerOptions,
) -> Result<Arc<Peers>, AgentError> {
    let to = Arc::clone(shared);
    let on_message: crate::net::OnMessage = Arc::new(move |from, bytes| {
        to.offer(CoreInput::Peer(ReplicaId(from), bytes));
    });
    Peers::start(runtime.handle().clone(), local, Arc::clone(tls), options, on_message)
        .map(Arc::new)
        .map_err(|error| AgentError::Bind { address: error.address, source: error.source })
}

/// The timers that launcher and guard need before the agent has said anything.
///
/// # Errors
/// [`FileError`].
pub fn timers_of(data: &DataDir) -> Result<(NodeName, Profile), FileError> {
    let node = data.node()?;
    Ok((node.node, node.profile))
}
