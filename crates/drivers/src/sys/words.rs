//! Files mapped into memory, and what happens where somebody makes one shorter.

use std::fs::File;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

/// A small file mapped into memory that several processes share, as 64-bit atomics.
///
/// The mapping stays valid whatever happens to the file's name. Where somebody makes the file
/// shorter, which whoever may write to it can, the words read as 0 from then on in a process that
/// called [`survive_cut_files`]: no lease. Elsewhere that ends the process (`SIGBUS`).
#[derive(Debug)]
pub struct SharedWords {
    base: *mut AtomicU64,
    len: usize,
}

// SAFETY: the mapping lives as long as the value and is only ever reached as `&AtomicU64`.
unsafe impl Send for SharedWords {}
// SAFETY: as above; atomics may be shared between threads.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps the first `len` words of a file.
    ///
    /// # Errors
    /// The file is shorter than that, or the kernel refuses.
    pub fn map(file: &File, len: usize, writable: bool) -> io::Result<SharedWords> {
        let bytes = len * size_of::<AtomicU64>();
        if file.metadata()?.len() < bytes as u64 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is too short"));
        }
        let access = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a fresh shared mapping at an address of the kernel's choice aliases nothing; it
        // is page-aligned, therefore aligned for AtomicU64, and as long as asked.
        let base =
            unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, access, MapFlags::SHARED, file, 0)? };
        let words = SharedWords { base: base.cast(), len };
        note_mapping(base as usize)?;
        Ok(words)
    }

    /// One word.
    ///
    /// # Panics
    /// Where `index` lies outside the mapping.
    #[must_use]
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.len, "word {index} of a page of {}", self.len);
        // SAFETY: inside the mapping, aligned, and any bit pattern is a valid u64.
        unsafe { &*self.base.add(index) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        let bytes = self.len * size_of::<AtomicU64>();
        forget_mapping(self.base as usize);
        // SAFETY: exactly what `map` mapped; no reference outlives `self`.
        let done = unsafe { rustix::mm::munmap(self.base.cast(), bytes) };
        debug_assert!(done.is_ok(), "munmap of our own mapping");
    }
}

/// Most files mapped at one time that [`survive_cut_files`] looks after.
const MAPPINGS_MAX: usize = 4_096;

/// Where the mapped pages lie; 0 is a free place. Read by a signal handler, so nothing but atomics.
static MAPPINGS: [AtomicUsize; MAPPINGS_MAX] = [const { AtomicUsize::new(0) }; MAPPINGS_MAX];

/// Bytes of a page; every mapping here lies within one.
const PAGE: usize = 4_096;

fn note_mapping(base: usize) -> io::Result<()> {
    let take = |place: &&AtomicUsize| {
        place.compare_exchange(0, base, Ordering::AcqRel, Ordering::Acquire).is_ok()
    };
    let place = MAPPINGS.iter().find(take);
    place.map(drop).ok_or_else(|| io::Error::other("too many files are mapped"))
}

fn forget_mapping(base: usize) {
    for place in &MAPPINGS {
        if place.compare_exchange(base, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return;
        }
    }
}

/// From here on, a mapped file that somebody makes shorter reads as zeros instead of ending this
/// process: launcher and guard take that for no lease and stop what is active.
///
/// # Errors
/// What the kernel says.
pub fn survive_cut_files() -> io::Result<()> {
    // SAFETY: an all-zero sigaction is valid; the handler does only what is permitted in one.
    let rc = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_cut_file as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut())
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts a page of zeros where the file's page is gone. Any other cause ends the process as it
/// would have.
extern "C" fn on_cut_file(_signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid `info` to a SA_SIGINFO handler; mmap and sigaction are plain
    // system calls; the page belongs to one of our own mappings, all accesses to which are atomic.
    unsafe {
        let page = (*info).si_addr() as usize & !(PAGE - 1);
        let ours = page != 0 && MAPPINGS.iter().any(|m| m.load(Ordering::Acquire) == page);
        let (access, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
        );
        let mapped =
            ours && libc::mmap(page as *mut _, PAGE, access, flags, -1, 0) != libc::MAP_FAILED;
        if !mapped {
            // The access is repeated on return, and then has its usual effect.
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
        }
    }
}
