//! A database: our vault beside Debian's pgBackRest, on the same server in one run.
//!
//! pgbench's tables; a full backup, 8,000 transactions, an increment; a restore, and how long
//! until it opens; how long a commit takes to be durable in the archive; and what synchronous
//! streaming costs, beside pg_receivewal.

use crate::cluster::{Server, as_owner, give, programs};
use crate::directories::{Cost, Outcome, folder_mb, is_installed, measure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vault::postgres::Lsn;

const TRANSACTIONS: u32 = 8000;
const CLIENTS: u32 = 4;
/// How long throughput is measured.
const SECONDS: u32 = 10;
const COMMITS: usize = 100;
/// Some 800 MB of log.
const REPLAYED: &str = "CREATE TABLE replayed AS SELECT n, repeat(md5(n::text), 8) AS text \
                        FROM generate_series(1, 2500000) n";
const PATIENCE: Duration = Duration::from_secs(60);

/// What is there and how it is called.
struct Bench<'a> {
    program: &'a Path,
    folder: PathBuf,
    figures: &'a mut BTreeMap<(&'static str, &'static str), Vec<f64>>,
}

/// Measures so often at this scale.
pub(crate) fn run(program: &Path, scratch: &Path, scale: u64, runs: u64) -> Outcome<()> {
    if programs().is_none() {
        return Err("PostgreSQL is not installed: apt-get install postgresql-15".into());
    }
    let mut figures = BTreeMap::new();
    for run in 0..runs {
        let folder = scratch.join(format!("run{run}"));
        fs::create_dir(&folder)?;
        let mut bench = Bench { program, folder: folder.clone(), figures: &mut figures };
        bench.once(scale)?;
        fs::remove_dir_all(&folder)?;
    }
    println!("\n{:<36} {:<16} {:>10}", "", "tool", "median");
    for ((what, tool), mut values) in figures {
        values.sort_by(f64::total_cmp);
        println!("{what:<36} {tool:<16} {:>10.2}", values[values.len() / 2]);
    }
    Ok(())
}

impl Bench<'_> {
    fn put(&mut self, what: &'static str, tool: &'static str, value: f64) {
        println!("{what:<36} {tool:<16} {value:.3}");
        self.figures.entry((what, tool)).or_default().push(value);
    }

    fn cost(&mut self, names: [&'static str; 3], tool: &'static str, cost: Cost) {
        self.put(names[0], tool, cost.wall_s);
        self.put(names[1], tool, cost.cpu_s);
        self.put(names[2], tool, cost.new_mb);
    }

    fn ours(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(words);
        command.env("BACKSTAY_REPOSITORY", self.folder.join("ours"));
        command.env("BACKSTAY_KEY_FILE", self.folder.join("key"));
        command.env("BACKSTAY_STATE_DIR", self.folder.join("state"));
        command
    }

    fn pgbackrest(&self, words: &[&str]) -> Command {
        let mut command = as_owner(Path::new("/usr/bin/pgbackrest"));
        command.arg(format!("--config={}", self.folder.join("pgbackrest.conf").display()));
        command.arg("--stanza=bench").args(words);
        command
    }

    fn once(&mut self, scale: u64) -> Outcome<()> {
        let theirs = is_installed("pgbackrest");
        let config = self.folder.join("pgbackrest.conf");
        let archive = format!(
            "archive_mode = on\narchive_command = '{}'\n",
            match theirs {
                true => format!(
                    "pgbackrest --config={} --stanza=bench archive-push %p",
                    config.display()
                ),
                false => "true".to_owned(),
            }
        );
        let settings = format!("{archive}shared_buffers = 256MB\nmax_wal_size = 4GB\nfsync = on");
        let server = Server::new(&self.folder, &settings);
        if theirs {
            self.prepare_pgbackrest(&server)?;
        }
        pgbench(&server, &["-i", "-q", "-s", &scale.to_string()])?;
        server.run(&["CHECKPOINT"]);
        measure(&mut self.ours(&["vault", "init"]))?;
        let full = ["full backup, s", "full backup, cpu s", "full backup, MB"];
        let increment = ["increment, s", "increment, cpu s", "increment, MB"];
        self.both(&server, full, "full", theirs)?;
        let each = (TRANSACTIONS / CLIENTS).to_string();
        // Either archive is at work: pgBackRest's by segments, ours by streaming.
        let mut stream = self.stream(&server, &[])?;
        pgbench(&server, &["-c", &CLIENTS.to_string(), "-t", &each, "-n"])?;
        server.run(&["CHECKPOINT"]);
        wait_archived(&server)?;
        stream.kill()?;
        stream.wait()?;
        self.both(&server, increment, "incr", theirs)?;
        self.restores(theirs)?;
        self.replays(&server, theirs)?;
        self.commits(&server)?;
        self.throughput(&server)
    }

    fn prepare_pgbackrest(&self, server: &Server) -> Outcome<()> {
        let repository = self.folder.join("theirs");
        let spool = self.folder.join("spool");
        for place in [&repository, &spool] {
            fs::create_dir(place)?;
            give(place);
        }
        let config = format!(
            "[global]\nrepo1-path={0}\nlog-path={1}\nlock-path={1}\nspool-path={1}\n\
             compress-type=zst\ncompress-level=1\nstart-fast=y\nprocess-max=2\n\
             [bench]\npg1-path={2}\npg1-socket-path={3}\npg1-user=postgres\n",
            repository.display(),
            spool.display(),
            server.data.display(),
            server.socket.display(),
        );
        fs::write(self.folder.join("pgbackrest.conf"), config)?;
        measure(&mut self.pgbackrest(&["stanza-create"]))?;
        Ok(())
    }

    /// A backup by both tools.
    fn both(
        &mut self,
        server: &Server,
        names: [&'static str; 3],
        kind: &str,
        theirs: bool,
    ) -> Outcome<()> {
        let connection = format!("host={} user=postgres", server.socket.display());
        let ours = self.folder.join("ours");
        let before = folder_mb(&ours)?;
        let words = ["backup", "--postgres", &connection, "--name", "bench"];
        let mut cost = measure(&mut self.ours(&words))?;
        cost.new_mb = folder_mb(&ours)? - before;
        self.cost(names, "backstay", cost);
        if theirs {
            let place = self.folder.join("theirs/backup");
            let before = if place.exists() { folder_mb(&place)? } else { 0.0 };
            let kind = format!("--type={kind}");
            let mut cost = measure(&mut self.pgbackrest(&["backup", &kind, "--no-archive-check"]))?;
            cost.new_mb = folder_mb(&place)? - before;
            self.cost(names, "pgbackrest", cost);
        }
        Ok(())
    }

    /// Restores by both tools, and how long until each opens.
    fn restores(&mut self, theirs: bool) -> Outcome<()> {
        for tool in ["backstay", "pgbackrest"] {
            if tool == "pgbackrest" && !theirs {
                continue;
            }
            let place = self.folder.join(format!("back-{tool}"));
            fs::create_dir(&place)?;
            let data = place.join("data");
            let text = data.display().to_string();
            let cost = if tool == "backstay" {
                measure(&mut self.ours(&["restore", "--latest", "--with-log", "--target", &text]))?
            } else {
                fs::create_dir(&data)?;
                give(&data);
                fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
                let target = format!("--pg1-path={text}");
                measure(&mut self.pgbackrest(&[
                    "restore",
                    &target,
                    "--type=immediate",
                    "--target-action=promote",
                ]))?
            };
            self.put("restore, s", tool, cost.wall_s);
            let begun = Instant::now();
            drop(Server::start(&place, &data, &["archive_mode=off"]));
            self.put("restore to open, s", tool, cost.wall_s + begun.elapsed().as_secs_f64());
            fs::remove_dir_all(&place)?;
        }
        Ok(())
    }

    /// How fast the log is replayed: laid beside the data, fetched by the server, fetched from
    /// pgBackRest's repository (ahead, too), and all of it in the server's own folder already.
    fn replays(&mut self, server: &Server, theirs: bool) -> Outcome<()> {
        let mut stream = self.stream(server, &[])?;
        server.run(&[REPLAYED, "SELECT pg_switch_wal()"]);
        wait_archived(server)?;
        stream.kill()?;
        stream.wait()?;
        server.run(&["DROP TABLE replayed", "CHECKPOINT"]);
        // The server's user fetches.
        for name in ["ours", "key", "state"] {
            give(&self.folder.join(name));
        }
        let ways = ["log in place", "log with it", "log fetched", "pgbackrest"];
        for way in ways.into_iter().filter(|way| theirs || *way != "pgbackrest") {
            let place = self.folder.join("replayed");
            fs::create_dir(&place)?;
            let data = place.join("data");
            match way {
                "pgbackrest" => self.lay_theirs(server, &data)?,
                _ => self.lay_ours(way, &data)?,
            }
            let mut settings = vec!["archive_mode=off", "log_min_messages=log", "max_wal_size=4GB"];
            settings.extend((way == "log in place").then_some("restore_command=false"));
            // What others have written is not on the disk's mind any more.
            rustix::fs::sync();
            drop(Server::start(&place, &data, &settings));
            let log = fs::read_to_string(data.with_extension("log"))?;
            let (bytes, seconds) = redo(&log).ok_or("the server does not tell of its replay")?;
            self.put("replay, MB/s", way, bytes as f64 / 1e6 / seconds);
            fs::remove_dir_all(&place)?;
        }
        Ok(())
    }

    /// Restores a database whose log is still to be replayed.
    fn lay_ours(&self, way: &str, data: &Path) -> Outcome<()> {
        let text = data.display().to_string();
        let words = ["restore", "--latest", "--target", &text];
        let more = if way == "log fetched" { &[][..] } else { &["--with-log"] };
        measure(&mut self.ours(&[&words, more].concat()))?;
        if way == "log in place" {
            let log = data.join("pg_wal");
            for segment in fs::read_dir(log.join("backstay"))? {
                let segment = segment?;
                fs::rename(segment.path(), log.join(segment.file_name()))?;
            }
        }
        Ok(())
    }

    /// The same by pgBackRest, once its archive has all of it.
    fn lay_theirs(&self, server: &Server, data: &Path) -> Outcome<()> {
        wait_for(server, "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name ~ 'ready'")?;
        let config = fs::read_to_string(self.folder.join("pgbackrest.conf"))?;
        let ahead = self.folder.join("ahead.conf");
        fs::write(&ahead, config.replace("[bench]", "archive-async=y\n[bench]"))?;
        fs::create_dir(data)?;
        give(data);
        fs::set_permissions(data, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let mut command = as_owner(Path::new("/usr/bin/pgbackrest"));
        command.arg(format!("--config={}", ahead.display())).arg("--stanza=bench");
        command.arg(format!("--pg1-path={}", data.display())).arg("restore");
        measure(&mut command)?;
        Ok(())
    }

    fn stream(&self, server: &Server, more: &[&str]) -> Outcome<Child> {
        let connection = format!("host={} user=postgres", server.socket.display());
        let words = ["vault", "wal", "stream", "--postgres", &connection, "--source", "bench"];
        let child = self.ours(&words).args(more).stderr(Stdio::null()).spawn()?;
        wait_streaming(server, "backstay")?;
        Ok(child)
    }

    /// How long one commit takes to be durable in the archive.
    fn commits(&mut self, server: &Server) -> Outcome<()> {
        server.run(&["CREATE TABLE one (n int)"]);
        let mut child = self.stream(server, &[])?;
        synchronous(server, "backstay");
        let mut connection = server.open();
        let mut times = Vec::new();
        for _ in 0..COMMITS {
            let begun = Instant::now();
            connection.query("INSERT INTO one VALUES (1)")?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        synchronous(server, "");
        child.kill()?;
        child.wait()?;
        times.sort_by(f64::total_cmp);
        self.put("one commit in the archive, ms", "backstay", times[COMMITS / 2]);
        Ok(())
    }

    /// Transactions a second: alone, with our stream, and with pg_receivewal.
    fn throughput(&mut self, server: &Server) -> Outcome<()> {
        let tps = |server: &Server| -> Outcome<f64> {
            let seconds = SECONDS.to_string();
            pgbench(server, &["-c", "8", "-j", "2", "-T", &seconds, "-n"])
        };
        let alone = tps(server)?;
        self.put("transactions a second, alone", "-", alone);
        let spool = self.folder.join("our-spool").display().to_string();
        let ways = [("backstay", &[][..]), ("backstay --spool", &["--spool", &spool])];
        for (name, more) in ways {
            let mut child = self.stream(server, more)?;
            synchronous(server, "backstay");
            let with_ours = tps(server)?;
            synchronous(server, "");
            child.kill()?;
            child.wait()?;
            self.put("synchronous, % of alone", name, with_ours / alone * 100.0);
        }
        let folder = self.folder.join("received");
        fs::create_dir(&folder)?;
        give(&folder);
        let mut child = as_owner(&programs().ok_or("PostgreSQL is gone")?.join("pg_receivewal"))
            .args(["--synchronous", "-U", "postgres", "-h"])
            .arg(&server.socket)
            .arg("-D")
            .arg(&folder)
            .stderr(Stdio::null())
            .spawn()?;
        wait_streaming(server, "pg_receivewal")?;
        synchronous(server, "pg_receivewal");
        let with_theirs = tps(server)?;
        synchronous(server, "");
        child.kill()?;
        child.wait()?;
        self.put("synchronous, % of alone", "pg_receivewal", with_theirs / alone * 100.0);
        Ok(())
    }
}

/// How many bytes of the log a server says that it has replayed, and in how many seconds.
fn redo(log: &str) -> Option<(u64, f64)> {
    let word = |after: &str, end: char| Some(log.split(after).nth(1)?.split(end).next()?.trim());
    let from = Lsn::parse(word("redo starts at ", '\n')?)?;
    let to = Lsn::parse(word("redo done at ", ' ')?)?;
    Some((to.0 - from.0, word("elapsed: ", ' ')?.parse().ok()?))
}

fn synchronous(server: &Server, name: &str) {
    server.run(&[
        &format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"),
        "SELECT pg_reload_conf()",
    ]);
    // The setting has come when another session sees it.
    let begun = Instant::now();
    while server.one("SHOW synchronous_standby_names") != name && begun.elapsed() < PATIENCE {
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Waits until our stream has stored what the server has written.
fn wait_archived(server: &Server) -> Outcome<()> {
    let end = server.position();
    let sql = format!(
        "SELECT 1 - count(*) FROM pg_stat_replication WHERE application_name = 'backstay' \
         AND flush_lsn >= '{end}'"
    );
    wait_for(server, &sql).map_err(|_| "the stream does not store the log".into())
}

fn wait_streaming(server: &Server, name: &str) -> Outcome<()> {
    let sql = format!(
        "SELECT 1 - count(*) FROM pg_stat_replication WHERE application_name = '{name}' \
         AND state = 'streaming'"
    );
    wait_for(server, &sql).map_err(|_| format!("{name} does not stream").into())
}

/// Waits until a query says that nothing is left to wait for.
fn wait_for(server: &Server, left: &str) -> Outcome<()> {
    let begun = Instant::now();
    while server.one(left) != "0" {
        if begun.elapsed() > PATIENCE {
            return Err(format!("waited in vain: {left}").into());
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

/// Runs pgbench and returns its transactions a second.
fn pgbench(server: &Server, words: &[&str]) -> Outcome<f64> {
    let output = as_owner(&programs().ok_or("PostgreSQL is gone")?.join("pgbench"))
        .args(words)
        .args(["-U", "postgres", "-h"])
        .arg(&server.socket)
        .arg("postgres")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let tps = said.lines().find_map(|l| l.strip_prefix("tps = "));
    Ok(tps.and_then(|l| l.split(' ').next()).and_then(|n| n.parse().ok()).unwrap_or(0.0))
}
