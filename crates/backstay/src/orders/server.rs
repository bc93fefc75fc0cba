//! The order server: the gateway that Backstay keeps up.
//!
//! As a standby it listens and answers `not-active`. As the active instance it takes an order,
//! writes it to the store under its epoch, and acknowledges it only after the store has it and
//! the lease is still valid at that moment. An order that the store refused is never
//! acknowledged, and ends the role.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::Epoch;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

use super::accept::accept_each;
use super::active_log::{ActiveLog, MOMENT_EVERY};
use super::control::{Controls, obey};
use super::gate::{Gate, Role};
use super::lease::LeaseFile;
use super::lines::read_line;
use super::upstream::{IN_FLIGHT_MAX, Upstream};
use super::wire::{OrderAnswer, OrderRequest, StoreRequest, Verdict, Write, Written};
use super::{OrdersError, block_on};

/// Most client connections served at once; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 512;

/// How to run the server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where the store is.
    pub store: SocketAddr,
    /// The name under which the store and the judge know this instance.
    pub instance: String,
    /// Where to write the moments at which this instance would have acknowledged.
    pub active_log: Option<PathBuf>,
    /// A planted fault: heed neither the lease nor the store's refusals.
    pub heedless: bool,
}

/// What Backstay hands to an instance in its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    /// The role to begin with.
    pub role: Role,
    /// The socket that role changes come through.
    pub socket: PathBuf,
    /// The file with epoch and lease end.
    pub lease: PathBuf,
}

impl Handed {
    /// Reads the environment through `variable`.
    ///
    /// # Errors
    /// [`OrdersError::Environment`] and [`OrdersError::Value`].
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Handed, OrdersError> {
        let need = |name| variable(name).ok_or(OrdersError::Environment { name });
        let role = match need("BACKSTAY_ROLE")?.as_str() {
            "standby" => Role::Standby,
            "active" => Role::Active(parse_epoch(need("BACKSTAY_EPOCH")?)?),
            other => {
                let (what, value) = ("BACKSTAY_ROLE", other.to_owned());
                return Err(OrdersError::Value { what, value, expected: "active or standby" });
            }
        };
        let (socket, lease) = (need("BACKSTAY_SOCKET")?, need("BACKSTAY_LEASE")?);
        Ok(Handed { role, socket: socket.into(), lease: lease.into() })
    }
}

fn parse_epoch(value: String) -> Result<Epoch, OrdersError> {
    let expected = "generation.counter, such as 1.42";
    value.parse().map_err(|_| OrdersError::Value { what: "BACKSTAY_EPOCH", value, expected })
}

/// What every connection needs.
struct Server {
    gate: Arc<Gate>,
    in_hand: Arc<Semaphore>,
    store: Upstream,
    instance: String,
    log: Option<Mutex<ActiveLog>>,
    failed: mpsc::Sender<OrdersError>,
}

/// Runs the server until it is killed.
///
/// # Errors
/// [`OrdersError`]: the address is taken, the log can't be written, something is not set.
pub fn run(options: &ServerOptions, handed: &Handed) -> Result<(), OrdersError> {
    block_on(async {
        let listen = options.listen;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| OrdersError::Listen { address: listen, source })?;
        let open = |path: &PathBuf| ActiveLog::open(path, &options.instance).map(Mutex::new);
        let (failed, mut failure) = mpsc::channel(1);
        let lease = Box::new(LeaseFile::open(&handed.lease)?);
        let gate = if options.heedless { Gate::heedless } else { Gate::new };
        let server = Arc::new(Server {
            gate: Arc::new(gate(handed.role, lease)),
            in_hand: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            store: Upstream::connect(options.store),
            instance: options.instance.clone(),
            log: options.active_log.as_ref().map(open).transpose()?,
            failed,
        });
        let controls = Controls {
            gate: Arc::clone(&server.gate),
            in_hand: Arc::clone(&server.in_hand),
            store: server.store.clone(),
            instance: options.instance.clone(),
        };
        super::notify::ready();
        let serving = Arc::clone(&server);
        tokio::select! {
            () = accept_each(listener, CONNECTIONS_MAX, move |stream| {
                let server = Arc::clone(&serving);
                async move { server.serve(stream).await }
            }) => Ok(()),
            () = obey(&handed.socket, &controls) => Ok(()),
            () = server.note_moments() => Ok(()),
            Some(error) = failure.recv() => Err(error),
        }
    })
}

impl Server {
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let (mut read, mut line) = (BufReader::new(read), Vec::new());
        while let Some(request) = read_line(&mut read, &mut line).await? {
            let answer = match request.parse() {
                Ok(OrderRequest::Order { order, attempt, work_ms }) => {
                    let answer = self.take(&order, attempt, Duration::from_millis(work_ms)).await;
                    format!("{} {order}\n", answer.as_str())
                }
                Ok(OrderRequest::Where) => {
                    let in_hand = IN_FLIGHT_MAX - self.in_hand.available_permits();
                    match self.gate.may_take() {
                        Some(epoch) => format!("active {in_hand} {epoch}\n"),
                        None => format!("standby {in_hand}\n"),
                    }
                }
                Err(error) => {
                    return write.write_all(format!("error {error}\n").as_bytes()).await;
                }
            };
            write.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    }

    /// Takes one order to its end. The epoch is fixed when the order is taken: whatever happens
    /// while it is worked on, it is written under the epoch it was taken under.
    async fn take(&self, order: &str, attempt: u64, work: Duration) -> OrderAnswer {
        // Asked before there is room too: a standby answers at once, however busy it is.
        if self.gate.may_take().is_none() {
            return OrderAnswer::NotActive;
        }
        let Ok(_in_hand) = self.in_hand.acquire().await else { return OrderAnswer::NotActive };
        let Some(epoch) = self.gate.may_take() else { return OrderAnswer::NotActive };
        if !work.is_zero() {
            tokio::time::sleep(work).await;
        }
        let (order, instance) = (order.to_owned(), self.instance.clone());
        let write = StoreRequest::Write(Write { order, epoch, attempt, instance });
        let answer = match self.store.ask(&write).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, attempt, "an order stays unsettled");
                return OrderAnswer::Unsettled;
            }
        };
        match answer.parse::<Written>().map(|written| written.verdict) {
            Ok(Verdict::Stored | Verdict::Duplicate) => self.acknowledge(epoch),
            Ok(Verdict::Stale) => {
                tracing::warn!(%epoch, "the store refuses this epoch: stepping down");
                self.gate.burn(epoch);
                OrderAnswer::Stale
            }
            Ok(Verdict::Full) | Err(_) => {
                tracing::warn!(answer, "the store did not take an order");
                OrderAnswer::Unsettled
            }
        }
    }

    fn acknowledge(&self, epoch: Epoch) -> OrderAnswer {
        match self.gate.may_acknowledge(epoch) {
            Some(moment) => {
                self.note(epoch, moment);
                OrderAnswer::Acknowledged
            }
            None => OrderAnswer::Unsettled,
        }
    }

    /// Writes down, every few milliseconds, that an order would have been acknowledged.
    async fn note_moments(&self) {
        let mut tick = tokio::time::interval(Duration::from_nanos(MOMENT_EVERY.0));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            if let Role::Active(epoch) | Role::Draining(epoch) = self.gate.role()
                && let Some(moment) = self.gate.may_acknowledge(epoch)
            {
                self.note(epoch, moment);
            }
        }
    }

    fn note(&self, epoch: Epoch, moment: model::Moment) {
        let Some(log) = &self.log else { return };
        // Nothing that holds this lock can panic.
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = log.note(epoch, moment) {
            // One place in the channel: the first failure is the one that ends the server.
            _ = self.failed.try_send(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed(role: &str, epoch: Option<&str>) -> Result<Handed, OrdersError> {
        Handed::read(|name| match name {
            "BACKSTAY_ROLE" => Some(role.to_owned()),
            "BACKSTAY_EPOCH" => epoch.map(str::to_owned),
            "BACKSTAY_SOCKET" => Some("/run/s".to_owned()),
            "BACKSTAY_LEASE" => Some("/run/l".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn the_environment_gives_role_epoch_and_paths() {
        let seven = Epoch { generation: 1, counter: 7 };
        assert_eq!(handed("active", Some("1.7")).unwrap().role, Role::Active(seven));
        assert_eq!(handed("standby", None).unwrap().role, Role::Standby);
        assert!(matches!(handed("active", None), Err(OrdersError::Environment { .. })));
        assert!(matches!(handed("active", Some("x")), Err(OrdersError::Value { .. })));
        assert!(matches!(handed("leader", None), Err(OrdersError::Value { .. })));
        let nothing = Handed::read(|_| None).unwrap_err().to_string();
        assert!(nothing.contains("BACKSTAY_ROLE is not set"), "{nothing}");
    }
}
