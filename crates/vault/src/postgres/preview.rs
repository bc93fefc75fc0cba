//! What the restore of a database will do, known before anything is written: the restore itself
//! goes by it.

use super::recovery::{Plan, RecoverRequest, require_unopened, spaces, stop_file};
use super::unfinished::{Mark, is_unfinished, require_empty};
use super::{Lsn, SegmentName};
use crate::blobs::Blobs;
use crate::error::Result;
use crate::repository::Repository;
use crate::tree::{Totals, find_path};
use crate::wal::{Catalog, History};
use std::path::PathBuf;

/// What a restore will write, and where.
#[derive(Clone, Debug)]
pub struct Preview {
    /// A restore was broken off here, and goes on.
    pub goes_on: bool,
    /// What `--in-place` moves aside first.
    pub sets_aside: Option<PathBuf>,
    /// The data directory and the tablespaces, each with what it gets.
    pub places: Vec<(PathBuf, Totals)>,
    /// Where the log begins that the server replays.
    pub log_from: Lsn,
    /// How many segments of it there are.
    pub log_segments: u64,
    /// Their bytes.
    pub log_bytes: u64,
}

/// Checks all that can be checked before a restore, and says what it will do.
///
/// # Errors
/// Where the restore would refuse the places, or lacks a chunk. Nothing was written.
pub fn preview(
    repository: &Repository,
    plan: &Plan,
    request: &RecoverRequest,
    in_place: bool,
) -> Result<Preview> {
    let blobs = repository.blobs()?;
    let is_there = request.target.exists() && !is_unfinished(&request.target);
    let sets_aside = (in_place && is_there).then(|| request.target.clone());
    let prepared = prepare(repository, &blobs, plan, request, sets_aside.is_some())?;
    let totals = |path: &str| find_path(&blobs, &plan.backup.top, path.as_bytes());
    let mut places = vec![(request.target.clone(), Totals::of(&totals("data")?))];
    for (number, place) in &prepared.spaces {
        places.push((place.clone(), Totals::of(&totals(&format!("spaces/{number}"))?)));
    }
    let (store, ring) = (&**repository.store(), repository.ring());
    let catalog = Catalog::load(store, ring, &plan.backup.source, plan.position.system)?;
    let segments = segments(&catalog.history(store, ring, plan.timeline)?, plan);
    Ok(Preview {
        goes_on: prepared.goes_on,
        sets_aside,
        places,
        log_from: plan.position.start,
        log_segments: segments.len() as u64,
        log_bytes: segments.len() as u64 * plan.position.segment_bytes,
    })
}

/// What was found before a restore.
pub(super) struct Prepared {
    pub(super) spaces: Vec<(String, PathBuf)>,
    pub(super) mark: Mark,
    pub(super) control: Vec<u8>,
    pub(super) goes_on: bool,
}

/// Looks whether the places can be restored into, and whether every chunk is there. A target that
/// is moved aside first may hold anything.
pub(super) fn prepare(
    repository: &Repository,
    blobs: &Blobs,
    plan: &Plan,
    request: &RecoverRequest,
    is_moved_aside: bool,
) -> Result<Prepared> {
    let spaces = spaces(blobs, plan, request)?;
    let mark = Mark::of(repository, plan, &spaces);
    let control = stop_file(blobs, plan, "pg_control")?;
    let goes_on = !is_moved_aside && mark.goes_on_in(&request.target)?;
    if goes_on {
        require_unopened(&request.target, &control)?;
    }
    for (_, place) in spaces.iter().filter(|_| !goes_on) {
        require_empty(place, &[])?;
    }
    crate::verify::require_chunks(blobs, b"", &plan.backup.top)?;
    Ok(Prepared { spaces, mark, control, goes_on })
}

/// The segments of the log that the plan needs, in order.
pub(super) fn segments(history: &History, plan: &Plan) -> Vec<SegmentName> {
    let (timeline, start) = (plan.position.timeline, plan.position.start);
    let segment_bytes = plan.position.segment_bytes;
    let mut segments = Vec::new();
    let mut at = start.segment_start(segment_bytes);
    for step in history.from(timeline, start).unwrap_or_default() {
        let end = step.until.map_or(plan.upto, |until| until.min(plan.upto));
        while at < end {
            segments.push(SegmentName { timeline: step.timeline, start: at });
            at = Lsn(at.0 + segment_bytes);
        }
        // The next timeline's first segment begins where this one's last does.
        at = end.segment_start(segment_bytes);
    }
    segments
}
