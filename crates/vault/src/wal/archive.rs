//! Storing a log: pieces first, then the mark that says so.

use super::piece::{Stretch, write_history, write_piece};
use super::{Catalog, PIECE_BYTES, fetch};
use crate::chain::Body;
use crate::chunk::Compressor;
use crate::error::{Result, VaultError};
use crate::postgres::{Lsn, Timeline};
use crate::repository::Repository;
use crate::store::{Created, ObjectName, put_own};

/// One database's log in a repository, open for storing.
pub struct Archive {
    source: String,
    system: u64,
    segment_bytes: u64,
    catalog: Catalog,
    compressor: Compressor,
}

impl Archive {
    /// Opens the log of a source.
    ///
    /// # Errors
    /// Where the source's log in this repository is another database system's.
    pub fn open(
        repository: &Repository,
        source: &str,
        system: u64,
        segment_bytes: u64,
    ) -> Result<Archive> {
        if let Some(known) = repository.state().archives.get(source)
            && (known.system != system || known.segment_bytes != segment_bytes)
        {
            return Err(VaultError::Refused(format!(
                "`{source}` is the log of database system {} in this repository, and this server \
                 is system {system}: two logs must not be mixed. Give this server's backups \
                 another name with --name",
                known.system
            )));
        }
        let store = &**repository.store();
        let catalog = Catalog::load(store, repository.ring(), source, system)?;
        let (source, compressor) = (source.to_owned(), Compressor::new());
        Ok(Archive { source, system, segment_bytes, catalog, compressor })
    }

    /// What is stored.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The log's name in the store.
    pub fn stream(&self) -> &str {
        &self.catalog.stream
    }

    /// Stores bytes that begin at a position, durably. What is there already is compared: equal
    /// bytes are stored, others refused.
    ///
    /// # Errors
    /// Where other bytes are stored there, or the store fails.
    pub fn store(
        &mut self,
        repository: &Repository,
        timeline: Timeline,
        start: Lsn,
        bytes: &[u8],
    ) -> Result<()> {
        let mut at = start;
        let end = Lsn(start.0 + bytes.len() as u64);
        while at < end {
            let part_end = end.min(Lsn((at.0 / PIECE_BYTES + 1) * PIECE_BYTES));
            let part = &bytes[(at.0 - start.0) as usize..(part_end.0 - start.0) as usize];
            self.piece(repository, timeline, at, part)?;
            at = part_end;
        }
        Ok(())
    }

    fn piece(
        &mut self,
        repository: &Repository,
        timeline: Timeline,
        start: Lsn,
        bytes: &[u8],
    ) -> Result<()> {
        let end = Lsn(start.0 + bytes.len() as u64);
        let (store, ring) = (&**repository.store(), repository.ring());
        if self.catalog.reach(timeline, start) >= end {
            let known = fetch::fetch_stretch(store, ring, &self.catalog, timeline, start..end)?;
            if known == bytes {
                return Ok(());
            }
            return Err(VaultError::Refused(format!(
                "timeline {timeline} from {start} to {end} is stored already, with other bytes: \
                 two servers write one log, or a segment was altered. Nothing was stored"
            )));
        }
        self.put_piece(repository, timeline, start, bytes)
    }

    /// Writes a piece and notes it; whether one is there was looked at before.
    fn put_piece(
        &mut self,
        repository: &Repository,
        timeline: Timeline,
        start: Lsn,
        bytes: &[u8],
    ) -> Result<()> {
        let stretch =
            Stretch { stream: &self.catalog.stream, system: self.system, timeline, start };
        let (ring, now_ms) = (repository.ring(), repository.now_ms());
        let (name, object) = write_piece(ring, stretch, bytes, now_ms, &mut self.compressor);
        let (store, end) = (&**repository.store(), Lsn(start.0 + bytes.len() as u64));
        let created = put_own(store, &name, &object)?;
        self.catalog.add(timeline, start, end);
        if created == Created::New {
            return Ok(());
        }
        // A stream and a backup may store one stretch at one moment: then it is the same.
        let known = fetch::fetch_stretch(store, ring, &self.catalog, timeline, start..end);
        if known.as_ref().is_ok_and(|known| known == bytes) {
            return Ok(());
        }
        self.catalog.remove(timeline, start, end);
        known.and_then(|_| Err(taken(&name)))
    }

    /// Stores a whole piece in place of the small ones within it, and deletes those where the
    /// repository lets its writers delete.
    pub(super) fn consolidate(
        &mut self,
        repository: &Repository,
        timeline: Timeline,
        start: Lsn,
        bytes: &[u8],
    ) -> Result<()> {
        let end = Lsn(start.0 + bytes.len() as u64);
        let store = &**repository.store();
        let inner: Vec<_> = self
            .catalog
            .pieces()
            .filter(|(t, s, e, _)| *t == timeline && *s >= start && *e <= end)
            .collect();
        if inner.iter().any(|(_, s, e, _)| (*s, *e) == (start, end)) || inner.len() < 2 {
            return Ok(());
        }
        self.put_piece(repository, timeline, start, bytes)?;
        if repository.state().is_append_only() {
            return Ok(());
        }
        let names: Vec<_> = inner.iter().map(|(_, _, _, name)| name.clone()).collect();
        store.delete_all(&names)?;
        for (timeline, start, end, _) in inner {
            self.catalog.remove(timeline, start, end);
        }
        Ok(())
    }

    /// Stores a timeline's history.
    ///
    /// # Errors
    /// Where another one is stored, or the store fails.
    pub fn store_history(
        &mut self,
        repository: &Repository,
        timeline: Timeline,
        text: &[u8],
    ) -> Result<()> {
        let (store, ring) = (&**repository.store(), repository.ring());
        if let Some(known) = fetch::fetch_history(store, ring, &self.catalog, timeline)? {
            if known == text {
                return Ok(());
            }
            return Err(VaultError::Refused(format!(
                "another history of timeline {timeline} is stored already: two servers were \
                 promoted to one timeline. Give one of them another name with --name"
            )));
        }
        let now_ms = repository.now_ms();
        let (name, object) =
            write_history(ring, &self.catalog.stream, self.system, timeline, text, now_ms);
        if put_own(store, &name, &object)? == Created::Exists {
            let known = fetch::fetch_history(store, ring, &self.catalog.again(store)?, timeline)?;
            if known.as_deref() != Some(text) {
                return Err(taken(&name));
            }
        }
        self.catalog.add_history(timeline);
        Ok(())
    }

    /// Records that a stretch of the log is stored: nothing less may ever be found again.
    ///
    /// # Errors
    /// Where the record cannot be appended.
    pub fn acknowledge(
        &self,
        repository: &mut Repository,
        timeline: Timeline,
        (from, upto): (Lsn, Lsn),
    ) -> Result<()> {
        let known = repository.state().archives.get(&self.source);
        if known.is_some_and(|a| a.acknowledged(timeline, from).is_some_and(|end| end >= upto)) {
            return Ok(());
        }
        let body = Body::Archived {
            source: self.source.clone(),
            system: self.system,
            segment_bytes: self.segment_bytes,
            timeline,
            from,
            upto,
        };
        repository.append(body, None, |_| Ok(())).map(|_| ())
    }
}

fn taken(name: &ObjectName) -> VaultError {
    VaultError::Refused(format!(
        "{name} was stored by someone else meanwhile, with other bytes: two servers write one log. \
         Stop one"
    ))
}
