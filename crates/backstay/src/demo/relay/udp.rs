//! Relays datagrams. What a closed direction gets, or what finds no room, vanishes and is counted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::Route;
use super::gates::Gates;

/// Largest datagram carried; nothing larger fits an IPv4 packet.
const DATAGRAM_MAX: usize = 65_507;
/// Pause after an error of the socket, so that a lasting one does not burn the processor.
const PAUSE: Duration = Duration::from_millis(5);

/// Binds the route's address and starts to carry.
pub(super) async fn start(route: Route, gates: Arc<Gates>) -> io::Result<()> {
    let socket = UdpSocket::bind(route.listen).await?;
    tokio::spawn(carry(socket, route, gates));
    Ok(())
}

/// What comes from the target is an answer and goes back to whoever sent last.
async fn carry(socket: UdpSocket, route: Route, gates: Arc<Gates>) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut origin = None;
    loop {
        let (length, sender) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, listen = %route.listen, "a relay can't receive");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (direction, to) = if sender == route.target {
            (route.direction.reversed(), origin)
        } else {
            origin = Some(sender);
            (route.direction, Some(route.target))
        };
        let sent = match to {
            Some(to) if gates.is_open(direction) => socket.try_send_to(&buffer[..length], to),
            _ => Err(io::ErrorKind::NotConnected.into()),
        };
        if sent.is_err() {
            gates.count_dropped();
        }
    }
}
