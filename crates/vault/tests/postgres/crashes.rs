//! A stream that dies at every change that it makes to the repository.

use crate::cluster::{DIGEST, LEDGER, Server, Vault, booking, scratch};
use crate::log::Streaming;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vault::error::Result;
use vault::postgres::Lsn;
use vault::postgres::recovery::Target;
use vault::repository::{OpenOptions, Repository};
use vault::store::failpoint::{Crash, FailpointStore};
use vault::store::local::LocalStore;
use vault::verify::Depth;
use vault::wal::Catalog;
use vault::wal::stream::Event;

/// A round makes fewer changes than this.
const CHANGES_MAX: u64 = 60;

/// One round: bookings that end one segment, so that pieces are stored, joined and deleted, and
/// marks recorded, until the store dies.
fn round(
    vault: &Vault,
    server: &Server,
    store: Arc<FailpointStore>,
    spool: Option<&Path>,
    bookings: std::ops::Range<u64>,
) -> Result<()> {
    let (stop, events) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let spool = spool.map(Path::to_owned);
    let streaming = Streaming { stop: &stop, events: &events, spool, info: None };
    let mut repository = Repository::open(store, &vault.identity, OpenOptions::default())?;
    let stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| {
            let ended = streaming.run(&mut repository, server, &vault.state, u64::MAX);
            stopped.store(true, std::sync::atomic::Ordering::Release);
            ended
        });
        let is_over = || stopped.load(std::sync::atomic::Ordering::Acquire);
        let wait = |upto: Lsn| {
            while !is_over() {
                let seen = |e: &Event| match e {
                    Event::Stalled { .. } => true,
                    Event::Stored { upto: stored, .. } => *stored >= upto,
                    _ => false,
                };
                if events.lock().unwrap().iter().any(seen) {
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(2));
            }
        };
        for number in bookings {
            server.run(&[&booking(number)]);
            if number % 4 == 1 {
                server.run(&["SELECT pg_switch_wal()"]);
            }
            wait(Lsn::parse(&server.one("SELECT pg_current_wal_flush_lsn()")).unwrap());
        }
        streaming.end();
        stream.join().unwrap()
    })
}

/// How far the server was told that its log is durable.
fn acknowledged(server: &Server) -> Lsn {
    let sql = "SELECT coalesce(max(restart_lsn), '0/0') FROM pg_replication_slots";
    Lsn::parse(&server.one(sql)).unwrap()
}

fn require_stored(vault: &Vault, told: Lsn, case: &str) {
    let repository = vault.reopen();
    let system = repository.state().archives["ledger"].system;
    let catalog =
        Catalog::load(&**repository.store(), repository.ring(), "ledger", system).unwrap();
    let backup = repository.state().newest(Some("ledger")).unwrap().1;
    let position = vault::postgres::Position::parse(&backup.subject.position).unwrap();
    let reached = catalog.reach(1, position.start);
    assert!(reached >= told, "{case}: told {told}, stored up to {reached}");
}

pub(crate) fn a_stream_that_dies_at_every_change_loses_nothing() {
    for with_spool in [false, true] {
        let folder = scratch();
        let server = Server::new(folder.path(), "max_slot_wal_keep_size = -1");
        server.run(LEDGER);
        let mut vault = Vault::new(folder.path());
        vault.back_up(&server);
        let spool = folder.path().join("spool");
        let spool = with_spool.then_some(&*spool);
        let open =
            |crash| Arc::new(FailpointStore::new(Arc::new(LocalStore::open(&vault.place)), crash));
        let mut crashes = 0;
        for change in 1..CHANGES_MAX {
            let number = change * 4;
            let crash = if change % 2 == 0 {
                Crash::After(change / 2)
            } else {
                Crash::Before(change / 2 + 1)
            };
            let store = open(crash);
            let bookings = number..number + 3;
            let ended = round(&vault, &server, Arc::clone(&store), spool, bookings);
            let told = acknowledged(&server);
            if ended.is_ok() && store.changes() < change / 2 {
                break;
            }
            crashes += u32::from(ended.is_err());
            // The next start stores what the one before left.
            let last = number + 3..number + 4;
            let whole = round(&vault, &server, open(Crash::Never), spool, last);
            assert!(whole.is_ok(), "{crash:?}: {whole:?}");
            require_stored(&vault, told, &format!("{crash:?}, spool: {with_spool}"));
        }
        assert!(crashes >= 8, "only {crashes} crashes");
        let digest = server.one(DIGEST);
        server.kill();
        let report = vault.verify(Depth::Bytes);
        assert!(report.is_intact(), "{:?}", report.findings);
        assert_eq!(vault.restore(folder.path(), "back", Target::Latest).one(DIGEST), digest);
    }
}
