//! A PostgreSQL server of a test's own: a data directory and a private socket in a directory
//! that goes with the test. As root, it runs as the user `postgres`.

use crate::common;
use rustix::process::{Pid, Signal};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vault::postgres::recovery::{Choice, Log, Plan, RecoverRequest, Target, plan, recover};
use vault::postgres::{ConnInfo, Connection, Lsn, PostgresSource};
use vault::repository::{OpenOptions, Repository};
use vault::restore::RestoreCounters;
use vault::store::Store;
use vault::store::local::LocalStore;

/// How long a server may take to start or stop on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

/// Where the server's programs are: where `BACKSTAY_TEST_POSTGRES` says, or the newest version
/// that is installed.
pub(crate) fn programs() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("BACKSTAY_TEST_POSTGRES") {
        let named = PathBuf::from(named);
        assert!(named.join("initdb").exists(), "{}: no server's programs", named.display());
        return Some(named);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|v| v.ok())
        .filter_map(|v| Some((v.file_name().to_str()?.parse().ok()?, v.path().join("bin"))))
        .filter(|(version, bin)| *version >= 13 && bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

/// Whose the server is: the user `postgres` for root, nobody else otherwise.
pub(crate) fn owner() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|l| l.starts_with("postgres:")).expect("a user postgres");
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

/// A command that runs as the server's user.
pub(crate) fn as_owner(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = owner() {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// Gives a tree to the server's user.
pub(crate) fn give(path: &Path) {
    let Some((uid, gid)) = owner() else { return };
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        chown(&path, Some(uid), Some(gid)).unwrap();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
    }
}

/// The directory of a test; everyone may look in, so that the server's user gets to its data.
pub(crate) fn scratch() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A running server.
pub(crate) struct Server {
    pub(crate) data: PathBuf,
    pub(crate) socket: PathBuf,
    /// It names the socket; a server that listens on loopback has one of its own.
    pub(crate) port: u16,
    child: Child,
}

impl Server {
    /// Makes a new database system and starts it.
    pub(crate) fn new(folder: &Path, settings: &str) -> Server {
        Server::made_with(folder, settings, &["-k"])
    }

    /// One whose pages have no checksums.
    pub(crate) fn without_checksums(folder: &Path, settings: &str) -> Server {
        Server::made_with(folder, settings, &[])
    }

    fn made_with(folder: &Path, settings: &str, words: &[&str]) -> Server {
        let data = folder.join("data");
        fs::create_dir(&data).unwrap();
        give(&data);
        let made = as_owner(&programs().unwrap().join("initdb"))
            .args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8"])
            .args(words)
            .args(["--locale", "C", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        let basic = "listen_addresses = ''\nfsync = off\nmax_wal_senders = 5\n\
                     wal_level = replica\nshared_buffers = 16MB\nmax_wal_size = 256MB\n\
                     autovacuum = off\nlog_min_messages = warning\n";
        let config = data.join("postgresql.conf");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{text}\n{basic}{settings}\n")).unwrap();
        Server::start(folder, &data, &[])
    }

    /// Starts a server on a data directory, and waits until it takes queries.
    pub(crate) fn start(folder: &Path, data: &Path, settings: &[&str]) -> Server {
        let mut server = Server::launch(folder, data, settings);
        let begun = Instant::now();
        loop {
            if let Some(status) = server.child.try_wait().unwrap() {
                let log = fs::read_to_string(server.log()).unwrap_or_default();
                panic!("the server ended with {status}:\n{log}");
            }
            let ready = Connection::open(&server.info())
                .and_then(|mut c| c.row("SELECT pg_is_in_recovery()", 1));
            match ready {
                Ok(row) if row[0] == "f" => return server,
                other => assert!(begun.elapsed() < PATIENCE, "{other:?}"),
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Starts a server and doesn't wait.
    pub(crate) fn launch(folder: &Path, data: &Path, settings: &[&str]) -> Server {
        let socket = folder.join("socket");
        fs::create_dir_all(&socket).unwrap();
        give(&socket);
        let log = fs::File::create(data.with_extension("log")).unwrap();
        let mut command = as_owner(&programs().unwrap().join("postgres"));
        command.arg("-D").arg(data).arg("-k").arg(&socket);
        for setting in settings {
            command.args(["-c", setting]);
        }
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let config = fs::read_to_string(data.join("postgresql.conf")).unwrap();
        let port = config.lines().rev().find_map(|line| line.strip_prefix("port = "));
        let port = port.map_or(5432, |port| port.parse().unwrap());
        Server { data: data.to_owned(), socket, port, child }
    }

    /// Waits until a query says true; the server may not be there yet.
    pub(crate) fn wait_for(&self, sql: &str) {
        let begun = Instant::now();
        loop {
            let answer = Connection::open(&self.info()).and_then(|mut c| c.row(sql, 1));
            match answer {
                Ok(row) if row[0] == "t" => return,
                other => assert!(begun.elapsed() < PATIENCE, "{other:?}"),
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    /// How the server ended by itself, and what it logged.
    pub(crate) fn ended(mut self) -> (std::process::ExitStatus, String) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, fs::read_to_string(self.log()).unwrap());
            }
            assert!(begun.elapsed() < PATIENCE, "the server goes on");
            std::thread::park_timeout(PAUSE);
        }
    }

    fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    pub(crate) fn info(&self) -> ConnInfo {
        let (socket, port) = (self.socket.display(), self.port);
        let text = format!("host={socket} port={port} user=postgres dbname=postgres");
        ConnInfo::parse(&text).unwrap()
    }

    pub(crate) fn open(&self) -> Connection {
        Connection::open(&self.info()).unwrap()
    }

    /// Runs statements, each by itself.
    pub(crate) fn run(&self, statements: &[&str]) {
        let mut connection = self.open();
        for sql in statements {
            connection.query(sql).unwrap();
        }
    }

    /// One value.
    pub(crate) fn one(&self, sql: &str) -> String {
        self.open().row(sql, 1).unwrap().remove(0)
    }

    /// Where the log ends.
    pub(crate) fn position(&self) -> Lsn {
        Lsn::parse(&self.one("SELECT pg_current_wal_insert_lsn()")).unwrap()
    }

    /// Ends the server as a power failure would, if nothing had been lost yet.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::QUIT);
        self.child.wait().unwrap();
    }

    /// Ends the server as an operator would.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::INT);
        self.child.wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        // It may have ended already.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::QUIT);
        let _ = self.child.wait();
    }
}

/// A repository in a directory, and the key to it.
pub(crate) struct Vault {
    pub(crate) repository: Repository,
    pub(crate) identity: age::x25519::Identity,
    pub(crate) place: PathBuf,
    pub(crate) state: PathBuf,
}

impl Vault {
    pub(crate) fn new(folder: &Path) -> Vault {
        let (place, state) = (folder.join("repository"), folder.join("state"));
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(&place).unwrap());
        let identity = age::x25519::Identity::generate();
        let recipient = identity.to_public().to_string();
        let machine = vault::repository::NewRecipient {
            holder: vault::keys::wrap::Holder::Machine,
            label: "machine".to_owned(),
            recipient,
        };
        let request = vault::repository::InitRequest {
            recipients: vec![machine],
            deletion_key: None,
            wait: common::WAIT,
        };
        let repository = Repository::init(store, &request, OpenOptions::default()).unwrap();
        Vault { repository, identity, place, state }
    }

    /// Another opening of the same repository.
    pub(crate) fn again(&self) -> Vault {
        Vault {
            repository: self.reopen(),
            identity: self.identity.clone(),
            place: self.place.clone(),
            state: self.state.clone(),
        }
    }

    /// The repository opened anew.
    pub(crate) fn reopen(&self) -> Repository {
        let store = Arc::new(LocalStore::open(&self.place));
        Repository::open(store, &self.identity, OpenOptions::default()).unwrap()
    }

    pub(crate) fn back_up(&mut self, server: &Server) -> vault::backup::BackupOutcome {
        let memory = Some(self.state.clone());
        self.back_up_with(server, memory).unwrap()
    }

    pub(crate) fn back_up_with(
        &mut self,
        server: &Server,
        block_memory: Option<PathBuf>,
    ) -> vault::Result<vault::backup::BackupOutcome> {
        let source = PostgresSource::new(server.info(), "ledger")?;
        let request = vault::backup::BackupRequest {
            name: "ledger".to_owned(),
            host: "a".to_owned(),
            source: &source,
            parent: vault::backup::Parent::Newest,
            workers: 2,
            before: None,
            after: None,
            block_memory,
            counters: Arc::new(vault::backup::Counters::default()),
        };
        vault::backup::run(&mut self.repository, &request)
    }

    pub(crate) fn plan(&self, target: Target) -> vault::Result<Plan> {
        plan(&self.reopen(), &Choice::default(), target)
    }

    /// Restores to a point and starts the result.
    pub(crate) fn restore(&self, folder: &Path, name: &str, target: Target) -> Server {
        self.restore_by(&self.plan(target).unwrap(), folder, name)
    }

    /// The same, from the backup and to the point of a plan.
    pub(crate) fn restore_by(&self, plan: &Plan, folder: &Path, name: &str) -> Server {
        let place = folder.join(name);
        fs::create_dir_all(&place).unwrap();
        let data = place.join("data");
        self.recover(plan, &data, Log::Fetched);
        Server::start(&place, &data, &["archive_mode=off", "synchronous_standby_names="])
    }

    /// A standby of the primary, out of the newest backup.
    pub(crate) fn standby_of(&self, primary: &Server, folder: &Path) -> Server {
        let place = folder.join("standby");
        fs::create_dir(&place).unwrap();
        let data = place.join("data");
        self.recover(&self.plan(Target::Latest).unwrap(), &data, Log::Fetched);
        fs::rename(data.join("recovery.signal"), data.join("standby.signal")).unwrap();
        let reach = format!("primary_conninfo=host={} user=postgres", primary.socket.display());
        Server::launch(&place, &data, &[&reach])
    }

    pub(crate) fn recover(&self, plan: &Plan, data: &Path, log: Log) {
        let request = RecoverRequest {
            target: data.to_owned(),
            spaces: Default::default(),
            log,
            owners: owner().is_some(),
            workers: 2,
            counters: Arc::new(RestoreCounters::default()),
        };
        let report = recover(&self.reopen(), plan, &request).unwrap();
        assert!(report.is_complete(), "{:?}", report.notes);
    }

    pub(crate) fn verify(&self, depth: vault::verify::Depth) -> vault::verify::VerifyReport {
        let request = vault::verify::VerifyRequest {
            depth,
            workers: 2,
            bytes_read: Arc::default(),
            memory: Some(self.state.clone()),
        };
        vault::verify::run(&self.reopen(), &request).unwrap()
    }
}

/// A ledger whose bookings add up to nothing at every commit.
pub(crate) const LEDGER: &[&str] = &[
    "CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL)",
    "CREATE TABLE booking (id bigserial PRIMARY KEY, debit int, credit int, amount bigint, \
     note text)",
    "INSERT INTO account SELECT n, 0 FROM generate_series(1, 500) n",
];

/// One booking, in one transaction.
pub(crate) fn booking(number: u64) -> String {
    let (debit, credit, amount) = (number * 7 % 500 + 1, number * 13 % 500 + 1, number % 1000);
    format!(
        "BEGIN; UPDATE account SET balance = balance - {amount} WHERE id = {debit}; \
         UPDATE account SET balance = balance + {amount} WHERE id = {credit}; \
         INSERT INTO booking (debit, credit, amount, note) \
         VALUES ({debit}, {credit}, {amount}, repeat('n{number}', 10)); COMMIT"
    )
}

/// A hash over everything that the ledger says.
pub(crate) const DIGEST: &str = "SELECT md5(coalesce(string_agg(t, ',' ORDER BY t), '')) FROM \
    (SELECT account::text t FROM account UNION ALL SELECT booking::text FROM booking) x";
