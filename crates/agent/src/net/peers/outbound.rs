//! The connection that this node dials to one peer, for what it has to say to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::frame::{self, FrameError, Hello, Kind, PART_MAX, Reader};
use super::queue::Queue;
use super::{Peer, RETRY_MAX, RETRY_MIN, Shared, stats};
use crate::identity::Caller;
use crate::net::counters::Undelivered;
use crate::net::tls::{Configs, PEER_PROTOCOL};
use crate::net::verify::Refusal;

/// A ping and a pong are due so many times within the time after which a connection is given up.
pub(super) const TICKS: u32 = 4;
/// About as many bytes are written before we look for something more urgent.
const BATCH: usize = 256 << 10;
/// What the system may hold of ours, in bytes: more would only wait behind a slow link.
const SEND_BUFFER: usize = 512 << 10;

type Tls = TlsStream<TcpStream>;

/// Why a peer can't be reached over one link.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("{0} does not answer in time")]
    Timeout(SocketAddr),
    #[error("{address} can't be reached: {error}")]
    Connect { address: SocketAddr, error: std::io::Error },
    #[error("{address} is not the peer: {detail}")]
    Identity { address: SocketAddr, detail: String },
    #[error("{address} refuses: {detail}")]
    Refused { address: SocketAddr, detail: String },
}

/// Keeps one peer connected.
pub(super) struct Dialler {
    pub(super) shared: Arc<Shared>,
    pub(super) replica: u64,
    pub(super) peer: watch::Receiver<Peer>,
    pub(super) queue: Arc<Queue>,
    pub(super) cell: Arc<stats::Cell>,
}

impl Dialler {
    /// Dials link after link until the task is aborted.
    pub(super) async fn run(mut self) {
        let (mut link, mut pause) = (0_usize, RETRY_MIN);
        loop {
            let peer = self.peer.borrow_and_update().clone();
            if peer.addresses.is_empty() {
                self.cell.disconnected(format!("{} has no address", peer.name));
                if self.peer.changed().await.is_err() {
                    return;
                }
                continue;
            }
            link %= peer.addresses.len();
            match self.connect(&peer, link as u8).await {
                Ok((reader, writer, caller)) => {
                    let since = Instant::now();
                    self.cell.connected(link as u8);
                    let error = self.speak(&peer, reader, writer, &caller).await;
                    // One that is taken and dropped again must not be dialled in a tight loop.
                    if since.elapsed() > RETRY_MAX {
                        pause = RETRY_MIN;
                    }
                    tracing::info!(peer = %peer.name, link, error, "peer connection lost");
                    self.cell.disconnected(error);
                }
                Err(error) => {
                    tracing::debug!(peer = %peer.name, link, %error, "peer not reached");
                    self.cell.disconnected(error.to_string());
                }
            }
            link += 1;
            // All links at once, then a pause: a cut link costs no time before the next.
            if link >= peer.addresses.len() {
                let pausing = sleep(jittered(pause));
                pause = (pause * 2).min(RETRY_MAX);
                tokio::select! {
                    () = pausing => {}
                    changed = self.peer.changed() => if changed.is_err() { return },
                }
            }
        }
    }

    async fn connect(
        &self,
        peer: &Peer,
        link: u8,
    ) -> Result<(Reader<ReadHalf<Tls>>, WriteHalf<Tls>, Caller), DialError> {
        let options = &self.shared.options;
        let stated = peer.addresses[link as usize];
        let address = options.dial.peer(&peer.name, link, stated);
        let late = |_| DialError::Timeout(address);
        let broken = |error| DialError::Connect { address, error };
        let stream = timeout(options.stall / 2, TcpStream::connect(address))
            .await
            .map_err(late)?
            .map_err(broken)?;
        prepare(&stream, options.stall);
        let until = Instant::now() + options.handshake.min(options.stall * 2);
        let configs = self.shared.tls.now();
        let config = Arc::clone(&configs.peer_client);
        let name = ServerName::IpAddress(address.ip().into());
        let tls = timeout_at(until, TlsConnector::from(config).connect(name, stream))
            .await
            .map_err(late)?
            .map_err(|error| match Refusal::behind(&error) {
                Some(refusal) => DialError::Identity { address, detail: refusal.to_string() },
                None => DialError::Connect { address, error },
            })?;
        let caller = check_name(&tls, peer, &configs)
            .map_err(|detail| DialError::Identity { address, detail })?;
        let (reader, mut writer) = tokio::io::split(tls);
        let mut reader = Reader::new(reader);
        timeout_at(until, writer.write_all(&self.hello(peer)))
            .await
            .map_err(late)?
            .map_err(broken)?;
        let refused = |detail: String| DialError::Refused { address, detail };
        match timeout_at(until, reader.next()).await.map_err(late)? {
            Ok((Kind::Welcome, _)) => Ok((reader, writer, caller)),
            Ok((Kind::Superseded, body)) => {
                let number = <[u8; 8]>::try_from(&body[..]).map_or(0, u64::from_be_bytes);
                options.generations.told(&caller, number);
                Err(refused(format!("it is of generation {number} of the cluster")))
            }
            Ok((Kind::Refusal, why)) => {
                Err(refused(String::from_utf8_lossy(&why).chars().take(200).collect()))
            }
            Ok((kind, _)) => Err(refused(format!("it answers hello with {kind:?}"))),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    fn hello(&self, peer: &Peer) -> BytesMut {
        let hello = Hello {
            version: frame::VERSION,
            cluster: self.shared.tls.now().caller.cluster,
            from: self.shared.replica,
            to: self.replica,
            to_name: peer.name.clone(),
            generation: self.shared.options.generations.mine(),
        };
        let body = postcard::to_allocvec(&hello).expect("a hello can be encoded");
        let mut out = BytesMut::new();
        frame::write(Kind::Hello, &body, &mut out);
        out
    }

    /// Sends what the queue holds until the connection fails, stalls, or the peer has moved.
    /// Returns why it ended.
    async fn speak(
        &mut self,
        peer: &Peer,
        mut reader: Reader<ReadHalf<Tls>>,
        mut writer: WriteHalf<Tls>,
        caller: &Caller,
    ) -> String {
        let stall = self.shared.options.stall;
        let (queue, cell) = (Arc::clone(&self.queue), Arc::clone(&self.cell));
        let mut unsent = Unsent { shared: &self.shared, cell: &cell, messages: Vec::new() };
        tokio::select! {
            error = write(&queue, &mut writer, stall / TICKS, &mut unsent) => error.to_string(),
            error = watch_answers(&mut reader, stall, caller, &self.shared.tls) => error,
            () = moved(&mut self.peer, peer) => "its addresses have changed".to_string(),
        }
    }
}

/// Small messages that were taken from the queue; those still in here when the connection ends
/// are lost with it, and counted.
struct Unsent<'a> {
    shared: &'a Shared,
    cell: &'a stats::Cell,
    messages: Vec<Bytes>,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        for _ in &self.messages {
            self.shared.options.counters.message_undelivered(Undelivered::Broken);
            self.cell.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes: all small messages first, then a part of a large one, and a ping when one is due.
async fn write(
    queue: &Queue,
    writer: &mut WriteHalf<Tls>,
    ping_every: Duration,
    unsent: &mut Unsent<'_>,
) -> FrameError {
    let mut pings = tokio::time::interval(ping_every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut out = BytesMut::with_capacity(BATCH + PART_MAX);
    let mut large: Option<(Bytes, usize)> = None;
    loop {
        queue.take_small(BATCH, &mut unsent.messages);
        for message in &unsent.messages {
            frame::write(Kind::Message, message, &mut out);
        }
        if large.is_none() {
            large = queue.large().map(|message| (message, 0));
        }
        let mut large_done = false;
        if let Some((message, written)) = &mut large {
            let end = (*written + PART_MAX).min(message.len());
            large_done = end == message.len();
            let kind = if large_done { Kind::Last } else { Kind::Part };
            frame::write(kind, &message[*written..end], &mut out);
            *written = end;
        }
        if out.is_empty() {
            tokio::select! {
                () = queue.filled() => continue,
                _ = pings.tick() => frame::write(Kind::Ping, b"", &mut out),
            }
        }
        let written = async {
            writer.write_all(&out).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            return error.into();
        }
        let mut whole = unsent.messages.len() as u64;
        if large_done {
            queue.large_done();
            large = None;
            whole += 1;
        }
        unsent.cell.sent.fetch_add(whole, Ordering::Relaxed);
        unsent.messages.clear();
        out.clear();
    }
}

/// Reads the pongs. Whatever arrives shows that what we send gets through.
/// At each one we look whether what the connection rests on still stands.
async fn watch_answers(
    reader: &mut Reader<ReadHalf<Tls>>,
    stall: Duration,
    caller: &Caller,
    tls: &crate::net::Tls,
) -> String {
    loop {
        if let Some(why) = tls.lost(caller) {
            return why.to_string();
        }
        match timeout(stall, reader.next()).await {
            Err(_) => return format!("nothing moved for {} ms", stall.as_millis()),
            Ok(Ok((Kind::Pong, _))) => {}
            Ok(Ok((kind, _))) => return format!("it sent a {kind:?}, which has no place here"),
            Ok(Err(error)) => return error.to_string(),
        }
    }
}

/// Resolves when the addresses are no longer those we dialled.
async fn moved(watched: &mut watch::Receiver<Peer>, dialled: &Peer) {
    let changed = watched.wait_for(|peer| peer != dialled).await.is_ok();
    if !changed {
        // The transport is going away, and this task with it.
        std::future::pending::<()>().await;
    }
}

fn check_name(tls: &Tls, peer: &Peer, configs: &Configs) -> Result<Caller, String> {
    let connection = tls.get_ref().1;
    if connection.alpn_protocol() != Some(PEER_PROTOCOL) {
        return Err("it does not speak the peer protocol".to_string());
    }
    let chain = connection.peer_certificates().unwrap_or_default();
    let caller = configs.caller(chain).map_err(|error| error.to_string())?;
    if caller.name == peer.name {
        return Ok(caller);
    }
    Err(format!("its certificate says {}, and {} was expected there", caller.name, peer.name))
}

/// Socket options of every peer connection. They make it better, not right: where one fails, the
/// pings still find out.
pub(super) fn prepare(stream: &TcpStream, stall: Duration) {
    use rustix::net::sockopt;
    let user_timeout_ms = u32::try_from(stall.as_millis()).unwrap_or(u32::MAX);
    let outcome = sockopt::set_tcp_nodelay(stream, true)
        .and_then(|()| sockopt::set_tcp_user_timeout(stream, user_timeout_ms))
        .and_then(|()| sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER));
    if let Err(error) = outcome {
        tracing::debug!(%error, "can't set options of a peer connection");
    }
}

/// Between half and all of a pause, so that nodes that lost each other don't dial in step.
fn jittered(pause: Duration) -> Duration {
    let random = f64::from(u32::from_be_bytes(crate::identity::random())) / f64::from(u32::MAX);
    pause.mul_f64(0.5 + random / 2.0)
}
