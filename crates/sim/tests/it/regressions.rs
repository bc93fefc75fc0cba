//! Seeds that once ran into a bug, replayed: none may break a rule again.
//!
//! A seed stands for a run of the simulator as it is; where the simulator changes, so does the
//! run. What was wrong has a test of its own beside the code as well.

use sim::{Class, Request, run};

/// Seed, class, and what it found.
const FOUND: &[(u64, Class, &str)] = &[
    (0, Class::Swarm, "a standby without descriptors was started again without a pause, for ever"),
    (
        100_550,
        Class::Swarm,
        "the atlas took a lost end for harmless while a sync was still to fail",
    ),
    (
        200_892,
        Class::Minority,
        "a full disk made a start forget that there are no descriptors either",
    ),
    (
        102_086,
        Class::Swarm,
        "with priorities the library refused the only electable voter, and nobody was elected",
    ),
    (30_039_370, Class::Swarm, "damage behind an empty record's length was cut as a torn tail"),
    (30_043_345, Class::Swarm, "a failure that came recorded in a snapshot was told for ever"),
    (40_022_634, Class::Swarm, "what an earlier leader had left counted as committed again"),
    (30_058_907, Class::Recovery, "a disk that was slow while its machine was lost stayed slow"),
    (50_073_898, Class::Swarm, "an order to a dead launcher reached the next one after its list"),
    (
        80_003_028,
        Class::Swarm,
        "a state image did not tell of the longer leases of a profile before",
    ),
    (70_155_443, Class::Swarm, "a start under an epoch was tried again at once, without end"),
];

#[test]
fn what_was_found_once_stays_mended() {
    for (seed, class, why) in FOUND {
        let outcome = run(*seed, Request { class: Some(*class), ..Request::default() });
        assert!(outcome.violation.is_none(), "seed {seed}, {why}: {:?}", outcome.violation);
    }
}

/// Twenty thousand refusals a second were the bug.
#[test]
fn a_start_that_is_refused_is_not_tried_without_end() {
    for seed in 0..6 {
        let faults = Some(vec![sim::fault::Fault::DescriptorsGone]);
        let class = Some(Class::Swarm);
        let outcome = run(seed, Request { class, faults, ..Request::default() });
        let refused = outcome.coverage.count("start-refused-without-descriptors");
        assert!(refused < 2_000, "seed {seed}: refused {refused} times");
    }
}
