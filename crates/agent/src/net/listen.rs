//! Binds listening sockets, also to addresses that are not there yet: a node whose second network
//! comes up late must not need a restart to be reached over it.

use std::net::{SocketAddr, TcpListener};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

/// Connections that the system holds for us until they are accepted.
pub const BACKLOG: i32 = 128;

/// An address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "can't listen on {address}: nodes and operators could not reach this node there; check that \
     no other program has the port, and that the port is above 1023 or granted"
)]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: std::io::Error,
}

/// Listens on an address, non-blocking. The address need not exist yet (`IP_FREEBIND`).
///
/// # Errors
/// [`ListenError`].
pub fn tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let failed = |source: rustix::io::Errno| ListenError { address, source: source.into() };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(failed)?;
    sockopt::set_socket_reuseaddr(&socket, true).map_err(failed)?;
    if address.is_ipv4() {
        sockopt::set_ip_freebind(&socket, true).map_err(failed)?;
    } else {
        sockopt::set_ipv6_v6only(&socket, true).map_err(failed)?;
        sockopt::set_ipv6_freebind(&socket, true).map_err(failed)?;
    }
    bind(&socket, &address).map_err(failed)?;
    listen(&socket, BACKLOG).map_err(failed)?;
    Ok(TcpListener::from(socket))
}
