//! One page per node: the agent writes the lease end, launcher and guard obey it, and all three
//! show there that they live.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use model::{Moment, Span};

use crate::sys::SharedWords;

/// First word of the file: "BSLEASE" and a version byte.
const MAGIC: u64 = u64::from_le_bytes(*b"BSLEASE\x01");
/// Words mapped; the file is one page of 4,096 bytes.
const WORDS: usize = 16;
const PAGE_BYTES: u64 = 4_096;

const W_MAGIC: usize = 0;
const W_BOOT_HIGH: usize = 1;
const W_BOOT_LOW: usize = 2;
const W_LEASE_END: usize = 3;
const W_LONGEST: usize = 4;
const W_GUARD_BEAT: usize = 5;
const W_LAUNCHER_BEAT: usize = 6;
const W_AGENT_BEAT: usize = 7;
const W_GUARD_INCARNATION: usize = 8;
const W_LEASE_NUMBER: usize = 9;
const W_GUARD_CLEAR: usize = 10;

/// Whose sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// The guard.
    Guard,
    /// The launcher.
    Launcher,
    /// The agent.
    Agent,
}

impl Beat {
    const fn word(self) -> usize {
        match self {
            Beat::Guard => W_GUARD_BEAT,
            Beat::Launcher => W_LAUNCHER_BEAT,
            Beat::Agent => W_AGENT_BEAT,
        }
    }
}

/// Why a page can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The file system or the kernel.
    #[error("the lease page can't be opened: is the launcher running, and with this directory?")]
    Io(#[from] io::Error),
    /// It was made by another version, or is no page at all.
    #[error("the lease page has an unknown format: launcher and caller differ in version")]
    Format,
    /// It was made before the last boot; the launcher will write a new one.
    #[error("the lease page is from before the last boot; it is usable once the launcher starts")]
    OldBoot,
}

/// The node's lease page.
///
/// Layout: little-endian 64-bit words: magic; boot id (two words); lease end in nanoseconds on
/// the boot-time clock, 0 for none; longest lease permitted in nanoseconds; beats of guard,
/// launcher and agent as moments; guard incarnation; number of the lease; when the guard last saw
/// that a lost launcher left nothing active, 0 for never. A lease that follows a lapsed one has
/// another number: what was armed under the lapsed one it does not cover.
#[derive(Debug)]
pub struct LeasePage {
    words: SharedWords,
}

impl LeasePage {
    /// Makes the page, or takes over the one of this boot. Only the launcher calls this. The
    /// file is never replaced, so that everyone who mapped it keeps seeing it.
    ///
    /// # Errors
    /// [`PageError::Io`].
    pub fn create(path: &Path, longest: Span) -> Result<LeasePage, PageError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        if file.metadata()?.len() != PAGE_BYTES {
            file.set_len(PAGE_BYTES)?;
        }
        let page = LeasePage { words: SharedWords::map(&file, WORDS, true)? };
        let boot = boot_id()?;
        if page.check(boot).is_err() {
            page.words.word(W_MAGIC).store(0, Release);
            for word in 1..WORDS {
                page.words.word(word).store(0, Relaxed);
            }
            page.words.word(W_BOOT_HIGH).store(boot.0, Relaxed);
            page.words.word(W_BOOT_LOW).store(boot.1, Relaxed);
            page.words.word(W_MAGIC).store(MAGIC, Release);
        }
        page.words.word(W_LONGEST).store(longest.0, Release);
        Ok(page)
    }

    /// Maps the page that the launcher made.
    ///
    /// # Errors
    /// [`PageError`]; all but `Format` go away once the launcher has started.
    pub fn open(path: &Path) -> Result<LeasePage, PageError> {
        let file = File::options().read(true).write(true).open(path)?;
        let page = LeasePage { words: SharedWords::map(&file, WORDS, true)? };
        page.check(boot_id()?)?;
        Ok(page)
    }

    fn check(&self, boot: (u64, u64)) -> Result<(), PageError> {
        if self.words.word(W_MAGIC).load(Acquire) != MAGIC {
            return Err(PageError::Format);
        }
        let have =
            (self.words.word(W_BOOT_HIGH).load(Acquire), self.words.word(W_BOOT_LOW).load(Acquire));
        if have == boot { Ok(()) } else { Err(PageError::OldBoot) }
    }

    /// The agent sets the end of the lease with this number; `None` ends it. The number is only
    /// ever changed while there is no lease: whoever reads an end and then the number never takes
    /// the end of a later lease for that of an earlier one.
    pub fn set_lease(&self, number: u64, end: Option<Moment>) {
        let end_word = self.words.word(W_LEASE_END);
        let number_word = self.words.word(W_LEASE_NUMBER);
        if number_word.load(Acquire) != number {
            end_word.store(0, Release);
            number_word.store(number, Release);
        }
        end_word.store(end.map_or(0, |m| m.0), Release);
    }

    /// Which lease runs, or ran last.
    #[must_use]
    pub fn lease_number(&self) -> u64 {
        self.words.word(W_LEASE_NUMBER).load(Acquire)
    }

    /// When the lease ends, `None` where there is none. One that ends further ahead than
    /// `longest` or than the page permits is none: its writer is broken, and no instance may
    /// profit from that.
    #[must_use]
    pub fn lease_end(&self, now: Moment, longest: Span) -> Option<Moment> {
        let end = Moment(self.words.word(W_LEASE_END).load(Acquire));
        let permitted = longest.min(Span(self.words.word(W_LONGEST).load(Acquire)));
        (end != Moment::ZERO && end.since(now) <= permitted).then_some(end)
    }

    /// Whether a lease covers `margin` from now on.
    #[must_use]
    pub fn covers(&self, now: Moment, margin: Span, longest: Span) -> bool {
        self.lease_end(now, longest).is_some_and(|end| now + margin < end)
    }

    /// Whether the lease with this number covers `margin` from now on.
    #[must_use]
    pub fn covers_under(&self, number: u64, now: Moment, margin: Span, longest: Span) -> bool {
        // The end first: see `set_lease`.
        self.covers(now, margin, longest) && self.lease_number() == number
    }

    /// Shows that one of the three lives.
    pub fn beat(&self, whose: Beat, at: Moment) {
        self.words.word(whose.word()).store(at.0, Release);
    }

    /// When one of the three last showed that it lives.
    #[must_use]
    pub fn last_beat(&self, whose: Beat) -> Moment {
        Moment(self.words.word(whose.word()).load(Acquire))
    }

    /// The guard says which incarnation it is.
    pub fn set_guard_incarnation(&self, incarnation: u64) {
        self.words.word(W_GUARD_INCARNATION).store(incarnation, Release);
    }

    /// The guard has lost its launcher; whether it sees now that all it covered is gone.
    pub fn set_clear(&self, at: Option<Moment>) {
        self.words.word(W_GUARD_CLEAR).store(at.map_or(0, |m| m.0), Release);
    }

    /// Whether the guard saw within `limit` that a lost launcher left nothing active.
    #[must_use]
    pub fn is_clear(&self, now: Moment, limit: Span) -> bool {
        let at = Moment(self.words.word(W_GUARD_CLEAR).load(Acquire));
        at != Moment::ZERO && now.since(at) <= limit
    }

    /// Which incarnation of the guard runs; 0 before the first.
    #[must_use]
    pub fn guard_incarnation(&self) -> u64 {
        self.words.word(W_GUARD_INCARNATION).load(Acquire)
    }
}

/// Tells boots apart: the boot-time clock begins anew with each.
fn boot_id() -> io::Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let id = u128::from_str_radix(&hex, 16).map_err(io::Error::other)?;
    Ok(((id >> 64) as u64, id as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Span = Span::from_ms(10_000);

    #[test]
    fn two_mappings_see_the_same_lease_and_an_absurd_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        assert!(matches!(LeasePage::open(&path), Err(PageError::Io(_))));
        let launcher = LeasePage::create(&path, LONGEST).unwrap();
        let agent = LeasePage::open(&path).unwrap();
        let now = Moment(1_000_000_000);
        assert_eq!(launcher.lease_end(now, LONGEST), None);
        let end = now + Span::from_ms(500);
        agent.set_lease(1, Some(end));
        assert_eq!(launcher.lease_end(now, LONGEST), Some(end));
        assert!(launcher.covers(now, Span::from_ms(499), LONGEST));
        assert!(!launcher.covers(now, Span::from_ms(500), LONGEST));
        agent.set_lease(1, Some(now + LONGEST + Span(1)));
        assert_eq!(launcher.lease_end(now, LONGEST), None);
        agent.set_lease(1, Some(now + Span::from_ms(2_000)));
        assert_eq!(launcher.lease_end(now, Span::from_ms(1_000)), None);
        agent.set_lease(1, None);
        assert_eq!(launcher.lease_end(now, LONGEST), None);
    }

    #[test]
    fn a_lease_that_follows_a_lapsed_one_does_not_cover_what_that_one_covered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        let guard = LeasePage::create(&path, LONGEST).unwrap();
        let agent = LeasePage::open(&path).unwrap();
        let now = Moment(1_000_000_000);
        agent.set_lease(4, Some(now + Span::from_ms(500)));
        assert!(guard.covers_under(4, now, Span::ZERO, LONGEST));
        agent.set_lease(4, Some(now + Span::from_ms(700)));
        assert!(guard.covers_under(4, now + Span::from_ms(600), Span::ZERO, LONGEST));
        agent.set_lease(4, None);
        agent.set_lease(5, Some(now + Span::from_ms(900)));
        assert!(guard.covers(now, Span::ZERO, LONGEST));
        assert!(!guard.covers_under(4, now, Span::ZERO, LONGEST), "another lease");
        assert!(guard.covers_under(5, now, Span::ZERO, LONGEST));
    }

    #[test]
    fn a_guard_that_was_not_heard_of_again_has_not_seen_that_all_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let page = LeasePage::create(&dir.path().join("lease"), LONGEST).unwrap();
        let limit = Span::from_ms(1_000);
        assert!(!page.is_clear(Moment(1), limit));
        page.set_clear(Some(Moment(5)));
        assert!(page.is_clear(Moment(6), limit));
        assert!(!page.is_clear(Moment(6) + limit, limit));
        page.set_clear(None);
        assert!(!page.is_clear(Moment(6), limit));
    }

    #[test]
    fn a_launcher_that_comes_back_keeps_the_page_and_a_foreign_file_is_rewritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        let first = LeasePage::create(&path, LONGEST).unwrap();
        first.set_lease(1, Some(Moment(7)));
        let again = LeasePage::create(&path, LONGEST).unwrap();
        assert_eq!(again.lease_end(Moment(1), LONGEST), Some(Moment(7)));
        fs::write(&path, vec![0xAA; 4_096]).unwrap();
        assert!(matches!(LeasePage::open(&path), Err(PageError::Format)));
        let fresh = LeasePage::create(&path, LONGEST).unwrap();
        assert_eq!(fresh.lease_end(Moment(1), LONGEST), None);
        fs::write(&path, b"short").unwrap();
        assert!(LeasePage::open(&path).is_err());
    }
}
