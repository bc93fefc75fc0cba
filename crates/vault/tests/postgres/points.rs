//! Restores to points in time, compared with what the ledger said then.

use crate::cluster::{DIGEST, LEDGER, Server, Vault, booking, give, scratch};
use crate::common::noise;
use crate::log::while_streaming;
use std::fs;
use std::path::Path;
use vault::postgres::Lsn;
use vault::postgres::recovery::{Log, Target};
use vault::wal::stream::Event;

/// How many points are restored: `BACKSTAY_TEST_POINTS` asks for more.
const POINTS: usize = 20;
const BOOKINGS: u64 = 240;

/// What the ledger said after a commit.
struct Moment {
    xid: u32,
    lsn: Lsn,
    time_us: i64,
    digest: String,
}

/// Books, and remembers what the ledger said after each commit.
fn book(server: &Server, numbers: std::ops::Range<u64>) -> Vec<Moment> {
    let mut connection = server.open();
    let mut moments = Vec::new();
    for number in numbers {
        let statement = booking(number).replace("; COMMIT", "");
        connection.query(&statement).unwrap();
        let mut one = |sql: &str| connection.row(sql, 1).unwrap().remove(0);
        let xid = one("SELECT pg_current_xact_id()::xid").parse().unwrap();
        let digest = one(DIGEST);
        connection.query("COMMIT").unwrap();
        let mut one = |sql: &str| connection.row(sql, 1).unwrap().remove(0);
        let lsn = Lsn::parse(&one("SELECT pg_current_wal_insert_lsn()")).unwrap();
        let time = one("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
        moments.push(Moment { xid, lsn, time_us: time.parse().unwrap(), digest });
        if number % 50 == 49 {
            one("SELECT pg_switch_wal()");
        }
    }
    moments
}

/// A repository with three backups and the whole log, and every moment of it.
fn history(folder: &Path) -> (Vault, Vec<Moment>) {
    let server = Server::new(folder, "");
    server.run(LEDGER);
    let mut vault = Vault::new(folder);
    vault.back_up(&server);
    let mut moments = Vec::new();
    let reader = vault.again();
    while_streaming(&reader, &server, |streaming| {
        for third in 0..3 {
            let part = BOOKINGS / 3;
            moments.extend(book(&server, third * part..(third + 1) * part));
            vault.repository.refresh().unwrap();
            vault.back_up(&server);
        }
        // The last moment is a point only where something comes after it.
        server.run(&["CREATE TABLE later ()"]);
        let end = server.position();
        streaming.wait(|e| matches!(e, Event::Stored { upto, .. } if *upto >= end));
    })
    .unwrap();
    (vault, moments)
}

pub(crate) fn every_point_is_what_it_was() {
    let folder = scratch();
    let (vault, moments) = history(folder.path());
    let points = std::env::var("BACKSTAY_TEST_POINTS").ok().and_then(|n| n.parse().ok());
    let choices = noise(20, points.unwrap_or(POINTS) * 8);
    for (number, choice) in choices.chunks(8).enumerate() {
        let choice = u64::from_le_bytes(choice.try_into().unwrap());
        let moment = &moments[choice as usize % moments.len()];
        let target = match number % 3 {
            0 => Target::Lsn(moment.lsn),
            1 => Target::Time(moment.time_us),
            _ => Target::Transaction(moment.xid),
        };
        let name = format!("point{number}");
        let restored = vault.restore(folder.path(), &name, target);
        assert_eq!(restored.one(DIGEST), moment.digest, "{target:?}");
        drop(restored);
        fs::remove_dir_all(folder.path().join(name)).unwrap();
    }
    let last = moments.last().unwrap();
    let beyond = [
        Target::Time(last.time_us + 3_600_000_000),
        Target::Lsn(Lsn(last.lsn.0 + (1 << 30))),
        Target::Transaction(last.xid + 1000),
        Target::Time(0),
    ];
    for target in beyond {
        assert!(vault.plan(target).is_err(), "{target:?}");
    }
}

/// The log comes through our own program, called by the server, which runs as another user.
pub(crate) fn the_server_fetches_its_log() {
    let folder = scratch();
    let (vault, moments) = history(folder.path());
    let place = folder.path().join("back");
    let key = folder.path().join("key");
    vault::keys::access::write_key_file(&key, &vault.identity).unwrap();
    let program = std::env::current_exe().unwrap();
    let command = format!(
        "{} vault wal get --repository {} --key {} --state-dir {} --source ledger %f \"%p\"",
        program.display(),
        vault.place.display(),
        key.display(),
        vault.state.display(),
    );
    let moment = &moments[200];
    fs::create_dir(&place).unwrap();
    let plan = vault.plan(Target::Transaction(moment.xid)).unwrap();
    vault.recover(&plan, &place.join("data"), Log::Command(command.clone()));
    // A second one of which a piece vanishes after the plan was made.
    let lossy = folder.path().join("lossy");
    fs::create_dir(&lossy).unwrap();
    let plan = vault.plan(Target::Latest).unwrap();
    vault.recover(&plan, &lossy.join("data"), Log::Command(command));
    [&vault.place, &vault.state, &key].iter().for_each(|path| give(path));
    let server = Server::start(&place, &place.join("data"), &["archive_mode=off"]);
    assert_eq!(server.one(DIGEST), moment.digest);
    drop(server);
    let newest = fs::read_dir(vault.place.join("wal")).unwrap().map(|e| e.unwrap().path()).max();
    fs::remove_file(newest.unwrap()).unwrap();
    let (status, log) = Server::launch(&lossy, &lossy.join("data"), &[]).ended();
    assert!(!status.success(), "it opened in silence:\n{log}");
}
