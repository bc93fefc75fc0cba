//! Whether a data directory on this machine is that of the server that was asked: behind a
//! tunnel, or in a container, another one may lie at the same path.

use super::server::Facts;
use super::{ConnInfo, Connection};
use crate::error::{Result, VaultError};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// How far apart the server's two notes of its start may be: it makes one when it begins to
/// start, and the other once its memory is there.
const START_APART_S_MAX: i64 = 120;

/// What to do instead.
const INSTEAD: &str = "Run the vault where the server runs, as a user who may read it; or have \
                       the server send its files: --over-replication (`over_replication = true` \
                       in vault.toml)";

/// Refuses a server whose data directory is not here, or not to be read.
///
/// # Errors
/// Saying what can be done instead.
pub(super) fn require_own(
    connection: &mut Connection,
    info: &ConnInfo,
    facts: &Facts,
) -> Result<()> {
    let refuse = |what: String| {
        let server = info.shown();
        Err(VaultError::Refused(format!("the server at {server}: {what}. {INSTEAD}")))
    };
    if facts.data_directory.as_os_str().is_empty() {
        let role = &info.user;
        return refuse(format!("it does not tell `{role}` where its data directory is"));
    }
    let started = connection.row("SELECT extract(epoch FROM pg_postmaster_start_time())", 1)?;
    let started = started[0].split('.').next().and_then(|seconds| seconds.parse().ok());
    lies_here(&facts.data_directory, facts.system, started).or_else(refuse)
}

/// Whether this is the data directory of a system whose server was started then.
fn lies_here(root: &Path, system: u64, started: Option<i64>) -> std::result::Result<(), String> {
    let shown = root.display();
    let found = system_of(root);
    let found =
        found.map_err(|e| format!("its data directory {shown} cannot be read here: {e}"))?;
    let near = |noted: i64| started.is_some_and(|s| (s - noted).abs() <= START_APART_S_MAX);
    match found == system && started_of(root).is_some_and(near) {
        true => Ok(()),
        false => Err(format!("what lies here at {shown} is another server's data directory")),
    }
}

/// The identity of the system that lies here: a control file begins with it.
fn system_of(root: &Path) -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    File::open(root.join("global/pg_control"))?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// When the server that runs here was started, in seconds since 1970.
fn started_of(root: &Path) -> Option<i64> {
    let text = fs::read_to_string(root.join("postmaster.pid")).ok()?;
    text.lines().nth(2)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_says_whose_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let said =
            |system, started| lies_here(folder.path(), system, started).err().unwrap_or_default();
        assert!(said(7, Some(1)).contains("cannot be read here"));
        fs::create_dir(folder.path().join("global")).unwrap();
        let control = [7u64.to_le_bytes().to_vec(), vec![1; 100]].concat();
        fs::write(folder.path().join("global/pg_control"), control).unwrap();
        assert!(said(7, Some(1_795_312_801)).contains("another server's"));
        fs::write(folder.path().join("postmaster.pid"), "812\n/srv/d\n1795312800\n5432\n").unwrap();
        assert_eq!(said(7, Some(1_795_312_801)), "");
        for (system, started) in [(8, Some(1_795_312_800)), (7, Some(1_795_316_400)), (7, None)] {
            assert!(said(system, started).contains("another server's"), "{system} {started:?}");
        }
    }
}
