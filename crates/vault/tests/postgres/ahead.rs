//! A log that is fetched ahead of the server: what a server would do, by a process that only
//! lives, and by the questions that it would ask. No server is needed.

use crate::cluster::{Vault, scratch};
use crate::proof::command_line_of;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use vault::postgres::{Lsn, SegmentName};
use vault::wal::Archive;

const SEGMENT: u64 = 1 << 20;
/// Segments that lie ready at most: 128 MiB of them.
const CAPACITY: usize = 128;
const SEGMENTS: u64 = 200;
const PATIENCE: Duration = Duration::from_secs(150);
const STARTED: u64 = 1_795_312_800;

/// A segment's bytes: no two have the same.
fn bytes(number: u64) -> Vec<u8> {
    let page = blake3::hash(&number.to_le_bytes());
    page.as_bytes().iter().copied().cycle().take(SEGMENT as usize).collect()
}

fn name(timeline: u32, number: u64) -> String {
    SegmentName { timeline, start: Lsn(number * SEGMENT) }.file_name(SEGMENT)
}

/// A repository with a log, a data directory, and a process that passes for its server.
struct Stage {
    vault: Vault,
    data: PathBuf,
    server: Child,
    segments: u64,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new(segments: u64) -> Stage {
        let folder = scratch();
        let mut vault = Vault::new(folder.path());
        let mut archive = Archive::open(&vault.repository, "ledger", 7, SEGMENT).unwrap();
        for timeline in [1, 2] {
            for number in 0..segments {
                let start = Lsn(number * SEGMENT);
                let bytes = bytes(number + u64::from(timeline) * 1000);
                archive.store(&vault.repository, timeline, start, &bytes).unwrap();
            }
            // And the half of one more, as a stream leaves it.
            let (at, half) = (Lsn(segments * SEGMENT), SEGMENT / 2);
            archive.store(&vault.repository, timeline, at, &vec![7; half as usize]).unwrap();
            let stretch = (Lsn(0), Lsn(at.0 + half));
            archive.acknowledge(&mut vault.repository, timeline, stretch).unwrap();
        }
        let data = folder.path().join("data");
        fs::create_dir_all(data.join("pg_wal")).unwrap();
        fs::write(data.join("recovery.signal"), "").unwrap();
        let server = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let stage = Stage { vault, data, server, segments, _folder: folder };
        stage.started(STARTED);
        stage
    }

    /// Writes what a server writes when it starts.
    fn started(&self, seconds: u64) {
        let text = format!("{}\n/data\n{seconds}\n5432\n\n\n", self.server.id());
        fs::write(self.data.join("postmaster.pid"), text).unwrap();
    }

    /// Asks for a segment and returns the exit code; what is handed over is what was stored.
    fn get(&self, timeline: u32, number: u64) -> i32 {
        let to = self.data.join("pg_wal/RECOVERYXLOG");
        let _ = fs::remove_file(&to);
        let mut command = command_line_of(&self.vault, std::env::current_exe().unwrap());
        command.args(["vault", "wal", "get", "--source", "ledger", &name(timeline, number)]);
        command.arg("pg_wal/RECOVERYXLOG").current_dir(&self.data).stdin(Stdio::null());
        let code = command.stderr(Stdio::null()).status().unwrap().code().unwrap();
        if code == 0 {
            let expected = match number == self.segments {
                true => [vec![7; SEGMENT as usize / 2], vec![0; SEGMENT as usize / 2]].concat(),
                false => bytes(number + u64::from(timeline) * 1000),
            };
            assert!(fs::read(&to).unwrap() == expected, "segment {number}");
        }
        code
    }

    fn all(&self) -> PathBuf {
        self.data.join("pg_wal/backstay.ahead")
    }

    /// The segments that lie ready, in order.
    fn ready(&self) -> Vec<String> {
        let Ok(queues) = fs::read_dir(self.all()) else { return Vec::new() };
        let files = queues.flatten().filter_map(|queue| fs::read_dir(queue.path()).ok());
        let names = files.flatten().flatten().map(|f| f.file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|n| n.len() == 24).collect();
        names.sort();
        names
    }

    /// The processes that fetch ahead for it.
    fn fillers(&self) -> Vec<Pid> {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let ours = processes.filter(|process| {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let place = fs::read_link(process.path().join("cwd")).unwrap_or_default();
            let of_ours = line.windows(9).any(|word| word == b"\0wal\0get\0");
            of_ours && place == self.data
        });
        let pid = |process: fs::DirEntry| process.file_name().to_str()?.parse().ok();
        ours.filter_map(pid).filter_map(Pid::from_raw).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What fetches ahead ends with the server; it is waited for, so that the folder can go.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let begun = Instant::now();
        while !self.fillers().is_empty() && begun.elapsed() < PATIENCE {
            thread::park_timeout(Duration::from_millis(10));
        }
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

pub(crate) fn what_is_ready_is_the_log_and_no_more() {
    let stage = Stage::new(SEGMENTS);
    assert_eq!(stage.get(1, 0), 0);
    wait_until("the queue is full", || stage.ready().len() == CAPACITY);
    let expected: Vec<String> = (1..=CAPACITY as u64).map(|n| name(1, n)).collect();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(stage.ready(), expected);
    // What is ready needs no repository. What is not ready says that there is none.
    let aside = stage.vault.place.with_extension("aside");
    fs::rename(&stage.vault.place, &aside).unwrap();
    (1..=CAPACITY as u64).for_each(|n| assert_eq!(stage.get(1, n), 0, "{n}"));
    assert_eq!(stage.get(1, CAPACITY as u64 + 1), 200);
    fs::rename(&aside, &stage.vault.place).unwrap();
    (CAPACITY as u64 + 1..SEGMENTS).for_each(|n| assert_eq!(stage.get(1, n), 0, "{n}"));
    // The last one is not whole: it may grow, so it is never made ready.
    assert!(!stage.ready().contains(&name(1, SEGMENTS)));
    assert_eq!(stage.get(1, SEGMENTS), 0);
    assert_eq!(stage.get(1, SEGMENTS + 1), 1);
    wait_until("the queue is gone", || !stage.all().exists());
    wait_until("nobody fills it", || stage.fillers().is_empty());
}

pub(crate) fn another_timeline_is_followed() {
    let stage = Stage::new(20);
    for (timeline, numbers) in [(1, 0..5), (2, 4..20), (1, 9..12)] {
        for number in numbers {
            assert_eq!(stage.get(timeline, number), 0, "{timeline} {number}");
        }
    }
    wait_until("the rest is ready", || stage.ready().len() == 8);
    assert_eq!(stage.ready(), (12..20).map(|n| name(1, n)).collect::<Vec<_>>());
}

pub(crate) fn a_damaged_segment_ahead_stops_where_it_is() {
    let stage = Stage::new(20);
    let mut pieces: Vec<PathBuf> =
        fs::read_dir(stage.vault.place.join("wal")).unwrap().map(|e| e.unwrap().path()).collect();
    pieces.sort();
    // The first half are the first timeline's.
    let mut piece = fs::read(&pieces[7]).unwrap();
    let middle = piece.len() / 2;
    piece[middle] ^= 1;
    fs::write(&pieces[7], piece).unwrap();
    assert_eq!(stage.get(1, 0), 0);
    wait_until("what comes before it is ready", || stage.ready().len() >= 6);
    let codes: Vec<i32> = (0..20).map(|number| stage.get(1, number)).collect();
    let expected: Vec<i32> = (0..20).map(|number| if number == 7 { 200 } else { 0 }).collect();
    assert_eq!(codes, expected);
}

pub(crate) fn a_queue_goes_with_its_server() {
    for end in ["it has recovered", "it was started again", "it is gone"] {
        let mut stage = Stage::new(20);
        assert_eq!(stage.get(1, 0), 0);
        wait_until("all is ready", || stage.ready().len() == 19);
        match end {
            "it has recovered" => fs::remove_file(stage.data.join("recovery.signal")).unwrap(),
            "it was started again" => stage.started(STARTED + 1),
            _ => {
                stage.server.kill().unwrap();
                stage.server.wait().unwrap();
            }
        }
        wait_until(end, || !stage.all().exists() && stage.fillers().is_empty());
    }
    // Who is no recovering server gets one segment and leaves nothing behind.
    let stage = Stage::new(3);
    fs::remove_file(stage.data.join("postmaster.pid")).unwrap();
    assert_eq!(stage.get(1, 0), 0);
    assert!(!stage.all().exists() && stage.fillers().is_empty());
}

pub(crate) fn what_a_dead_process_left_harms_nothing() {
    let stage = Stage::new(SEGMENTS);
    // An earlier start of the server: its queue may hold anything.
    let earlier = stage.all().join(format!("{}-{}-00", stage.server.id(), STARTED - 1));
    fs::create_dir_all(&earlier).unwrap();
    fs::write(earlier.join(name(1, 1)), "not a segment").unwrap();
    assert_eq!(stage.get(1, 0), 0);
    wait_until("the earlier queue is removed", || !earlier.exists());
    wait_until("the queue is full", || stage.ready().len() == CAPACITY);
    let [filler] = stage.fillers()[..] else { panic!("one process fills the queue") };
    kill_process(filler, Signal::KILL).unwrap();
    wait_until("it is dead", || stage.fillers().is_empty());
    // What it had on its way is not waited for.
    let queue = fs::read_dir(stage.all()).unwrap().next().unwrap().unwrap().path();
    fs::write(queue.join(name(1, CAPACITY as u64 + 1) + ".part"), "half").unwrap();
    (1..=CAPACITY as u64).for_each(|n| assert_eq!(stage.get(1, n), 0, "{n}"));
    let begun = Instant::now();
    assert_eq!(stage.get(1, CAPACITY as u64 + 1), 0);
    assert!(begun.elapsed() < Duration::from_secs(4), "it was waited for");
    wait_until("another fills it", || !stage.fillers().is_empty());
    (CAPACITY as u64 + 2..=SEGMENTS).for_each(|n| assert_eq!(stage.get(1, n), 0, "{n}"));
    wait_until("the queue is gone", || !stage.all().exists());
}

pub(crate) fn what_cannot_be_handed_over_is_no_end_of_the_log() {
    let stage = Stage::new(3);
    // A directory is in the way of the file, as a full or broken disk would be.
    fs::create_dir(stage.data.join("pg_wal/RECOVERYXLOG")).unwrap();
    assert_eq!(stage.get(1, 0), 200);
    assert_eq!(stage.get(1, 7), 1);
    // The same of a log that lies beside the data.
    let command = vault::postgres::recovery::hand_over_command();
    fs::create_dir_all(stage.data.join("pg_wal/backstay")).unwrap();
    fs::write(stage.data.join("pg_wal/backstay/there"), "x").unwrap();
    let shell = |file: &str, to: &str| {
        let line = command.replace("%f", file).replace("%p", to);
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).current_dir(&stage.data).stderr(Stdio::null());
        shell.status().unwrap().code().unwrap()
    };
    assert_eq!(shell("there", "pg_wal/to"), 0);
    assert_eq!(shell("missing", "pg_wal/to2"), 1);
    assert_eq!(shell("there", "pg_wal/nowhere/to"), 200);
}
