//! The server's one lasting connection to the store: requests go out as they come, answers come
//! back in the same order. Whoever waits when the connection breaks learns that nothing is known.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::lines::read_line;
use super::wire::StoreRequest;

/// Most requests that wait for the store's answer.
pub const IN_FLIGHT_MAX: usize = 1_024;
/// Longest wait for an answer.
pub const ANSWER_WAIT: Duration = Duration::from_secs(2);
const CONNECT_WAIT: Duration = Duration::from_millis(500);
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Why there is no answer. Except where it was busy, the store may have acted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// The connection is broken or not there yet.
    #[error("the connection to the store is lost")]
    Lost,
    /// Too many requests wait already; this one was not sent.
    #[error("too many requests wait for the store")]
    Busy,
    /// No answer within [`ANSWER_WAIT`].
    #[error("the store does not answer")]
    Silent,
}

struct Call {
    line: String,
    answer: oneshot::Sender<String>,
}

/// A handle to the connection.
#[derive(Clone)]
pub struct Upstream {
    calls: mpsc::Sender<Call>,
}

impl Upstream {
    /// Connects in the background, and again whenever the connection breaks.
    #[must_use]
    pub fn connect(store: SocketAddr) -> Upstream {
        let (calls, queue) = mpsc::channel(IN_FLIGHT_MAX);
        tokio::spawn(keep_connected(store, queue));
        Upstream { calls }
    }

    /// Puts a request into the queue: whatever is begun later reaches the store later.
    ///
    /// # Errors
    /// [`UpstreamError::Busy`]; the request was not sent.
    pub fn begin(&self, request: &StoreRequest) -> Result<Answering, UpstreamError> {
        let (answer, answered) = oneshot::channel();
        let call = Call { line: format!("{request}\n"), answer };
        self.calls.try_send(call).map_err(|_| UpstreamError::Busy)?;
        Ok(Answering(answered))
    }

    /// Sends a request and waits for its line of answer.
    ///
    /// # Errors
    /// [`UpstreamError`]; the request may have had its effect all the same.
    pub async fn ask(&self, request: &StoreRequest) -> Result<String, UpstreamError> {
        self.begin(request)?.answer().await
    }
}

/// An answer that is on its way.
pub struct Answering(oneshot::Receiver<String>);

impl Answering {
    /// Waits for the line, at most [`ANSWER_WAIT`].
    ///
    /// # Errors
    /// [`UpstreamError::Lost`] and [`UpstreamError::Silent`].
    pub async fn answer(self) -> Result<String, UpstreamError> {
        match timeout(ANSWER_WAIT, self.0).await {
            Ok(answered) => answered.map_err(|_| UpstreamError::Lost),
            Err(_) => Err(UpstreamError::Silent),
        }
    }
}

async fn keep_connected(store: SocketAddr, mut queue: mpsc::Receiver<Call>) {
    while !queue.is_closed() {
        match timeout(CONNECT_WAIT, TcpStream::connect(store)).await {
            Ok(Ok(stream)) => {
                if let Err(error) = converse(stream, &mut queue).await {
                    tracing::warn!(%error, %store, "the connection to the store broke");
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, %store, "the store can't be reached"),
            Err(_) => tracing::warn!(%store, "the store doesn't accept connections"),
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
        // Whoever asked meanwhile is told at once (the dropped call says `Lost`).
        while queue.try_recv().is_ok() {}
    }
}

/// Carries requests and answers until the connection breaks or nobody can ask any more.
async fn converse(stream: TcpStream, queue: &mut mpsc::Receiver<Call>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let (waiting, mut next) = mpsc::channel::<oneshot::Sender<String>>(IN_FLIGHT_MAX);
    let mut reader = tokio::spawn(async move {
        let (mut read, mut line) = (BufReader::new(read), Vec::new());
        while let Some(answer) = read_line(&mut read, &mut line).await? {
            let unasked = || io::Error::new(io::ErrorKind::InvalidData, "an unasked answer");
            let asker = next.try_recv().map_err(|_| unasked())?;
            // An asker that gave up has dropped its end; its answer is no longer wanted.
            _ = asker.send(answer.to_owned());
        }
        Err(io::Error::from(io::ErrorKind::ConnectionAborted))
    });
    loop {
        let call = tokio::select! {
            call = queue.recv() => call,
            ended = &mut reader => return ended.map_err(io::Error::other)?,
        };
        let Some(Call { line, answer }) = call else {
            reader.abort();
            return Ok(());
        };
        // The place in the queue comes first: the answer may arrive before the write returns.
        if waiting.send(answer).await.is_err() {
            continue;
        }
        if let Err(error) = write.write_all(line.as_bytes()).await {
            reader.abort();
            return Err(error);
        }
    }
}
