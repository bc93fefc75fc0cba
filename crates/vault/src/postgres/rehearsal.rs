//! A rehearsal: starts a restored database on a private socket, lets it recover, has it checked,
//! and stops it. Nothing reaches it but this process.

use super::{ConnInfo, Connection, amcheck};
use crate::error::{Result, VaultError, explain};
use rustix::process::{Pid, Signal};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Between looks at a server that starts or stops.
const PAUSE: Duration = Duration::from_millis(20);
/// The end of a log that an error shows.
const LOG_CHARS_MAX: usize = 2000;

/// How to rehearse.
pub struct RehearsalRequest {
    /// The restored data directory.
    pub data: PathBuf,
    /// A directory for the socket and the log; it belongs to this rehearsal alone.
    pub scratch: PathBuf,
    /// The server's programs.
    pub programs: PathBuf,
    /// For root: the user and group as whom the server runs.
    pub owner: Option<(u32, u32)>,
    /// The role for the checks: a superuser.
    pub role: String,
    /// How long recovery may take.
    pub patience: Duration,
    /// Statements that must succeed, with their database; one whose first value is false fails.
    pub queries: Vec<(String, String)>,
}

/// What a rehearsal found: everything went well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rehearsed {
    /// From the start to the first query, in milliseconds.
    pub opened_ms: u64,
    /// What was checked.
    pub checked: Vec<String>,
    /// What was not, and why: a program that is missing here.
    pub unchecked: Vec<String>,
    /// What each query answered.
    pub answers: Vec<String>,
}

/// Where the programs of a server of this version are: Debian's place, or the search path's.
///
/// # Errors
/// Where there are none.
pub fn find_programs(version: u32) -> Result<PathBuf> {
    let major = version / 10_000;
    let debian = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::iter::once(debian).chain(std::env::split_paths(&paths));
    places.find(|place| place.join("postgres").exists()).ok_or_else(|| {
        VaultError::NotFound(format!(
            "PostgreSQL {major} is not installed here: a restore can be proven where its programs \
             are. Name their directory with --programs"
        ))
    })
}

/// The programs of the newest server that Debian's packages installed.
pub fn find_newest() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|entry| entry.ok());
    let usable = versions.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let programs = entry.path().join("bin");
        let there = programs.join("initdb").exists() && programs.join("postgres").exists();
        (version >= super::VERSION_MIN / 10_000 && there).then_some((version, programs))
    });
    usable.max().map(|(_, programs)| programs)
}

/// Starts, checks, and stops.
///
/// # Errors
/// Where anything is not as it must be: then the backup is not proven.
pub fn rehearse(request: &RehearsalRequest) -> Result<Rehearsed> {
    let begun = Instant::now();
    let mut server = PrivateServer::start(request)?;
    let mut connection = server.wait_open(request)?;
    let mut done = Rehearsed {
        opened_ms: begun.elapsed().as_millis() as u64,
        checked: vec!["it recovered and opened".to_owned()],
        ..Rehearsed::default()
    };
    let checksums = connection.row("SHOW data_checksums", 1)?[0] == "on";
    check_all(request, &mut done)?;
    for (database, sql) in &request.queries {
        let mut connection = Connection::open(&request.info(database))?;
        let rows = connection.query(sql)?;
        let first = rows.first().and_then(|r| r.first().cloned().flatten());
        if first.as_deref() == Some("f") {
            return Err(not_proven(format!("`{sql}` is false")));
        }
        done.answers.push(first.unwrap_or_default());
        done.checked.push(format!("`{sql}`"));
    }
    drop(connection);
    server.stop(request.patience)?;
    if checksums && !request.programs.join("pg_checksums").exists() {
        let what = "every page's checksum, as pg_checksums is not here: tables and indexes were \
                    read with theirs";
        done.unchecked.push(what.to_owned());
    } else if checksums {
        let mut command = request.command("pg_checksums");
        command.arg("--check").arg("-D").arg(&request.data);
        run(command)?;
        done.checked.push("every page's checksum".to_owned());
    }
    Ok(done)
}

fn not_proven(what: String) -> VaultError {
    VaultError::Refused(format!("the restore is NOT proven: {what}"))
}

/// Tables and indexes of all databases.
fn check_all(request: &RehearsalRequest, done: &mut Rehearsed) -> Result<()> {
    if !request.programs.join("pg_amcheck").exists() {
        let named = |database: &str| request.info(database);
        match amcheck::by_extension(&named).map_err(|e| not_proven(explain(&e)))? {
            Some(what) => done.checked.push(what),
            None => {
                let what = "tables and indexes, as neither pg_amcheck nor amcheck is here";
                done.unchecked.push(what.to_owned());
            }
        }
        return Ok(());
    }
    let mut command = request.command("pg_amcheck");
    command.args(["--all", "--install-missing", "-U", &request.role, "-h"]).arg(&request.scratch);
    run(command)?;
    done.checked.push("pg_amcheck".to_owned());
    Ok(())
}

fn run(mut command: Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let name = command.get_program().to_string_lossy().into_owned();
    let output = output.map_err(|e| not_proven(format!("{name} could not be run: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(not_proven(format!("{name} ended with {}: {}", output.status, tail(&said))))
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let skip = text.chars().count().saturating_sub(LOG_CHARS_MAX);
    text.trim().chars().skip(skip).collect()
}

impl RehearsalRequest {
    /// A program of the server's, as its user.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command.current_dir("/");
        command
    }

    /// How the server is reached.
    pub fn info(&self, database: &str) -> ConnInfo {
        ConnInfo::local(&self.scratch, &self.role, database)
    }

    /// A file of this rehearsal, readable by the server.
    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.scratch.join(name);
        let write = || {
            fs::write(&path, text)?;
            match self.owner {
                Some((uid, gid)) => chown(&path, Some(uid), Some(gid)),
                None => Ok(()),
            }
        };
        write().map_err(VaultError::file("write", path.clone()))?;
        Ok(path)
    }
}

/// A server on a private socket that ends with this value.
pub struct PrivateServer {
    child: Child,
    log: PathBuf,
}

impl PrivateServer {
    /// Starts a server on a data directory; `wait_open` says when it is there.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(request: &RehearsalRequest) -> Result<PrivateServer> {
        let scratch = &request.scratch;
        let own = || {
            fs::set_permissions(scratch, fs::Permissions::from_mode(0o700))?;
            match request.owner {
                Some((uid, gid)) => chown(scratch, Some(uid), Some(gid)),
                None => Ok(()),
            }
        };
        own().map_err(VaultError::file("make private", scratch))?;
        // Only whoever may enter the scratch directory reaches the socket.
        let hba =
            request.write("hba.conf", "local all all trust\nlocal replication all trust\n")?;
        let ident = request.write("ident.conf", "")?;
        let log = request.write("server.log", "")?;
        let mut command = request.command("postgres");
        command.arg("-D").arg(&request.data).arg("-k").arg(scratch);
        if !request.data.join("postgresql.conf").exists() {
            // Where a server keeps its settings elsewhere, the defaults do.
            let config = request.write("postgresql.conf", "")?;
            command.arg(format!("--config_file={}", config.display()));
        }
        command.arg(format!("--hba_file={}", hba.display()));
        command.arg(format!("--ident_file={}", ident.display()));
        for setting in [
            "listen_addresses=",
            "port=5432",
            "ssl=off",
            "archive_mode=off",
            "synchronous_standby_names=",
            "hot_standby=off",
            "logging_collector=off",
            "fsync=off",
        ] {
            command.arg("-c").arg(setting);
        }
        let output = fs::File::options().append(true).open(&log);
        let output = output.map_err(VaultError::file("open", log.clone()))?;
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let child = command.spawn().map_err(VaultError::file("start", "postgres"))?;
        Ok(PrivateServer { child, log })
    }

    /// Waits until the database takes queries and writes.
    ///
    /// # Errors
    /// Where it ends before, or takes too long.
    pub fn wait_open(&mut self, request: &RehearsalRequest) -> Result<Connection> {
        let begun = Instant::now();
        loop {
            if let Ok(mut connection) = Connection::open(&request.info("postgres")) {
                let row = connection.row("SELECT pg_is_in_recovery()", 1)?;
                if row[0] == "f" {
                    return Ok(connection);
                }
            }
            let ended = self.child.try_wait().map_err(VaultError::file("wait for", "postgres"))?;
            let log = || tail(&fs::read(&self.log).unwrap_or_default());
            if let Some(status) = ended {
                return Err(not_proven(format!("the server ended with {status}: {}", log())));
            }
            if begun.elapsed() >= request.patience {
                return Err(not_proven(format!("the server did not open in time: {}", log())));
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    fn signal(&self, signal: Signal) -> std::io::Result<()> {
        let pid = Pid::from_raw(self.child.id() as i32);
        pid.map_or(Ok(()), |pid| rustix::process::kill_process(pid, signal).map_err(Into::into))
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// Where it does not end well, or in time.
    pub fn stop(&mut self, patience: Duration) -> Result<()> {
        let failed = || VaultError::file("stop", "postgres");
        self.signal(Signal::INT).map_err(failed())?;
        let begun = Instant::now();
        loop {
            match self.child.try_wait().map_err(failed())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(not_proven(format!("the server ended with {status}")));
                }
                None if begun.elapsed() >= patience => {
                    return Err(not_proven("the server did not stop in time".to_owned()));
                }
                None => std::thread::park_timeout(PAUSE),
            }
        }
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        // After `stop` there is nothing left; else whatever failed is told already.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.signal(Signal::QUIT);
            let _ = self.child.wait();
        }
    }
}
