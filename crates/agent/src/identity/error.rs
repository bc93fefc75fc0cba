//! What can be wrong with keys, certificates and the files that hold them.

use std::path::PathBuf;

use thiserror::Error;

/// Why an identity can't be made, read or used. Every text says what to do.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("can't {action} {}: {}", path.display(), advice(source))]
    File {
        /// `read`, `write`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key that others can read is no secret any more.
    #[error(
        "{} can be read by others (mode {mode:04o}), so whoever has read it can pose as its \
         owner; if nobody can have, run `chmod 600 {}`, else replace the key",
        path.display(), path.display()
    )]
    KeyExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is there and holds something else.
    #[error("{what} can't be read ({detail}); restore the file from a good copy, or join again")]
    Malformed {
        /// What it should have been.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// Key and certificate are not a pair.
    #[error(
        "the private key does not belong to the certificate beside it; restore the pair together, \
         or join again"
    )]
    KeyMismatch,
    /// A bundle holds no authority, or too many.
    #[error(
        "a trust bundle holds 1 to {max} authority certificates, this one {count}; finish the \
         rotation before you begin another"
    )]
    BundleSize {
        /// How many it holds.
        count: usize,
        /// How many it may.
        max: usize,
    },
    /// Authorities of different clusters in one bundle.
    #[error("the bundle mixes authorities of two clusters; keep those of one")]
    BundleClusters,
    /// A certificate request that we don't sign.
    #[error("the certificate request is refused: {0}; make a new key with `backstay join`")]
    Request(String),
    /// The certificate library refused.
    #[error("the certificate can't be made: {0}")]
    Issue(#[from] rcgen::Error),
}

/// What to do about a file that could not be read or written.
fn advice(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as K;
    match error.kind() {
        K::NotFound | K::NotADirectory => "check that the path exists",
        K::PermissionDenied => {
            "this user may not: check who owns it and its mode, and as whom this runs"
        }
        K::ReadOnlyFilesystem => {
            "its file system is read-only: mount it writable (the kernel's log says whether a \
             failing disk made it so), or name another directory"
        }
        K::StorageFull | K::QuotaExceeded => {
            "its file system is full: make room there, then try again"
        }
        K::IsADirectory => "it is a directory: name a file",
        K::AlreadyExists => "it is there already: remove it if nothing needs it",
        _ => "look at the cause, and at the kernel's log for the disk's",
    }
}

impl IdentityError {
    pub(crate) fn malformed(what: &'static str, detail: impl ToString) -> Self {
        IdentityError::Malformed { what, detail: detail.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn the_advice_fits_what_the_system_said() {
        let table = [
            (Errno::NOENT, "path exists"),
            (Errno::ACCESS, "who owns it"),
            (Errno::PERM, "who owns it"),
            (Errno::ROFS, "read-only"),
            (Errno::NOSPC, "full"),
            (Errno::DQUOT, "full"),
            (Errno::ISDIR, "name a file"),
            (Errno::IO, "disk"),
        ];
        for (errno, says) in table {
            let source = errno.into();
            let error = IdentityError::File { action: "write", path: "/x".into(), source };
            assert!(error.to_string().contains(says), "{errno:?}: {error}");
        }
    }
}
