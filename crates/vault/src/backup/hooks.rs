//! Commands of the operator before and after a backup.

use super::BackupRequest;
use crate::error::{Result, VaultError};
use std::process::{Command, Stdio};

/// Runs the hooks around `work`. The second one runs whatever happened, and a failure of either
/// fails the backup; an earlier failure is the one that is told.
pub(super) fn around<T>(
    request: &BackupRequest<'_>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let mut result = match &request.before {
        Some(command) => hook("the hook before the backup", command).and_then(|()| work()),
        None => work(),
    };
    if let Some(command) = &request.after {
        let after = hook("the hook after the backup", command);
        result = result.and_then(|value| after.map(|()| value));
    }
    result
}

fn hook(what: &'static str, command: &str) -> Result<()> {
    let failed = |result: String| VaultError::Command { what, command: command.to_owned(), result };
    let status = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .status()
        .map_err(|e| failed(e.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(status.to_string())) }
}
