//! Power loss at every single operation of the disk, in a script that meets every path: what was
//! reported durable is there, nothing that was not written is, and the log goes on.

use std::io::ErrorKind;

use journal::{
    Chain, Entry, Fault, HardState, Kept, MemoryDisk, Recovered, Segments, Unsynced, Write,
};

use crate::group::SMALL;
use crate::log_files::{entry, snapshot, state, write};

/// What a log should come back as.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    snapshot: u64,
    entries: Vec<Entry>,
    hard_state: HardState,
}

impl Model {
    fn of(recovered: &Recovered) -> Self {
        Self {
            snapshot: recovered.snapshot().map_or(0, |snapshot| snapshot.index),
            entries: recovered.entries().to_vec(),
            hard_state: recovered.hard_state().clone(),
        }
    }

    /// Every state that a crash inside this write may leave, the whole write last.
    fn steps(&self, write: &Write) -> Vec<Self> {
        let mut now = self.clone();
        let mut steps = vec![now.clone()];
        if let Some(hard_state) = &write.hard_state
            && (hard_state.term, hard_state.vote) != (now.hard_state.term, now.hard_state.vote)
        {
            let commit = now.hard_state.commit;
            now.hard_state = HardState { commit, ..hard_state.clone() };
            steps.push(now.clone());
        }
        if let Some(snapshot) = &write.snapshot {
            now.snapshot = snapshot.snapshot.index;
            let covered = |entry: &Entry| !snapshot.installed && entry.index > now.snapshot;
            now.entries.retain(covered);
            steps.push(now.clone());
        }
        for entry in &write.entries {
            now.entries.retain(|old| old.index < entry.index);
            now.entries.push(entry.clone());
            steps.push(now.clone());
        }
        if let Some(hard_state) = &write.hard_state {
            now.hard_state = hard_state.clone();
            steps.push(now);
        }
        steps
    }
}

/// Several segments, own snapshots, an installed one, conflicts, elections.
fn script() -> Vec<Write> {
    let long = "x".repeat(400);
    let mut chain = Chain::genesis(&[1], b"");
    let mut first = write(1, Vec::new(), state(1, 0, 1));
    first.snapshot = Some(snapshot(1, 1, chain, true));
    let mut writes = vec![first];
    let mut next = |entries: Vec<Entry>, hard_state| {
        let id = writes.len() as u64 + 1;
        writes.push(write(id, entries, hard_state));
        writes.len() - 1
    };
    let mut chains = std::collections::BTreeMap::new();
    for index in 2..=12 {
        let entry = entry(index, 1, &format!("{long}{index}"));
        chain = chain.after_entry(&entry);
        chains.insert(index, chain);
        next(vec![entry], state(1, 2, index - 1));
    }
    next(vec![entry(12, 2, "other"), entry(13, 2, "other")], state(2, 3, 11));
    next(vec![entry(12, 3, "last"), entry(13, 3, &long), entry(14, 3, &long)], state(3, 3, 11));
    let own = next(Vec::new(), None);
    next(vec![entry(15, 3, &long)], state(3, 3, 14));
    next(vec![entry(16, 3, "uncommitted"), entry(17, 3, "uncommitted")], state(4, 0, 14));
    let installed = next(vec![entry(31, 5, "after")], state(5, 0, 30));
    for index in 32..=40 {
        next(vec![entry(index, 5, &long)], state(5, 0, index - 1));
    }
    writes[own].snapshot = Some(snapshot(9, 1, chains[&9], false));
    let mut at = writes[installed].clone();
    let chain = Chain([9; 32]);
    at.snapshot = Some(snapshot(30, 5, chain, true));
    writes[installed] = at;
    let mut chain = chain;
    for index in 31..=35 {
        let of = |write: &Write| write.entries.iter().find(|e| e.index == index).cloned();
        chain = chain.after_entry(&writes.iter().rev().find_map(of).unwrap());
    }
    let last = writes.len() - 1;
    writes[last].snapshot = Some(snapshot(35, 5, chain, false));
    let id = writes.len() as u64 + 1;
    writes.push(write(id, vec![entry(41, 5, "end")], state(6, 1, 40)));
    writes
}

/// Runs the script from write `from` on, until its end or a failure; returns how many writes
/// were reported durable.
fn run(log: &mut Segments<MemoryDisk>, writes: &[Write], from: usize) -> usize {
    let mut durable = from;
    for write in &writes[from..] {
        if log.append(std::slice::from_ref(write)).and_then(|()| log.sync()).is_err() {
            assert!(log.fatal().is_some() && log.commit(&[]).is_err(), "a failure is for ever");
            return durable;
        }
        durable += 1;
        if log.settle(true).is_err() {
            return durable;
        }
    }
    durable
}

type Survival = fn(&Unsynced<'_>) -> Kept;

fn half(unsynced: &Unsynced<'_>) -> Kept {
    match unsynced {
        Unsynced::Directory { operations } => Kept::first(operations / 2),
        Unsynced::Tail { bytes, .. } => Kept::first(bytes / 2),
        Unsynced::Cut { .. } => Kept::nothing(),
    }
}

const SURVIVALS: [Survival; 4] = [
    |_| Kept::nothing(),
    |_| Kept::everything(),
    half,
    |unsynced| match unsynced {
        Unsynced::Tail { bytes, .. } => Kept::first(bytes - 1),
        _ => Kept::everything(),
    },
];

/// The states after each write; `[n]` lists what a crash during write `n` may leave.
fn models(writes: &[Write]) -> Vec<Vec<Model>> {
    let mut now = Model::default();
    let mut all = Vec::new();
    for write in writes {
        let steps = now.steps(write);
        now = steps.last().unwrap().clone();
        all.push(steps);
    }
    all.push(vec![now]);
    all
}

/// Whether `found` is what a crash may leave when `durable` writes were reported.
fn allowed(models: &[Vec<Model>], durable: usize, found: &Model) -> bool {
    models[durable].contains(found)
}

fn check(disk: MemoryDisk, models: &[Vec<Model>], durable: usize, what: &str) -> MemoryDisk {
    let (log, recovered) =
        Segments::open(disk, SMALL).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = Model::of(&recovered);
    assert!(allowed(models, durable, &found), "{what}: {durable} durable, found {found:?}");
    log.into_disk()
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_reported() {
    let writes = script();
    let models = models(&writes);
    let (mut log, _) = Segments::open(MemoryDisk::new(), SMALL).unwrap();
    assert_eq!(run(&mut log, &writes, 0), writes.len());
    let total = log.disk().operations();
    assert!(total > 100, "the script meets the disk {total} times");
    for at in 0..total {
        for partial_bytes in [0, 70, 500] {
            for (number, survival) in SURVIVALS.iter().enumerate() {
                let what = format!("operation {at}, {partial_bytes} bytes, survival {number}");
                let mut disk = MemoryDisk::new();
                disk.inject(Fault { at, kind: ErrorKind::Other, partial_bytes, lasting: true });
                let (mut log, _) = Segments::open(disk, SMALL)
                    .unwrap_or_else(|_| Segments::open(MemoryDisk::new(), SMALL).unwrap());
                let durable = run(&mut log, &writes, 0);
                let mut disk = log.into_disk();
                disk.crash(survival);
                let disk = crash_in_start_up(disk, &models, durable, *survival, &what);
                let disk = check(disk, &models, durable, &what);
                go_on(disk, &writes, &models, durable, &what);
            }
        }
    }
}

/// Start-up mends too, so it is crashed at each of its operations as well.
fn crash_in_start_up(
    disk: MemoryDisk,
    models: &[Vec<Model>],
    durable: usize,
    survival: Survival,
    what: &str,
) -> MemoryDisk {
    let mut current = disk;
    for step in 0..20 {
        let mut disk = current.clone();
        let at = disk.operations() + step;
        disk.inject(Fault { at, kind: ErrorKind::Other, partial_bytes: 0, lasting: true });
        let opened = Segments::open(disk.clone(), SMALL);
        if opened.is_ok() {
            return current;
        }
        // The failed start's own changes: run it again on a disk that is kept.
        let mut kept = current.clone();
        kept.inject(Fault { at, kind: ErrorKind::Other, partial_bytes: 0, lasting: true });
        kept = open_and_keep(kept);
        kept.crash(survival);
        current = check_without_keeping(kept, models, durable, what);
    }
    panic!("{what}: start-up takes more than 20 operations");
}

/// Opens a log on a disk that outlives the failure of doing so.
fn open_and_keep(disk: MemoryDisk) -> MemoryDisk {
    use std::sync::{Arc, Mutex};
    let shared = Arc::new(Mutex::new(disk));
    let failed = Segments::open(crate::faults::Shared(Arc::clone(&shared)), SMALL);
    assert!(failed.is_err());
    drop(failed);
    Arc::into_inner(shared).unwrap().into_inner().unwrap()
}

fn check_without_keeping(
    disk: MemoryDisk,
    models: &[Vec<Model>],
    durable: usize,
    what: &str,
) -> MemoryDisk {
    check(disk.clone(), models, durable, what);
    disk
}

fn go_on(disk: MemoryDisk, writes: &[Write], models: &[Vec<Model>], durable: usize, what: &str) {
    let (mut log, recovered) = Segments::open(disk, SMALL).unwrap();
    // The write that was under way may be there whole; writing it again must not hurt, except
    // for a ballot that is recorded already.
    let found = Model::of(&recovered);
    let whole = models.get(durable).and_then(|steps| steps.last()) == Some(&found);
    let from = if whole { (durable + 1).min(writes.len()) } else { durable };
    assert_eq!(run(&mut log, writes, from), writes.len(), "{what}");
    let (_, recovered) = Segments::open(log.into_disk(), SMALL)
        .unwrap_or_else(|error| panic!("{what}, then on from write {from}: {error}"));
    assert_eq!(Model::of(&recovered), *models.last().unwrap().last().unwrap(), "{what}");
}

/// The check above can fail: a disk that loses what it had synced is caught.
#[test]
fn the_crash_check_notices_a_disk_that_lies() {
    use journal::Disk;
    let writes = script();
    let models = models(&writes);
    let (mut log, _) = Segments::open(MemoryDisk::new(), SMALL).unwrap();
    let durable = run(&mut log, &writes[..8], 0);
    let mut disk = log.into_disk();
    let (name, length) = crate::log_files::last_segment(&disk);
    let bytes = disk.read(&name).unwrap();
    disk.remove(&name).unwrap();
    disk.create(&name).unwrap();
    disk.append(&name, &bytes[..length as usize - 600]).unwrap();
    let (_, recovered) = Segments::open(disk, SMALL).unwrap();
    assert!(!allowed(&models, durable, &Model::of(&recovered)));
}
