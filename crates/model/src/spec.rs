//! The specification: what the operator asked for. `cluster.toml` becomes this (crate `config`),
//! `apply` commits it, and from then on the committed one is the truth.
//!
//! Times are whole milliseconds, sizes bytes. Everything is `Ord` and ordered maps, so that two
//! equal specifications have one encoding.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::address::AddressSpec;
use crate::ids::{NodeName, ResourceName};
use crate::profile::{Profile, Timers};

/// Most nodes of any kind in one cluster.
pub const NODES_MAX: usize = 512;
/// Most voters and witnesses.
pub const VOTERS_MAX: usize = 9;
/// Most links of one node.
pub const LINKS_MAX: usize = 8;
/// Most resources.
pub const RESOURCES_MAX: usize = 4_096;
/// Most health checks of one resource.
pub const HEALTH_MAX: usize = 16;
/// Most hooks.
pub const HOOKS_MAX: usize = 32;
/// Most words of one command, program included.
pub const COMMAND_WORDS_MAX: usize = 256;
/// Longest text of any one value (a word of a command, an environment value, a URL), in bytes.
pub const TEXT_MAX: usize = 4_096;
/// Most environment variables of one resource.
pub const ENVIRONMENT_MAX: usize = 256;
/// Most resources that one resource may start after.
pub const AFTER_MAX: usize = 64;
/// Longest time that any key may state: 30 days, in milliseconds.
pub const TIME_MAX_MS: u64 = 30 * 24 * 3_600_000;

/// The whole specification of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ClusterSpec {
    /// The cluster's name; peers of another name are refused.
    pub name: String,
    /// The timing profile.
    pub profile: Profile,
    /// Ports that nodes use unless they say otherwise.
    pub ports: Ports,
    /// The nodes, by name.
    pub nodes: BTreeMap<NodeName, NodeSpec>,
    /// The resources, by name.
    pub resources: BTreeMap<ResourceName, ResourceSpec>,
    /// Who is told about failovers, quarantines and lost redundancy.
    pub hooks: Vec<HookSpec>,
}

impl ClusterSpec {
    /// The timers that the profile gives.
    #[must_use]
    pub fn timers(&self) -> Timers {
        self.profile.timers()
    }

    /// Names of the nodes that vote, witnesses included.
    pub fn voters(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes.iter().filter(|(_, n)| n.voter).map(|(name, _)| name)
    }
}

/// The three ports of a node. Peers and API speak TLS over TCP, heartbeats are sealed datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// TCP, node to node.
    pub peer: u16,
    /// UDP, node to node.
    pub heartbeat: u16,
    /// TCP, HTTPS API.
    pub api: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Ports { peer: 7400, heartbeat: 7401, api: 7402 }
    }
}

impl NodeSpec {
    /// The ports this node uses.
    #[must_use]
    pub fn ports_or(&self, cluster: Ports) -> Ports {
        self.ports.unwrap_or(cluster)
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct NodeSpec {
    /// Its addresses, one per link; every one is used for heartbeats.
    pub links: Vec<IpAddr>,
    /// Ports, where they differ from the cluster's.
    pub ports: Option<Ports>,
    /// Failure domains.
    pub domains: Domains,
    /// Votes, runs nothing.
    pub witness: bool,
    /// Votes (true for witnesses too).
    pub voter: bool,
}

/// The failure domains a node lies in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Domains {
    /// Site, such as a data centre.
    pub site: Option<String>,
    /// Rack.
    pub rack: Option<String>,
    /// Power feed.
    pub power: Option<String>,
}

impl Domains {
    /// The domain of one kind.
    #[must_use]
    pub fn get(&self, kind: DomainKind) -> Option<&str> {
        match kind {
            DomainKind::Site => self.site.as_deref(),
            DomainKind::Rack => self.rack.as_deref(),
            DomainKind::Power => self.power.as_deref(),
        }
    }
}

/// Kinds of failure domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainKind {
    /// Site.
    Site,
    /// Rack.
    Rack,
    /// Power feed.
    Power,
}

impl DomainKind {
    /// All kinds, largest first.
    pub const ALL: [DomainKind; 3] = [DomainKind::Site, DomainKind::Rack, DomainKind::Power];

    /// Its name in `cluster.toml`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DomainKind::Site => "site",
            DomainKind::Rack => "rack",
            DomainKind::Power => "power",
        }
    }
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceSpec {
    /// What it is and how to run it.
    pub kind: ResourceKind,
    /// Whether copies wait on other nodes.
    pub standby: Standby,
    /// Preferred nodes, best first. Others may be used where none of these can.
    pub prefer: Vec<NodeName>,
    /// Where non-empty, the only nodes it may be placed on.
    pub nodes: BTreeSet<NodeName>,
    /// Active and standbys are spread over this kind of failure domain.
    pub spread: Option<DomainKind>,
    /// Runs on the same node as this one's active instance, after it.
    pub with: Option<ResourceName>,
    /// Starts after these are active (anywhere).
    pub after: Vec<ResourceName>,
    /// Health checks; all must pass.
    pub health: Vec<HealthSpec>,
    /// Recovery-time target in milliseconds.
    pub rto_ms: Option<u64>,
    /// Recovery-point target in bytes.
    pub rpo_bytes: Option<u64>,
    /// What failures lead to.
    pub recovery: RecoverySpec,
    /// What happens when a preferred node comes back.
    pub failback: Failback,
}

impl ResourceSpec {
    /// Whether the placement rules let this resource run on that node. Health, bans and
    /// maintenance are not looked at: this is what the specification alone says.
    #[must_use]
    pub fn allows(&self, name: &NodeName, node: &NodeSpec) -> bool {
        !node.witness && (self.nodes.is_empty() || self.nodes.contains(name))
    }
}

/// Kinds of resource. Later drivers add theirs.
// Most resources are programs: a box would cost more than the room that the others leave empty.
#[expect(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResourceKind {
    /// A program.
    Process(ProcessSpec),
    /// An IP address that moves.
    Address(AddressSpec),
}

/// A program and how to run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments; the first is an absolute path.
    pub command: Vec<String>,
    /// Run as this user (name or number); the launcher's own where absent.
    pub user: Option<String>,
    /// Run as this group (name or number); the user's where absent.
    pub group: Option<String>,
    /// Environment, on top of `PATH`, `LANG` and what Backstay sets.
    pub environment: BTreeMap<String, String>,
    /// Working directory; `/` where absent.
    pub directory: Option<String>,
    /// Limits.
    pub limits: LimitsSpec,
    /// Where its output goes.
    pub log: LogSpec,
    /// When it counts as ready.
    pub ready: Ready,
    /// How long it may take to become ready, in milliseconds.
    pub start_ms: u64,
    /// The signal that asks it to stop, such as `SIGTERM`.
    pub stop_signal: String,
    /// How long it may take to stop before it is killed, in milliseconds.
    pub stop_ms: u64,
    /// How a standby is told to become active.
    pub promote: Promote,
    /// How long promotion may take, in milliseconds.
    pub promote_ms: u64,
}

impl Default for ProcessSpec {
    fn default() -> Self {
        ProcessSpec {
            command: Vec::new(),
            user: None,
            group: None,
            environment: BTreeMap::new(),
            directory: None,
            limits: LimitsSpec::default(),
            log: LogSpec::default(),
            ready: Ready::Started,
            start_ms: 30_000,
            stop_signal: String::from("SIGTERM"),
            stop_ms: 10_000,
            promote: Promote::Restart,
            promote_ms: 5_000,
        }
    }
}

/// Limits of a process; absent means the launcher's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct LimitsSpec {
    /// Most memory in bytes (cgroup `memory.max`, else `RLIMIT_AS`).
    pub memory_bytes: Option<u64>,
    /// Most processes and threads (cgroup `pids.max`, else `RLIMIT_NPROC`).
    pub processes: Option<u64>,
    /// Most open files.
    pub open_files: Option<u64>,
    /// Processor share in hundredths of a core (cgroup `cpu.max`).
    pub cpu_percent: Option<u32>,
    /// Largest core dump in bytes.
    pub core_bytes: Option<u64>,
}

/// Log capture of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// A file is rotated when it is this large, in bytes.
    pub rotate_bytes: u64,
    /// Rotated files kept.
    pub keep: u32,
}

impl Default for LogSpec {
    fn default() -> Self {
        LogSpec { rotate_bytes: 16 << 20, keep: 4 }
    }
}

/// When a started process counts as ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Ready {
    /// At once.
    #[default]
    Started,
    /// When it says `READY=1` on `NOTIFY_SOCKET` (`sd_notify`).
    Notify,
    /// When its health checks pass for the first time.
    Probe,
    /// After so many milliseconds.
    DelayMs(u64),
}

/// How an instance changes role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Promote {
    /// It can't: it is started active and stopped to be demoted.
    #[default]
    Restart,
    /// It reads role changes as JSON lines on `BACKSTAY_SOCKET` and answers.
    Socket,
}

/// Whether copies wait on other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Standby {
    /// Started when needed.
    #[default]
    Cold,
    /// Running, unpromoted, ready.
    Hot,
}

/// One health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSpec {
    /// What is asked.
    pub probe: Probe,
    /// How often, in milliseconds.
    pub every_ms: u64,
    /// How long an answer may take, in milliseconds.
    pub timeout_ms: u64,
    /// So many failures in a row make the instance unhealthy.
    pub failures: u32,
    /// Only active instances are asked (a standby that doesn't listen is fine).
    pub active_only: bool,
}

impl HealthSpec {
    /// How often, where nothing is said, in milliseconds.
    pub const EVERY_MS: u64 = 1_000;
    /// Failures in a row, where nothing is said.
    pub const FAILURES: u32 = 3;

    /// How long an answer may take where nothing is said: half of the interval, at most 5 s.
    #[must_use]
    pub const fn timeout_ms_for(every_ms: u64) -> u64 {
        let half = every_ms / 2;
        if half > 5_000 { 5_000 } else { half }
    }

    /// The longest that an instance may be ill before the cluster knows, in milliseconds: the
    /// first check may come a whole interval late, the last one may take its whole timeout.
    #[must_use]
    pub const fn detect_ms(&self) -> u64 {
        self.every_ms.saturating_mul(self.failures as u64).saturating_add(self.timeout_ms)
    }
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// A TCP connection to `host:port` succeeds.
    Tcp(String),
    /// An HTTP GET of this URL answers with a status of 200 to 299.
    Http(String),
    /// A command exits with status 0.
    Exec(Vec<String>),
}

/// What failures of a resource lead to: restart, then move, then quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverySpec {
    /// Restarts on one node within the window before it moves. A hot standby elsewhere is
    /// promoted at once, which costs the failed node one of these all the same.
    pub restarts: u32,
    /// The window for counting, in milliseconds.
    pub window_ms: u64,
    /// Pause before the second restart, in milliseconds; it doubles up to `backoff_max_ms`.
    pub backoff_ms: u64,
    /// Longest pause, in milliseconds.
    pub backoff_max_ms: u64,
    /// How long a node that used up its restarts is left out, in milliseconds.
    pub node_ban_ms: u64,
    /// Failing the same way on this many nodes within the window stops the tour.
    pub poison_nodes: u32,
}

impl Default for RecoverySpec {
    fn default() -> Self {
        RecoverySpec {
            restarts: 3,
            window_ms: 600_000,
            backoff_ms: 250,
            backoff_max_ms: 30_000,
            node_ban_ms: 600_000,
            poison_nodes: 2,
        }
    }
}

/// What happens when a preferred node comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Failback {
    /// Nothing, until an operator asks.
    #[default]
    Manual,
    /// It returns once the preferred node has been healthy for so many milliseconds. After each
    /// failback that was followed by a failure within that time, the wait doubles.
    AfterMs(u64),
}

/// Who is told, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookSpec {
    /// How.
    pub call: HookCall,
    /// Of what; all where empty.
    pub on: BTreeSet<HookEvent>,
    /// How long a call may take, in milliseconds.
    pub timeout_ms: u64,
}

impl HookSpec {
    /// How long a call may take where nothing is said, in milliseconds.
    pub const TIMEOUT_MS: u64 = 5_000;
}

/// How a hook is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookCall {
    /// POST of a JSON object to this `http://` or `https://` URL.
    Webhook(String),
    /// A command that gets the JSON object on standard input.
    Command(Vec<String>),
}

/// What a hook can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookEvent {
    /// A resource moved unplanned.
    Failover,
    /// A resource was quarantined.
    Quarantine,
    /// A resource or the quorum has no spare left.
    RedundancyLost,
    /// The spare is back.
    RedundancyRestored,
    /// A certificate or the authority ends soon or needs somebody; or no longer.
    Certificate,
}

impl HookEvent {
    /// All events.
    pub const ALL: [HookEvent; 5] = [
        HookEvent::Failover,
        HookEvent::Quarantine,
        HookEvent::RedundancyLost,
        HookEvent::RedundancyRestored,
        HookEvent::Certificate,
    ];

    /// Its name in `cluster.toml`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            HookEvent::Failover => "failover",
            HookEvent::Quarantine => "quarantine",
            HookEvent::RedundancyLost => "redundancy-lost",
            HookEvent::RedundancyRestored => "redundancy-restored",
            HookEvent::Certificate => "certificate",
        }
    }
}
