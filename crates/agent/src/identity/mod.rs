//! Who is who: the cluster's own authority, the certificates it issues, join tokens, and the
//! files a node keeps of them.
//!
//! Nothing here opens a socket or decides what a role may call; `net` and `api` do. Secrets are
//! wiped when dropped and have no `Display`.

pub mod authority;
pub mod certificate;
pub mod credential;
pub mod datagram_key;
pub mod error;
pub mod files;
pub mod id;
pub mod request;
pub mod role;
pub mod rotation;
pub mod sealed_key;
pub mod subject;
pub mod token;

pub use authority::{Authority, Validity};
pub use certificate::{Caller, Standing};
pub use credential::Credential;
pub use datagram_key::{DatagramKey, DatagramPublicKey};
pub use error::IdentityError;
pub use files::{
    Identity, IdentityFiles, can_write, read_authorities, read_authority, read_file, write_file,
};
pub use id::{ClusterId, Fingerprint};
pub use request::{CertificateRequest, NodeKey};
pub use role::Role;
pub use rotation::{AuthorityCertificate, TrustBundle};
pub use subject::Subject;
pub use token::JoinToken;

/// The wall clock in seconds since the Unix epoch: certificates are dated by it. Zero where the
/// clock stands before the epoch.
#[must_use]
pub fn wall_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Random bytes from the kernel. A machine without them can't run a cluster: this stops.
#[must_use]
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}
