//! A secret of 32 bytes on a page of its own: kept out of swap where the system lets us,
//! wiped when dropped, and never printed.

use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// One page, so that unlocking one secret never unlocks another.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// Thirty-two secret bytes.
pub struct Secret32 {
    page: Box<Page>,
    lock: Option<region::LockGuard>,
}

impl Secret32 {
    /// Takes the bytes over; the caller's copy is wiped.
    pub fn take(bytes: &mut [u8; 32]) -> Secret32 {
        let mut secret = Secret32::zero();
        secret.page.0[..32].copy_from_slice(bytes);
        bytes.zeroize();
        secret
    }

    /// New random bytes.
    pub fn random() -> Secret32 {
        let mut secret = Secret32::zero();
        crate::random::fill(&mut secret.page.0[..32]);
        secret
    }

    fn zero() -> Secret32 {
        let page = Box::new(Page([0; 4096]));
        // Without the right to lock memory the secret still works: the limit is the
        // operator's choice, and `is_locked` lets `vault status` say so.
        let lock = region::lock(page.0.as_ptr(), page.0.len()).ok();
        Secret32 { page, lock }
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8; 32] {
        self.page.0.first_chunk().expect("a page has 32 bytes")
    }

    /// Whether the system keeps this secret out of swap.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// A key for one purpose, derived from this one.
    pub fn derive(&self, context: &str, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(self.expose());
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let key = Zeroizing::new(*hasher.finalize().as_bytes());
        hasher.zeroize();
        key
    }
}

impl Clone for Secret32 {
    fn clone(&self) -> Secret32 {
        let mut copy = Secret32::zero();
        copy.page.0[..32].copy_from_slice(self.expose());
        copy
    }
}

impl Drop for Secret32 {
    fn drop(&mut self) {
        self.page.0.zeroize();
    }
}

impl fmt::Debug for Secret32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret32(not shown)")
    }
}

/// Keeps this process's memory out of core dumps and other processes' hands. Called once by
/// every command that opens a repository.
///
/// # Errors
/// Where the system refuses; the caller warns and goes on.
pub fn forbid_core_dumps() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_taken_over_wiped_and_never_printed() {
        let mut bytes = [7; 32];
        let secret = Secret32::take(&mut bytes);
        assert_eq!(bytes, [0; 32]);
        assert_eq!(secret.expose(), &[7; 32]);
        assert_eq!(format!("{secret:?}"), "Secret32(not shown)");
    }

    #[test]
    fn a_locked_secret_stays_locked_when_its_neighbour_goes() {
        let locked_kb = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let lines = status.lines().filter_map(|l| l.strip_prefix("Locked:"));
            lines.map(|l| l.trim().trim_end_matches(" kB").parse::<u64>().unwrap()).sum()
        };
        let kept = Secret32::random();
        if !kept.is_locked() {
            return; // The system grants this user no locked memory; nothing to look at.
        }
        let other = Secret32::random();
        assert!(locked_kb() >= 8);
        drop(other);
        assert!(locked_kb() >= 4);
        drop(kept);
    }
}
