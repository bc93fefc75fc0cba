//! The keeper's end of `BACKSTAY_SOCKET`: the same JSON lines that every program speaks there.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use model::Epoch;
use serde::{Deserialize, Serialize};

/// Longest line of the launcher.
const LINE_BYTES_MAX: usize = 4_096;

/// What the launcher says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Told {
    /// Become active.
    Promote {
        /// Under this epoch.
        #[serde(deserialize_with = "epoch")]
        epoch: Epoch,
    },
    /// Become a standby.
    Demote {
        /// The epoch given up.
        #[serde(deserialize_with = "epoch")]
        epoch: Epoch,
    },
    /// Look whether it is free: the order to become active is about to come.
    Prepare {},
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Say {
    /// The address is up.
    Active {
        /// As the launcher wrote it.
        epoch: String,
    },
    /// It is down.
    Standby {},
    /// It can't be brought up.
    Failed {
        /// Why.
        reason: String,
    },
}

fn epoch<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Epoch, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

/// The connection.
#[derive(Debug)]
pub(super) struct Talk {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Talk {
    pub(super) fn connect(path: &Path) -> io::Result<Talk> {
        let stream = UnixStream::connect(path)?;
        stream.set_nonblocking(true)?;
        Ok(Talk { stream, buffer: Vec::new() })
    }

    /// The lines that arrived; an error where the launcher is gone or says nothing we know.
    pub(super) fn hear(&mut self) -> io::Result<Vec<Told>> {
        let mut chunk = [0u8; 512];
        let mut told = Vec::new();
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::Error::other("the launcher is gone")),
                Ok(len) => self.buffer.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(told),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                told.push(serde_json::from_slice(&line[..end]).map_err(io::Error::other)?);
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(io::Error::other("a line of the launcher does not end"));
            }
        }
    }

    /// Says something; a line is far smaller than the socket's buffer.
    pub(super) fn say(&mut self, say: &Say) -> io::Result<()> {
        let mut line = serde_json::to_vec(say)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }
}

impl AsFd for Talk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_the_contract_says() {
        let epoch = Epoch { generation: 1, counter: 7 };
        let read = |text: &str| serde_json::from_str::<Told>(text).ok();
        let promote = read(r#"{"event":"promote","epoch":"1.7"}"#);
        assert_eq!(promote, Some(Told::Promote { epoch }));
        assert_eq!(read(r#"{"event":"demote","epoch":"1.7"}"#), Some(Told::Demote { epoch }));
        assert_eq!(read(r#"{"event":"promote","epoch":"7"}"#), None);
        assert_eq!(read(r#"{"event":"prepare"}"#), Some(Told::Prepare {}));
        let text = |say: &Say| serde_json::to_string(say).unwrap();
        assert_eq!(text(&Say::Standby {}), r#"{"event":"standby"}"#);
        let active = Say::Active { epoch: epoch.to_string() };
        assert_eq!(text(&active), r#"{"event":"active","epoch":"1.7"}"#);
    }
}
