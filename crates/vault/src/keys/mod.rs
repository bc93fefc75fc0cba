//! Keys. A repository has one data key an epoch; each recipient (machine, recovery key,
//! custodians) has it wrapped by age. Secrets live in locked, wiped memory.

pub mod access;
pub mod deletion;
mod ring;
pub mod secret;
pub mod shares;
pub mod words;
pub mod wrap;

pub use ring::{EPOCHS_MAX, EpochKeys, KeyRing, SIGNATURE_BYTES, signature_holds};
