//! Which stretches of a log a repository holds, from the names of its pieces.

use super::piece::{history_name, name_of, parse_name, read_piece};
use super::{History, PIECE_BYTES};
use crate::chain::State;
use crate::chunk::Compressor;
use crate::error::{Result, VaultError};
use crate::keys::KeyRing;
use crate::postgres::{Lsn, Position, Timeline};
use crate::store::{Area, ObjectName, Store};
use std::collections::{BTreeMap, BTreeSet};

/// The folder name of a log: it tells a store neither the source nor the system.
pub fn stream_id(ring: &KeyRing, source: &str, system: u64) -> String {
    let mut hasher = blake3::Hasher::new_keyed(ring.chunk_id_key());
    hasher.update(b"wal").update(&system.to_le_bytes()).update(source.as_bytes());
    crate::hex::encode(&hasher.finalize().as_bytes()[..8])
}

/// Bytes of the objects of each log, by its folder name.
///
/// # Errors
/// Where the store cannot be listed.
pub fn stored_by_stream(store: &dyn Store) -> Result<BTreeMap<String, u64>> {
    let mut sizes = BTreeMap::new();
    for listed in store.list(Area::Wal, None)? {
        if let Some((stream, _, _)) = parse_name(&listed.name) {
            *sizes.entry(stream.to_owned()).or_default() += listed.size_bytes;
        }
    }
    Ok(sizes)
}

/// The pieces of one log.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    pub(super) stream: String,
    /// The ends of the pieces that begin at a position of a timeline.
    pieces: BTreeMap<(Timeline, Lsn), BTreeSet<Lsn>>,
    histories: BTreeSet<Timeline>,
}

impl Catalog {
    /// Lists the pieces.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub fn load(store: &dyn Store, ring: &KeyRing, source: &str, system: u64) -> Result<Catalog> {
        Catalog::of_stream(store, stream_id(ring, source, system))
    }

    /// Lists the pieces anew: a stream joins small ones to whole ones meanwhile.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub fn again(&self, store: &dyn Store) -> Result<Catalog> {
        Catalog::of_stream(store, self.stream.clone())
    }

    fn of_stream(store: &dyn Store, stream: String) -> Result<Catalog> {
        let mut catalog = Catalog { stream, ..Catalog::default() };
        for listed in store.list(Area::Wal, None)? {
            if let Some((stream, timeline, stretch)) = parse_name(&listed.name)
                && stream == catalog.stream
            {
                match stretch {
                    Some((start, end)) => catalog.add(timeline, start, end),
                    None => {
                        catalog.histories.insert(timeline);
                    }
                }
            }
        }
        Ok(catalog)
    }

    pub(super) fn add(&mut self, timeline: Timeline, start: Lsn, end: Lsn) {
        self.pieces.entry((timeline, start)).or_default().insert(end);
    }

    pub(super) fn add_history(&mut self, timeline: Timeline) {
        self.histories.insert(timeline);
    }

    /// Forgets a piece that turned out to be damaged or was deleted.
    pub fn remove(&mut self, timeline: Timeline, start: Lsn, end: Lsn) {
        if let Some(ends) = self.pieces.get_mut(&(timeline, start)) {
            ends.remove(&end);
            if ends.is_empty() {
                self.pieces.remove(&(timeline, start));
            }
        }
    }

    /// Every piece: timeline, beginning, end, name.
    pub fn pieces(&self) -> impl Iterator<Item = (Timeline, Lsn, Lsn, ObjectName)> {
        self.pieces.iter().flat_map(|((timeline, start), ends)| {
            let name = |end: &Lsn| name_of(&self.stream, *timeline, *start, *end);
            ends.iter().map(move |end| (*timeline, *start, *end, name(end)))
        })
    }

    /// The piece that holds this byte and reaches farthest.
    pub fn piece_at(&self, timeline: Timeline, at: Lsn) -> Option<(Lsn, Lsn)> {
        let first = Lsn(at.0.saturating_sub(PIECE_BYTES));
        let range = self.pieces.range((timeline, first)..=(timeline, at));
        let stretches = range.filter_map(|((_, start), ends)| Some((*start, *ends.last()?)));
        stretches.filter(|(_, end)| *end > at).max_by_key(|(_, end)| *end)
    }

    /// Up to where the log of a timeline is unbroken from a position on; the position itself
    /// where nothing holds it.
    pub fn reach(&self, timeline: Timeline, from: Lsn) -> Lsn {
        let mut at = from;
        while let Some((_, end)) = self.piece_at(timeline, at) {
            at = end;
        }
        at
    }

    /// The timelines of which there is anything.
    pub fn timelines(&self) -> BTreeSet<Timeline> {
        let pieces = self.pieces.keys().map(|(timeline, _)| *timeline);
        pieces.chain(self.histories.iter().copied()).collect()
    }

    /// The end of the newest piece of a timeline.
    pub fn newest(&self, timeline: Timeline) -> Option<Lsn> {
        let last = Lsn(u64::MAX);
        let range = self.pieces.range((timeline, Lsn(0))..=(timeline, last));
        range.filter_map(|(_, ends)| ends.last()).max().copied()
    }

    /// The beginning of the oldest piece of a timeline.
    pub fn oldest(&self, timeline: Timeline) -> Option<Lsn> {
        self.pieces
            .range((timeline, Lsn(0))..)
            .next()
            .filter(|((t, _), _)| *t == timeline)
            .map(|((_, start), _)| *start)
    }

    /// The history of a timeline.
    ///
    /// # Errors
    /// Where it is missing or damaged.
    pub fn history(
        &self,
        store: &dyn Store,
        ring: &KeyRing,
        timeline: Timeline,
    ) -> Result<History> {
        if timeline == 1 {
            return Ok(History::of_one(1));
        }
        let name = history_name(&self.stream, timeline);
        let read = || read_piece(ring, &name, store.get(&name)?, &mut Compressor::new());
        let piece = crate::error::read_again(read)?;
        let text = String::from_utf8_lossy(&piece.bytes);
        let history = History::parse(timeline, &text);
        history.ok_or_else(|| VaultError::damaged(&name, "it is no history of this timeline"))
    }

    /// Up to where the log is unbroken from a position on, along a history: the timeline on
    /// which it ends, and where.
    pub fn reach_along(
        &self,
        history: &History,
        timeline: Timeline,
        from: Lsn,
    ) -> Option<(Timeline, Lsn)> {
        let steps = history.from(timeline, from)?;
        let mut at = from;
        let mut next = steps.iter().skip(1);
        for step in steps {
            let end = self.reach(step.timeline, at);
            let follower = next.next().map(|s| s.timeline);
            at = match (step.until, follower) {
                (Some(until), _) if end >= until => until,
                // The next timeline's first segment holds the end of this one, too.
                (Some(_), Some(follower)) if self.piece_at(follower, end).is_some() => end,
                _ => return Some((step.timeline, end)),
            };
        }
        None
    }

    /// Whether a piece lies within a larger one.
    pub(super) fn is_covered(&self, timeline: Timeline, start: Lsn, end: Lsn) -> bool {
        let first = Lsn(start.0.saturating_sub(PIECE_BYTES));
        let mut range = self.pieces.range((timeline, first)..=(timeline, start));
        range.any(|((_, s), ends)| {
            ends.iter().any(|e| *s <= start && *e >= end && (*s, *e) != (start, end))
        })
    }
}

/// The pieces that clean-up must keep, out of those named; histories and pieces of unknown
/// logs are always kept.
///
/// # Errors
/// Where the store cannot be listed.
pub fn live_names(
    store: &dyn Store,
    ring: &KeyRing,
    state: &State,
    protected: &[&crate::chain::Backup],
) -> Result<BTreeSet<ObjectName>> {
    let mut keep: BTreeSet<ObjectName> =
        store.list(Area::Wal, None)?.into_iter().map(|l| l.name).collect();
    for (source, archive) in &state.archives {
        let of_source = protected.iter().filter(|b| b.source == *source);
        let starts = of_source.filter_map(|b| Position::parse(&b.subject.position));
        let starts = starts.filter(|p| p.system == archive.system);
        let oldest = starts.map(|p| p.start.segment_start(p.segment_bytes)).min();
        let catalog = Catalog::load(store, ring, source, archive.system)?;
        for (timeline, start, end, name) in catalog.pieces() {
            // Without a backup nothing says what is too old.
            let too_old = oldest.is_some_and(|oldest| end <= oldest);
            if too_old || catalog.is_covered(timeline, start, end) {
                keep.remove(&name);
            }
        }
    }
    Ok(keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(pieces: &[(Timeline, u64, u64)]) -> Catalog {
        let mut catalog = Catalog::default();
        pieces.iter().for_each(|(t, s, e)| catalog.add(*t, Lsn(*s), Lsn(*e)));
        catalog
    }

    #[test]
    fn the_log_reaches_to_the_first_gap() {
        let found = catalog(&[(1, 0, 10), (1, 10, 12), (1, 10, 20), (1, 15, 30), (1, 31, 40)]);
        assert_eq!(found.reach(1, Lsn(0)), Lsn(30));
        assert_eq!(found.reach(1, Lsn(35)), Lsn(40));
        assert_eq!(found.reach(1, Lsn(50)), Lsn(50));
        assert_eq!(found.reach(2, Lsn(5)), Lsn(5));
        assert!(found.is_covered(1, Lsn(10), Lsn(12)) && !found.is_covered(1, Lsn(10), Lsn(20)));
    }

    #[test]
    fn the_log_is_followed_across_timelines() {
        let history = History::parse(2, "1\t0/19\tpromoted\n").unwrap();
        let along = |pieces: &[_]| catalog(pieces).reach_along(&history, 1, Lsn(5));
        assert_eq!(along(&[(1, 0, 30), (2, 0, 40)]), Some((2, Lsn(40))));
        assert_eq!(along(&[(1, 0, 20), (2, 16, 40)]), Some((2, Lsn(40))));
        assert_eq!(along(&[(1, 0, 20), (2, 21, 40)]), Some((1, Lsn(20))));
        assert_eq!(along(&[(1, 0, 30), (2, 26, 40)]), Some((2, Lsn(25))));
    }
}
