//! Names of everything in a node's run directory, in one place. The directory lies on a file
//! system that is empty after a boot (`/run/backstay`).

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use model::ResourceName;

/// Longest path of a unix socket, in bytes (`sun_path` of unix(7), less its NUL).
pub const SOCKET_PATH_MAX: usize = 107;

/// A node's run directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Names a directory; makes nothing.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> RunDir {
        RunDir(path.into())
    }

    /// Makes the directory and the one for instances inside it. Others may pass through, not
    /// look: programs of other users reach their own sockets by name.
    ///
    /// # Errors
    /// What the file system says; also where a socket's path would be too long.
    pub fn create(&self) -> io::Result<()> {
        let instances = self.0.join("i");
        fs::create_dir_all(&instances)?;
        for dir in [&self.0, &instances] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o711))?;
        }
        let longest = instances.as_os_str().len() + 1 + model::ids::NAME_MAX + ".notify".len();
        if longest > SOCKET_PATH_MAX {
            let over = longest - SOCKET_PATH_MAX;
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "the run directory {} is {over} bytes too long: the sockets of instances \
                     with the longest names would not fit; choose a shorter one",
                    self.0.display()
                ),
            ));
        }
        Ok(())
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the agent reaches the launcher.
    #[must_use]
    pub fn launcher_socket(&self) -> PathBuf {
        self.0.join("launcher.sock")
    }

    /// Where the guard reaches the launcher.
    #[must_use]
    pub fn guard_socket(&self) -> PathBuf {
        self.0.join("guard.sock")
    }

    /// The node's lease page.
    #[must_use]
    pub fn lease_page(&self) -> PathBuf {
        self.0.join("lease")
    }

    /// Held locked by the one launcher of this directory.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.0.join("launcher.lock")
    }

    /// Held locked by the guard of this directory.
    #[must_use]
    pub fn guard_lock(&self) -> PathBuf {
        self.0.join("guard.lock")
    }

    /// Highest and burnt epochs, as far as the launcher saw them.
    #[must_use]
    pub fn epochs(&self) -> PathBuf {
        self.0.join("launcher.epochs")
    }

    /// Process ids of running instances, for the next launcher.
    #[must_use]
    pub fn pids(&self) -> PathBuf {
        self.0.join("launcher.pids")
    }

    /// Addresses that may be up, for the next launcher.
    #[must_use]
    pub fn addresses(&self) -> PathBuf {
        self.0.join("launcher.addresses")
    }

    /// What the guard stopped, one line each.
    #[must_use]
    pub fn statements(&self) -> PathBuf {
        self.0.join("guard.statements")
    }

    /// `BACKSTAY_SOCKET` of an instance.
    #[must_use]
    pub fn instance_socket(&self, resource: &ResourceName) -> PathBuf {
        self.0.join("i").join(format!("{resource}.sock"))
    }

    /// `BACKSTAY_LEASE` of an instance.
    #[must_use]
    pub fn instance_lease(&self, resource: &ResourceName) -> PathBuf {
        self.0.join("i").join(format!("{resource}.lease"))
    }

    /// `NOTIFY_SOCKET` of an instance.
    #[must_use]
    pub fn notify_socket(&self, resource: &ResourceName) -> PathBuf {
        self.0.join("i").join(format!("{resource}.notify"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_too_deep_for_sockets_is_refused_when_made() {
        let base = tempfile::tempdir().unwrap();
        let deep = RunDir::new(base.path().join("d".repeat(60)));
        let error = deep.create().unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
        RunDir::new(base.path().join("r")).create().unwrap();
    }
}
