//! The threads of a run and the channels between them.

use super::ahead::{AHEAD_BYTES, Held};
use super::assemble::Assembler;
use super::blocks::{BlocksRead, Stretch};
use super::chunks::{ChunkWriter, Shared};
use super::memory::BlockMemoryWriter;
use super::read::{FileOutcome, ReadFailure, Reader, SEGMENT_BYTES};
use super::scan::{Dispatcher, ITEMS_MAX, Task};
use super::{BackupRequest, Harvest, STAMP_MARGIN_S, WORKERS_MAX};
use crate::blobs::ReadBuffers;
use crate::chain::{Backup, Body, RunId};
use crate::error::Result;
use crate::repository::Repository;
use crate::source::{BlockRules, ScanContext};
use crate::tree::{Content, Entry, EntryKind, Extent};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

/// Work waiting for a reader.
const TASKS_MAX: usize = 16;
/// Results waiting for the tree.
const DELIVERIES_MAX: usize = 64;
/// Packs waiting to be stored: none, so that memory stays bounded by the threads.
const PACKS_MAX: usize = 0;
/// Threads that store packs; two, so that one seals while the other waits for the disk.
const STORERS: usize = 2;
/// A run shows life this often.
const RENEW_AFTER_MS: i64 = 6 * 3600 * 1000;

/// A result of a reader.
pub(super) struct Delivery {
    pub(super) slot: u64,
    pub(super) part: u64,
    pub(super) result: std::result::Result<Part, ReadFailure>,
}

/// What was read.
pub(super) enum Part {
    Whole(Box<FileOutcome>),
    Segment(Vec<Extent>, [u8; 32]),
    Blocks(BlocksRead),
}

/// Reads the source and stores it; the record is the caller's.
pub(super) fn harvest(
    repository: &mut Repository,
    request: &BackupRequest<'_>,
    run: RunId,
    parent: Option<(u64, Backup)>,
) -> Result<(Harvest, Option<BlockMemoryWriter>)> {
    let marks = repository.state().marks.values();
    let doomed: BTreeSet<_> = marks.flat_map(|m| &m.doomed).filter_map(|n| n.id()).collect();
    let (store, ring) = (Arc::clone(repository.store()), Arc::clone(repository.ring()));
    let (counters, pacer) = (Arc::clone(&request.counters), repository.pacer().cloned());
    let mut shared = Shared::new(store, ring, counters, doomed, pacer)?;
    if let Some(folder) = &request.block_memory {
        let path = folder.join(format!("{}.blocks", block_memory_name(repository, request)));
        let parent_run = parent.as_ref().map(|(_, backup)| &backup.run);
        shared.remember_blocks(&path, &run, parent_run, &request.source.block_mode())?;
    }
    let mut last_ms = repository.now_ms();
    let mut show_life = || {
        let now_ms = repository.now_ms();
        if now_ms - last_ms < RENEW_AFTER_MS {
            return Ok(());
        }
        last_ms = now_ms;
        let may = |state: &crate::chain::State| super::still_running(&state.runs, &run);
        repository.append(Body::Renew { run }, None, may).map(|_| ())
    };
    let parent = parent.map(|(_, backup)| backup);
    let result = run_threads(&shared, request, parent.as_ref(), &mut show_life);
    // What a thread failed with is the cause; the tree's own error may only follow from it.
    match shared.take_failure() {
        Some(failure) => Err(failure),
        None => {
            let harvest = result?;
            shared.write_pending()?;
            Ok((harvest, shared.take_memory()))
        }
    }
}

/// One file a repository and source.
fn block_memory_name(repository: &Repository, request: &BackupRequest<'_>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&repository.ring().repository).update(request.name.as_bytes());
    crate::hex::encode(&hasher.finalize().as_bytes()[..16])
}

fn run_threads(
    shared: &Shared,
    request: &BackupRequest<'_>,
    parent: Option<&Backup>,
    show_life: &mut dyn FnMut() -> Result<()>,
) -> Result<Harvest> {
    let (items_in, items) = bounded(ITEMS_MAX);
    let (tasks_in, tasks) = bounded(TASKS_MAX);
    let (deliveries_in, deliveries) = bounded(DELIVERIES_MAX);
    let (packs_in, packs) = bounded(PACKS_MAX);
    thread::scope(|scope| {
        for _ in 0..STORERS {
            let packs = packs.clone();
            scope.spawn(move || shared.store_packs(&packs));
        }
        drop(packs);
        for _ in 0..request.workers.clamp(1, WORKERS_MAX) {
            let (tasks, results) = (tasks.clone(), deliveries_in.clone());
            let writer = ChunkWriter::new(shared, packs_in.clone());
            scope.spawn(move || work(Reader::new(writer), &tasks, &results));
        }
        drop((tasks, deliveries_in));
        scope.spawn(move || {
            let mut dispatcher = Dispatcher::new(shared, items_in, tasks_in);
            let scanned = scan(shared, request, parent, &mut dispatcher);
            if let Err(error) = scanned.and_then(|()| dispatcher.flush())
                && !shared.is_stopped()
            {
                shared.fail(error);
            }
        });
        let reader = Reader::new(ChunkWriter::new(shared, packs_in));
        let harvest = Assembler::new(reader, deliveries, show_life).run(&items);
        if let Err(error) = &harvest
            && !shared.is_stopped()
        {
            shared.fail(crate::VaultError::Refused(error.to_string()));
            // The error itself is returned; this one only stops the threads.
            shared.take_failure();
        }
        drop(items);
        harvest
    })
}

fn scan(
    shared: &Shared,
    request: &BackupRequest<'_>,
    parent: Option<&Backup>,
    dispatcher: &mut Dispatcher,
) -> Result<()> {
    let context = ScanContext {
        parent: parent.map(|p| (&p.top, &shared.blobs as &dyn crate::tree::NodeSource)),
        parent_position: parent.map_or("", |p| &p.subject.position),
        repository: Some((&*shared.store, &shared.ring)),
        trusted_before_s: parent
            .map_or(0, |p| p.subject.begun_ms.div_euclid(1000) - STAMP_MARGIN_S),
        may_reuse: &|entry| may_reuse(shared, entry),
    };
    request.source.scan(&context, dispatcher)
}

/// Whether everything that an unchanged file's entry refers to is stored and stays.
fn may_reuse(shared: &Shared, entry: &Entry) -> Result<bool> {
    let EntryKind::File { content, .. } = &entry.kind else { return Ok(true) };
    if !shared.check_reuse {
        return Ok(true);
    }
    let stored = |extents: &[Extent]| -> Result<bool> {
        for extent in extents {
            if let Some(id) = extent.chunk()
                && !shared.is_stored(id)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    };
    match content {
        Content::Inline(extents) => stored(extents),
        Content::Lists(lists) => {
            for list in lists {
                if !shared.is_stored(list)? {
                    return Ok(false);
                }
                let extents =
                    crate::tree::read_extents(&shared.blobs, list, &mut ReadBuffers::default());
                match extents {
                    Ok(extents) if stored(&extents)? => {}
                    Ok(_) => return Ok(false),
                    Err(error) if error.is_damage() => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            Ok(true)
        }
    }
}

/// A reader's life.
fn work(mut reader: Reader<'_>, tasks: &Receiver<Task>, deliveries: &Sender<Delivery>) {
    let shared = reader.writer.shared;
    for task in tasks {
        // After a failure the channel is emptied, so that nobody waits for room in it.
        if shared.is_stopped() {
            continue;
        }
        let sent = match task {
            Task::Files(files) => files.into_iter().try_for_each(|(slot, file)| {
                let read = Reader::open(&file).map_err(ReadFailure::from);
                let result = read.and_then(|open| reader.whole(&open));
                let result = result.map(|outcome| Part::Whole(Box::new(outcome)));
                deliveries.send(Delivery { slot, part: 0, result })
            }),
            Task::Segment { slot, part, file, seen } => {
                let result = reader.segment(&file, &seen, part * SEGMENT_BYTES);
                let result = result.map(|(extents, value)| Part::Segment(extents, value));
                deliveries.send(Delivery { slot, part, result })
            }
            Task::Stream { slot, stream, meta } => {
                let result = reader.endless(stream, meta);
                let result = result.map(|outcome| Part::Whole(Box::new(outcome)));
                deliveries.send(Delivery { slot, part: 0, result })
            }
            Task::Blocks { slot, part, file, size_bytes, old, rules } => {
                let from = part * SEGMENT_BYTES;
                let range = from..(from + SEGMENT_BYTES).min(size_bytes);
                let (old, is_only) = (old.as_deref(), size_bytes <= rules.block_bytes);
                let stretch = Stretch { file: &*file, old, range, is_only, rules: &rules };
                let result = reader.blocks(&stretch);
                deliveries.send(Delivery { slot, part, result: result.map(Part::Blocks) })
            }
            Task::Bytes { slot, part, bytes, is_only, old } => {
                let from = part * AHEAD_BYTES;
                let (range, held) = (from..from + bytes.len() as u64, Held { from, bytes });
                let (old, rules) = (old.as_deref(), &BlockRules::PAGES);
                let stretch = Stretch { file: &held, old, range, is_only, rules };
                let result = reader.blocks(&stretch);
                deliveries.send(Delivery { slot, part, result: result.map(Part::Blocks) })
            }
        };
        shared.finish_task();
        if sent.is_err() {
            break; // The tree is no longer built.
        }
    }
    if let Err(error) = reader.writer.flush()
        && !shared.is_stopped()
    {
        shared.fail(error);
    }
}
