//! Planted faults: each breaks one rule on purpose, so that the simulator can show that its
//! checkers catch it (faults.md). Without the feature `plant` none can be switched on and
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
    /// What runs with another is promoted before that other is active.
    CompanionFirst,
    /// What others run with is demoted while they still act.
    CompanionLeft,
    /// A voter that is bound votes for whom it is bound to.
    VoteForPromised,
    /// A learner acknowledges no rounds, since it has no vote.
    LearnerGivesNoPromise,
    /// Authority counts from the receipt of an acknowledgement, not from its round's sending.
    AuthorityFromReceipt,
    /// One committed barrier is enough for rounds as long as the term lasts.
    BarrierOnce,
    /// A coordinator that lost its authority does not step down.
    StaysWithoutAuthority,
    /// A coordinator speaks for all as long as it has not renounced, bound voters or not.
    SpeaksWithoutAuthority,
    /// A coordinator that is barred goes on granting itself.
    CoordinatorGrantsItself,
    /// A new lease does not say how far the log has to be applied.
    FreshFromForgotten,
    /// A coordinator that comes back to office goes on with its grants of the time before.
    GrantsOfEarlierOffice,
    /// A node that confirms no beats is granted leases all the same.
    GrantsUnconfirmed,
    /// A later and shorter grant takes the place of an earlier and longer one in the books.
    GrantShortened,
    /// A grant is counted from the sending of the beat that its node acknowledged.
    GrantFromOurSending,
    /// A new coordinator forgets the longer leases that it has seen committed.
    AbsenceOfOneOffice,
    /// Heartbeats are compared by number alone, whatever boot they are of.
    BeatsByNumberAlone,
    /// A node that was barred is never granted again in that term of office.
    BarredForGood,
    /// Reports are compared by number alone, whatever boot they are of.
    ReportsByNumberAlone,
    /// Each report of a node that can run nothing starts the wait for it again.
    UnreadyRestarted,
    /// A node that could run nothing once counts as such although it can again.
    UnreadyForever,
    /// What was on its way through the log at the end of an office stays pending in the next.
    PendingOutlivesOffice,
    /// A failback that was followed by a failure is tried again after the same wait.
    FailbackNeverRegretted,
    /// A failure counts as recorded where one of an earlier boot has its number.
    FailureOfEarlierBoot,
    /// Entries are stamped with the wall clock in place of cluster time.
    ClusterTimeFromWall,
    /// A voter that is no member any more keeps its vote.
    StrangerKeepsVote,
    /// A new generation waits out the lease of its profile, not the longest one possible.
    WaitsOutPresentLease,
    /// Applying an assignment does not record its epoch as the highest.
    LastEpochForgotten,
    /// A resource that is taken out of the specification is forgotten while it has a holder.
    HeldResourceForgotten,
    /// What the launcher did not start or promote for now is waited for still.
    NotNowForgotten,
    /// A node takes what is assigned to its name for its own, whichever incarnation was meant.
    AssignmentByName,
    /// The wait between attempts to be elected doubles without a limit.
    PatienceUnbounded,
    /// A node whose log went back in time goes on as the same incarnation.
    LostEntriesIgnored,
    /// An operation is answered as done once it is proposed.
    AnsweredWhenProposed,
    /// A request is answered by the outcome of one that an earlier boot gave its number.
    AnswerOfEarlierBoot,
    /// A coordinator counts a longer lease from applying it on, not from proposing it.
    AbsenceCountedWhenApplied,
    /// A report is sent when something changed, and not again where it was lost.
    ReportNotRepeated,
    /// A state image leaves out what happened.
    ImageWithoutHistory,
    /// The log takes the write after the one that is durable for durable as well.
    WrittenOneAhead,
    /// A vote that comes without entries is not made durable, its term is.
    VoteNotRecorded,
    /// A burnt epoch counts as given up before the guard has seen its instance gone.
    BurntIsGone,
    /// A launcher without a guard says that nothing is active while something is.
    ClearAlthoughActive,
    /// What could not be started to be promoted is started again under the same epoch, at once.
    StartRetriedAtOnce,
}

impl Plant {
    /// All planted faults.
    pub const ALL: [Plant; 83] = [
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
        Plant::CompanionFirst,
        Plant::CompanionLeft,
        Plant::VoteForPromised,
        Plant::LearnerGivesNoPromise,
        Plant::AuthorityFromReceipt,
        Plant::BarrierOnce,
        Plant::StaysWithoutAuthority,
        Plant::SpeaksWithoutAuthority,
        Plant::CoordinatorGrantsItself,
        Plant::FreshFromForgotten,
        Plant::GrantsOfEarlierOffice,
        Plant::GrantsUnconfirmed,
        Plant::GrantShortened,
        Plant::GrantFromOurSending,
        Plant::AbsenceOfOneOffice,
        Plant::BeatsByNumberAlone,
        Plant::BarredForGood,
        Plant::ReportsByNumberAlone,
        Plant::UnreadyRestarted,
        Plant::UnreadyForever,
        Plant::PendingOutlivesOffice,
        Plant::FailbackNeverRegretted,
        Plant::FailureOfEarlierBoot,
        Plant::ClusterTimeFromWall,
        Plant::StrangerKeepsVote,
        Plant::WaitsOutPresentLease,
        Plant::LastEpochForgotten,
        Plant::HeldResourceForgotten,
        Plant::NotNowForgotten,
        Plant::AssignmentByName,
        Plant::PatienceUnbounded,
        Plant::LostEntriesIgnored,
        Plant::AnsweredWhenProposed,
        Plant::AnswerOfEarlierBoot,
        Plant::AbsenceCountedWhenApplied,
        Plant::ReportNotRepeated,
        Plant::ImageWithoutHistory,
        Plant::WrittenOneAhead,
        Plant::VoteNotRecorded,
        Plant::BurntIsGone,
        Plant::ClearAlthoughActive,
        Plant::StartRetriedAtOnce,
    ];
}

/// The faults that are planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plants {
    #[cfg(feature = "plant")]
    bits: u128,
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

#[cfg(all(test, feature = "plant"))]
mod tests {
    use super::*;

    #[test]
    fn each_planted_fault_has_a_bit_of_its_own_and_is_listed_once() {
        for (n, plant) in Plant::ALL.into_iter().enumerate() {
            assert_eq!(plant as usize, n, "{plant:?}");
            let found: alloc::vec::Vec<Plant> =
                Plant::ALL.into_iter().filter(|p| Plants::one(plant).has(*p)).collect();
            assert_eq!(found, [plant]);
        }
    }
}
