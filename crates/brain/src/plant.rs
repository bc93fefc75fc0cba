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
    /// A voter binds itself for half of what it promised.
    PromiseHalved,
    /// A larger promise is given before it is recorded.
    PromiseNotRecorded,
    /// A voter that may not vote stands all the same.
    StandsWhileBound,
    /// A renounce entry frees its candidate for every later term.
    ProofOfAnyTerm,
    /// A coordinator relies on promises for twice their length.
    AuthorityDoubled,
    /// One voter's promise is enough for authority.
    AuthorityOfOne,
    /// A witness that leads stays, and solicits promises.
    WitnessSolicits,
    /// What has no guard is activated.
    UnguardedActivation,
    /// The guard begins to stop when the lease has ended, not before.
    GuardLate,
    /// After a transfer a coordinator waits for the grace alone.
    TransferWaitsGrace,
    /// A grant is given and not counted.
    GrantNotCounted,
    /// A grant is counted without the drift of clocks.
    GrantWithoutDrift,
    /// A takeover does not wait for the last grant to pass.
    TakeoverBeforeLapse,
    /// A takeover does not bar the node first.
    TakeoverWithoutBar,
    /// A barred node is granted again while it holds something.
    UnbarredAtOnce,
    /// Evidence for one resource is taken for another's.
    EvidenceOfAnotherResource,
    /// A burnt epoch is evidence although its instance runs.
    EvidenceBeforeStop,
    /// A committed longer lease is not waited for.
    AbsenceUncounted,
    /// A longer lease counts from its commit, not from the request.
    AbsenceFromCommit,
    /// Each resource counts its own epochs.
    EpochPerResource,
    /// A voter whose disk is lost goes on as the same incarnation.
    LostDiskKeepsVote,
    /// A failed sync is reported as written.
    FailedSyncReported,
    /// The coordinator applies an entry otherwise than the others.
    StatesDiffer,
}

impl Plant {
    /// All planted faults.
    pub const ALL: [Plant; 41] = [
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
        Plant::PromiseHalved,
        Plant::PromiseNotRecorded,
        Plant::StandsWhileBound,
        Plant::ProofOfAnyTerm,
        Plant::AuthorityDoubled,
        Plant::AuthorityOfOne,
        Plant::WitnessSolicits,
        Plant::UnguardedActivation,
        Plant::GuardLate,
        Plant::TransferWaitsGrace,
        Plant::GrantNotCounted,
        Plant::GrantWithoutDrift,
        Plant::TakeoverBeforeLapse,
        Plant::TakeoverWithoutBar,
        Plant::UnbarredAtOnce,
        Plant::EvidenceOfAnotherResource,
        Plant::EvidenceBeforeStop,
        Plant::AbsenceUncounted,
        Plant::AbsenceFromCommit,
        Plant::EpochPerResource,
        Plant::LostDiskKeepsVote,
        Plant::FailedSyncReported,
        Plant::StatesDiffer,
    ];
}

/// The faults that are planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plants {
    #[cfg(feature = "plant")]
    bits: u64,
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
        Plants { bits: 1 << plant as u64 }
    }

    /// Whether this fault is planted.
    #[must_use]
    #[inline]
    pub fn has(self, plant: Plant) -> bool {
        #[cfg(feature = "plant")]
        return self.bits & (1 << plant as u64) != 0;
        #[cfg(not(feature = "plant"))]
        {
            let _ = plant;
            false
        }
    }
}
