//! The connection to the agent: one at a time, a new one replaces the old. Without an agent the
//! launcher goes on; the next one asks for a list.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::packet;
use crate::protocol::{Event, FrameError, FrameReader, Request, encode_frame};

/// Bytes waiting for an agent that doesn't read; then it is dropped.
const OUT_BYTES_MAX: usize = 16 << 20;
/// Bytes read before others have their turn.
const READ_PER_TURN: usize = 1 << 20;

/// The socket and the present connection.
#[derive(Debug)]
pub(super) struct AgentLink {
    pub(super) listener: UnixListener,
    uid: Option<u32>,
    pub(super) stream: Option<UnixStream>,
    /// Tells events of an old connection from the new one's.
    pub(super) number: u64,
    reader: FrameReader,
    out: Vec<u8>,
    /// Whether the other side said a version that we speak.
    pub(super) greeted: bool,
    /// Whose connection was refused last: a log says it once.
    refused: Option<u32>,
    /// Connections dropped because of what they sent.
    pub(super) garbage: u64,
    /// Whether the poll watches for room to write.
    pub(super) watching_output: bool,
}

/// What reading gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// All there is was read.
    Open,
    /// More may be there.
    More,
    /// The other side is gone.
    Closed,
}

impl AgentLink {
    /// Serves under a name, for the launcher's own user, root and the one named.
    pub(super) fn bind(path: &Path, uid: Option<u32>) -> io::Result<AgentLink> {
        crate::process::plan::remove_stale(path)?;
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        if let Some(uid) = uid {
            std::os::unix::fs::chown(path, Some(uid), None)?;
        }
        listener.set_nonblocking(true)?;
        Ok(AgentLink {
            listener,
            uid,
            stream: None,
            number: 0,
            reader: FrameReader::default(),
            out: Vec::new(),
            greeted: false,
            refused: None,
            garbage: 0,
            watching_output: false,
        })
    }

    /// The next connection of somebody who may give orders.
    pub(super) fn accept(&mut self) -> io::Result<Option<UnixStream>> {
        let mut stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let peer = packet::peer(&stream)?;
        stream.set_nonblocking(true)?;
        if !packet::trusted(peer, self.uid) {
            let reason = no_orders_from(peer.uid, self.uid);
            if self.refused.replace(peer.uid) != Some(peer.uid) {
                tracing::warn!("{reason}");
            }
            say_farewell(&mut stream, reason);
            return Ok(None);
        }
        self.refused = None;
        Ok(Some(stream))
    }

    /// Puts a connection in the place of the old one, which is returned.
    pub(super) fn replace(&mut self, stream: Option<UnixStream>) -> Option<UnixStream> {
        self.number += 1;
        self.reader = FrameReader::default();
        self.out.clear();
        self.greeted = false;
        self.watching_output = false;
        std::mem::replace(&mut self.stream, stream)
    }

    /// Reads what arrived.
    pub(super) fn read(&mut self) -> io::Result<Reading> {
        let Some(stream) = &mut self.stream else { return Ok(Reading::Closed) };
        let mut chunk = [0u8; 16_384];
        let mut taken = 0;
        while taken < READ_PER_TURN {
            match stream.read(&mut chunk) {
                Ok(0) => return Ok(Reading::Closed),
                Ok(len) => {
                    self.reader.feed(&chunk[..len]);
                    taken += len;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Reading::Open);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Reading::More)
    }

    /// The next whole request.
    pub(super) fn next_request(&mut self) -> Result<Option<Request>, FrameError> {
        self.reader.next_message()
    }

    /// Queues an event and sends what goes; false where the connection is of no more use. Without
    /// a connection (or before its greeting) there is nobody to tell.
    pub(super) fn tell(&mut self, event: &Event) -> bool {
        if self.stream.is_none() || !self.greeted {
            return true;
        }
        match encode_frame(event) {
            Ok(bytes) if self.out.len() + bytes.len() <= OUT_BYTES_MAX => {
                self.out.extend_from_slice(&bytes);
                self.flush()
            }
            Ok(_) => false,
            Err(error) => {
                tracing::error!(%error, "an event can't be encoded");
                true
            }
        }
    }

    /// Sends what goes; false where the connection is of no more use.
    pub(super) fn flush(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return true };
        let mut sent = 0;
        let fine = loop {
            if sent == self.out.len() {
                break true;
            }
            match stream.write(&self.out[sent..]) {
                Ok(0) => break false,
                Ok(len) => sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        self.out.drain(..sent);
        fine
    }

    /// Whether something waits for room.
    pub(super) fn wants_output(&self) -> bool {
        !self.out.is_empty()
    }
}

/// Why somebody's connection is refused, and what mends it.
fn no_orders_from(uid: u32, agent: Option<u32>) -> String {
    let me = rustix::process::geteuid().as_raw();
    let named = match agent {
        Some(agent) => format!(" and uid {agent} (`--agent-uid`)"),
        None => String::new(),
    };
    format!(
        "uid {uid} may give no orders to this launcher, which takes them from root, its own user \
         (uid {me}){named}: start the launcher with `--agent-uid {uid}`, or run the agent as one \
         of these"
    )
}

/// Tells a connection why it ends. It is new, so that there is room for it.
fn say_farewell(stream: &mut UnixStream, reason: String) {
    let said = encode_frame(&Event::Disconnected { reason })
        .map_err(io::Error::other)
        .and_then(|frame| stream.write_all(&frame));
    if let Err(error) = said {
        tracing::debug!(%error, "who was refused does not hear why");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::FrameReader;

    #[test]
    fn a_refusal_names_the_user_and_the_option_that_lets_it_in() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        say_farewell(&mut ours, no_orders_from(4242, Some(77)));
        drop(ours);
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).unwrap();
        let mut reader = FrameReader::default();
        reader.feed(&bytes);
        let said = reader.next_message::<Event>().unwrap();
        let Some(Event::Disconnected { reason }) = said else { panic!("{said:?}") };
        for part in ["uid 4242 may give no orders", "uid 77", "`--agent-uid 4242`"] {
            assert!(reason.contains(part), "{part}: {reason}");
        }
    }
}
