//! The messages of `BASE_BACKUP` (`src/backend/backup/basebackup_copy.c`, and before 15
//! `src/backend/replication/basebackup.c`): archives, the manifest, where the backup ends.

use crate::error::{Result, VaultError};
use crate::postgres::server::Facts;
use crate::postgres::{ConnInfo, Connection, Lsn};
use bytes::{Buf, Bytes};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use std::io::{self, Read};
use std::time::Duration;

/// From here on all archives come in one copy, and each message says what it is.
const ONE_COPY: u32 = 150_000;
/// How long the server may be silent once it sends.
const PATIENCE: Duration = Duration::from_secs(600);
/// Tablespaces of one server.
const SPACES_MAX: usize = 64 << 10;
/// How this connection is called at the server.
const APPLICATION: &str = "backstay_backup";

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The archive of a tablespace, or of the data directory.
    Archive(Option<u32>),
    /// The manifest.
    Manifest,
    /// Bytes of what was announced last.
    Data(Bytes),
    /// All has come.
    End,
}

/// A base backup on its way. What was announced last is read from it as from a file.
pub(super) struct Incoming {
    connection: Connection,
    /// Of the copies to come, one each, before 15; then the manifest.
    copies: Option<std::vec::IntoIter<Option<u32>>>,
    /// What was read of the next part.
    data: Bytes,
    next: Option<Part>,
    failure: Option<VaultError>,
}

fn command(version: u32) -> &'static str {
    match version {
        ONE_COPY.. => {
            "BASE_BACKUP (LABEL 'backstay', CHECKPOINT 'fast', WAIT 0, TABLESPACE_MAP, \
             MANIFEST 'yes', MANIFEST_CHECKSUMS 'SHA256')"
        }
        _ => {
            "BASE_BACKUP LABEL 'backstay' FAST NOWAIT TABLESPACE_MAP MANIFEST 'yes' \
             MANIFEST_CHECKSUMS 'SHA256'"
        }
    }
}

impl Incoming {
    /// Begins the backup.
    ///
    /// # Errors
    /// The server's.
    pub(super) fn begin(info: &ConnInfo, facts: &Facts) -> Result<Incoming> {
        let mut connection = Connection::open_replication(info, APPLICATION)?;
        require_same(&mut connection, facts.system)?;
        connection.send(|out| frontend::query(command(facts.version), out))?;
        let mut rows = Vec::new();
        loop {
            match connection.message()? {
                Message::DataRow(body) if rows.len() <= SPACES_MAX => {
                    rows.push(connection.row_of(&body)?);
                }
                Message::DataRow(_) => {
                    let what = "the number of a server's tablespaces".to_owned();
                    return Err(VaultError::Limit { what, limit: SPACES_MAX as u64 });
                }
                Message::CopyOutResponse(_) => break,
                Message::ReadyForQuery(_) => return Err(connection.fail("it sent no backup")),
                _ => {}
            }
        }
        connection.set_patience(PATIENCE)?;
        // The first row is where the backup begins; its label says so, too.
        let number = |row: &crate::postgres::Row| row.first()?.as_ref()?.parse().ok();
        let spaces: Vec<Option<u32>> = rows.iter().skip(1).map(number).collect();
        let copies = (facts.version < ONE_COPY).then(|| spaces.into_iter());
        let (data, failure) = (Bytes::new(), None);
        let mut incoming = Incoming { connection, copies, data, next: None, failure };
        incoming.next = incoming.announced();
        Ok(incoming)
    }

    /// What a copy that begins now holds, where each holds one thing.
    fn announced(&mut self) -> Option<Part> {
        let copies = self.copies.as_mut()?;
        Some(copies.next().map_or(Part::Manifest, Part::Archive))
    }

    /// The next part.
    ///
    /// # Errors
    /// Where the connection dies or the server gives up.
    pub(super) fn part(&mut self) -> Result<Part> {
        if let Some(part) = self.next.take() {
            return Ok(part);
        }
        loop {
            match self.connection.message()? {
                Message::CopyData(body) if self.copies.is_some() => {
                    return Ok(Part::Data(body.into_bytes()));
                }
                Message::CopyData(body) => match copy_message(body.into_bytes()) {
                    Some(Some(part)) => return Ok(part),
                    Some(None) => {}
                    None => {
                        return Err(self.connection.fail("its backup holds an unknown message"));
                    }
                },
                Message::CopyDone if self.copies.is_some() => {}
                Message::CopyDone => return Ok(Part::End),
                Message::CopyOutResponse(_) => {
                    let what = "its backup has more parts than were announced";
                    return self.announced().ok_or_else(|| self.connection.fail(what));
                }
                // Before 15, what follows the last copy.
                Message::RowDescription(_) if self.copies.is_some() => return Ok(Part::End),
                _ => return Err(self.connection.fail("its backup broke off")),
            }
        }
    }

    /// Why reading failed, where it did.
    pub(super) fn take_failure(&mut self) -> Option<VaultError> {
        self.failure.take()
    }

    /// Where the backup ends in the log; the server has checked its pages by now.
    ///
    /// # Errors
    /// The server's.
    pub(super) fn end(mut self) -> Result<Lsn> {
        let rows = self.connection.rows()?;
        let end = rows.first().and_then(|row| Lsn::parse(row.first()?.as_ref()?));
        end.ok_or_else(|| self.connection.fail("it does not say where its backup ends"))
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.data.is_empty() {
            if self.next.is_some() {
                return Ok(0);
            }
            match self.part() {
                Ok(Part::Data(bytes)) => self.data = bytes,
                Ok(other) => self.next = Some(other),
                Err(error) => {
                    let broken = io::Error::other("the server's backup broke off");
                    self.failure = Some(error);
                    return Err(broken);
                }
            }
        }
        let length = self.data.len().min(buffer.len());
        self.data.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Refuses a connection that leads to another system than the first did, as through a pool.
pub(super) fn require_same(connection: &mut Connection, system: u64) -> Result<()> {
    let row = connection.row("IDENTIFY_SYSTEM", 4)?;
    match row[0].parse() == Ok(system) {
        true => Ok(()),
        false => Err(connection.fail("two connections to it led to two database systems")),
    }
}

/// What a message says, from 15 on: a part, or nothing of interest. None where it is unknown.
pub(crate) fn copy_message(mut bytes: Bytes) -> Option<Option<Part>> {
    match bytes.try_get_u8().ok()? {
        b'n' => {
            let mut names = bytes.split(|b| *b == 0);
            let name = std::str::from_utf8(names.next()?).ok()?;
            let number = name.strip_suffix(".tar")?;
            let space = if number == "base" { None } else { Some(number.parse().ok()?) };
            Some(Some(Part::Archive(space)))
        }
        b'm' => Some(Some(Part::Manifest)),
        b'd' => Some(Some(Part::Data(bytes))),
        // Progress.
        b'p' => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_what_their_first_byte_says() {
        let read = |bytes: &'static [u8]| copy_message(Bytes::from_static(bytes));
        assert_eq!(read(b"nbase.tar\0\0"), Some(Some(Part::Archive(None))));
        assert_eq!(read(b"n16385.tar\0/srv/space\0"), Some(Some(Part::Archive(Some(16385)))));
        assert_eq!(read(b"m"), Some(Some(Part::Manifest)));
        assert_eq!(read(b"dabc"), Some(Some(Part::Data(Bytes::from_static(b"abc")))));
        assert_eq!(read(b"p\0\0\0\0\0\0\0\x09"), Some(None));
        for unknown in [&b""[..], b"x", b"nbase", b"n../x.tar\0", b"n-1.tar\0"] {
            assert_eq!(read(unknown), None, "{unknown:?}");
        }
    }
}
