//! Planted faults: each breaks one safety rule on purpose, so that the simulator can show that
//! its checkers catch it (faults.md). Without the feature `plant` none can be switched on and
//! the compiler removes every trace.

/// A rule to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Plant {
    /// A voter votes before its promise ends.
    VoteBeforePromiseEnds,
    /// A restarted voter forgets its promise.
    PromiseForgottenByRestart,
    /// A lease is counted from the receipt of the acknowledgement.
    LeaseFromReceipt,
    /// A lease is not bounded by authority and grace.
    LeaseUnbounded,
    /// A barred node is acknowledged.
    AckToBarred,
    /// A new holder gets the old epoch.
    EpochNotRaised,
    /// A running instance is relabelled with a new epoch.
    EpochRelabelled,
    /// Evidence of an older epoch is accepted.
    EvidenceOfOlderEpoch,
    /// A new coordinator doesn't wait for its predecessor's grants.
    SuccessorDoesNotWait,
    /// The log acknowledges before fsync.
    AckBeforeFsync,
    /// A long lease is honoured before it is committed.
    AbsenceBeforeCommit,
    /// A transfer without renouncing.
    TransferWithoutRenounce,
    /// A lapsed lease is enough to take over from an instance that can't be stopped.
    StuckForgotten,
    /// The guard looks at the lease's end, not at which lease it is.
    LeaseOfAnother,
    /// What failed alike on two nodes goes back to where it was, whoever ordered it away.
    PoisonOverOrders,
    /// A new generation goes on with the epochs of the one before.
    GenerationNotRaised,
    /// A new generation does not wait for leases of the one before.
    WaitOutSkipped,
    /// A node that hears of a higher generation goes on in its own.
    SupersededGoesOn,
}

impl Plant {
    /// All planted faults.
    pub const ALL: [Plant; 18] = [
        Plant::VoteBeforePromiseEnds,
        Plant::PromiseForgottenByRestart,
        Plant::LeaseFromReceipt,
        Plant::LeaseUnbounded,
        Plant::AckToBarred,
        Plant::EpochNotRaised,
        Plant::EpochRelabelled,
        Plant::EvidenceOfOlderEpoch,
        Plant::SuccessorDoesNotWait,
        Plant::AckBeforeFsync,
        Plant::AbsenceBeforeCommit,
        Plant::TransferWithoutRenounce,
        Plant::StuckForgotten,
        Plant::LeaseOfAnother,
        Plant::PoisonOverOrders,
        Plant::GenerationNotRaised,
        Plant::WaitOutSkipped,
        Plant::SupersededGoesOn,
    ];
}

/// The faults that are planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plants {
    #[cfg(feature = "plant")]
    bits: u32,
}

impl Plants {
    /// None.
    pub const NONE: Plants = Plants {
        #[cfg(feature = "plant")]
        bits: 0,
    };

    /// One.
    #[cfg(feature = "plant")]
    #[must_use]
    pub fn one(plant: Plant) -> Plants {
        Plants { bits: 1 << plant as u32 }
    }

    /// Whether this fault is planted.
    #[must_use]
    #[inline]
    pub fn has(self, plant: Plant) -> bool {
        #[cfg(feature = "plant")]
        return self.bits & (1 << plant as u32) != 0;
        #[cfg(not(feature = "plant"))]
        {
            let _ = plant;
            false
        }
    }
}
