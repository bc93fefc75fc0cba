//! Entries of the log, applied one after the other to a control state: a coordinator can have a
//! bug, and every node applies what it committed.

use model::{ClusterState, Entry};

use crate::Target;
use crate::cursor::{Cursor, piece};
use crate::round;

/// Most entries of one input.
const ENTRIES_MAX: usize = 16;

pub(crate) const TARGET: Target =
    Target::new("entry", "entries of the log, applied", read, seeds).memory(32 << 20);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    let mut state = ClusterState::default();
    for index in 1..=ENTRIES_MAX {
        if input.0.is_empty() {
            return;
        }
        let Some(entry) = round::postcard::<Entry>(input.piece()) else { continue };
        let _applied = brain::cluster::apply(&mut state, index as u64, &entry);
    }
    let _again = round::postcard::<ClusterState>(&round::encoded(&state));
}

fn seeds() -> Vec<Vec<u8>> {
    let barrier = Entry {
        by: model::ReplicaId(1),
        now: model::ClusterMs(5),
        wall_ms: 6,
        request: None,
        command: model::Command::Barrier,
        reasons: Vec::new(),
    };
    vec![piece(&round::encoded(&barrier)).repeat(2)]
}
