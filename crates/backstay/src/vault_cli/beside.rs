//! A `vault run` beside something that matters more: it works below everything else, and ends
//! with whoever keeps it alive.

use super::run::Input;
use rustix::process::nice;
use std::io::Read;
use std::sync::mpsc::Sender;

/// How far below others in processor time.
const NICE: i32 = 10;
/// How much sooner than others the kernel kills it when memory is short, of 1000.
const KILL_SOONER: &str = "500";

/// Gives way to everything else on the machine; the runs that it begins do, too.
pub(crate) fn work_below_everything() {
    if let Err(error) = nice(NICE) {
        eprintln!("warning: it works at the same priority as everything else: {error}");
    }
    // What the one who began it has may be far below zero: never be killed. That is not for us.
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", KILL_SOONER) {
        eprintln!("warning: when memory is short, others may be killed first: {error}");
    }
}

/// Two signals when standard input ends: whoever kept this alive is gone, however that came.
pub(crate) fn end_with_standard_input(inputs: Sender<Input>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        let mut input = std::io::stdin().lock();
        while let Ok(1..) = input.read(&mut buffer) {}
        // The loop is gone only when the program ends.
        _ = inputs.send(Input::Signal);
        _ = inputs.send(Input::Signal);
    });
}
