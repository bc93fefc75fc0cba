//! What the cluster serves and who uses it: store and client, and what all of them write down.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use model::{Epoch, Moment};

use super::children::{self, start};
use super::error::{DemoError, system};
use super::judge::{Interval, Intervals, Records};
use super::premises::{NODES, Premises};
use super::tail::Tail;
use super::wait;

const START_WAIT: Duration = Duration::from_secs(10);
/// Longest wait until the service works after a fault.
const SERVICE_WAIT: Duration = Duration::from_secs(60);
/// Longest wait until the client has settled everything.
const SETTLE_WAIT: Duration = Duration::from_secs(30);
/// Pause between two looks at the records.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// Store, client and their records.
pub(super) struct Service {
    client: u32,
    input: Option<ChildStdin>,
    store_tail: Tail,
    client_tail: Tail,
    active_tail: Tail,
    intervals: Intervals,
    records: Records,
}

impl Service {
    /// Starts the store and waits until it listens.
    ///
    /// # Errors
    /// [`DemoError`]
    pub(super) fn start_store(premises: &Premises) -> Result<(), DemoError> {
        let mut command = children::backstay()?;
        command.args(["example", "orders-store", "--listen", &premises.store().to_string()]);
        command.arg("--records").arg(premises.file("store.jsonl"));
        start(&mut command, &premises.file("store.log"))?;
        wait::until("the store's start", START_WAIT, LOOK_PAUSE, || {
            Ok(TcpStream::connect(premises.store()).ok())
        })
        .map(drop)
    }

    /// Starts the client; the store and the servers are there already.
    ///
    /// # Errors
    /// [`DemoError::System`]
    pub(super) fn start_client(premises: &Premises) -> Result<Service, DemoError> {
        let servers: Vec<String> =
            (0..NODES.len()).map(|node| premises.orders(node).to_string()).collect();
        let (records, log) = (premises.file("client.jsonl"), premises.file("client.log"));
        let log = std::fs::File::create(log).map_err(system("write the client's log"))?;
        let mut command = children::backstay()?;
        command
            .args(["example", "orders-client", "--servers", &servers.join(",")])
            .args(["--store", &premises.store().to_string()])
            .arg("--records")
            .arg(&records)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        let mut child = command.spawn().map_err(system("start the client"))?;
        let input = child.stdin.take();
        Ok(Service {
            client: children::adopt(child)?,
            input,
            store_tail: Tail::new(&premises.file("store.jsonl")),
            client_tail: Tail::new(&records),
            active_tail: Tail::new(&premises.file("active.jsonl")),
            intervals: Intervals::default(),
            records: Records::default(),
        })
    }

    /// Everything written down so far.
    ///
    /// # Errors
    /// [`DemoError::Record`] and [`DemoError::System`].
    pub(super) fn records(&mut self) -> Result<&Records, DemoError> {
        self.records.stored.extend(self.store_tail.read()?);
        self.records.orders.extend(self.client_tail.read()?);
        for moment in self.active_tail.read()? {
            self.intervals.add(moment);
        }
        self.records.intervals = self.intervals.list();
        Ok(&self.records)
    }

    /// The interval of the newest epoch: who is active, or was last.
    ///
    /// # Errors
    /// As [`Service::records`], and [`DemoError::Answer`] where nobody was ever active.
    pub(super) fn holder(&mut self) -> Result<Interval, DemoError> {
        let newest = self.records()?.intervals.iter().max_by_key(|i| (i.epoch, i.last));
        newest.cloned().ok_or(DemoError::Answer("an instance that was active"))
    }

    /// Waits until an order sent after this moment is acknowledged.
    ///
    /// # Errors
    /// [`DemoError::TooSlow`] and as [`Service::records`].
    pub(super) fn until_served(&mut self, after: Moment) -> Result<(), DemoError> {
        wait::until("an acknowledged order", SERVICE_WAIT, LOOK_PAUSE, || {
            let orders = &self.records()?.orders;
            // The newest come last; those acknowledged are written at once.
            let served = |o: &&_| is_served(o, after);
            Ok(orders.iter().rev().take(LOOK_BACK).find(served).map(drop))
        })
    }

    /// Waits until an instance with a higher epoch serves, and returns it.
    ///
    /// # Errors
    /// As [`Service::until_served`].
    pub(super) fn until_succeeded(&mut self, epoch: Epoch) -> Result<Interval, DemoError> {
        let successor = wait::until("a successor", SERVICE_WAIT, LOOK_PAUSE, || {
            Ok(Some(self.holder()?).filter(|holder| holder.epoch > epoch))
        })?;
        self.until_served(successor.first)?;
        Ok(successor)
    }

    /// Waits until the store has refused more than so many attempts. False where it did not
    /// within this time.
    ///
    /// # Errors
    /// As [`Service::records`].
    pub(super) fn until_refused(
        &mut self,
        since: Moment,
        within: Duration,
    ) -> Result<bool, DemoError> {
        let refused = wait::until("a refusal", within, LOOK_PAUSE, || {
            let stored = &self.records()?.stored;
            let stale = crate::orders::wire::Verdict::Stale;
            Ok(stored.iter().rev().any(|r| r.verdict == stale && r.moment > since).then_some(()))
        });
        match refused {
            Ok(()) => Ok(true),
            Err(DemoError::TooSlow { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets the client settle what it has under way and end.
    ///
    /// # Errors
    /// [`DemoError::TooSlow`] where it does not.
    pub(super) fn finish(&mut self) -> Result<(), DemoError> {
        if let Some(mut input) = self.input.take() {
            input.flush().map_err(system("let the client end"))?;
        }
        wait::until("the client's end", SETTLE_WAIT, LOOK_PAUSE, || {
            Ok((!children::is_running(self.client)).then_some(()))
        })
    }
}

/// Records looked through from the end: more than come in one pause, retries included.
const LOOK_BACK: usize = 4_096;

fn is_served(order: &crate::orders::records::OrderRecord, after: Moment) -> bool {
    order.sent > after && order.acknowledged.is_some()
}
