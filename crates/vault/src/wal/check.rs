//! Proves a log unbroken: from each backup's beginning to its end, which it needs to open at
//! all, and on to the signed mark of what was acknowledged.

use super::piece::read_piece;
use super::{Catalog, History, WalMemory, stream_id};
use crate::chain::{ArchiveState, State};
use crate::chunk::Compressor;
use crate::error::{Result, what};
use crate::keys::KeyRing;
use crate::postgres::{Lsn, Position, Timeline};
use crate::store::{ObjectName, Store};
use std::collections::BTreeMap;
use std::path::Path;

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A stored piece is not what was stored.
    Piece {
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A backup can no longer be opened, or not up to everything that was acknowledged.
    Backup {
        /// Its record.
        seq: u64,
        /// What is missing.
        what: String,
    },
    /// A log without a backup is broken.
    Log {
        /// The source.
        source: String,
        /// What is missing.
        what: String,
    },
}

/// How a check reads.
pub struct Check<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// The keys.
    pub ring: &'a KeyRing,
    /// Whether to read this piece's every byte.
    pub wants_bytes: &'a dyn Fn(&ObjectName) -> bool,
    /// Where this machine remembers how far it acknowledged.
    pub memory: Option<&'a Path>,
}

impl Check<'_> {
    /// Checks every log. The second result is how many bytes of pieces were read.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn run(&self, state: &State) -> Result<(Vec<Broken>, u64)> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut logs: BTreeMap<(&str, u64), Option<&ArchiveState>> = BTreeMap::new();
        for (source, archive) in &state.archives {
            logs.insert((source, archive.system), Some(archive));
        }
        for (_, backup) in state.protected() {
            if let Some(position) = Position::parse(&backup.subject.position) {
                logs.entry((&backup.source, position.system)).or_insert(None);
            }
        }
        for ((source, system), archive) in logs {
            bytes += self.log(state, source, system, archive, &mut found)?;
        }
        Ok((found, bytes))
    }

    fn log(
        &self,
        state: &State,
        source: &str,
        system: u64,
        archive: Option<&ArchiveState>,
        found: &mut Vec<Broken>,
    ) -> Result<u64> {
        let mut catalog = Catalog::load(self.store, self.ring, source, system)?;
        let bytes = self.pieces(&mut catalog, found)?;
        let segment_bytes = archive.map_or(0, |a| a.segment_bytes);
        let nothing = ArchiveState { system, segment_bytes, marks: BTreeMap::new(), time_ms: 0 };
        let mut archive = archive.cloned().unwrap_or(nothing);
        if let Some(folder) = self.memory {
            let stream = stream_id(self.ring, source, system);
            let memory = WalMemory::new(folder, &self.ring.repository, &stream);
            if let Some((timeline, from, upto)) = memory.recall()? {
                archive.acknowledge(timeline, from, upto);
            }
        }
        let backups: Vec<(u64, Position)> = state
            .protected()
            .filter(|(_, b)| b.source == source)
            .filter_map(|(seq, b)| Some((seq, Position::parse(&b.subject.position)?)))
            .filter(|(_, position)| position.system == system)
            .collect();
        let histories = self.histories(&catalog, &archive, found)?;
        for (seq, position) in &backups {
            if let Some(what) = missing(&catalog, &histories, &archive, position) {
                found.push(Broken::Backup { seq: *seq, what });
            }
        }
        if backups.is_empty() {
            let stretches =
                archive.marks.iter().flat_map(|(t, all)| all.iter().map(move |s| (t, s)));
            for (timeline, (from, upto)) in stretches {
                let reach = catalog.reach(*timeline, *from);
                if reach < *upto {
                    let what = format!(
                        "timeline {timeline} was acknowledged from {from} to {upto}, and is \
                         unbroken up to {reach} only"
                    );
                    found.push(Broken::Log { source: source.to_owned(), what });
                }
            }
        }
        Ok(bytes)
    }

    /// Reads pieces as deeply as asked; what is damaged counts as missing from then on.
    fn pieces(&self, catalog: &mut Catalog, found: &mut Vec<Broken>) -> Result<u64> {
        let mut bytes = 0;
        let mut compressor = Compressor::new();
        let all: Vec<_> = catalog.pieces().collect();
        for (timeline, start, end, name) in all {
            if !(self.wants_bytes)(&name) {
                continue;
            }
            let read = self.store.get(&name).map_err(Into::into).and_then(|object| {
                bytes += object.len() as u64;
                read_piece(self.ring, &name, object, &mut compressor)
            });
            match read {
                Ok(_) => {}
                Err(error) if error.is_damage() => {
                    found.push(Broken::Piece { name: name.to_string(), what: what(&error) });
                    catalog.remove(timeline, start, end);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    fn histories(
        &self,
        catalog: &Catalog,
        archive: &ArchiveState,
        found: &mut Vec<Broken>,
    ) -> Result<BTreeMap<Timeline, History>> {
        let mut histories = BTreeMap::new();
        for timeline in archive.marks.keys().copied().chain(catalog.timelines()) {
            match catalog.history(self.store, self.ring, timeline) {
                Ok(history) => {
                    histories.insert(timeline, history);
                }
                Err(error) if error.is_damage() => {
                    let name = super::piece::history_name(&catalog.stream, timeline).to_string();
                    let broken = Broken::Piece { name, what: what(&error) };
                    if !found.contains(&broken) {
                        found.push(broken);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(histories)
    }
}

/// Up to where a backup's log was acknowledged, unbroken from the backup on: the newest timeline
/// that leads on from it, and where.
pub fn acknowledged(
    archive: &ArchiveState,
    histories: &BTreeMap<Timeline, History>,
    position: &Position,
) -> (Timeline, Lsn) {
    let own = (position.timeline, position.stop);
    let mut best = own;
    for history in histories.values() {
        let Some(steps) = history.from(position.timeline, position.stop) else { continue };
        let (mut at, mut end) = (position.stop, own);
        for step in steps {
            let Some(upto) = archive.acknowledged(step.timeline, at) else { break };
            end = (step.timeline, upto.max(at));
            match step.until {
                Some(until) if upto >= until => at = until,
                // The next timeline's first segment may hold what this one's end lacks.
                Some(_) => at = upto,
                None => {}
            }
        }
        best = best.max(end);
    }
    best
}

/// What a backup misses of its log.
fn missing(
    catalog: &Catalog,
    histories: &BTreeMap<Timeline, History>,
    archive: &ArchiveState,
    position: &Position,
) -> Option<String> {
    let Position { timeline, start, stop, .. } = position;
    let reach = catalog.reach(*timeline, *start);
    if reach < *stop {
        return Some(format!(
            "it cannot be opened: the log is needed from {start} to {stop} on timeline {timeline}, \
             and is unbroken up to {reach} only"
        ));
    }
    let (newest, mark) = acknowledged(archive, histories, position);
    let along = histories.get(&newest).and_then(|h| catalog.reach_along(h, *timeline, *start));
    let (end_timeline, end) = along.unwrap_or((*timeline, reach));
    if end_timeline == newest && end >= mark {
        return None;
    }
    Some(format!(
        "it can be restored up to {end} on timeline {end_timeline} only, and the log was \
         acknowledged up to {mark} on timeline {newest}: what was committed in between is lost to \
         this repository"
    ))
}
