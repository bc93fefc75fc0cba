//! Two runs of one seed are the same run.

use sim::{Request, run};

#[test]
fn two_runs_of_one_seed_end_in_the_same_state() {
    for seed in 0..8 {
        let (first, second) = (run(seed, Request::default()), run(seed, Request::default()));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.steps, second.steps, "seed {seed}");
        assert_eq!(first.coverage, second.coverage, "seed {seed}");
    }
}

#[test]
fn a_trace_does_not_change_a_run() {
    let traced = run(3, Request { traced: true, ..Request::default() });
    assert_eq!(traced.hash, run(3, Request::default()).hash);
    assert!(!traced.lines.is_empty());
}
