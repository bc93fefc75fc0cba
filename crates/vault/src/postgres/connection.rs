//! One connection to a server, for queries and for the replication stream. The messages and
//! the logins are postgres-protocol's; the replication stream's one further message is read here.

use super::Lsn;
use super::conninfo::{ConnInfo, Endpoint};
use super::status::StatusWriter;
use super::tls;
use crate::error::{Result, VaultError};
use bytes::{Buf, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{DataRowBody, ErrorFields, Header, Message};
use postgres_protocol::message::frontend;
use rustix::net::sockopt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The largest message that a server may send us: a row or a piece of the log.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Rows of one answer.
const ROWS_MAX: usize = 1 << 20;
/// How long a server may take for one answer. A checkpoint may come before the beginning of a
/// backup, so this is generous.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long a machine may take to take a connection, and for each step of TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long each answer of a login may take: a server gives up after a minute, too.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// After so much silence it is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(30);
const COPY_BOTH_TAG: u8 = b'W';
/// Warnings of a server that an error of its is told with.
const WARNINGS_MAX: usize = 8;
/// Room for one read.
const READ_BYTES: usize = 256 << 10;

/// A row: each column as text, or null.
pub type Row = Vec<Option<String>>;

pub(super) trait Stream: Read + Write + Send {
    fn set_wait(&self, wait: Option<Duration>) -> io::Result<()>;
    fn duplicate(&self) -> io::Result<Box<dyn Stream>>;
}

impl Stream for UnixStream {
    fn set_wait(&self, wait: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(wait)
    }

    fn duplicate(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.try_clone()?))
    }
}

impl Stream for TcpStream {
    fn set_wait(&self, wait: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(wait)
    }

    fn duplicate(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.try_clone()?))
    }
}

/// A connection.
pub struct Connection {
    stream: Box<dyn Stream>,
    input: BytesMut,
    scratch: Vec<u8>,
    shown: String,
    /// What the server warned of before an error.
    warnings: Vec<String>,
}

/// What the replication stream brings.
pub enum CopyMessage {
    /// Bytes of the log.
    Wal {
        /// Where they begin.
        start: Lsn,
        /// How far the server itself is.
        server_end: Lsn,
        /// They.
        bytes: bytes::Bytes,
    },
    /// A sign of life.
    Alive {
        /// How far the server is.
        server_end: Lsn,
        /// Whether it waits for an answer.
        reply: bool,
    },
    /// The timeline has ended.
    Done,
}

impl Connection {
    /// Connects for queries.
    ///
    /// # Errors
    /// Where the server is not there or refuses.
    pub fn open(info: &ConnInfo) -> Result<Connection> {
        Connection::open_as(info, &[("application_name", "backstay")])
    }

    /// Connects for the replication stream, under a name that `synchronous_standby_names` may
    /// hold.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn open_replication(info: &ConnInfo, name: &str) -> Result<Connection> {
        Connection::open_as(info, &[("application_name", name), ("replication", "true")])
    }

    /// The same for a connection that is silent for long: the server is not to end it for that.
    pub(super) fn open_idle_replication(info: &ConnInfo, name: &str) -> Result<Connection> {
        let patience = ("options", "-c idle_session_timeout=0");
        let all = [("application_name", name), ("replication", "true"), patience];
        Connection::open_as(info, &all)
    }

    fn open_as(info: &ConnInfo, parameters: &[(&str, &str)]) -> Result<Connection> {
        let shown = info.shown();
        let failed = |error: io::Error| failure(&shown, error.to_string());
        let stream: Box<dyn Stream> = match info.endpoint()? {
            Endpoint::Socket(path) => Box::new(UnixStream::connect(path).map_err(failed)?),
            Endpoint::Loopback(ip, port) => {
                Box::new(connect(SocketAddr::new(ip, port)).map_err(failed)?)
            }
            Endpoint::Tls(host, port, check) => {
                let socket = connect_by_name(&host, port).map_err(failed)?;
                Box::new(tls::begin(socket, info, check)?)
            }
        };
        stream.set_wait(Some(LOGIN_TIMEOUT)).map_err(failed)?;
        let input = BytesMut::with_capacity(READ_BYTES);
        let scratch = vec![0; READ_BYTES];
        let mut connection = Connection { stream, input, scratch, shown, warnings: Vec::new() };
        let mut all = vec![("user", info.user.as_str()), ("client_encoding", "UTF8")];
        all.extend([("database", info.dbname.as_str()), ("datestyle", "ISO")]);
        all.extend(parameters);
        connection.send(|out| frontend::startup_message(all.iter().copied(), out))?;
        connection.log_in(info)?;
        connection.set_patience(ANSWER_TIMEOUT)?;
        Ok(connection)
    }

    pub(super) fn fail(&self, what: impl Into<String>) -> VaultError {
        failure(&self.shown, what)
    }

    pub(super) fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<()> {
        let mut out = BytesMut::new();
        let sent = write(&mut out).and_then(|()| self.stream.write_all(&out));
        sent.map_err(|e| self.fail(e.to_string()))
    }

    /// Reads more; false where nothing came in time.
    fn fill(&mut self) -> Result<bool> {
        match self.stream.read(&mut self.scratch) {
            Ok(0) => Err(self.fail("the server closed the connection")),
            Ok(length) => {
                self.input.extend_from_slice(&self.scratch[..length]);
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(e) => Err(self.fail(e.to_string())),
        }
    }

    /// The tag of the next message, once it is here whole.
    fn peek(&mut self) -> Result<Option<(u8, usize)>> {
        let header = Header::parse(&self.input).map_err(|e| self.fail(e.to_string()))?;
        let Some(header) = header else { return Ok(None) };
        let length = header.len() as usize + 1;
        if length > MESSAGE_BYTES_MAX {
            let what = "the length of a server's message".to_owned();
            return Err(VaultError::Limit { what, limit: MESSAGE_BYTES_MAX as u64 });
        }
        Ok((self.input.len() >= length).then_some((header.tag(), length)))
    }

    /// The next message that is no notice; an error of the server's is an error here.
    pub(super) fn message(&mut self) -> Result<Message> {
        loop {
            while self.peek()?.is_none() {
                if !self.fill()? {
                    return Err(self.fail("the server did not answer"));
                }
            }
            let message = Message::parse(&mut self.input).map_err(|e| self.fail(e.to_string()))?;
            match message {
                Some(Message::NoticeResponse(body)) => self.warned(body.fields()),
                Some(Message::ParameterStatus(_)) | None => {}
                Some(Message::ErrorResponse(body)) => return Err(self.told(body.fields())),
                Some(message) => return Ok(message),
            }
        }
    }

    fn told(&mut self, fields: ErrorFields<'_>) -> VaultError {
        let said = Said::read(fields);
        let before = std::mem::take(&mut self.warnings);
        let before = before.iter().map(|warning| format!("; before it: {warning}"));
        self.fail(format!("{} [{}]{}", said.text, said.code, before.collect::<String>()))
    }

    fn warned(&mut self, fields: ErrorFields<'_>) {
        let said = Said::read(fields);
        if said.severity == "WARNING" && self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(said.text);
        }
    }

    fn log_in(&mut self, info: &ConnInfo) -> Result<()> {
        let needed = || {
            let what = "the server asks for a password: set PGPASSWORD, or let pg_hba.conf trust \
                        this user on the socket (`peer`)";
            failure(&info.shown(), what)
        };
        loop {
            match self.message()? {
                Message::AuthenticationOk | Message::BackendKeyData(_) => {}
                Message::ReadyForQuery(_) => return Ok(()),
                Message::AuthenticationCleartextPassword => {
                    let password = info.password().ok_or_else(needed)?.to_owned();
                    self.send(|out| frontend::password_message(password.as_bytes(), out))?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let password = info.password().ok_or_else(needed)?;
                    let hash = md5_hash(info.user.as_bytes(), password.as_bytes(), body.salt());
                    self.send(|out| frontend::password_message(hash.as_bytes(), out))?;
                }
                Message::AuthenticationSasl(_) => {
                    let password = info.password().ok_or_else(needed)?.to_owned();
                    self.scram(password.as_bytes())?;
                }
                _ => return Err(self.fail("the server asks for a login that we don't know")),
            }
        }
    }

    fn scram(&mut self, password: &[u8]) -> Result<()> {
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
        let first = scram.message().to_vec();
        self.send(|out| frontend::sasl_initial_response(SCRAM_SHA_256, &first, out))?;
        let Message::AuthenticationSaslContinue(body) = self.message()? else {
            return Err(self.fail("the server broke off the login"));
        };
        scram.update(body.data()).map_err(|e| self.fail(e.to_string()))?;
        let answer = scram.message().to_vec();
        self.send(|out| frontend::sasl_response(&answer, out))?;
        let Message::AuthenticationSaslFinal(body) = self.message()? else {
            return Err(self.fail("the server broke off the login"));
        };
        scram.finish(body.data()).map_err(|e| self.fail(e.to_string()))
    }

    /// Runs a query and returns its rows.
    ///
    /// # Errors
    /// The server's.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Row>> {
        self.warnings.clear();
        self.send(|out| frontend::query(sql, out))?;
        self.rows()
    }

    /// A row's columns as text.
    pub(super) fn row_of(&self, body: &DataRowBody) -> Result<Row> {
        let text = |range: Option<std::ops::Range<usize>>| {
            let bytes = range.map(|r| &body.buffer()[r]);
            Ok(bytes.map(|b| String::from_utf8_lossy(b).into_owned()))
        };
        body.ranges().map(text).collect().map_err(|e| self.fail(e.to_string()))
    }

    /// The rows up to where the server is ready again.
    pub(super) fn rows(&mut self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            match self.message() {
                Ok(Message::ReadyForQuery(_)) => break,
                Ok(Message::DataRow(body)) if rows.len() < ROWS_MAX => {
                    rows.push(self.row_of(&body)?);
                }
                Ok(Message::DataRow(_)) => {
                    let what = "the number of rows of an answer".to_owned();
                    return Err(VaultError::Limit { what, limit: ROWS_MAX as u64 });
                }
                Ok(_) => {}
                // The server is ready again after its error.
                Err(error @ VaultError::Postgres { .. }) if failed.is_none() => {
                    failed = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(rows), Err)
    }

    /// Runs a query that has one row, and returns it.
    ///
    /// # Errors
    /// The server's, and where there are more or fewer columns or rows.
    pub fn row(&mut self, sql: &str, columns: usize) -> Result<Vec<String>> {
        let rows = self.query(sql)?;
        let row = rows.into_iter().next().filter(|row| row.len() == columns);
        let row = row.map(|r| r.into_iter().map(Option::unwrap_or_default).collect());
        row.ok_or_else(|| self.fail(format!("`{sql}` had another answer than it should")))
    }

    /// Begins to stream the log from a position on.
    ///
    /// # Errors
    /// Where the server no longer has it, or the slot is in use.
    pub fn start_replication(&mut self, slot: &str, from: Lsn, timeline: u32) -> Result<()> {
        let slot = quoted(slot);
        let command = format!("START_REPLICATION SLOT {slot} PHYSICAL {from} TIMELINE {timeline}");
        self.send(|out| frontend::query(&command, out))?;
        loop {
            match self.peek()? {
                None => {
                    self.fill()?;
                }
                Some((COPY_BOTH_TAG, length)) => {
                    self.input.advance(length);
                    return Ok(());
                }
                Some(_) => match self.message()? {
                    Message::CommandComplete(_) | Message::DataRow(_) => {
                        // The requested timeline ended right where we are.
                        return Err(self.fail("the timeline has ended at this position"));
                    }
                    _ => {}
                },
            }
        }
    }

    /// The next message of the stream; nothing where none came within `wait`. With no wait at
    /// all, only what has arrived already is looked at.
    ///
    /// # Errors
    /// Where the connection or the server fails.
    pub fn stream_next(&mut self, wait: Option<Duration>) -> Result<Option<CopyMessage>> {
        while self.peek()?.is_none() {
            // A time-out of zero would mean none: a millisecond is the shortest.
            let wait = wait.unwrap_or(Duration::ZERO).max(Duration::from_millis(1));
            self.stream.set_wait(Some(wait)).map_err(|e| self.fail(e.to_string()))?;
            if !self.fill()? {
                return Ok(None);
            }
        }
        match self.message()? {
            Message::CopyDone => Ok(Some(CopyMessage::Done)),
            Message::CopyData(body) => match parse_copy(body.into_bytes()) {
                Some(message) => Ok(Some(message)),
                None => Err(self.fail("the stream holds a message that we don't know")),
            },
            _ => Err(self.fail("the stream broke off")),
        }
    }

    /// How long one answer may take from here on.
    pub(super) fn set_patience(&mut self, patience: Duration) -> Result<()> {
        self.stream.set_wait(Some(patience)).map_err(|e| self.fail(e.to_string()))
    }

    /// Whether a whole message has arrived already.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn has_more(&mut self) -> Result<bool> {
        Ok(self.peek()?.is_some())
    }

    /// What tells the server how far the log is written and durable here, beside whoever reads
    /// the stream.
    ///
    /// # Errors
    /// Where the system has no more file descriptors.
    pub(crate) fn status_writer(&self) -> Result<StatusWriter> {
        let stream = self.stream.duplicate().map_err(|e| self.fail(e.to_string()))?;
        Ok(StatusWriter::new(stream, self.shown.clone()))
    }

    /// Ends the stream on our side and reads what the server says of the next timeline: its
    /// number and where it begins.
    ///
    /// # Errors
    /// Where the connection fails.
    pub fn finish_stream(&mut self) -> Result<Option<(u32, Lsn)>> {
        self.stream.set_wait(Some(ANSWER_TIMEOUT)).map_err(|e| self.fail(e.to_string()))?;
        self.send(|out| {
            frontend::copy_done(out);
            Ok(())
        })?;
        let rows = self.rows()?;
        Ok(rows.first().and_then(|row| {
            let timeline = row.first()?.as_ref()?.parse().ok()?;
            Some((timeline, Lsn::parse(row.get(1)?.as_ref()?)?))
        }))
    }
}

/// Whoever has the name and answers first, in the order of the addresses.
fn connect_by_name(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match connect(address) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    // A machine that vanished closes nothing: silence ends the connection.
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, SILENCE)?;
    sockopt::set_tcp_keepintvl(&stream, SILENCE / 3)?;
    sockopt::set_tcp_keepcnt(&stream, 3)?;
    // For the steps of TLS.
    stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    Ok(stream)
}

/// What an error or a notice says.
#[derive(Default)]
struct Said {
    severity: String,
    code: String,
    text: String,
}

impl Said {
    fn read(mut fields: ErrorFields<'_>) -> Said {
        let mut said = Said::default();
        while let Ok(Some(field)) = fields.next() {
            let value = String::from_utf8_lossy(field.value_bytes());
            match field.type_() {
                b'V' => said.severity = value.into_owned(),
                b'M' => said.text = value.into_owned(),
                b'C' => said.code = value.into_owned(),
                b'H' | b'D' => said.text += &format!(" ({value})"),
                _ => {}
            }
        }
        said
    }
}

/// A name as an SQL identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text as an SQL literal.
pub(super) fn literal(text: &str) -> String {
    postgres_protocol::escape::escape_literal(text)
}

pub(super) fn failure(server: &str, what: impl Into<String>) -> VaultError {
    VaultError::Postgres { server: server.to_owned(), what: what.into() }
}

pub(super) fn parse_copy(mut bytes: bytes::Bytes) -> Option<CopyMessage> {
    let kind = bytes.try_get_u8().ok()?;
    let start = Lsn(bytes.try_get_u64().ok()?);
    match kind {
        b'w' => {
            let server_end = Lsn(bytes.try_get_u64().ok()?);
            bytes.try_get_u64().ok()?;
            Some(CopyMessage::Wal { start, server_end, bytes })
        }
        b'k' => {
            bytes.try_get_u64().ok()?;
            let reply = bytes.try_get_u8().ok()? != 0;
            Some(CopyMessage::Alive { server_end: start, reply })
        }
        _ => None,
    }
}
