//! `BACKSTAY_SOCKET`: role changes as JSON lines, one socket per instance.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use model::Epoch;
use serde::{Deserialize, Serialize};

use crate::packet;

/// Longest line that a program may send.
pub(super) const LINE_BYTES_MAX: usize = 4_096;
/// Most lines taken at one time.
const LINES_PER_TURN: usize = 64;

/// What a program is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum ToProgram {
    /// Become active under this epoch.
    Promote {
        #[serde(serialize_with = "as_text")]
        epoch: Epoch,
    },
    /// Become a standby; the epoch is the one given up.
    Demote {
        #[serde(serialize_with = "as_text")]
        epoch: Epoch,
    },
    /// To addresses alone: what it goes with is becoming active here, so its own turn is next.
    Prepare {},
}

/// What a program says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum FromProgram {
    /// It is active under this epoch.
    Active {
        /// As it was told, `generation.counter`.
        epoch: String,
    },
    /// It is a standby.
    Standby {},
    /// It can't do what it was told.
    Failed {
        /// Why.
        #[serde(default)]
        reason: String,
    },
}

fn as_text<S: serde::Serializer>(epoch: &Epoch, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(epoch)
}

/// One instance's socket and at most one connection; a new one replaces the old.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) listener: UnixListener,
    pub(super) stream: Option<UnixStream>,
    buffer: Vec<u8>,
}

/// What a program said, and whether its connection is over.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) lines: Vec<FromProgram>,
    pub(super) closed: bool,
    pub(super) garbage: bool,
}

impl Talk {
    /// Serves under a name, for this user.
    pub(super) fn bind(path: &Path, uid: u32) -> io::Result<Talk> {
        crate::process::plan::remove_stale(path)?;
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        if uid != rustix::process::geteuid().as_raw() {
            std::os::unix::fs::chown(path, Some(uid), None)?;
        }
        listener.set_nonblocking(true)?;
        Ok(Talk { listener, stream: None, buffer: Vec::new() })
    }

    /// Takes a new connection; true where there is one, which the caller then watches.
    pub(super) fn accept(&mut self, uid: u32) -> io::Result<bool> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        if !packet::trusted(packet::peer(&stream)?, Some(uid)) {
            return Ok(false);
        }
        stream.set_nonblocking(true)?;
        self.buffer.clear();
        self.stream = Some(stream);
        Ok(true)
    }

    /// Tells the program; false where it isn't connected or doesn't read.
    pub(super) fn tell(&mut self, message: ToProgram) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let Ok(mut line) = serde_json::to_vec(&message) else { return false };
        line.push(b'\n');
        // A line is far smaller than the socket's buffer: it goes whole or not at all.
        matches!(stream.write(&line), Ok(len) if len == line.len())
    }

    /// Reads what the program said.
    pub(super) fn hear(&mut self) -> Heard {
        let mut heard = Heard::default();
        let Some(stream) = &mut self.stream else { return heard };
        let mut chunk = [0u8; LINE_BYTES_MAX];
        while heard.lines.len() < LINES_PER_TURN {
            match stream.read(&mut chunk) {
                Ok(0) => {
                    heard.closed = true;
                    return heard;
                }
                Ok(len) => self.buffer.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return heard,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    heard.closed = true;
                    return heard;
                }
            }
            if !take_lines(&mut self.buffer, &mut heard.lines) {
                heard.garbage = true;
                return heard;
            }
        }
        heard
    }

    /// Ends the connection.
    pub(super) fn hang_up(&mut self) -> Option<UnixStream> {
        self.buffer.clear();
        self.stream.take()
    }
}

/// Takes whole lines out of the buffer; false where one is too long or says nothing we know.
pub(super) fn take_lines(buffer: &mut Vec<u8>, lines: &mut Vec<FromProgram>) -> bool {
    while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
        let line: Vec<u8> = buffer.drain(..=end).collect();
        match serde_json::from_slice(&line[..end]) {
            Ok(message) => lines.push(message),
            Err(_) => return false,
        }
    }
    buffer.len() <= LINE_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_the_contract_says() {
        let epoch = Epoch { generation: 1, counter: 7 };
        let text = |m| serde_json::to_string(&m).unwrap();
        assert_eq!(text(ToProgram::Promote { epoch }), r#"{"event":"promote","epoch":"1.7"}"#);
        assert_eq!(text(ToProgram::Demote { epoch }), r#"{"event":"demote","epoch":"1.7"}"#);
        let mut buffer = b"{\"event\":\"active\",\"epoch\":\"1.7\"}\n{\"event\":\"standby\"}\n\
            {\"event\":\"failed\",\"reason\":\"no\"}\n{\"ev"
            .to_vec();
        let mut lines = Vec::new();
        assert!(take_lines(&mut buffer, &mut lines));
        let want = [
            FromProgram::Active { epoch: "1.7".into() },
            FromProgram::Standby {},
            FromProgram::Failed { reason: "no".into() },
        ];
        assert_eq!(lines, want);
        assert_eq!(buffer, b"{\"ev");
    }

    #[test]
    fn garbage_and_endless_lines_end_the_connection() {
        for bad in [b"{}\n".to_vec(), b"\xff\n".to_vec(), vec![b'x'; LINE_BYTES_MAX + 1]] {
            assert!(!take_lines(&mut bad.clone(), &mut Vec::new()));
        }
    }
}
