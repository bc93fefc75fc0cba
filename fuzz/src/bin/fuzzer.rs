//! libFuzzer around one target, which a variable names: `cargo xtask fuzz` builds and runs it.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use fuzz::{LIST_VARIABLE, PLANT_VARIABLE, SEEDS_VARIABLE, TARGET_VARIABLE, Target};

type Run = Box<dyn Fn(&[u8]) + Send + Sync>;

static RUN: OnceLock<Run> = OnceLock::new();

/// Finds the target, and writes its seeds where that is asked for.
fn begin() -> Run {
    if std::env::var_os(LIST_VARIABLE).is_some() {
        for Target { name, input_max, about, .. } in Target::all() {
            println!("{name} {input_max} {about}");
        }
        std::process::exit(0);
    }
    let name = std::env::var(TARGET_VARIABLE).unwrap_or_default();
    let target = Target::find(&name);
    let target = target.unwrap_or_else(|| panic!("{TARGET_VARIABLE} names no target: {name:?}"));
    if let Some(directory) = std::env::var_os(SEEDS_VARIABLE) {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let path = Path::new(&directory).join(format!("seed-{number:02}"));
            let written = std::fs::write(&path, seed);
            written.unwrap_or_else(|error| panic!("{} can't be written: {error}", path.display()));
        }
    }
    match std::env::var_os(PLANT_VARIABLE) {
        Some(_) => Box::new(|input| target.run_planted(input)),
        None => Box::new(|input| target.run(input)),
    }
}

libfuzzer_sys::fuzz_target!(init: drop(RUN.set(begin())), |input: &[u8]| {
    if let Some(run) = RUN.get() {
        run(input);
    }
});
