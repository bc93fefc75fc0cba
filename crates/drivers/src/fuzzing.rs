//! What fuzz targets need of readers that no other crate calls. Nothing else calls it.

use crate::{address, launcher, process};

/// Reads what a program writes to its `BACKSTAY_SOCKET`; how many lines were understood.
#[must_use]
pub fn program_lines(bytes: &[u8]) -> Option<usize> {
    launcher::fuzzing::program_lines(bytes)
}

/// Reads a line of the launcher as an address's keeper does. Whether it is one.
#[must_use]
pub fn keeper_line(line: &[u8]) -> bool {
    address::fuzzing::keeper_line(line)
}

/// Reads a datagram of the kernel's routing tables; how many addresses and interfaces it lists.
#[must_use]
pub fn netlink(datagram: &[u8]) -> usize {
    address::fuzzing::netlink(datagram)
}

/// Reads a line of `/etc/passwd` for the number of a user. Whether it is there.
#[must_use]
pub fn passwd(user: &str, text: &str) -> bool {
    process::user::number_from(user, text).is_ok()
}

/// Reads a datagram of `sd_notify`.
#[must_use]
pub fn says_ready(datagram: &[u8]) -> bool {
    process::notify::says_ready(datagram)
}

/// Reads the launcher's book of epochs, and what a guard stated; how many resources it knows.
#[must_use]
pub fn epochs(book: &str, statements: &str) -> usize {
    launcher::fuzzing::epochs(book, statements)
}
