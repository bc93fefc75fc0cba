//! Base backups and increments.

use crate::cluster::{DIGEST, LEDGER, Server, Vault, as_owner, booking, programs, scratch};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vault::postgres::recovery::{Choice, Target, plan};
use vault::postgres::{ConnInfo, Position};
use vault::verify::Depth;

pub(crate) fn amcheck(server: &Server) {
    let program = programs().unwrap().join("pg_amcheck");
    if !program.exists() {
        let info = |database: &str| ConnInfo::local(&server.socket, "postgres", database);
        let what = vault::postgres::amcheck::by_extension(&info).unwrap();
        assert!(what.is_some_and(|what| what.starts_with("amcheck of indexes")));
        return;
    }
    let checked = as_owner(&program)
        .args(["--install-missing", "--heapallindexed", "-U", "postgres", "-d", "postgres", "-h"])
        .arg(&server.socket)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

pub(crate) fn under_load() {
    let folder = scratch();
    let server = Server::new(folder.path(), "");
    server.run(LEDGER);
    server.run(&["CREATE UNLOGGED TABLE scrap AS SELECT generate_series(1, 1000) n"]);
    let mut vault = Vault::new(folder.path());
    let (stop, booked) = (AtomicBool::new(false), AtomicU64::new(0));
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = server.open();
            while !stop.load(Ordering::Acquire) {
                let number = booked.fetch_add(1, Ordering::AcqRel);
                connection.query(&booking(number)).unwrap();
            }
        });
        while booked.load(Ordering::Acquire) < 200 {
            std::thread::yield_now();
        }
        let outcome = vault.back_up(&server);
        stop.store(true, Ordering::Release);
        outcome
    });
    assert_eq!(outcome.backup.skipped, []);
    let position = Position::parse(&outcome.backup.subject.position).unwrap();
    assert!(position.start < position.stop && position.timeline == 1, "{position:?}");
    let report = vault.verify(Depth::Bytes);
    assert!(report.is_intact(), "{:?}", report.findings);
    let restored = vault.restore(folder.path(), "back", Target::Latest);
    assert_eq!(restored.one("SELECT sum(balance) FROM account"), "0");
    assert_eq!(restored.one("SELECT count(*) FROM scrap"), "0");
    let rows: u64 = restored.one("SELECT count(*) FROM booking").parse().unwrap();
    assert!((199..=booked.load(Ordering::Acquire)).contains(&rows), "{rows}");
    amcheck(&restored);
}

pub(crate) fn increment() {
    let folder = scratch();
    let server = Server::new(folder.path(), "");
    server.run(LEDGER);
    server.run(&[
        "CREATE TABLE big AS SELECT n id, repeat(md5(n::text), 20) filler \
         FROM generate_series(1, 40000) n",
        "ALTER TABLE big ADD PRIMARY KEY (id)",
        "VACUUM FREEZE",
        "CHECKPOINT",
    ]);
    let mut vault = Vault::new(folder.path());
    let first = vault.back_up(&server).backup.statistics.bytes_stored;
    server.run(&["UPDATE big SET filler = 'changed' WHERE id % 200 = 0"]);
    let second = vault.back_up(&server);
    let stored = second.backup.statistics.bytes_stored;
    assert!(stored * 3 < first, "{stored} of {first}");
    // The same without what this machine remembers: the parent itself is read.
    server.run(&["UPDATE big SET filler = 'again' WHERE id % 200 = 1"]);
    let third = vault.back_up_with(&server, None).unwrap();
    let stored = third.backup.statistics.bytes_stored;
    assert!(stored * 3 < first, "{stored} of {first}");
    let digest = "SELECT md5(string_agg(big::text, ',' ORDER BY id)) FROM big";
    let (ledger, big) = (server.one(DIGEST), server.one(digest));
    let report = vault.verify(Depth::Bytes);
    assert!(report.is_intact(), "{:?}", report.findings);
    drop(server);
    let restored = vault.restore(folder.path(), "back", Target::Latest);
    assert_eq!((restored.one(DIGEST), restored.one(digest)), (ledger, big));
    amcheck(&restored);
}

pub(crate) fn of_a_standby() {
    let folder = scratch();
    let primary = Server::new(folder.path(), "");
    primary.run(LEDGER);
    let mut vault = Vault::new(folder.path());
    vault.back_up(&primary);
    let standby = vault.standby_of(&primary, folder.path());
    (0..50).for_each(|number| primary.run(&[&booking(number)]));
    let digest = primary.one(DIGEST);
    standby.wait_for(&format!("SELECT ({DIGEST}) = '{digest}'"));
    // The backup begins at the standby's newest restart point.
    primary.run(&["CHECKPOINT"]);
    let outcome = vault.back_up(&standby);
    assert!(outcome.backup.statistics.bytes_stored > 0);
    primary.run(&["CHECKPOINT"]);
    let sent = crate::replicated::back_up_as(&mut vault, standby.info()).unwrap();
    standby.kill();
    primary.kill();
    let report = vault.verify(Depth::Bytes);
    assert!(report.is_intact(), "{:?}", report.findings);
    for (name, seq) in [("back", outcome.seq), ("sent", sent.seq)] {
        let choice = Choice { source: None, backup: Some(seq) };
        let plan = plan(&vault.reopen(), &choice, Target::Latest).unwrap();
        let restored = vault.restore_by(&plan, folder.path(), name);
        assert_eq!(restored.one(DIGEST), digest);
        amcheck(&restored);
    }
}

pub(crate) fn refused() {
    let folder = scratch();
    let server = Server::new(folder.path(), "full_page_writes = off");
    let mut vault = Vault::new(folder.path());
    let error = vault.back_up_with(&server, None).unwrap_err().to_string();
    assert!(error.contains("full_page_writes"), "{error}");
    assert!(vault.repository.state().backups.is_empty());
}
