//! The classes of fault that the nemesis injects.

use crate::plan::Class;
use crate::rng::Rng;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// One class of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Fault] = &[$(Fault::$name,)*];

            /// Its name in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Fault::$name => $text,)*
                }
            }

            /// The fault of that name.
            #[must_use]
            pub fn named(name: &str) -> Option<Fault> {
                Fault::ALL.iter().copied().find(|fault| fault.name() == name)
            }
        }
    };
}

faults! {
    /// Datagrams are lost.
    Loss => "loss",
    /// Datagrams and messages are late and overtake each other.
    Delay => "delay",
    /// A node is cut off from all others on every link.
    Isolation => "isolation",
    /// The nodes fall into two halves.
    Partition => "partition",
    /// Two nodes don't reach each other, all others reach both.
    PartialPartition => "partial-partition",
    /// A node hears others and isn't heard, or the other way round.
    OneWay => "one-way",
    /// No two nodes reach each other, for long.
    Blackout => "blackout",
    /// One link of a node is down, the other is not.
    LinkDown => "link-down",
    /// Peer connections of a node break and come back.
    StreamCut => "stream-cut",
    /// Peer connections of a node stall while its datagrams pass.
    StreamStall => "stream-stall",
    /// Datagrams of a node are lost while its peer connections work.
    DatagramsLost => "datagrams-lost",
    /// An agent is killed.
    AgentCrash => "agent-crash",
    /// A launcher is killed, with what it runs.
    LauncherDeath => "launcher-death",
    /// A guard is killed.
    GuardDeath => "guard-death",
    /// A machine loses power.
    NodeCrash => "node-crash",
    /// All machines lose power at once.
    PowerLoss => "power-loss",
    /// An agent stands still, shortly or longer than its lease.
    AgentPause => "agent-pause",
    /// A whole machine stands still while its clock runs on.
    NodePause => "node-pause",
    /// An instance exits by itself.
    InstanceExit => "instance-exit",
    /// An active instance is told to stop and doesn't.
    Stuck => "stuck",
    /// A health check fails.
    Unhealthy => "unhealthy",
    /// The wall clock jumps.
    WallJump => "wall-jump",
    /// Syncs take long.
    SlowDisk => "slow-disk",
    /// A disk operation fails.
    DiskError => "disk-error",
    /// A sync fails, and what it should have made durable is dropped.
    SyncError => "sync-error",
    /// The disk is full.
    DiskFull => "disk-full",
    /// No file descriptors are left: no new file, no new connection, no new process.
    DescriptorsGone => "descriptors-gone",
    /// A bit of a file changes.
    BitRot => "bit-rot",
    /// A write that was reported as durable is not there after a loss of power.
    LostWrite => "lost-write",
    /// A sector was written to another place than it belongs.
    MisdirectedWrite => "misdirected-write",
    /// A machine comes back with an empty disk.
    LostDisk => "lost-disk",
    /// The processor is withheld from an agent.
    Starved => "starved",
    /// The coordinator that has just renounced is cut off.
    TransferCut => "transfer-cut",
    /// A node that has just asked for a longer lease is cut off.
    AbsenceCut => "absence-cut",
}

/// What else goes wrong while a quorum is lost. Whoever is cut off from the new generation can't
/// be told of it, and an operator has confirmed that nobody is: no partitions, then.
const BESIDE_RECOVERY: [Fault; 7] = [
    Fault::Loss,
    Fault::Delay,
    Fault::InstanceExit,
    Fault::Unhealthy,
    Fault::WallJump,
    Fault::SlowDisk,
    Fault::GuardDeath,
];

impl Fault {
    /// Whether a node that meets it is no voter any more until it has joined anew.
    fn costs_a_voter(self) -> bool {
        use Fault::{BitRot, LostDisk, LostWrite, MisdirectedWrite};
        matches!(self, BitRot | LostDisk | LostWrite | MisdirectedWrite)
    }

    /// The classes that are on in one run: each with even odds, so that runs differ in kind and
    /// not only in timing ("swarm testing", Groce et al., 2012).
    pub(crate) fn draw(rng: &mut Rng, class: Class) -> Vec<Fault> {
        let gentle = [Fault::WallJump];
        let all: &[Fault] = match class {
            Class::Calm => &gentle,
            Class::Recovery => &BESIDE_RECOVERY,
            _ => Fault::ALL,
        };
        let share = rng.range(150, 700);
        // A lost disk beside a node that stays bad is one loss too many for three.
        let lasting = matches!(class, Class::Minority | Class::Flapping);
        let drawn = all.iter().copied().filter(|_| rng.permille(share));
        drawn.filter(|fault| !lasting || !fault.costs_a_voter()).collect()
    }
}
