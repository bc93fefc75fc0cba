//! A file of this machine in which what was received is durable before it is in the repository:
//! a server that waits for the stream waits for one write to a file that is there already, and
//! not for an object of a store. It holds pieces as the repository does, sealed and signed, one
//! after the other; once all of them are stored, it begins anew. What a crash left in it is
//! stored at the next start.
//!
//! It never is a second archive: losing it loses what the repository has not yet.

use super::archive::Archive;
use super::piece::{Stretch, name_of, read_piece, write_piece};
use crate::chunk::Compressor;
use crate::error::{Result, VaultError};
use crate::keys::KeyRing;
use crate::postgres::{Lsn, Timeline};
use crate::repository::Repository;
use rustix::fs::{FlockOperation, fdatasync, flock};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of the file, written beforehand, so that a write changes nothing but them.
pub(super) const SPOOL_BYTES: u64 = 64 << 20;
/// Before each piece: the round, timeline, start, end, and the object's length.
const FRAME_BYTES: usize = 40;
/// What is written to the file at once while it is made.
const FILL_BYTES: usize = 1 << 20;

/// The file of one log.
pub(super) struct Spool {
    path: PathBuf,
    file: File,
    /// Frames of one round follow each other; those of an earlier one count no more.
    round: u64,
    /// Where the next frame goes.
    at: u64,
    compressor: Compressor,
}

struct Frame {
    round: u64,
    timeline: Timeline,
    start: Lsn,
    end: Lsn,
    length: u32,
}

impl Frame {
    fn bytes(&self) -> [u8; FRAME_BYTES] {
        let mut bytes = [0; FRAME_BYTES];
        bytes[..8].copy_from_slice(&self.round.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.timeline.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.start.0.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.end.0.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; FRAME_BYTES]) -> Option<Frame> {
        let long = |at: usize| bytes[at..].first_chunk().map(|b| u64::from_le_bytes(*b));
        let short = |at: usize| bytes[at..].first_chunk().map(|b| u32::from_le_bytes(*b));
        Some(Frame {
            round: long(0)?,
            timeline: short(8)?,
            start: Lsn(long(12)?),
            end: Lsn(long(20)?),
            length: short(28)?,
        })
    }
}

impl Spool {
    /// Opens the spool of a log in a directory, or makes it. Nobody else may have it open.
    ///
    /// # Errors
    /// Where the file cannot be made, or another stream works with it.
    pub(super) fn open(folder: &Path, stream: &str) -> Result<Spool> {
        let path = folder.join(format!("{stream}.spool"));
        let failed = |action| VaultError::file(action, path.clone());
        fs::create_dir_all(folder).map_err(VaultError::file("make", folder))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(failed("open"))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let what = format!("{} is in use by another stream: end it first", path.display());
            return Err(VaultError::Refused(what));
        }
        let length = file.metadata().map_err(failed("look at"))?.len();
        if length < SPOOL_BYTES {
            fill(&file, length)
                .and_then(|()| File::open(folder)?.sync_all())
                .map_err(failed("make room for the spool in"))?;
        }
        let round = u64::from_le_bytes(crate::random::bytes());
        Ok(Spool { path, file, round, at: 0, compressor: Compressor::new() })
    }

    /// Stores what an earlier stream left, and says which stretches that were.
    ///
    /// # Errors
    /// Where the repository's store fails: the spool is as it was.
    pub(super) fn replay(
        &mut self,
        repository: &Repository,
        archive: &mut Archive,
    ) -> Result<Vec<(Timeline, Lsn, Lsn)>> {
        let mut at = 0;
        let mut round = None;
        let mut stretches: Vec<(Timeline, Lsn, Lsn)> = Vec::new();
        while let Some((frame, bytes)) = self.frame(repository.ring(), archive.stream(), at)? {
            if *round.get_or_insert(frame.round) != frame.round {
                break;
            }
            archive.store(repository, frame.timeline, frame.start, &bytes)?;
            match stretches.last_mut() {
                Some((timeline, _, end)) if (*timeline, *end) == (frame.timeline, frame.start) => {
                    *end = frame.end;
                }
                _ => stretches.push((frame.timeline, frame.start, frame.end)),
            }
            at += frame_bytes(frame.length);
        }
        self.restart()?;
        Ok(stretches)
    }

    /// The frame at a place, where there is one that is whole and authentic.
    fn frame(&mut self, ring: &KeyRing, stream: &str, at: u64) -> Result<Option<(Frame, Vec<u8>)>> {
        let failed = || VaultError::file("read", self.path.clone());
        let mut header = [0; FRAME_BYTES];
        if at + FRAME_BYTES as u64 > SPOOL_BYTES {
            return Ok(None);
        }
        self.file.read_exact_at(&mut header, at).map_err(failed())?;
        let Some(frame) = Frame::parse(&header) else { return Ok(None) };
        let begin = at + FRAME_BYTES as u64;
        if frame.length == 0 || begin + u64::from(frame.length) > SPOOL_BYTES {
            return Ok(None);
        }
        let mut object = vec![0; frame.length as usize];
        self.file.read_exact_at(&mut object, begin).map_err(failed())?;
        let name = name_of(stream, frame.timeline, frame.start, frame.end);
        // One that was torn by a crash was never acknowledged.
        let piece = read_piece(ring, &name, object, &mut self.compressor).ok();
        Ok(piece.map(|piece| (frame, piece.bytes)))
    }

    /// Whether so many bytes of a log surely fit.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        // Bytes that do not compress are kept as they are; statement, signature and seal are less
        // than a block.
        self.at + FRAME_BYTES as u64 + bytes + 4096 <= SPOOL_BYTES
    }

    /// Appends bytes of the log, durably.
    ///
    /// # Errors
    /// Where they cannot be written: nothing may be acknowledged then.
    pub(super) fn append(
        &mut self,
        ring: &KeyRing,
        stretch: Stretch<'_>,
        bytes: &[u8],
        now_ms: i64,
    ) -> Result<()> {
        let (_, object) = write_piece(ring, stretch, bytes, now_ms, &mut self.compressor);
        let frame = Frame {
            round: self.round,
            timeline: stretch.timeline,
            start: stretch.start,
            end: Lsn(stretch.start.0 + bytes.len() as u64),
            length: object.len() as u32,
        };
        let mut all = frame.bytes().to_vec();
        all.extend_from_slice(&object);
        let written = self.file.write_all_at(&all, self.at).and_then(|()| {
            fdatasync(&self.file)?;
            Ok(())
        });
        written.map_err(VaultError::file("write", self.path.clone()))?;
        self.at += frame_bytes(frame.length);
        Ok(())
    }

    /// Everything is in the repository: begins anew. Not synced: a crash brings back what is
    /// stored already.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.at = 0;
        self.round = u64::from_le_bytes(crate::random::bytes());
        let written = self.file.write_all_at(&[0; FRAME_BYTES], 0);
        written.map_err(VaultError::file("write", self.path.clone()))
    }
}

/// What a frame takes.
fn frame_bytes(length: u32) -> u64 {
    (FRAME_BYTES as u64 + u64::from(length)).next_multiple_of(8)
}

/// Writes zeros from `at` to the end.
fn fill(file: &File, at: u64) -> std::io::Result<()> {
    let zeros = vec![0; FILL_BYTES];
    let mut at = at;
    while at < SPOOL_BYTES {
        let part = FILL_BYTES.min((SPOOL_BYTES - at) as usize);
        file.write_all_at(&zeros[..part], at)?;
        at += part as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "0123456789abcdef";

    fn append(spool: &mut Spool, ring: &KeyRing, start: u64, bytes: &[u8]) {
        let stretch = Stretch { stream: STREAM, system: 7, timeline: 1, start: Lsn(start) };
        spool.append(ring, stretch, bytes, 5).unwrap();
    }

    /// What a start after a crash would find.
    fn found(folder: &Path, ring: &KeyRing) -> Vec<(u64, Vec<u8>)> {
        let mut spool = Spool::open(folder, STREAM).unwrap();
        let (mut at, mut all) = (0, Vec::new());
        while let Some((frame, bytes)) = spool.frame(ring, STREAM, at).unwrap() {
            all.push((frame.start.0, bytes));
            at += frame_bytes(frame.length);
        }
        all
    }

    #[test]
    fn what_was_appended_is_found_and_nothing_torn_or_stored() {
        let folder = tempfile::tempdir().unwrap();
        let ring = KeyRing::random();
        let mut spool = Spool::open(folder.path(), STREAM).unwrap();
        assert!(Spool::open(folder.path(), STREAM).is_err(), "two work with one file");
        append(&mut spool, &ring, 100, b"stored already");
        append(&mut spool, &ring, 114, b"and this");
        spool.restart().unwrap();
        assert!(found_by(&mut spool, &ring).is_empty());
        append(&mut spool, &ring, 200, &[7; 5000]);
        append(&mut spool, &ring, 5200, &[8; 300]);
        // Surely in the second frame, and not what fills it up.
        let second = spool.at - 16;
        drop(spool);
        let all = [(200, vec![7; 5000]), (5200, vec![8; 300])];
        assert_eq!(found(folder.path(), &ring), all);
        assert_eq!(found(folder.path(), &KeyRing::random()), []);
        // A torn end is no frame; what is before it stays.
        let path = folder.path().join(format!("{STREAM}.spool"));
        let whole = fs::read(&path).unwrap();
        for back in [0, 8, 40, 120] {
            let mut torn = whole.clone();
            torn[second as usize - back] ^= 1;
            fs::write(&path, &torn).unwrap();
            let left = found(folder.path(), &ring);
            assert_eq!(left, all[..1], "{back}");
        }
    }

    fn found_by(spool: &mut Spool, ring: &KeyRing) -> Vec<u8> {
        spool.frame(ring, STREAM, 0).unwrap().map(|(_, bytes)| bytes).unwrap_or_default()
    }

    #[test]
    fn room_ends_before_the_file_does() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), STREAM).unwrap();
        assert!(spool.has_room(32 << 20) && !spool.has_room(SPOOL_BYTES));
        spool.at = SPOOL_BYTES - 8000;
        assert!(spool.has_room(3000) && !spool.has_room(4000));
        assert_eq!(
            fs::metadata(folder.path().join(format!("{STREAM}.spool"))).unwrap().len(),
            SPOOL_BYTES
        );
    }
}
