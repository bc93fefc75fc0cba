//! Accepts TCP connections, a bounded number at once, and hands each to its own task.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Pause after a failed accept: out of file descriptors is the common cause, and passes.
const PAUSE: Duration = Duration::from_millis(5);

/// Accepts for ever. At most `connections_max` are served at once, more wait in the kernel's
/// queue. Nagle's delay is off: every message here is one small line that somebody waits for.
pub async fn accept_each<F, W>(listener: TcpListener, connections_max: usize, serve: F)
where
    F: Fn(TcpStream) -> W,
    W: Future<Output = io::Result<()>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(connections_max));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let accepted = listener.accept().await;
        match accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
            Ok(stream) => {
                let work = serve(stream);
                tokio::spawn(async move {
                    if let Err(error) = work.await {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
