//! Connections that peers dialled: who they are, then their messages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use model::NodeName;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_rustls::server::TlsStream;

use super::frame::{self, Assembly, FrameError, Hello, Kind, Reader};
use super::generations::Meeting;
use super::outbound::TICKS;
use super::{Shared, lock, stats};
use crate::identity::{Caller, wall_s};
use crate::net::accept::accept;
use crate::net::counters::{Port, Refused, worth_a_line};
use crate::net::tls::PEER_PROTOCOL;

/// After an accept that failed (no descriptors left), how long until the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until it is aborted; its connections end with it.
pub(super) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let Some(permit) = shared.gate.admit(from.ip()) else {
                        let counters = &shared.options.counters;
                        counters.connection_refused(Port::Peer, Refused::TooMany);
                        continue;
                    };
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        let Some(peer) = greet(&shared, stream, from).await else { return };
                        drop(permit);
                        peer.run(&shared).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept peer connections; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

type Tls = TlsStream<TcpStream>;

/// A connection whose other end is known.
struct Inbound {
    reader: Reader<ReadHalf<Tls>>,
    writer: WriteHalf<Tls>,
    caller: Caller,
    replica: u64,
    /// Resolves when a newer connection of the same replica takes over.
    replaced: oneshot::Receiver<()>,
    number: u64,
    cell: Arc<stats::Cell>,
    /// It was said that its certificate has run out.
    late: bool,
}

/// TLS and hello, within the time for both. None where it was refused.
async fn greet(shared: &Arc<Shared>, stream: TcpStream, from: SocketAddr) -> Option<Inbound> {
    let options = &shared.options;
    let until = Instant::now() + options.handshake;
    super::outbound::prepare(&stream, options.stall);
    let configs = shared.tls.now();
    let counters = &options.counters;
    let accepted = accept(Port::Peer, stream, from, &configs, options.handshake, counters).await?;
    let refuse = |reason: Refused, detail: &str| {
        let count = counters.connection_refused(Port::Peer, reason);
        if worth_a_line(count) {
            tracing::info!(%from, %reason, detail, count, "peer connection refused");
        }
    };
    let (tls, Some(caller)) = accepted else {
        refuse(Refused::NoCertificate, "a peer shows a certificate");
        return None;
    };
    if tls.get_ref().1.alpn_protocol() != Some(PEER_PROTOCOL) {
        refuse(Refused::Hello, "it named no protocol of ours");
        return None;
    }
    let (reader, mut writer) = tokio::io::split(tls);
    let mut reader = Reader::new(reader);
    let hello = match tokio::time::timeout_at(until, reader.next()).await {
        Err(_) => {
            refuse(Refused::Timeout, "it took too long to say hello");
            return None;
        }
        Ok(first) => read_hello(first),
    };
    if let Ok(hello) = &hello
        && let Some(body) = of_another_generation(shared, hello, &caller, refuse)
    {
        let mut out = BytesMut::new();
        frame::write(Kind::Superseded, &body, &mut out);
        // Best effort: it is told again at its next attempt.
        let told = tokio::time::timeout_at(until, writer.write_all(&out)).await;
        tracing::trace!(?told, "told of the present generation");
        return None;
    }
    let checked = hello.and_then(|hello| check(shared, &hello, &caller).map(|()| hello));
    let mut out = BytesMut::new();
    let hello = match checked {
        Ok(hello) => hello,
        Err((reason, detail)) => {
            refuse(reason, &detail);
            frame::write(Kind::Refusal, detail.as_bytes(), &mut out);
            // Best effort: it is told why, if it still listens.
            let told = tokio::time::timeout_at(until, writer.write_all(&out)).await;
            tracing::trace!(?told, "refusal sent");
            return None;
        }
    };
    frame::write(Kind::Welcome, b"", &mut out);
    match tokio::time::timeout_at(until, writer.write_all(&out)).await {
        Ok(Ok(())) => register(shared, reader, writer, caller, hello.from),
        outcome => {
            refuse(Refused::Timeout, &format!("it did not take its welcome: {outcome:?}"));
            None
        }
    }
}

/// What to answer to one of another generation, and counts it as refused. One of a higher one gets
/// no answer that it can use: this node stops.
fn of_another_generation(
    shared: &Shared,
    hello: &Hello,
    caller: &Caller,
    refuse: impl Fn(Refused, &str),
) -> Option<[u8; size_of::<u64>()]> {
    let generations = &shared.options.generations;
    if hello.version != frame::VERSION || hello.cluster != shared.tls.now().caller.cluster {
        return None;
    }
    let mine = match generations.meet(hello) {
        Meeting::Equal => return None,
        Meeting::Lower(mine) => mine,
        Meeting::Higher(theirs) => {
            generations.told(caller, theirs);
            generations.mine()
        }
    };
    let detail = format!("{} is of generation {}, this of {mine}", caller.name, hello.generation);
    refuse(Refused::Generation, &detail);
    Some(mine.to_be_bytes())
}

fn read_hello(first: Result<(Kind, bytes::Bytes), FrameError>) -> Result<Hello, (Refused, String)> {
    match first {
        Ok((Kind::Hello, body)) => postcard::from_bytes(&body)
            .map_err(|error| (Refused::Hello, format!("its hello can't be read: {error}"))),
        Ok((kind, _)) => Err((Refused::Hello, format!("its first frame is a {kind:?}"))),
        Err(error) => Err((Refused::Hello, error.to_string())),
    }
}

fn check(shared: &Shared, hello: &Hello, caller: &Caller) -> Result<(), (Refused, String)> {
    let me = shared.tls.now().caller.clone();
    if hello.version != frame::VERSION {
        let detail = format!("peer protocol {}, not {}", hello.version, frame::VERSION);
        return Err((Refused::Hello, detail));
    }
    if hello.cluster != me.cluster {
        return Err((Refused::Cluster, format!("hello for cluster {}", hello.cluster)));
    }
    if hello.to != shared.replica || hello.to_name != me.name {
        let detail = format!(
            "this is {} with replica #{}, not {} with #{}",
            me.name, shared.replica, hello.to_name, hello.to
        );
        return Err((Refused::Hello, detail));
    }
    let belongs = hello.from != shared.replica && belongs(shared, &caller.name, hello.from);
    if !belongs {
        let detail =
            format!("the cluster has no node {} with replica #{}", caller.name, hello.from);
        return Err((Refused::Replica, detail));
    }
    Ok(())
}

fn belongs(shared: &Shared, name: &NodeName, replica: u64) -> bool {
    (shared.options.belongs)(name, replica)
}

/// Takes the place of an older connection of the same replica.
fn register(
    shared: &Shared,
    reader: Reader<ReadHalf<Tls>>,
    writer: WriteHalf<Tls>,
    caller: Caller,
    replica: u64,
) -> Option<Inbound> {
    // One that belongs and is not set yet is heard all the same: its statistics wait.
    let cell = shared.cell(replica).unwrap_or_else(|| shared.new_cell());
    let (keep, replaced) = oneshot::channel();
    let mut inbound = lock(&shared.inbound);
    let number = inbound.get(&replica).map_or(0, |(number, _)| number + 1);
    inbound.insert(replica, (number, keep));
    cell.inbound(true);
    Some(Inbound { reader, writer, caller, replica, replaced, number, cell, late: false })
}

impl Inbound {
    async fn run(mut self, shared: &Arc<Shared>) {
        let error = match self.receive(shared).await {
            Ok(()) => "a newer connection took over, or the peer was removed".to_string(),
            Err(error) => error.to_string(),
        };
        let peer = &self.caller.name;
        tracing::debug!(%peer, replica = self.replica, error, "peer connection ended");
        let mut inbound = lock(&shared.inbound);
        if inbound.get(&self.replica).is_some_and(|(number, _)| *number == self.number) {
            inbound.remove(&self.replica);
            self.cell.inbound(false);
        }
    }

    async fn receive(&mut self, shared: &Arc<Shared>) -> Result<(), FrameError> {
        let stall = shared.options.stall;
        let mut ticks = tokio::time::interval(stall / TICKS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut assembly = Assembly::default();
        let (mut answered, mut heard) = (0, Instant::now());
        loop {
            tokio::select! {
                biased;
                _ = &mut self.replaced => return Ok(()),
                _ = ticks.tick() => {
                    self.check_still(shared)?;
                    self.mind_the_date();
                    self.find_cell(shared);
                    let arrived = self.reader.arrived();
                    if arrived != answered {
                        answered = arrived;
                        heard = Instant::now();
                        self.pong(stall).await?;
                    } else if heard.elapsed() > stall {
                        return Err(FrameError::Ended("nothing for too long"));
                    }
                }
                next = self.reader.next() => {
                    let (kind, body) = next?;
                    let whole = match kind {
                        Kind::Message => Some(body),
                        Kind::Part => assembly.add(&body, false)?,
                        Kind::Last => assembly.add(&body, true)?,
                        Kind::Ping => None,
                        _ => return Err(FrameError::Malformed("a kind that has no place here")),
                    };
                    if let Some(message) = whole {
                        self.cell.received.fetch_add(1, Ordering::Relaxed);
                        (shared.on_message)(self.replica, message);
                    }
                }
            }
        }
    }

    /// A connection can outlive an authority or a membership; it must not.
    fn check_still(&self, shared: &Shared) -> Result<(), FrameError> {
        if let Some(why) = shared.tls.lost(&self.caller) {
            return Err(FrameError::Ended(why));
        }
        if !belongs(shared, &self.caller.name, self.replica) {
            return Err(FrameError::Ended("it no longer belongs to the cluster"));
        }
        Ok(())
    }

    /// A date ends no connection of a member; that it has passed is said once.
    fn mind_the_date(&mut self) {
        if !self.late && wall_s() > self.caller.expires_s {
            self.late = true;
            let peer = &self.caller.name;
            tracing::warn!(%peer, "its certificate has run out; it takes part as a member");
        }
    }

    /// A replica can connect before it is set as a peer; from then on it is counted.
    fn find_cell(&mut self, shared: &Shared) {
        if let Some(cell) = shared.cell(self.replica)
            && !Arc::ptr_eq(&cell, &self.cell)
        {
            cell.inbound(true);
            self.cell = cell;
        }
    }

    async fn pong(&mut self, within: Duration) -> Result<(), FrameError> {
        let mut out = BytesMut::new();
        frame::write(Kind::Pong, b"", &mut out);
        let sent = timeout(within, async {
            self.writer.write_all(&out).await?;
            self.writer.flush().await
        });
        sent.await.map_err(|_| FrameError::Ended("it takes no answer"))??;
        Ok(())
    }
}
