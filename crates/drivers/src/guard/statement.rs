//! What the guard states about each instance it stopped: one line in a file of the run directory,
//! for whoever has to know after the fact and can't ask the launcher.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use model::{Epoch, Moment};

/// The file is begun anew at the guard's start when it is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest line.
const LINE_BYTES_MAX: usize = 512;

/// Why an instance was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The lease ended and was not renewed.
    LeaseEnd,
    /// The launcher is gone.
    LauncherLost,
    /// The guard itself was told to end.
    GuardLeaves,
    /// The launcher could not stop it.
    StopFailed,
}

impl Cause {
    /// As the line says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::LeaseEnd => "lease-end",
            Cause::LauncherLost => "launcher-lost",
            Cause::GuardLeaves => "guard-leaves",
            Cause::StopFailed => "stop-failed",
        }
    }
}

/// One statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// When.
    pub at: Moment,
    /// On which node.
    pub node: &'a str,
    /// By which incarnation of the guard.
    pub guard: u64,
    /// Which resource.
    pub resource: &'a str,
    /// Which epoch, burnt by this.
    pub epoch: Epoch,
    /// Whether everything was seen to be gone.
    pub empty: bool,
    /// How that was seen: `cgroup` or `process-scan`, for addresses also `+netlink`.
    pub seen_by: &'a str,
    /// Why.
    pub cause: &'a str,
}

impl<'a> Statement<'a> {
    fn write(&self, mut to: impl Write) -> io::Result<()> {
        writeln!(
            to,
            "at_ns={} node={} guard={} resource={} epoch={} empty={} seen_by={} cause={}",
            self.at.0,
            self.node,
            self.guard,
            self.resource,
            self.epoch,
            self.empty,
            self.seen_by,
            self.cause
        )
    }

    /// Reads a line back; `None` for one that was cut or is something else.
    #[must_use]
    pub fn parse(line: &'a str) -> Option<Statement<'a>> {
        let mut field = line.split(' ');
        let mut value = |name: &str| field.next()?.strip_prefix(name)?.strip_prefix('=');
        Some(Statement {
            at: Moment(value("at_ns")?.parse().ok()?),
            node: value("node")?,
            guard: value("guard")?.parse().ok()?,
            resource: value("resource")?,
            epoch: value("epoch")?.parse().ok()?,
            empty: value("empty")?.parse().ok()?,
            seen_by: value("seen_by")?,
            cause: value("cause")?,
        })
    }
}

/// The file of statements, open.
#[derive(Debug)]
pub(super) struct Statements {
    file: File,
}

impl Statements {
    pub(super) fn open(path: &Path) -> io::Result<Statements> {
        let file = OpenOptions::new().create(true).append(true).mode(0o644).open(path)?;
        if file.metadata()?.len() > FILE_BYTES_MAX {
            file.set_len(0)?;
        }
        Ok(Statements { file })
    }

    /// Adds a line. Allocates nothing; a line that can't be written is told in the log.
    pub(super) fn add(&mut self, statement: &Statement<'_>) {
        let mut buffer = [0u8; LINE_BYTES_MAX];
        let mut rest = &mut buffer[..];
        let made = statement.write(&mut rest);
        let left = rest.len();
        let written = made.and_then(|()| self.file.write_all(&buffer[..LINE_BYTES_MAX - left]));
        if let Err(error) = written {
            tracing::error!(%error, ?statement, "the statement can't be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_statement_is_read_back_and_a_cut_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let name = "n".repeat(model::ids::NAME_MAX);
        let statement = Statement {
            at: Moment(u64::MAX),
            node: &name,
            guard: u64::MAX,
            resource: &name,
            epoch: Epoch { generation: u64::MAX, counter: u64::MAX },
            empty: false,
            seen_by: "process-scan+netlink",
            cause: Cause::LauncherLost.as_str(),
        };
        Statements::open(&path).unwrap().add(&statement);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(Statement::parse(text.trim_end()), Some(statement));
        assert_eq!(Statement::parse(&text[..text.len() - 30]), None);
    }
}
