//! What the demo can be asked to do.

use model::Profile;

/// Most runs of every fault.
pub(super) const RUNS_MAX: u32 = 1_000;

/// The faults, in the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// The active process is killed.
    ProcessKilled,
    /// Agent, guard, launcher and service of the active node are killed.
    NodeKilled,
    /// The same on the coordinator's node, which is not the active one.
    CoordinatorKilled,
    /// The same on the node that is both.
    CoordinatorAndActiveKilled,
    /// The active node stands still for longer than its lease, an order in hand, and wakes.
    NodeFrozen,
    /// The active node is cut off from the others on every link.
    NodeCut,
    /// A planned switchover.
    Switchover,
}

impl Fault {
    /// All faults, in order.
    pub const ALL: [Fault; 7] = [
        Fault::ProcessKilled,
        Fault::NodeKilled,
        Fault::CoordinatorKilled,
        Fault::CoordinatorAndActiveKilled,
        Fault::NodeFrozen,
        Fault::NodeCut,
        Fault::Switchover,
    ];

    /// Its name in `--faults` and in the output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Fault::ProcessKilled => "process-killed",
            Fault::NodeKilled => "node-killed",
            Fault::CoordinatorKilled => "coordinator-killed",
            Fault::CoordinatorAndActiveKilled => "coordinator-and-active-killed",
            Fault::NodeFrozen => "node-frozen",
            Fault::NodeCut => "node-cut",
            Fault::Switchover => "switchover",
        }
    }

    /// What is about to happen, in words.
    #[must_use]
    pub const fn story(self) -> &'static str {
        match self {
            Fault::ProcessKilled => "the active process is killed",
            Fault::NodeKilled => "the active node is killed: agent, guard, launcher and service",
            Fault::CoordinatorKilled => "the coordinator's node is killed, the service elsewhere",
            Fault::CoordinatorAndActiveKilled => {
                "the node that is coordinator and active is killed"
            }
            Fault::NodeFrozen => {
                "the active node freezes past its lease, an order in hand, and wakes"
            }
            Fault::NodeCut => "the active node is cut off on every link",
            Fault::Switchover => "a planned switchover",
        }
    }

    /// Where the coordinator must be, as seen from the active node, before the fault.
    #[must_use]
    pub const fn coordinator(self) -> Coordinator {
        match self {
            Fault::ProcessKilled | Fault::Switchover => Coordinator::Anywhere,
            Fault::NodeKilled | Fault::CoordinatorKilled | Fault::NodeFrozen | Fault::NodeCut => {
                Coordinator::Elsewhere
            }
            Fault::CoordinatorAndActiveKilled => Coordinator::OnActive,
        }
    }
}

/// Where the coordinator must be before a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinator {
    /// It doesn't matter.
    Anywhere,
    /// Not on the active node.
    Elsewhere,
    /// On the active node.
    OnActive,
}

/// Faults of Backstay itself that can be planted, to show that the demo would see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// The service heeds no lease and no refusal, as many services do. Fencing must hold alone,
    /// so the demo still succeeds.
    HeedlessService,
    /// The same service, and neither launcher nor guard stops what the lease no longer covers.
    /// The demo must fail.
    NoFencing,
}

/// What to do and how to show it.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// The cluster's profile.
    pub profile: Profile,
    /// How often each fault is made.
    pub runs: u32,
    /// Which faults, in order.
    pub faults: Vec<Fault>,
    /// Print one JSON object and nothing else on standard output.
    pub json: bool,
    /// Leave the directory with logs and records in place, and say where it is.
    pub keep: bool,
    /// A planted fault.
    pub plant: Option<Plant>,
}
