//! The server that recovers: who it is, and whether it still does.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of a server's log.
const LOG_FOLDER: &str = "pg_wal";
/// A server from 13 on recovers from an archive as long as one of these lies there.
const SIGNALS: [&str; 2] = ["recovery.signal", "standby.signal"];

/// A server that recovers from an archive, at one of its starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovering {
    data: PathBuf,
    pid: String,
    started: String,
}

impl Recovering {
    /// The server that asks for a segment at `path`: it calls its restore_command in its data
    /// directory, with a path into its log. Nothing where somebody else asks.
    pub(super) fn here(path: &Path) -> Option<Recovering> {
        let is_its = path.parent().is_some_and(|folder| folder == Path::new(LOG_FOLDER));
        is_its.then(|| Recovering::in_directory(Path::new(".")))?
    }

    fn in_directory(data: &Path) -> Option<Recovering> {
        let (pid, started) = identity(data)?;
        let server = Recovering { data: data.to_owned(), pid, started };
        server.goes_on().then_some(server)
    }

    /// A name for this start of this server.
    pub(super) fn incarnation(&self) -> String {
        format!("{}-{}", self.pid, self.started)
    }

    /// Whether it runs, and recovers.
    pub(super) fn goes_on(&self) -> bool {
        let is_same = identity(&self.data)
            .is_some_and(|(pid, started)| pid == self.pid && started == self.started);
        is_same
            && Path::new("/proc").join(&self.pid).exists()
            && SIGNALS.iter().any(|signal| self.data.join(signal).exists())
    }
}

/// The server's process and when it was started, in seconds since 1970.
fn identity(data: &Path) -> Option<(String, String)> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let mut lines = text.lines();
    let number = |line: Option<&str>| {
        let line = line?.trim();
        let is_number = !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| line.to_owned())
    };
    let pid = number(lines.next())?;
    let started = number(lines.nth(1))?;
    Some((pid, started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_recovers_as_long_as_it_lives_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let put = |name: &str, text: &str| fs::write(data.join(name), text).unwrap();
        assert_eq!(Recovering::in_directory(data), None);
        let pid = std::process::id();
        put("postmaster.pid", &format!("{pid}\n/data\n1795312800\n5432\n\n\n"));
        assert_eq!(Recovering::in_directory(data), None, "it does not recover");
        put("recovery.signal", "");
        let server = Recovering::in_directory(data).unwrap();
        assert!(server.goes_on());
        put("postmaster.pid", &format!("{pid}\n/data\n1795312801\n5432\n\n\n"));
        assert!(!server.goes_on(), "it was started again");
        put("postmaster.pid", "4194305\n/data\n1795312800\n");
        assert_eq!(Recovering::in_directory(data), None, "it is gone");
        put("postmaster.pid", "/etc\n");
        assert_eq!(Recovering::in_directory(data), None);
    }

    #[test]
    fn only_a_path_into_the_log_is_a_server_s() {
        for path in ["x/RECOVERYXLOG", "RECOVERYXLOG", "/pg_wal/RECOVERYXLOG", ""] {
            assert_eq!(Recovering::here(Path::new(path)), None, "{path}");
        }
    }
}
