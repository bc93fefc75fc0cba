//! A command's output as a source. A command that fails fails the backup: half a dump must not
//! pass for a whole one.

use super::{FinishedRead, ScanContext, ScanEvent, ScanSink, Source};
use crate::chain::SourceKind;
use crate::error::{Result, VaultError};
use crate::tree::Metadata;
use std::io::{self, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// A command whose standard output is backed up.
pub struct CommandSource {
    command: String,
    name: String,
}

impl CommandSource {
    /// Runs `command` with `sh -c`; its output is kept as a file of this name.
    pub fn new(command: &str, name: &str) -> CommandSource {
        CommandSource { command: command.to_owned(), name: name.to_owned() }
    }
}

impl Source for CommandSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Command
    }

    fn origin(&self) -> String {
        self.command.clone()
    }

    fn scan(&self, _context: &ScanContext<'_>, sink: &mut dyn ScanSink) -> Result<()> {
        let failed = |result: String| VaultError::Command {
            what: "the command",
            command: self.command.clone(),
            result,
        };
        let mut child = Command::new("/bin/sh")
            .args(["-c", &self.command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        let output = child.stdout.take().ok_or_else(|| failed("it has no output".to_owned()))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let meta = |mode| Metadata {
            mode,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            mtime_s: now.as_secs() as i64,
            mtime_ns: now.subsec_nanos(),
            xattrs: Vec::new(),
        };
        let running = Running { child, output, command: self.command.clone(), waited: false };
        let (name, stamp) = (Vec::new(), Default::default());
        sink.event(ScanEvent::Enter { name, meta: meta(0o700), stamp })?;
        let (name, stream) = (self.name.clone().into_bytes(), Box::new(running));
        sink.event(ScanEvent::Stream { name, meta: meta(0o600), stream })?;
        sink.event(ScanEvent::Leave)
    }
}

/// A running command; it does not outlive its reader.
struct Running {
    child: Child,
    output: ChildStdout,
    command: String,
    waited: bool,
}

impl Read for Running {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output.read(buffer)
    }
}

impl FinishedRead for Running {
    fn finish(&mut self) -> Result<()> {
        let status = self.child.wait();
        self.waited = true;
        let result = match status {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        Err(VaultError::Command { what: "the command", command: self.command.clone(), result })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.waited {
            // The backup has failed already; nobody is left to tell.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
