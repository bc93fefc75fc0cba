//! Relays connections. While a direction is closed its bytes wait, as behind a pulled cable: the
//! sender's buffers fill, nobody is told, and what was sent arrives when the way is open again.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Route;
use super::gates::{Direction, Gates};
use crate::orders::accept::accept_each;

/// Most connections of one route; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 64;
/// Bytes held for each direction of a connection.
const BUFFER_BYTES: usize = 16 * 1024;

/// Binds the route's address and starts to carry.
pub(super) async fn start(route: Route, gates: Arc<Gates>) -> io::Result<()> {
    let listener = TcpListener::bind(route.listen).await?;
    tokio::spawn(accept_each(listener, CONNECTIONS_MAX, move |stream| {
        connect(stream, route, Arc::clone(&gates))
    }));
    Ok(())
}

async fn connect(near: TcpStream, route: Route, gates: Arc<Gates>) -> io::Result<()> {
    gates.opened(route.direction).await;
    let far = TcpStream::connect(route.target).await?;
    far.set_nodelay(true)?;
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let there = pump(near_read, far_write, route.direction, &gates);
    let back = pump(far_read, near_write, route.direction.reversed(), &gates);
    // One side that fails takes the other with it; one that ends lets the other finish.
    tokio::try_join!(there, back).map(|_| ())
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    gates: &Gates,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        gates.opened(direction).await;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}
