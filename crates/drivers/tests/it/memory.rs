//! The guard has all the memory that it needs before it needs it: a machine that has none left is
//! one of the faults that it is there for.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use drivers::contract::Bench;
use drivers::lease::{Beat, LeasePage};
use drivers::protocol::Event;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;

use crate::bench;
use crate::faults::{Run, check, two, until};

#[global_allocator]
static MEMORY: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Beats of the guard's loop between two looks at what it has allocated.
const BEATS: usize = 10;
/// Pause between two counts that the guard's process writes down.
const WRITTEN_EVERY: Duration = Duration::from_millis(1);

pub(crate) fn all() -> Vec<(&'static str, Run)> {
    vec![("the_guard_allocates_nothing_while_it_watches", nothing_while_it_watches)]
}

fn allocations() -> u64 {
    let stats = MEMORY.stats();
    (stats.allocations + stats.reallocations) as u64
}

/// Writes down for ever how often this process has allocated, and allocates nothing for it.
pub(crate) fn write_down_allocations(to: &Path) {
    let file = File::create(to).expect("a file for the count");
    std::thread::spawn(move || {
        loop {
            file.write_all_at(&allocations().to_ne_bytes(), 0).expect("the count is written");
            std::thread::park_timeout(WRITTEN_EVERY);
        }
    });
}

fn written_down(at: &Path) -> Option<u64> {
    std::fs::read(at).ok()?.try_into().ok().map(u64::from_ne_bytes)
}

/// The count after so many more turns of the guard's loop.
fn after_beats(bench: &Bench, file: &Path) -> Result<u64, String> {
    let page = LeasePage::open(&bench.run_dir.lease_page()).map_err(|e| e.to_string())?;
    for _ in 0..BEATS {
        let last = page.last_beat(Beat::Guard);
        until("a beat of the guard", || (page.last_beat(Beat::Guard) > last).then_some(()))?;
    }
    written_down(file).ok_or_else(|| "nothing is written down".to_owned())
}

fn nothing_while_it_watches(cgroups: bool) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = dir.path().join("allocations");
    let argument = format!("--allocations={}", file.display());
    let (_dir, mut bench) = bench::start(cgroups, &[], &[argument])?;
    let before = after_beats(&bench, &file)?;
    let two = two(&mut bench)?;
    // To arm is the last thing that it may allocate for; canary: and it is seen.
    let armed = after_beats(&bench, &file)?;
    check(armed > before, "what is armed is remembered, and no allocation was counted")?;
    check(after_beats(&bench, &file)? == armed, "it allocates while it only watches")?;
    bench.drop_lease();
    let burnt = |e: &Event| matches!(e, Event::Burnt { empty: true, .. });
    bench.expect("the guard's word", burnt)?;
    let killed = after_beats(&bench, &file)?;
    check(killed == armed, &format!("{} allocations to kill {}", killed - armed, two.x))
}
