//! `demo vault` with a database: a small ledger in PostgreSQL is backed up while a client books,
//! its log streams into the repository, a flipped bit and a removed piece are found, and a mistake
//! is undone to the moment before.

use super::demo::Row;
use super::output::{hex, moment, size, timed};
use super::prove_restore::{give, user};
use age::x25519::Identity;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use vault::backup::BackupRequest;
use vault::keys::wrap::Holder;
use vault::postgres::recovery::{Choice, Log, RecoverRequest, Target, plan, recover};
use vault::postgres::rehearsal::{PrivateServer, RehearsalRequest, find_newest, rehearse};
use vault::postgres::{Connection, Lsn, PostgresSource};
use vault::repository::{InitRequest, NewRecipient, OpenOptions, Repository};
use vault::restore::{RestoreCounters, RestoreRequest};
use vault::source::directory::DirectorySource;
use vault::store::local::LocalStore;
use vault::verify::{Depth, VerifyReport, VerifyRequest};
use vault::wal::stream::{Event, StreamRequest};
use vault::{Result, VaultError};

/// Nothing in the demonstration takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);
/// Accounts, and bookings before the first backup.
const ACCOUNTS: u64 = 10_000;
const BOOKINGS: u64 = 100_000;
/// Everything that the ledger says, in one value.
const DIGEST: &str = "SELECT md5(string_agg(t, ',' ORDER BY t)) FROM \
    (SELECT account::text t FROM account UNION ALL SELECT booking::text FROM booking) x";

/// Where a server's programs are, if the demonstration can use them.
pub(crate) fn programs() -> Option<PathBuf> {
    let is_root = rustix::process::geteuid().is_root();
    let usable = !is_root || user("postgres").is_ok();
    find_newest().filter(|_| usable)
}

struct Stage {
    folder: PathBuf,
    server: RehearsalRequest,
    repository: Repository,
    identity: Identity,
    rows: Vec<Row>,
}

/// Plays it.
///
/// # Errors
/// Where a step does not do what it shows.
pub(crate) fn play(folder: &Path, programs: PathBuf) -> Result<Vec<Row>> {
    let mut stage = set_up(folder, programs)?;
    let mut server = PrivateServer::start(&stage.server)?;
    let connection = server.wait_open(&stage.server)?;
    stage.fill(connection)?;
    let (before, digest) = stage.stream_and_err()?;
    server.stop(PATIENCE)?;
    drop(server);
    stage.damage()?;
    stage.compare()?;
    stage.undo(before, &digest)?;
    Ok(std::mem::take(&mut stage.rows))
}

fn set_up(folder: &Path, programs: PathBuf) -> Result<Stage> {
    let is_root = rustix::process::geteuid().is_root();
    let owner = if is_root { Some(user("postgres")?) } else { None };
    let (data, scratch) = (folder.join("data"), folder.join("server"));
    for place in [&data, &scratch] {
        fs::create_dir(place).map_err(VaultError::file("make", place.clone()))?;
    }
    // The server's user must get to its directories through this one.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder, open).map_err(VaultError::file("open", folder))?;
    if let Some(owner) = owner {
        give(&data, owner)?;
        give(&scratch, owner)?;
    }
    let role = "postgres".to_owned();
    let queries = Vec::new();
    let patience = PATIENCE;
    let server = RehearsalRequest { data, scratch, programs, owner, role, patience, queries };
    let mut command = server.command("initdb");
    command.args(["-A", "trust", "-U", "postgres", "--no-sync", "-k", "-E", "UTF8", "-D"]);
    let made = command.arg(&server.data).output().map_err(VaultError::file("run", "initdb"))?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        return Err(VaultError::Refused(format!("initdb failed: {said}")));
    }
    let identity = Identity::generate();
    let recipients = vec![NewRecipient {
        holder: Holder::Machine,
        label: "demo".to_owned(),
        recipient: identity.to_public().to_string(),
    }];
    let wait = Duration::from_secs(3600);
    let request = InitRequest { recipients, deletion_key: None, wait };
    let store = Arc::new(LocalStore::create(&folder.join("repository"))?);
    let repository = Repository::init(store, &request, OpenOptions::default())?;
    Ok(Stage { folder: folder.to_owned(), server, repository, identity, rows: Vec::new() })
}

fn booking(number: u64) -> String {
    let (debit, credit, amount) = (number * 7 % ACCOUNTS, number * 13 % ACCOUNTS, number % 1000);
    format!(
        "BEGIN; UPDATE account SET balance = balance - {amount} WHERE id = {debit}; \
         UPDATE account SET balance = balance + {amount} WHERE id = {credit}; \
         INSERT INTO booking VALUES ({number}, {debit}, {credit}, {amount}); COMMIT"
    )
}

impl Stage {
    fn row(&mut self, step: &str, result: String, took: Duration) {
        self.rows.push(Row { step: step.to_owned(), result, took_ms: took.as_millis() as u64 });
    }

    fn open(&self) -> Result<Connection> {
        Connection::open(&self.server.info("postgres"))
    }

    fn reopen(&self) -> Result<Repository> {
        let store = Arc::new(LocalStore::open(&self.folder.join("repository")));
        Repository::open(store, &self.identity, OpenOptions::default())
    }

    fn fill(&mut self, mut connection: Connection) -> Result<()> {
        let (filled, took) = timed(|| -> Result<()> {
            for sql in [
                "CREATE TABLE account (id bigint PRIMARY KEY, balance bigint NOT NULL)".to_owned(),
                "CREATE TABLE booking (id bigint, debit bigint, credit bigint, amount bigint)"
                    .to_owned(),
                format!(
                    "INSERT INTO account SELECT n, 0 FROM generate_series(0, {ACCOUNTS} - 1) n"
                ),
                format!(
                    "INSERT INTO booking SELECT -n, n, n, 1 FROM generate_series(1, {BOOKINGS}) n"
                ),
            ] {
                connection.query(&sql)?;
            }
            Ok(())
        });
        filled?;
        let result = format!("PostgreSQL: {ACCOUNTS} accounts, {BOOKINGS} bookings");
        self.row("ledger", result, took);
        Ok(())
    }

    fn back_up(&mut self, step: &'static str) -> Result<()> {
        let source = PostgresSource::new(self.server.info("postgres"), "ledger")?;
        let workers = super::opening::workers();
        let request = BackupRequest {
            block_memory: Some(self.folder.join("state")),
            ..BackupRequest::plain("ledger", "demo", &source, workers)
        };
        self.repository.refresh()?;
        let (outcome, took) = timed(|| vault::backup::run(&mut self.repository, &request));
        let backup = outcome?.backup;
        let (all, new) = (size(backup.totals.bytes), size(backup.statistics.bytes_stored));
        self.row(step, format!("{all}, {new} new"), took);
        Ok(())
    }

    /// Backs up while a client books and the log streams; then comes the mistake. Returns the
    /// moment before it, and what the ledger said then.
    fn stream_and_err(&mut self) -> Result<(i64, String)> {
        let (stop, booked, stored) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let mut streaming = self.reopen()?;
        let info = self.server.info("postgres");
        let memory = self.folder.join("state");
        std::thread::scope(|scope| {
            let stream = scope.spawn(|| {
                let tell = |event: Event| {
                    if let Event::Stored { upto, .. } = event {
                        stored.store(upto.0, Ordering::Release);
                    }
                };
                let request = StreamRequest {
                    info: info.clone(),
                    name: "ledger".to_owned(),
                    slot: "backstay".to_owned(),
                    standby_name: "backstay".to_owned(),
                    retain_max_bytes: u64::MAX,
                    mark_every: PATIENCE,
                    memory: Some(memory),
                    spool: None,
                    stop: &stop,
                    tell: &tell,
                };
                vault::wal::stream::run(&mut streaming, &request)
            });
            let client_stop = AtomicBool::new(false);
            let played = std::thread::scope(|scope| {
                let client = scope.spawn(|| client(&info, &client_stop, &booked));
                let backups = self
                    .back_up("base backup, while a client books")
                    .and_then(|()| self.back_up("increment, while it books on"));
                client_stop.store(true, Ordering::Release);
                client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                backups
            });
            let result = played.and_then(|()| {
                let count = booked.load(Ordering::Relaxed);
                self.row("client", format!("{count} bookings meanwhile"), Duration::ZERO);
                self.err(&stored)
            });
            stop.store(true, Ordering::Release);
            let ended = stream.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let result = result?;
            ended.map(|()| result)
        })
    }

    fn err(&mut self, stored: &AtomicU64) -> Result<(i64, String)> {
        let mut connection = self.open()?;
        let digest = connection.row(DIGEST, 1)?.remove(0);
        let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let bad = |_| VaultError::Refused("the server has no time".to_owned());
        let before: i64 = connection.row(now, 1)?[0].parse().map_err(bad)?;
        connection.query("DELETE FROM account WHERE id % 3 = 0")?;
        let end = connection.row("SELECT pg_current_wal_flush_lsn()", 1)?.remove(0);
        let end = Lsn::parse(&end).unwrap_or_default();
        let (waited, took) = timed(|| {
            let begun = Instant::now();
            while stored.load(Ordering::Acquire) < end.0 {
                if begun.elapsed() > PATIENCE {
                    let what = "the log did not reach the repository".to_owned();
                    return Err(VaultError::Refused(what));
                }
                std::thread::park_timeout(PAUSE);
            }
            Ok(())
        });
        waited?;
        let result = format!("every third account deleted after {}", moment(before / 1000));
        self.row("mistake, and in the archive", result, took);
        Ok((before, digest))
    }

    fn verify(&self) -> Result<VerifyReport> {
        let request = VerifyRequest {
            depth: Depth::Bytes,
            workers: super::opening::workers(),
            bytes_read: Arc::default(),
            memory: Some(self.folder.join("state")),
        };
        vault::verify::run(&self.reopen()?, &request)
    }

    /// A bit is flipped in a piece of the log, and a piece taken away: both are found.
    fn damage(&mut self) -> Result<()> {
        let folder = self.folder.join("repository/wal");
        let failed = |action| VaultError::file(action, folder.clone());
        let entries = fs::read_dir(&folder).map_err(failed("list"))?;
        let paths: std::io::Result<Vec<PathBuf>> = entries.map(|e| Ok(e?.path())).collect();
        let newest = paths.map_err(failed("list"))?.into_iter().max();
        let newest =
            newest.ok_or_else(|| VaultError::NotFound("there is no piece of a log".to_owned()))?;
        let bytes = fs::read(&newest).map_err(failed("read"))?;
        let mut altered = bytes.clone();
        altered[bytes.len() / 2] ^= 0x10;
        for (step, contents) in
            [("a bit flipped, verify", Some(altered)), ("newest log removed, verify", None)]
        {
            let changed = match contents {
                Some(contents) => fs::write(&newest, contents),
                None => fs::remove_file(&newest),
            };
            changed.map_err(failed("change"))?;
            let (report, took) = timed(|| self.verify());
            let report = report?;
            fs::write(&newest, &bytes).map_err(failed("write"))?;
            let first = report.findings.first().map(ToString::to_string).unwrap_or_default();
            if report.damaged_backups.is_empty() {
                return Err(VaultError::Refused(format!("{step}: it was not found")));
            }
            self.row(step, first, took);
        }
        let (report, took) = timed(|| self.verify());
        let report = report?;
        if !report.is_intact() {
            return Err(VaultError::Refused(format!("damaged: {:?}", report.findings)));
        }
        let result = format!("{} chunks, every byte, intact", report.chunks_read);
        self.row("put back, verify", result, took);
        Ok(())
    }

    /// The newest base backup as it is, before any log: its files restored, and read again without
    /// the vault's help, have the root that was signed.
    fn compare(&mut self) -> Result<()> {
        let place = self.folder.join("base");
        let repository = self.reopen()?;
        let none = || VaultError::NotFound("there is no backup".to_owned());
        let (seq, backup) = repository.state().newest(None).ok_or_else(none)?;
        let blobs = repository.blobs()?;
        let request = RestoreRequest {
            path: Vec::new(),
            target: place.clone(),
            set_aside: None,
            dry_run: false,
            owners: self.server.owner.is_some(),
            devices: false,
            workers: super::opening::workers(),
            counters: Arc::new(RestoreCounters::default()),
        };
        let (compared, took) = timed(|| -> Result<_> {
            vault::restore::run(&blobs, backup, &request)?;
            let source = DirectorySource::new(&place, &[], false)?;
            vault::compare::compare(&blobs, backup, &source, &place)
        });
        let compared = compared?;
        if !compared.is_equal() {
            return Err(VaultError::Refused(format!("{:?} differ", compared.differences)));
        }
        let root = &hex(&compared.live)[..16];
        let result =
            format!("backup {seq}, {} files: one Merkle root {root}…", backup.totals.files);
        self.row("restored files equal the backup", result, took);
        Ok(())
    }

    fn undo(&mut self, before: i64, digest: &str) -> Result<()> {
        let data = self.folder.join("back");
        let (restored, took) = timed(|| -> Result<_> {
            let repository = self.reopen()?;
            let plan = plan(&repository, &Choice::default(), Target::Time(before))?;
            let request = RecoverRequest {
                target: data.clone(),
                spaces: Default::default(),
                log: Log::Fetched,
                owners: self.server.owner.is_some(),
                workers: super::opening::workers(),
                counters: Arc::new(RestoreCounters::default()),
            };
            recover(&repository, &plan, &request)
        });
        let files = restored?.totals.files;
        let result = format!("to {}: {files} files", moment(before / 1000));
        self.row("restored to before the mistake", result, took);
        let scratch = self.folder.join("rehearsal");
        fs::create_dir(&scratch).map_err(VaultError::file("make", scratch.clone()))?;
        let same = format!("SELECT ({DIGEST}) = '{digest}'");
        let rehearsed = rehearse(&RehearsalRequest {
            data,
            scratch,
            programs: self.server.programs.clone(),
            owner: self.server.owner,
            role: "postgres".to_owned(),
            patience: PATIENCE,
            queries: vec![("postgres".to_owned(), same)],
        })?;
        let result = "recovered, pg_amcheck, page checksums, equal to the oracle".to_owned();
        self.row("opened and checked", result, Duration::from_millis(rehearsed.opened_ms));
        Ok(())
    }
}

/// A client that books until it is told to stop.
fn client(info: &vault::postgres::ConnInfo, stop: &AtomicBool, booked: &AtomicU64) -> Result<()> {
    let mut connection = Connection::open(info)?;
    while !stop.load(Ordering::Acquire) {
        connection.query(&booking(booked.fetch_add(1, Ordering::Relaxed)))?;
    }
    Ok(())
}
