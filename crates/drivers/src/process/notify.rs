//! The receiving end of `sd_notify`: a datagram socket per instance, lines of `NAME=value`
//! (sd_notify(3)). Only `READY=1` means something to the launcher.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Longest datagram read; longer ones are cut.
const DATAGRAM_BYTES_MAX: usize = 4_096;
/// Most datagrams read at one time.
const BURST_MAX: usize = 64;

/// Makes an instance's socket.
///
/// # Errors
/// What the file system says.
pub fn bind(path: &Path) -> io::Result<UnixDatagram> {
    super::plan::remove_stale(path)?;
    let socket = UnixDatagram::bind(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Reads what is there: whether the program said that it is ready.
///
/// # Errors
/// What the kernel says.
pub fn drain(socket: &UnixDatagram) -> io::Result<bool> {
    let mut buffer = [0u8; DATAGRAM_BYTES_MAX];
    let mut ready = false;
    for _ in 0..BURST_MAX {
        match socket.recv(&mut buffer) {
            Ok(len) => ready |= says_ready(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ready)
}

pub(crate) fn says_ready(datagram: &[u8]) -> bool {
    datagram.split(|b| *b == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_line_says_ready() {
        assert!(says_ready(b"STATUS=up\nREADY=1"));
        assert!(!says_ready(b"READY=10\nXREADY=1\nREADY=0"));
        assert!(!says_ready(b""));
    }
}
