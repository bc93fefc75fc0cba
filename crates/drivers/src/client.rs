//! The agent's end of the connection to the launcher.
//!
//! Connecting waits for the launcher's greeting, so that who is not welcome knows it, and why.
//! Sending blocks for at most [`SEND_TIMEOUT`]; a thread of its own reads and hands every event
//! to the caller's function. When the connection ends, that function gets
//! [`Event::Disconnected`] as its last event; the caller then connects anew and asks for a list.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use crate::packet;
use crate::protocol::{Event, FrameReader, PROTOCOL_VERSION, Request, encode_frame};

/// How long one request may take to be handed to the kernel.
pub const SEND_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the launcher may take to greet.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the launcher can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection.
    #[error("the launcher can't be reached: is `backstay launcher` running on this node?")]
    Io(#[from] io::Error),
    /// Its socket is another user's.
    #[error(
        "this process (uid {0}) may not connect to the launcher's socket: run the agent as the \
         user who owns it, or start the launcher with `--agent-uid {0}`"
    )]
    NotPermitted(u32),
    /// It serves, and not us.
    #[error("the launcher is there and sends this process away: {0}")]
    SentAway(String),
    /// It serves, and does not greet.
    #[error(
        "the launcher is there and does not greet: it may be busy, of another \
         version, or take no orders from uid {0} (its log says which); let `--agent-uid` of the \
         launcher name this user, and start both from one version"
    )]
    Silent(u32),
    /// It speaks another version of the protocol.
    #[error(
        "the launcher speaks version {0} of the protocol and this process {PROTOCOL_VERSION}: \
         start both from one version"
    )]
    Version(u32),
    /// Another user's process serves there.
    #[error("uid {0} serves the launcher's socket, and is neither root nor this user")]
    Stranger(u32),
    /// A request too large.
    #[error("the request can't be sent: {0}")]
    Frame(#[from] crate::protocol::FrameError),
}

/// A connection to the launcher. Dropping it ends it; instances are not touched by that.
#[derive(Debug)]
pub struct LauncherClient {
    stream: Mutex<UnixStream>,
}

impl LauncherClient {
    /// Connects and greets; the answer comes as [`Event::Hello`]. `on_event` runs on the reading
    /// thread and should hand on quickly.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect(
        path: &Path,
        on_event: impl Fn(Event) + Send + 'static,
    ) -> Result<LauncherClient, ClientError> {
        let me = rustix::process::geteuid().as_raw();
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::NotPermitted(me),
            _ => ClientError::Io(error),
        })?;
        let peer = packet::peer(&stream)?;
        if !packet::trusted(peer, None) {
            return Err(ClientError::Stranger(peer.uid));
        }
        stream.set_write_timeout(Some(SEND_TIMEOUT))?;
        stream.set_read_timeout(Some(GREETING_TIMEOUT))?;
        let client = LauncherClient { stream: Mutex::new(stream.try_clone()?) };
        if let Err(error) = client.send(&Request::Hello { version: PROTOCOL_VERSION }) {
            // Who is sent away may find the door shut, and what was said lies before it.
            tracing::debug!(%error, "the launcher was not greeted");
        }
        let mut reading = Reading::of(stream);
        on_event(greeting(&mut reading, me)?);
        reading.stream.set_read_timeout(None)?;
        std::thread::Builder::new().name("launcher-events".into()).spawn(move || {
            let reason = loop {
                match reading.next() {
                    Ok(event) => on_event(event),
                    Err(reason) => break reason,
                }
            };
            on_event(Event::Disconnected { reason });
        })?;
        Ok(client)
    }

    /// Sends a request. Its outcome comes as events.
    ///
    /// # Errors
    /// [`ClientError`]; the connection is of no more use then, and is ended.
    pub fn send(&self, request: &Request) -> Result<(), ClientError> {
        let frame = encode_frame(request)?;
        let mut stream = self.stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(error) = stream.write_all(&frame) {
            // A frame cut in the middle would garble all that follow.
            if let Err(shut) = stream.shutdown(Shutdown::Both) {
                tracing::debug!(%shut, "the connection was down already");
            }
            return Err(error.into());
        }
        Ok(())
    }
}

impl Drop for LauncherClient {
    fn drop(&mut self) {
        let stream = self.stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(error) = stream.shutdown(Shutdown::Both) {
            tracing::debug!(%error, "the connection was down already");
        }
    }
}

/// The launcher's greeting, where it is one for us.
fn greeting(reading: &mut Reading, me: u32) -> Result<Event, ClientError> {
    match reading.next() {
        Ok(Event::Hello { version, .. }) if version != PROTOCOL_VERSION => {
            Err(ClientError::Version(version))
        }
        Ok(event @ Event::Hello { .. }) => Ok(event),
        Ok(Event::Disconnected { reason }) => Err(ClientError::SentAway(reason)),
        Ok(other) => Err(ClientError::SentAway(format!("it began with {other:?}"))),
        Err(reason) => {
            tracing::debug!(reason, "no greeting");
            Err(ClientError::Silent(me))
        }
    }
}

/// Events as they arrive.
struct Reading {
    stream: UnixStream,
    reader: FrameReader,
    chunk: Vec<u8>,
}

impl Reading {
    fn of(stream: UnixStream) -> Reading {
        Reading { stream, reader: FrameReader::default(), chunk: vec![0u8; 65_536] }
    }

    /// The next event, or why none comes any more.
    fn next(&mut self) -> Result<Event, String> {
        loop {
            match self.reader.next_message() {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
            match self.stream.read(&mut self.chunk) {
                Ok(0) => return Err("the launcher closed it".into()),
                Ok(len) => self.reader.feed(&self.chunk[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Connects to a launcher that says this and goes.
    fn met_with(said: Option<Event>) -> Result<LauncherClient, ClientError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("launcher.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let launcher = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            if let Some(event) = said {
                stream.write_all(&encode_frame(&event).unwrap()).unwrap();
            }
        });
        let met = LauncherClient::connect(&path, |_| {});
        launcher.join().unwrap();
        met
    }

    fn hello(version: u32) -> Event {
        Event::Hello { version, launcher: 1, guard: 0, specification: 0, cgroups: false }
    }

    #[test]
    fn who_is_not_welcome_is_told_why() {
        let reason = "uid 7 may give no orders".to_owned();
        let away = met_with(Some(Event::Disconnected { reason: reason.clone() }));
        assert!(matches!(away, Err(ClientError::SentAway(why)) if why == reason));
        let newer = met_with(Some(hello(PROTOCOL_VERSION + 1)));
        assert!(matches!(newer, Err(ClientError::Version(v)) if v == PROTOCOL_VERSION + 1));
        assert!(matches!(met_with(None), Err(ClientError::Silent(_))));
        assert!(met_with(Some(hello(PROTOCOL_VERSION))).is_ok());
    }
}
