//! The order-taking example as real processes, under a stand-in for the launcher.

use std::time::Duration;

use backstay::demo::judge::{Figures, Records, Window, judge};
use backstay::orders::records::now;
use backstay::orders::wire::Verdict;
use model::{Moment, Span};

use crate::demo_rig::{Client, Lines, Server, Store, intervals, until};

fn everything(begin: Moment, fault: Moment) -> Window {
    Window { begin, fault, healing: now(), end: now() }
}

#[test]
fn the_store_refuses_old_epochs_and_names_duplicates() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::start(dir.path());
    let mut lines = Lines::connect(store.address);
    assert_eq!(lines.ask("write o-1 1.7 1 a"), "stored 1 1.7");
    assert_eq!(lines.ask("write o-1 1.8 2 b"), "duplicate 2 1.8");
    assert_eq!(lines.ask("write o-2 1.7 3 a"), "stale 3 1.8");
    assert_eq!(lines.ask("claim 1.9 c"), "claimed 1.9");
    assert_eq!(lines.ask("claim 1.8 b"), "stale 1.9");
    assert_eq!(lines.ask("write o-2 1.8 4 b"), "stale 4 1.9");
    assert_eq!((lines.ask("ask o-1"), lines.ask("ask o-2")), ("yes o-1".into(), "no o-2".into()));
    let counts = store.counts();
    assert_eq!((counts.stored, counts.duplicate, counts.stale), (1, 1, 2));
    let verdicts: Vec<Verdict> = store.records().iter().map(|r| r.verdict).collect();
    assert_eq!(verdicts, [Verdict::Stored, Verdict::Duplicate, Verdict::Stale, Verdict::Stale]);
    let mut lines = Lines::connect(store.address);
    lines.send("dump 3");
    let (record, end) = (lines.receive(), lines.receive());
    assert!(record.contains(r#""verdict":"stale""#), "{record}");
    assert_eq!(end, "end 4");
}

#[test]
fn garbage_ends_a_connection_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::start(dir.path());
    let server = Server::start(dir.path(), "a", &store, &[]);
    for address in [store.address, server.address] {
        for garbage in ["DROP TABLE orders", &"x".repeat(10_000)] {
            let mut lines = Lines::connect(address);
            let answer = lines.ask(garbage);
            assert!(answer.is_empty() || answer.starts_with("error "), "{answer}");
        }
        let mut lines = Lines::connect(address);
        assert!(lines.ask("nonsense").starts_with("error "));
        assert!(lines.is_over());
    }
    assert_eq!(server.ask("where"), "standby 0");
    assert_eq!(store.ask("ask o-1"), "no o-1");
}

#[test]
fn a_server_acknowledges_only_as_active_and_while_its_lease_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::start(dir.path());
    let mut server = Server::start(dir.path(), "a", &store, &[]);
    assert_eq!(server.ask("order o-1 1"), "not-active o-1");
    server.promote("1.7");
    assert_eq!(server.ask("order o-2 2"), "acknowledged o-2");
    assert_eq!(server.ask("order o-2 3"), "acknowledged o-2");
    server.lease("1.7", now().0);
    assert_eq!(server.ask("order o-3 4"), "not-active o-3");
    server.lease("1.8", u64::MAX);
    assert_eq!(server.ask("order o-4 5"), "not-active o-4");
    server.lease("1.7", u64::MAX);
    assert_eq!(server.ask("where"), "active 0 1.7");
    server.demote("1.7");
    assert_eq!(server.ask("order o-5 6"), "not-active o-5");
    let counts = store.counts();
    assert_eq!((counts.stored, counts.duplicate), (1, 1));
}

#[test]
fn a_lease_that_ends_while_an_order_is_worked_on_leaves_it_unacknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::start(dir.path());
    let mut server = Server::start(dir.path(), "a", &store, &[]);
    server.promote("1.7");
    let mut lines = Lines::connect(server.address);
    lines.send("order o-1 1 200");
    until("the order in hand", || (server.ask("where") == "active 1 1.7").then_some(()));
    server.lease("1.7", now().0);
    assert_eq!(lines.receive(), "unsettled o-1");
    assert_eq!(store.ask("ask o-1"), "yes o-1");
}

#[test]
fn a_frozen_server_that_wakes_is_refused_with_the_order_it_had_in_hand() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::start(dir.path());
    let mut frozen = Server::start(dir.path(), "a", &store, &[]);
    let mut successor = Server::start(dir.path(), "b", &store, &[]);
    let begin = now();
    frozen.promote("1.7");
    assert_eq!(frozen.ask("order o-1 1"), "acknowledged o-1");
    let mut in_hand = Lines::connect(frozen.address);
    in_hand.send("order o-2 2 400");
    until("the order in hand", || (frozen.ask("where") == "active 1 1.7").then_some(()));
    frozen.process.freeze();
    let fault = now();
    frozen.lease("1.7", now().0);
    successor.promote("1.8");
    assert_eq!(successor.ask("order o-3 3"), "acknowledged o-3");
    frozen.process.wake();
    assert_eq!(in_hand.receive(), "stale o-2");
    assert_eq!(frozen.ask("order o-4 4"), "not-active o-4");
    assert_eq!(store.ask("ask o-2"), "no o-2");
    let records =
        Records { stored: store.records(), orders: Vec::new(), intervals: intervals(dir.path()) };
    let figures = judge(&records, everything(begin, fault), None);
    assert_eq!(figures.refused_stale, 1);
    assert_eq!(figures.two_active, Span::ZERO);
}

#[test]
fn two_active_servers_are_seen_by_the_judge() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::start(dir.path());
    let mut cut_off = Server::start(dir.path(), "a", &store, &["--heedless"]);
    let mut successor = Server::start(dir.path(), "b", &store, &[]);
    let begin = now();
    cut_off.promote("1.7");
    cut_off.lease("1.7", now().0);
    let fault = now();
    successor.promote("1.8");
    until("a refusal", || (cut_off.ask("order o-1 1") == "stale o-1").then_some(()));
    let figures = until("an overlap", || {
        let records = Records {
            stored: store.records(),
            orders: Vec::new(),
            intervals: intervals(dir.path()),
        };
        let figures = judge(&records, everything(begin, fault), None);
        (figures.two_active > Span::from_ms(20)).then_some(figures)
    });
    assert!(!figures.is_clean());
    assert!(figures.refused_stale >= 1);
}

fn judged(dir: &std::path::Path, store: &Store, client: Client, window: Window) -> Figures {
    let orders = client.stop();
    let records = Records { stored: store.records(), orders, intervals: intervals(dir) };
    judge(&records, window, None)
}

#[test]
fn the_client_measures_a_gap_that_was_made_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::start(dir.path());
    let mut a = Server::start(dir.path(), "a", &store, &[]);
    let b = Server::start(dir.path(), "b", &store, &[]);
    a.promote("1.7");
    let begin = now();
    let client = Client::start(dir.path(), &[&a, &b], &store);
    client.acknowledged_after(begin);
    let fault = now();
    a.lease("1.7", fault.0);
    // The length of the gap is the thing under test, not a means to wait for something.
    std::thread::sleep(Duration::from_millis(300));
    let restored = now();
    a.lease("1.7", u64::MAX);
    client.acknowledged_after(restored);
    let figures = judged(dir.path(), &store, client, everything(begin, fault));
    let gap = restored.since(fault);
    assert!(figures.outage >= gap, "{} for a gap of {gap}", figures.outage);
    assert!(figures.outage < gap + Span::from_ms(250), "{} for {gap}", figures.outage);
    assert!(figures.is_clean(), "{figures:?}");
    assert_eq!(figures.unknown, 0);
}

#[test]
fn a_handover_and_a_killed_server_lose_and_double_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::start(dir.path());
    let mut a = Server::start(dir.path(), "a", &store, &[]);
    let mut b = Server::start(dir.path(), "b", &store, &[]);
    let mut c = Server::start(dir.path(), "c", &store, &[]);
    a.promote("1.7");
    let begin = now();
    let client = Client::start(dir.path(), &[&a, &b, &c], &store);
    client.acknowledged_after(begin);
    a.demote("1.7");
    b.promote("1.8");
    client.acknowledged_after(now());
    let fault = now();
    drop(b.process);
    c.promote("1.9");
    client.acknowledged_after(now());
    let figures = judged(dir.path(), &store, client, everything(begin, fault));
    assert!(figures.is_clean(), "{figures:?}");
    assert!(figures.acknowledged >= 3);
    let epochs: Vec<u64> = intervals(dir.path()).iter().map(|i| i.epoch.counter).collect();
    assert_eq!(epochs, [7, 8, 9]);
}

#[test]
fn orders_stay_unknown_until_the_store_is_asked_and_it_says_no() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::start(dir.path());
    let a = Server::start(dir.path(), "a", &store, &[]);
    let begin = now();
    let client = Client::start(dir.path(), &[&a], &store);
    until("an order in flight", || (now().since(begin) > Span::from_ms(100)).then_some(()));
    let orders = client.stop();
    assert!(!orders.is_empty());
    assert!(orders.iter().all(|o| o.acknowledged.is_none() && o.stored == Some(false)));
}

#[test]
fn a_store_that_dies_leaves_orders_unsettled_and_the_server_finds_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::start(dir.path());
    let mut a = Server::start(dir.path(), "a", &store, &[]);
    a.promote("1.7");
    assert_eq!(a.ask("order o-1 1"), "acknowledged o-1");
    let address = store.address;
    drop(store);
    assert_eq!(a.ask("order o-2 2"), "unsettled o-2");
    let mut again = std::process::Command::new(env!("CARGO_BIN_EXE_backstay"));
    again.args(["example", "orders-store", "--listen", &address.to_string()]);
    let again = crate::demo_rig::Process(again.spawn().unwrap());
    until("the new connection", || (a.ask("order o-2 3") == "acknowledged o-2").then_some(()));
    drop(again);
}
