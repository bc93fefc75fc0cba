//! A secret of 32 bytes on a page of its own: kept out of swap where the system lets us,
//! wiped when dropped, and never printed.

use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// One page, so that unlocking one secret never unlocks another.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// Thirty-two secret bytes.
pub struct Secret32 {
    /// Before the page: it is unlocked while it is still ours. Given back first, it might be
    /// another thread's secret by then, and lose the lock of that one.
    lock: Option<region::LockGuard>,
    page: Box<Page>,
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
    use std::any::Any;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_secret_is_taken_over_wiped_and_never_printed() {
        let mut bytes = [7; 32];
        let secret = Secret32::take(&mut bytes);
        assert_eq!(bytes, [0; 32]);
        assert_eq!(secret.expose(), &[7; 32]);
        assert_eq!(format!("{secret:?}"), "Secret32(not shown)");
    }

    /// Where a secret is.
    fn address(secret: &Secret32) -> u64 {
        secret.expose().as_ptr().addr() as u64
    }

    /// What this process has at an address; nothing where it has nothing there any more.
    fn memory_at(address: u64) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        let memory = File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut bytes, address).is_ok().then_some(bytes)
    }

    /// Whether the kernel keeps the page at this address in memory.
    fn is_kept(address: u64) -> bool {
        let mut here = false;
        for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
            let first = line.split(' ').next().unwrap_or_default();
            let parse = |text| u64::from_str_radix(text, 16).ok();
            if let Some((from, upto)) = first.split_once('-') {
                here = parse(from).is_some_and(|from| from <= address)
                    && parse(upto).is_some_and(|upto| address < upto);
            } else if here && first == "VmFlags:" {
                return line.split(' ').any(|flag| flag == "lo");
            }
        }
        false
    }

    /// Whether this user may lock memory; says so where not.
    fn may_lock() -> bool {
        let probe = Secret32::random();
        if probe.is_locked() {
            return true;
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
        assert!(limit.is_some_and(|bytes| bytes < 1 << 20), "{limit:?} bytes may be locked");
        println!("SKIPPED: the system grants this user {limit:?} bytes of locked memory");
        false
    }

    /// Makes something that holds secrets; it, and where they are.
    type Holder = fn() -> (Box<dyn Any>, Vec<u64>);

    #[test]
    fn nothing_of_a_dropped_secret_is_left() {
        let holders: [Holder; 3] = [
            || {
                let secret = Secret32::random();
                let at = address(&secret);
                (Box::new(secret), vec![at])
            },
            || {
                let secret = Secret32::random().clone();
                let at = address(&secret);
                (Box::new(secret), vec![at])
            },
            || {
                let keys = crate::keys::EpochKeys::random();
                let at = vec![address(&keys.master), address(&keys.signing_seed)];
                (Box::new(keys), at)
            },
        ];
        for holder in holders {
            let (secret, addresses) = holder();
            let before: Vec<_> = addresses.iter().map(|at| memory_at(*at).unwrap()).collect();
            assert!(before.iter().all(|bytes| *bytes != [0; 32]), "it is looked for elsewhere");
            drop(secret);
            for (at, before) in addresses.iter().zip(before) {
                // The allocator writes to what it was given back: any part would show.
                let left = memory_at(*at).unwrap_or_default();
                let is_left = |part: &[u8]| left.windows(part.len()).any(|w| w == part);
                assert!(!before.chunks(4).any(is_left), "{before:?} left {left:?}");
            }
        }
    }

    #[test]
    fn a_secret_is_kept_in_memory_as_long_as_it_lives() {
        if !may_lock() {
            return;
        }
        let (kept, other) = (Secret32::random(), Secret32::random());
        let copy = kept.clone();
        for secret in [&kept, &other, &copy] {
            assert!(is_kept(address(secret)));
        }
        // Its neighbour's end unlocks nothing of it.
        drop(other);
        assert!(is_kept(address(&kept)) && is_kept(address(&copy)));
    }
}
