//! The agent's end of the connection to the launcher.
//!
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

/// Why the launcher can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection.
    #[error("the launcher can't be reached: is `backstay launcher` running on this node?")]
    Io(#[from] io::Error),
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
        let stream = UnixStream::connect(path)?;
        let peer = packet::peer(&stream)?;
        if !packet::trusted(peer, None) {
            return Err(ClientError::Stranger(peer.uid));
        }
        stream.set_write_timeout(Some(SEND_TIMEOUT))?;
        let reading = stream.try_clone()?;
        std::thread::Builder::new().name("launcher-events".into()).spawn(move || {
            let reason = read_on(reading, &on_event);
            on_event(Event::Disconnected { reason });
        })?;
        let client = LauncherClient { stream: Mutex::new(stream) };
        client.send(&Request::Hello { version: PROTOCOL_VERSION })?;
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

/// Reads until the connection ends; why it did.
fn read_on(mut stream: UnixStream, on_event: &impl Fn(Event)) -> String {
    let mut reader = FrameReader::default();
    let mut chunk = vec![0u8; 65_536];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return "the launcher closed it".into(),
            Ok(len) => reader.feed(&chunk[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return error.to_string(),
        }
        loop {
            match reader.next_message() {
                Ok(Some(event)) => on_event(event),
                Ok(None) => break,
                Err(error) => return error.to_string(),
            }
        }
    }
}
