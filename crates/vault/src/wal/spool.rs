//! A file of this machine in which what was received is durable before it is in the repository:
//! a server that waits for the stream waits for one write to a file that is there already, and
//! not for an object of a store. It holds stretches of the log, sealed with the repository's keys,
//! one after the other, in two halves: one is written anew once all that it held is stored. What a
//! crash left is stored at the next start.
//!
//! It never is a second archive: losing it loses what the repository has not yet.

use super::PIECE_BYTES;
use super::archive::Archive;
use super::piece::{Stretch, name_of};
use crate::error::{Result, VaultError};
use crate::keys::KeyRing;
use crate::postgres::{Lsn, Timeline};
use crate::repository::Repository;
use crate::seal::{Kind, open_object, seal_object};
use rustix::fs::{FlockOperation, fdatasync, flock};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of the file, written beforehand, so that a write changes nothing but them.
const SPOOL_BYTES: u64 = 2 * HALF_BYTES;
/// One half fills up while the other is stored.
const HALF_BYTES: u64 = 32 << 20;
/// Before each piece: the round, timeline, start, end, and the object's length.
const FRAME_BYTES: usize = 40;
/// What is written to the file at once while it is made.
const FILL_BYTES: usize = 1 << 20;

/// The file of one log.
pub(super) struct Spool {
    path: PathBuf,
    file: File,
    halves: [Half; 2],
    /// Which half is written.
    active: usize,
}

/// A half of the file.
#[derive(Clone, Copy, Default)]
struct Half {
    /// Frames of one round follow each other; those of an earlier one count no more.
    round: u64,
    /// Where the next frame goes, from the half's beginning on.
    at: u64,
    /// Where the log ends that it holds.
    end: Lsn,
}

impl Half {
    fn new() -> Half {
        Half { round: u64::from_le_bytes(crate::random::bytes()), at: 0, end: Lsn(0) }
    }
}

/// What replaying gathers, so that the repository is asked for few pieces.
#[derive(Default)]
struct Gathered {
    timeline: Timeline,
    start: Lsn,
    bytes: Vec<u8>,
}

/// What stands before each piece.
pub(super) struct Frame {
    pub(super) round: u64,
    pub(super) timeline: Timeline,
    pub(super) start: Lsn,
    pub(super) end: Lsn,
    pub(super) length: u32,
}

impl Frame {
    /// As they are written.
    pub(super) fn bytes(&self) -> [u8; FRAME_BYTES] {
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

/// Reads bytes of a half, from an offset on.
pub(super) type ReadHalf<'a> = &'a mut dyn FnMut(&mut [u8], u64) -> std::io::Result<()>;

/// The frame at a place of a half, where there is one that is whole and authentic.
pub(super) fn frame_at(
    ring: &KeyRing,
    stream: &str,
    at: u64,
    read: ReadHalf<'_>,
) -> std::io::Result<Option<(Frame, Vec<u8>)>> {
    let mut header = [0; FRAME_BYTES];
    let begin = at + FRAME_BYTES as u64;
    if begin > HALF_BYTES {
        return Ok(None);
    }
    read(&mut header, at)?;
    let Some(frame) = Frame::parse(&header) else { return Ok(None) };
    if frame.length == 0 || begin + u64::from(frame.length) > HALF_BYTES {
        return Ok(None);
    }
    let mut object = vec![0; frame.length as usize];
    read(&mut object, begin)?;
    let name = name_of(stream, frame.timeline, frame.start, frame.end);
    // One that was torn by a crash was never acknowledged.
    let bytes = open_object(ring, Kind::Spool, &name, object).ok();
    let bytes = bytes.filter(|b| frame.start.0.checked_add(b.len() as u64) == Some(frame.end.0));
    Ok(bytes.map(|bytes| (frame, bytes)))
}

/// How long a spool that is in use is waited for: one that has just ended may live on in a child
/// of its process that is between its birth and its own program.
const IN_USE: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Locks it, for as long as the file is open.
fn locked(file: &File) -> bool {
    let end = Instant::now() + IN_USE;
    while flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::park_timeout(LOOK);
    }
    true
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
        if !locked(&file) {
            let what = format!("{} is in use by another stream: end it first", path.display());
            return Err(VaultError::Refused(what));
        }
        let length = file.metadata().map_err(failed("look at"))?.len();
        if length < SPOOL_BYTES {
            fill(&file, length)
                .and_then(|()| File::open(folder)?.sync_all())
                .map_err(failed("make room for the spool in"))?;
        }
        let halves = [Half::new(), Half::new()];
        Ok(Spool { path, file, halves, active: 0 })
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
        let (ring, stream) = (Arc::clone(repository.ring()), archive.stream().to_owned());
        let mut halves = Vec::new();
        for half in 0..self.halves.len() {
            if let Some((frame, _)) = self.frame(&ring, &stream, half, 0)? {
                halves.push((frame.timeline, frame.start, half, frame.round));
            }
        }
        halves.sort_unstable();
        let mut stretches: Vec<(Timeline, Lsn, Lsn)> = Vec::new();
        let mut gathered = Gathered::default();
        let mut store = |gathered: &Gathered| -> Result<()> {
            let Gathered { timeline, start, bytes } = gathered;
            if bytes.is_empty() {
                return Ok(());
            }
            archive.store(repository, *timeline, *start, bytes)?;
            let upto = Lsn(start.0 + bytes.len() as u64);
            match stretches.last_mut() {
                Some((t, _, end)) if (*t, *end) == (*timeline, *start) => *end = upto,
                _ => stretches.push((*timeline, *start, upto)),
            }
            Ok(())
        };
        for (_, _, half, round) in halves {
            let mut at = 0;
            while let Some((frame, bytes)) = self.frame(&ring, &stream, half, at)? {
                if frame.round != round {
                    break;
                }
                at += frame_bytes(frame.length);
                let end = Lsn(gathered.start.0 + gathered.bytes.len() as u64);
                let follows = (gathered.timeline, end) == (frame.timeline, frame.start);
                let fits = (gathered.bytes.len() + bytes.len()) as u64 <= PIECE_BYTES;
                if follows && fits {
                    gathered.bytes.extend_from_slice(&bytes);
                    continue;
                }
                store(&gathered)?;
                gathered = Gathered { timeline: frame.timeline, start: frame.start, bytes };
            }
        }
        store(&gathered)?;
        self.clear()?;
        Ok(stretches)
    }

    /// The frame at a place of a half, where there is one that is whole and authentic.
    fn frame(
        &mut self,
        ring: &KeyRing,
        stream: &str,
        half: usize,
        at: u64,
    ) -> Result<Option<(Frame, Vec<u8>)>> {
        let base = half as u64 * HALF_BYTES;
        let mut read = |bytes: &mut [u8], at: u64| self.file.read_exact_at(bytes, base + at);
        frame_at(ring, stream, at, &mut read).map_err(VaultError::file("read", self.path.clone()))
    }

    /// Makes room for so many bytes of a log; false where both halves hold what is not stored.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(super) fn make_room(&mut self, bytes: u64, stored: Lsn) -> Result<bool> {
        // The seal is far less than a block.
        let needed = FRAME_BYTES as u64 + bytes + 4096;
        if needed > HALF_BYTES {
            return Ok(false);
        }
        let is_stored = |half: &Half| half.at > 0 && half.end <= stored;
        let other = 1 - self.active;
        if is_stored(&self.halves[other]) {
            self.begin(other)?;
        }
        let is_free = self.halves[other].at == 0;
        if is_free && is_stored(&self.halves[self.active]) {
            self.begin(self.active)?;
        }
        if self.halves[self.active].at + needed <= HALF_BYTES {
            return Ok(true);
        }
        if is_free {
            self.active = other;
        }
        Ok(is_free)
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
    ) -> Result<()> {
        let Stretch { stream, timeline, start, .. } = stretch;
        let end = Lsn(start.0 + bytes.len() as u64);
        // Neither signed nor compressed: who waits for it waits for as little as can be, and the
        // repository's pieces are both.
        let name = name_of(stream, timeline, start, end);
        let object = seal_object(ring, Kind::Spool, &name, bytes);
        let half = self.halves[self.active];
        let length = object.len() as u32;
        let frame = Frame { round: half.round, timeline, start, end, length };
        let mut all = frame.bytes().to_vec();
        all.extend_from_slice(&object);
        let place = self.active as u64 * HALF_BYTES + half.at;
        let written = self.file.write_all_at(&all, place).and_then(|()| {
            fdatasync(&self.file)?;
            Ok(())
        });
        written.map_err(VaultError::file("write", self.path.clone()))?;
        let at = half.at + frame_bytes(frame.length);
        self.halves[self.active] = Half { at, end: frame.end, ..half };
        Ok(())
    }

    /// Everything is in the repository: nothing is left to store at the next start.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(super) fn clear(&mut self) -> Result<()> {
        (0..self.halves.len()).try_for_each(|half| self.begin(half))
    }

    /// Begins a half anew. Not synced: a crash brings back what is stored already.
    fn begin(&mut self, half: usize) -> Result<()> {
        self.halves[half] = Half::new();
        let written = self.file.write_all_at(&[0; FRAME_BYTES], half as u64 * HALF_BYTES);
        written.map_err(VaultError::file("write", self.path.clone()))
    }
}

/// What a frame takes.
pub(super) fn frame_bytes(length: u32) -> u64 {
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
        spool.append(ring, stretch, bytes).unwrap();
    }

    /// What a start after a crash would find in the first half.
    fn found(folder: &Path, ring: &KeyRing) -> Vec<(u64, Vec<u8>)> {
        found_by(&mut Spool::open(folder, STREAM).unwrap(), ring, 0)
    }

    fn found_by(spool: &mut Spool, ring: &KeyRing, half: usize) -> Vec<(u64, Vec<u8>)> {
        let (mut at, mut all) = (0, Vec::new());
        let mut round = None;
        while let Some((frame, bytes)) = spool.frame(ring, STREAM, half, at).unwrap() {
            if *round.get_or_insert(frame.round) != frame.round {
                break;
            }
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
        spool.clear().unwrap();
        assert_eq!(found_by(&mut spool, &ring, 0), []);
        append(&mut spool, &ring, 200, &[7; 5000]);
        append(&mut spool, &ring, 5200, &[8; 300]);
        // Surely in the second frame, and not what fills it up.
        let second = spool.halves[0].at - 16;
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

    #[test]
    fn a_half_is_written_anew_only_once_all_of_it_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let ring = KeyRing::random();
        let mut spool = Spool::open(folder.path(), STREAM).unwrap();
        assert_eq!(fs::metadata(&spool.path).unwrap().len(), SPOOL_BYTES);
        assert!(!spool.make_room(HALF_BYTES, Lsn(0)).unwrap(), "never fits");
        assert!(spool.make_room(3000, Lsn(0)).unwrap());
        append(&mut spool, &ring, 100, &[1; 50]);
        spool.halves[0].at = HALF_BYTES - 8000;
        assert!(spool.make_room(3000, Lsn(0)).unwrap());
        assert_eq!(spool.active, 0);
        // It goes over to the other half, and what is not stored stays in this one.
        assert!(spool.make_room(4000, Lsn(149)).unwrap());
        assert_eq!(spool.active, 1);
        append(&mut spool, &ring, 150, &[2; 50]);
        assert_eq!(found_by(&mut spool, &ring, 0), [(100, vec![1; 50])]);
        spool.halves[1].at = HALF_BYTES - 8000;
        assert!(!spool.make_room(4000, Lsn(149)).unwrap(), "both halves are needed");
        assert!(spool.make_room(4000, Lsn(150)).unwrap());
        assert_eq!(spool.active, 0);
        assert_eq!(found_by(&mut spool, &ring, 0), []);
        assert_eq!(found_by(&mut spool, &ring, 1), [(150, vec![2; 50])]);
        // Everything is stored: it begins where it is.
        append(&mut spool, &ring, 200, &[3; 50]);
        assert!(spool.make_room(4000, Lsn(250)).unwrap());
        assert_eq!((spool.active, spool.halves[0].at, spool.halves[1].at), (0, 0, 0));
    }

    /// A file system of this size; nothing, and says so, where this user may not mount one.
    fn small_disk(path: &Path) -> Option<SmallDisk> {
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(path).output();
        if mounted.unwrap().status.success() {
            return Some(SmallDisk(path.to_owned()));
        }
        println!("SKIPPED: a file system of its own cannot be mounted here");
        None
    }

    struct SmallDisk(PathBuf);

    impl SmallDisk {
        fn run(&self, program: &str, options: &[&str]) {
            let status = std::process::Command::new(program).args(options).arg(&self.0).status();
            assert!(status.unwrap().success() || std::thread::panicking());
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            self.run("umount", &["-l"]);
        }
    }

    #[test]
    fn a_spool_that_has_no_room_is_refused_before_anything_is_promised() {
        let folder = tempfile::tempdir().unwrap();
        let Some(disk) = small_disk(folder.path()) else { return };
        for _ in 0..2 {
            let error = Spool::open(folder.path(), STREAM).err().unwrap();
            let text = crate::error::explain(&error);
            assert!(text.contains("make room for the spool in"), "{text}");
            assert!(text.contains("No space left on device"), "{text}");
        }
        disk.run("mount", &["-o", "remount,size=80m"]);
        let ring = KeyRing::random();
        let mut spool = Spool::open(folder.path(), STREAM).unwrap();
        assert_eq!(fs::metadata(&spool.path).unwrap().len(), SPOOL_BYTES);
        // All its room is there: a full disk hinders no write to it.
        disk.run("mount", &["-o", "remount,size=65m"]);
        append(&mut spool, &ring, 100, &[7; 5 << 20]);
        drop(spool);
        assert_eq!(found(folder.path(), &ring), [(100, vec![7; 5 << 20])]);
    }
}
