//! Random bytes, from the kernel and from nowhere else.

/// `N` random bytes.
///
/// # Panics
/// Where the kernel's generator fails: without it no key and no nonce is safe.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    fill(&mut out);
    out
}

/// Fills the slice, see [`bytes`].
///
/// # Panics
/// As [`bytes`].
pub(crate) fn fill(out: &mut [u8]) {
    getrandom::fill(out).expect("the kernel's random generator works");
}
