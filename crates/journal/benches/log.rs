//! Measures the journal as it runs in production: three processes, loopback TCP, real disks, a
//! writer thread each. One process leads; proposers are closed loops inside it: each proposes
//! 128 bytes, waits until they are committed and applied, and proposes again.
//!
//! `cargo xtask bench log [--seconds N] [--json] [--dir PATH] [--proposers 1,64,256]`

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use journal::{
    Disk, Message, Options, Payload, RealDisk, Recovered, Replica, ReplicaConfig, RoleKind,
    Segments, WriteId, Writer, decode_message, encode_message,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const PAYLOAD_BYTES: usize = 128;
const REPLICAS: u64 = 3;
const TICK: Duration = Duration::from_millis(100);
const MAX_FRAME_BYTES: usize = journal::MAX_MESSAGE_BYTES;
const BARE_SYNCS: usize = 200;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("replica") => {
            let id = args.get(1).ok_or("an id")?.parse()?;
            replica_main(id, Path::new(args.get(2).ok_or("a directory")?))
        }
        _ => orchestrate(&args),
    }
}

struct Arguments {
    seconds: u64,
    json: bool,
    directory: PathBuf,
    proposers: Vec<usize>,
}

fn parse(args: &[String]) -> Result<Arguments, Failure> {
    let directory = std::env::temp_dir();
    let mut parsed = Arguments { seconds: 5, json: false, directory, proposers: vec![1, 64, 256] };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} takes a value"));
        match arg.as_str() {
            // Cargo says so to every bench.
            "--bench" => {}
            "--json" => parsed.json = true,
            "--seconds" => parsed.seconds = value()?.parse()?,
            "--dir" => parsed.directory = value()?.into(),
            "--proposers" => {
                let list = value()?.split(',').map(str::parse).collect::<Result<_, _>>();
                parsed.proposers = list?;
            }
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    Ok(parsed)
}

struct Replicator {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Replicator {
    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("a replica ended early".into());
        }
        Ok(line.trim().to_owned())
    }
}

fn orchestrate(args: &[String]) -> Result<(), Failure> {
    let arguments = parse(args)?;
    let root = arguments.directory.join(format!("journal-bench-{}", std::process::id()));
    let mut replicas = Vec::new();
    for id in 1..=REPLICAS {
        let directory = root.join(id.to_string());
        std::fs::create_dir_all(&directory)?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("replica")
            .arg(id.to_string())
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("a pipe")?;
        let output = BufReader::new(child.stdout.take().ok_or("a pipe")?);
        replicas.push(Replicator { child, input, output });
    }
    let result = measure_all(&arguments, &mut replicas);
    for replica in &mut replicas {
        // Its input's end tells a replica to end; one that is stuck is ended by its own id.
        replica.child.kill()?;
        replica.child.wait()?;
    }
    std::fs::remove_dir_all(&root)?;
    result
}

fn measure_all(arguments: &Arguments, replicas: &mut [Replicator]) -> Result<(), Failure> {
    let ports = replicas.iter_mut().map(Replicator::line).collect::<Result<Vec<_>, _>>()?;
    for replica in replicas.iter_mut() {
        writeln!(replica.input, "{}", ports.join(" "))?;
    }
    let leader = &mut replicas[0];
    if !arguments.json {
        println!("proposers  commits/s   p50 ms   p99 ms  bare fdatasync p50 ms  p50/fdatasync");
    }
    let mut rows = Vec::new();
    for proposers in &arguments.proposers {
        writeln!(leader.input, "{proposers} {}", arguments.seconds)?;
        let line = leader.line()?;
        let fields = line.split(' ').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        let [rate, p50, p99, bare] = fields[..] else {
            return Err(format!("not a result: {line}").into());
        };
        let (p50, p99, bare, ratio) = (p50 / 1e3, p99 / 1e3, bare / 1e3, p50 / bare);
        if arguments.json {
            rows.push(format!(
                "{{\"proposers\":{proposers},\"commits_per_second\":{rate:.0},\
                 \"p50_ms\":{p50:.3},\"p99_ms\":{p99:.3},\"p50_to_fdatasync\":{ratio:.2},\
                 \"fdatasync_p50_ms\":{bare:.3}}}"
            ));
        } else {
            println!("{proposers:9} {rate:10.0} {p50:8.3} {p99:8.3} {bare:22.3} {ratio:14.2}");
        }
    }
    if arguments.json {
        println!("{{\"runs\":[{}]}}", rows.join(","));
    }
    Ok(())
}

enum Event {
    Message(Box<Message>),
    Written(WriteId),
    Measure { proposers: usize, seconds: u64 },
    End(String),
}

fn replica_main(id: u64, directory: &Path) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let mut ports = String::new();
    std::io::stdin().lock().read_line(&mut ports)?;
    let ports = ports.split_whitespace().map(str::parse).collect::<Result<Vec<u16>, _>>()?;
    let (events, inbox) = channel();
    accept(listener, &events);
    let mut peers = BTreeMap::new();
    for (peer, port) in (1..).zip(ports) {
        if peer != id {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            peers.insert(peer, stream);
        }
    }
    let (segments, _) = Segments::open(RealDisk::open(directory)?, Options::default())?;
    let voters: Vec<u64> = (1..=REPLICAS).collect();
    let founded = Recovered::bootstrap(&voters, b"bench".to_vec())?;
    let config = ReplicaConfig { snapshot_after_entries: 200_000, ..ReplicaConfig::new(id) };
    let replica = Replica::new(config, founded)?;
    let done = events.clone();
    let writer = Writer::spawn(segments, move |report| {
        let event = report.map_or_else(|f| Event::End(f.to_string()), Event::Written);
        // Nobody listens once the main loop has ended.
        let _ = done.send(event);
    })?;
    read_commands(events);
    let load = Load::default();
    let directory = directory.to_owned();
    Machine { id, directory, replica, writer, peers, load, frames: BTreeMap::new(), applied: 0 }
        .run(&inbox)
}

/// What one small append and its sync take while nothing else of this benchmark runs.
fn bare_fdatasync_us(directory: &Path) -> Result<f64, Failure> {
    let bare = directory.join("bare");
    std::fs::create_dir_all(&bare)?;
    let mut disk = RealDisk::open(&bare)?;
    if disk.list()?.is_empty() {
        disk.create("file")?;
    }
    let mut times = Vec::new();
    for _ in 0..BARE_SYNCS {
        let began = Instant::now();
        disk.append("file", &[7; PAYLOAD_BYTES + 64])?;
        disk.sync_data("file")?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64() * 1e6)
}

fn accept(listener: TcpListener, events: &Sender<Event>) {
    let events = events.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(REPLICAS as usize - 1) {
            let events = events.clone();
            std::thread::spawn(move || {
                let end = stream.map_err(Failure::from).and_then(|s| receive(s, &events));
                let _ = events.send(Event::End(format!("a connection ended: {end:?}")));
            });
        }
    });
}

fn receive(stream: TcpStream, events: &Sender<Event>) -> Result<(), Failure> {
    let mut stream = BufReader::with_capacity(1 << 18, stream);
    let mut frame = Vec::new();
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_FRAME_BYTES {
            return Err("a frame over the limit".into());
        }
        frame.resize(length, 0);
        stream.read_exact(&mut frame)?;
        events.send(Event::Message(Box::new(decode_message(&frame)?)))?;
    }
}

fn read_commands(events: Sender<Event>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let mut fields = line.split(' ').map(str::parse::<u64>);
            if let (Some(Ok(proposers)), Some(Ok(seconds))) = (fields.next(), fields.next()) {
                let proposers = proposers as usize;
                let _ = events.send(Event::Measure { proposers, seconds });
            }
        }
        let _ = events.send(Event::End("told to end".to_owned()));
    });
}

/// Closed-loop proposers and what they measured.
#[derive(Default)]
struct Load {
    idle: usize,
    waiting: VecDeque<(u64, Instant)>,
    latencies_us: Vec<u32>,
    until: Option<Instant>,
    began: Option<Instant>,
    bare_us: f64,
}

struct Machine {
    id: u64,
    directory: PathBuf,
    replica: Replica,
    writer: Writer<RealDisk>,
    peers: BTreeMap<u64, TcpStream>,
    load: Load,
    frames: BTreeMap<u64, Vec<u8>>,
    applied: u64,
}

impl Machine {
    fn run(mut self, inbox: &Receiver<Event>) -> Result<(), Failure> {
        let mut next_tick = Instant::now() + TICK;
        self.work()?;
        loop {
            match inbox.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    if !self.handle(event)? {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            // All that has arrived is one step, so that it becomes one write.
            while let Ok(event) = inbox.try_recv() {
                if !self.handle(event)? {
                    return Ok(());
                }
            }
            if Instant::now() >= next_tick {
                next_tick += TICK;
                self.replica.tick();
                if self.id == 1 && self.replica.role().kind == RoleKind::Follower {
                    // Refused while its first write is on its way: the next tick tries again.
                    let _ = self.replica.campaign();
                }
            }
            self.propose()?;
            self.work()?;
        }
    }

    fn handle(&mut self, event: Event) -> Result<bool, Failure> {
        match event {
            Event::Message(message) => self.replica.step(*message)?,
            Event::Written(id) => self.replica.written(id),
            Event::Measure { proposers, seconds } => {
                let bare_us = bare_fdatasync_us(&self.directory)?;
                let now = Instant::now();
                self.load = Load {
                    bare_us,
                    idle: proposers,
                    latencies_us: Vec::with_capacity(1 << 20),
                    until: Some(now + Duration::from_secs(seconds)),
                    began: Some(now),
                    ..Load::default()
                };
            }
            Event::End(why) => {
                eprintln!("replica {} ends: {why}", self.id);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn propose(&mut self) -> Result<(), Failure> {
        let Some(until) = self.load.until else {
            return Ok(());
        };
        let now = Instant::now();
        if now >= until {
            if self.load.waiting.is_empty() {
                self.report()?;
            }
            return Ok(());
        }
        if self.load.idle > 0 && self.replica.role().kind == RoleKind::Leader {
            let count = std::mem::take(&mut self.load.idle);
            let proposed = self.replica.propose_all(vec![vec![7; PAYLOAD_BYTES]; count])?;
            let indexes = proposed.index..proposed.index + count as u64;
            self.load.waiting.extend(indexes.map(|index| (index, now)));
        }
        Ok(())
    }

    fn report(&mut self) -> Result<(), Failure> {
        let load = std::mem::take(&mut self.load);
        let elapsed = load.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        let mut us = load.latencies_us;
        us.sort_unstable();
        let at = |per_mille: usize| us.get(us.len() * per_mille / 1000).copied().unwrap_or(0);
        let rate = us.len() as f64 / elapsed;
        println!("{rate} {} {} {}", at(500), at(990), load.bare_us);
        std::io::stdout().flush()?;
        Ok(())
    }

    fn work(&mut self) -> Result<(), Failure> {
        while let Some(work) = self.replica.work() {
            for message in &work.send {
                let bytes = encode_message(message)?;
                let frame = self.frames.entry(message.to).or_default();
                frame.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                frame.extend_from_slice(&bytes);
            }
            // Followers write while the leader does.
            for (to, frame) in &mut self.frames {
                if let Some(stream) = self.peers.get_mut(to).filter(|_| !frame.is_empty()) {
                    stream.write_all(frame)?;
                }
                frame.clear();
            }
            if let Some(write) = work.write {
                self.writer.submit(write)?;
            }
            let now = Instant::now();
            for committed in work.committed {
                self.applied = committed.index;
                let waiting = self.load.waiting.front();
                if matches!(committed.payload, Payload::Data(_))
                    && let Some((_, began)) = waiting.filter(|(i, _)| *i == committed.index)
                {
                    let us = (now - *began).as_micros();
                    self.load.latencies_us.push(us as u32);
                    self.load.waiting.pop_front();
                    self.load.idle += 1;
                }
            }
            if self.applied > self.replica.applied_index() {
                self.replica.applied(self.applied);
            }
            if self.replica.wants_snapshot() {
                self.replica.snapshot(self.applied, b"bench".to_vec())?;
            }
            // Freed proposers propose in the same step, so that their entries share a write.
            self.propose()?;
        }
        Ok(())
    }
}
