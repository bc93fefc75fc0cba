//! The order client: sends an order every few milliseconds on a connection of its own, whatever
//! became of the ones before (open loop), and writes down what became of each.
//!
//! It knows all servers. It tries the one that answered last; where that fails, all others at
//! once. An order that nobody acknowledged is tried again under its own identifier, as soon as
//! any order gets through, or after [`RETRY_PAUSE`]. What is still unknown after [`GIVE_UP`] is
//! settled with the store.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::lines::read_line;
use super::records::{OrderRecord, Outcome, now};
use super::wire::{OrderAnswer, OrderRequest, StoreRequest};
use super::{OrdersError, block_on};

/// Most orders that wait for an acknowledgement; past it an order is not begun, and counted.
pub const ORDERS_MAX: usize = 8_192;
/// Most retries under way at once, so that those who waited don't crowd out new orders.
pub const RETRIES_MAX: usize = 32;
/// Longest pause before an order is tried again.
pub const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long an order is tried.
pub const GIVE_UP: Duration = Duration::from_secs(10);
/// How long orders under way may take once the client was asked to stop.
pub const FINISH_WAIT: Duration = Duration::from_secs(1);
const STORE_WAIT: Duration = Duration::from_secs(2);

/// How to run the client.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// All servers.
    pub servers: Vec<SocketAddr>,
    /// The store, asked about what stayed unknown.
    pub store: SocketAddr,
    /// Time between two orders.
    pub every: Duration,
    /// Longest wait for one attempt.
    pub timeout: Duration,
    /// Where to write the records; standard output where absent.
    pub records: Option<PathBuf>,
    /// When to stop; where absent, when standard input ends.
    pub duration: Option<Duration>,
}

/// What all orders share.
struct Client {
    options: ClientOptions,
    run: String,
    attempts: AtomicU64,
    /// The server that acknowledged last, and how many orders got through so far.
    preferred: Mutex<Option<SocketAddr>>,
    through: watch::Sender<u64>,
    stopping: watch::Receiver<bool>,
    retries: Semaphore,
}

/// Runs the client until it is told to stop, and returns how many orders could not be begun.
///
/// # Errors
/// [`OrdersError::Record`] where the records can't be written.
pub fn run(options: &ClientOptions) -> Result<u64, OrdersError> {
    block_on(async {
        let (stop, stopping) = watch::channel(false);
        let client = Arc::new(Client {
            options: options.clone(),
            run: format!("{:x}", now().0),
            attempts: AtomicU64::new(0),
            preferred: Mutex::new(None),
            through: watch::Sender::new(0),
            stopping,
            retries: Semaphore::new(RETRIES_MAX),
        });
        let (records, written) = mpsc::channel(ORDERS_MAX);
        let path = options.records.clone();
        let writer = std::thread::spawn(move || write_records(path, written));
        let not_begun = client.send_orders(stop, records).await;
        // A panic in the writer is a bug here: pass it on.
        writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(not_begun)
    })
}

/// Writes records as they come, on a thread of its own: a slow pipe must not delay orders.
fn write_records(
    path: Option<PathBuf>,
    mut records: mpsc::Receiver<OrderRecord>,
) -> Result<(), OrdersError> {
    let path = path.unwrap_or_else(|| "/dev/stdout".into());
    let mut file = super::records::RecordFile::open(&path)?;
    while let Some(record) = records.blocking_recv() {
        file.append(&record)?;
    }
    Ok(())
}

impl Client {
    async fn send_orders(
        self: &Arc<Self>,
        stop: watch::Sender<bool>,
        records: mpsc::Sender<OrderRecord>,
    ) -> u64 {
        let mut tick = interval(self.options.every);
        // Missed ticks are made up for: the load doesn't thin out when the machine stalls.
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let end = wait_for_end(self.options.duration);
        tokio::pin!(end);
        let (mut orders, mut number, mut not_begun) = (JoinSet::new(), 0_u64, 0);
        loop {
            tokio::select! {
                biased;
                () = &mut end => break,
                _ = tick.tick() => {}
            }
            while orders.try_join_next().is_some() {}
            if orders.len() >= ORDERS_MAX {
                not_begun += 1;
                continue;
            }
            number += 1;
            let order = format!("{}-{number}", self.run);
            let (client, records) = (Arc::clone(self), records.clone());
            orders.spawn(async move {
                let record = client.place(order).await;
                // Fails only when the writer has ended, and then its error is the one to tell.
                _ = records.send(record).await;
            });
        }
        stop.send_replace(true);
        drop(records);
        while orders.join_next().await.is_some() {}
        not_begun
    }

    /// Carries one order to its end.
    async fn place(&self, order: String) -> OrderRecord {
        let (sent, mut attempts, mut acknowledged) = (now(), 0_u32, None);
        let (mut deadline, mut stopping) = (Instant::now() + GIVE_UP, self.stopping.clone());
        loop {
            let mut through = self.through.subscribe();
            let permit = if attempts > 0 { self.retries.acquire().await.ok() } else { None };
            if self.try_servers(&order, &mut attempts).await {
                acknowledged = Some(now());
                self.through.send_modify(|n| *n += 1);
                break;
            }
            drop(permit);
            if stopping.has_changed().unwrap_or(false) && *stopping.borrow_and_update() {
                deadline = deadline.min(Instant::now() + FINISH_WAIT);
            }
            if Instant::now() >= deadline {
                break;
            }
            tokio::select! {
                _ = through.changed() => {}
                () = tokio::time::sleep(RETRY_PAUSE) => {}
            }
        }
        let outcome = if acknowledged.is_some() { Outcome::Acknowledged } else { Outcome::Unknown };
        let stored = match outcome {
            Outcome::Acknowledged => None,
            Outcome::Unknown => ask_store(self.options.store, &order).await.ok(),
        };
        OrderRecord { order, sent, acknowledged, outcome, attempts, stored }
    }

    /// Tries the preferred server, then all others at once. True where one acknowledged.
    async fn try_servers(&self, order: &str, attempts: &mut u32) -> bool {
        let preferred = *self.preferred();
        if let Some(server) = preferred {
            *attempts += 1;
            if self.attempt(server, order).await {
                return true;
            }
            let mut now_preferred = self.preferred();
            if *now_preferred == preferred {
                *now_preferred = None;
            }
        }
        let mut racing = JoinSet::new();
        for server in self.options.servers.iter().copied().filter(|s| Some(*s) != preferred) {
            *attempts += 1;
            let attempt = self.next_attempt();
            let (order, wait) = (order.to_owned(), self.options.timeout);
            racing.spawn(async move { (server, attempt_at(server, order, attempt, wait).await) });
        }
        while let Some(ended) = racing.join_next().await {
            if let Ok((server, true)) = ended {
                *self.preferred() = Some(server);
                return true;
            }
        }
        false
    }

    fn preferred(&self) -> std::sync::MutexGuard<'_, Option<SocketAddr>> {
        // Nothing that holds this lock can panic.
        self.preferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }

    async fn attempt(&self, server: SocketAddr, order: &str) -> bool {
        attempt_at(server, order.to_owned(), self.next_attempt(), self.options.timeout).await
    }
}

/// One attempt at one server: a new connection, one line, one answer. Whatever is not a clear
/// acknowledgement is none.
async fn attempt_at(server: SocketAddr, order: String, attempt: u64, wait: Duration) -> bool {
    let request = OrderRequest::Order { order, attempt, work_ms: 0 };
    let exchange = async {
        let answer = exchange(server, &format!("{request}\n")).await?;
        answer.parse::<OrderAnswer>().map_err(io::Error::other)
    };
    matches!(timeout(wait, exchange).await, Ok(Ok(OrderAnswer::Acknowledged)))
}

async fn exchange(address: SocketAddr, line: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(line.as_bytes()).await?;
    let mut buffer = Vec::with_capacity(64);
    let answer = read_line(&mut BufReader::new(&mut stream), &mut buffer).await?;
    answer.map(str::to_owned).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

async fn ask_store(store: SocketAddr, order: &str) -> io::Result<bool> {
    let request = StoreRequest::Ask { order: order.to_owned() };
    let asked = timeout(STORE_WAIT, exchange(store, &format!("{request}\n"))).await;
    let answer = asked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    match answer.split(' ').next() {
        Some("yes") => Ok(true),
        Some("no") => Ok(false),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

/// Waits until it is time to stop: after the given duration, else at the end of standard input.
async fn wait_for_end(duration: Option<Duration>) {
    if let Some(duration) = duration {
        return tokio::time::sleep(duration).await;
    }
    let (ended, end) = tokio::sync::oneshot::channel();
    // A thread of its own: reading standard input blocks, and must not keep the loop from ending.
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while std::io::Read::read(&mut std::io::stdin(), &mut buffer).is_ok_and(|n| n > 0) {}
        // The receiver is gone only when the client has ended already.
        _ = ended.send(());
    });
    // The thread either says so or is gone: both are the end.
    _ = end.await;
}
