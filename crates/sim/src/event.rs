//! What can happen in the world, and to which part of which machine.

use std::rc::Rc;

use brain::member::{Action, InstanceEvent};
use kernel::PeerMessage;
use model::{Epoch, Heartbeat, ReplicaId, Span};

/// A part of a machine that starts and dies by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Agent,
    Launcher,
    Guard,
    Machine,
}

/// A step of an instance's life that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Started,
    Promoted,
    Demoted,
    Stopped,
    /// Asked to stop, and still there.
    StopLate,
    /// Stopped by the guard.
    Burnt,
}

impl Step {
    /// Its name among the transitions that have to be seen.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Step::Started => "step-started",
            Step::Promoted => "step-promoted",
            Step::Demoted => "step-demoted",
            Step::Stopped => "step-stopped",
            Step::StopLate => "step-not-stopped",
            Step::Burnt => "step-burnt",
        }
    }
}

/// The acts of a disaster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// What comes before it: nodes that are about to be away, a survivor that is cut off.
    Begin,
    /// The majority is lost.
    Lose,
    /// An operator recovers.
    Recover,
}

/// The end of a fault.
#[derive(Debug, Clone)]
pub(crate) enum Undo {
    Block { pairs: Vec<(usize, usize)>, links: u8, streams: bool },
    Loss(u64),
    Delay(u64),
    Sync { node: usize, machine: u32 },
    Starve { node: usize },
    Healthy { node: usize, id: u64 },
    Storage { node: usize },
}

#[derive(Debug, Clone)]
pub(crate) enum Ev {
    Beat { node: usize, run: u32 },
    Datagram { to: usize, links: u8, replica: ReplicaId, beat: Rc<Heartbeat> },
    Stream { from: usize, to: usize, conn: u32, mail: Box<Mail> },
    Wake { node: usize, run: u32, at: u64 },
    Append { node: usize, run: u32 },
    Synced { node: usize, run: u32 },
    PromiseDurable { node: usize, run: u32, promise: Span },
    Act { node: usize, launcher: u32, action: Box<Action> },
    Step { node: usize, id: u64, step: Step },
    Tell { node: usize, run: u32, event: Box<InstanceEvent> },
    Guard { node: usize, guard: u64 },
    Order { node: usize, id: u64 },
    Store { resource: usize, node: usize, activation: u64, epoch: Epoch },
    Start { node: usize, part: Part, machine: u32 },
    Thaw { node: usize, pause: u32 },
    ThawAgent { node: usize, pause: u32 },
    Leave { node: usize, run: u32, deadline: u64 },
    Rejoin { node: usize },
    Disaster(Act),
    Mend { node: usize },
    Hello { node: usize, run: u32 },
    Crash { node: usize, machine: u32 },
    Fault,
    Operate,
    Flap,
    HalfDie,
    AskAgain { node: usize, run: u32 },
    Undo(Undo),
}

/// A message on a peer connection.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    pub(crate) from: ReplicaId,
    pub(crate) to: ReplicaId,
    pub(crate) message: PeerMessage,
}

/// Where an event is felt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Felt {
    Agent(usize),
    Machine(usize),
    World,
}

impl Ev {
    pub(crate) fn felt(&self) -> Felt {
        match self {
            Ev::Beat { node, .. }
            | Ev::Datagram { to: node, .. }
            | Ev::Stream { to: node, .. }
            | Ev::Wake { node, .. }
            | Ev::Append { node, .. }
            | Ev::Synced { node, .. }
            | Ev::PromiseDurable { node, .. }
            | Ev::Hello { node, .. }
            | Ev::Tell { node, .. } => Felt::Agent(*node),
            Ev::Act { node, .. }
            | Ev::Step { node, .. }
            | Ev::Guard { node, .. }
            | Ev::Order { node, .. } => Felt::Machine(*node),
            _ => Felt::World,
        }
    }
}
