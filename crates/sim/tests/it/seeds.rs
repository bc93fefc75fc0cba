//! Some seeds of every class hold; `cargo xtask seeds` runs thousands.

use sim::{Class, Request, run};

fn check(class: Class, seeds: core::ops::Range<u64>) {
    for seed in seeds {
        let outcome = run(seed, Request { class: Some(class), ..Request::default() });
        if let Some((violation, at)) = outcome.violation {
            let traced = Request { class: Some(class), traced: true, ..Request::default() };
            let lines = run(seed, traced).lines.join("\n");
            panic!(
                "{lines}\nseed {seed} of {} broke {} at {at} ns: {}\n  cargo run --release -p \
                 backstay-sim --bin seeds -- --count 1 --seed {seed} --class {} --trace",
                class.name(),
                violation.rule,
                violation.what,
                class.name()
            );
        }
        assert!(outcome.simulated >= 60_000_000_000, "seed {seed}");
    }
}

#[test]
fn faults_of_any_kind_break_no_rule_and_all_runs_again() {
    check(Class::Swarm, 10_000..10_040);
}

#[test]
fn a_node_that_stays_half_dead_does_not_keep_the_others_from_serving() {
    check(Class::Minority, 20_000..20_012);
}

#[test]
fn a_node_that_comes_and_goes_causes_few_failovers() {
    check(Class::Flapping, 30_000..30_012);
}

#[test]
fn loss_and_a_slow_processor_cause_no_failover() {
    check(Class::Calm, 40_000..40_012);
}

#[test]
fn stores_refuse_what_is_stale_even_where_clocks_drift_beyond_the_bound() {
    check(Class::Drift, 50_000..50_012);
}

#[test]
fn a_quorum_that_is_recovered_serves_once_and_whoever_wakes_comes_back() {
    check(Class::Recovery, 60_000..60_040);
}
