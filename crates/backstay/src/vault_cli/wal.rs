//! `vault wal`: a database's log, streamed or pushed into the repository, and fetched back.

use super::CliResult;
use super::opening::{RepositoryArgs, protect_memory};
use clap::{Args, Subcommand};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use vault::error::explain;
use vault::postgres::{ConnInfo, Lsn, SegmentName};
use vault::repository::Repository;
use vault::wal::ahead::{self, Queue, Recovering};
use vault::wal::stream::{Event, StreamRequest};
use vault::wal::{Archive, Catalog, Fetched, WalMemory, fetch_history, fetch_segment, stream_id};
use vault::{Result, VaultError};

/// Exit code of `wal get`: the repository should have it and has not. A server takes every code
/// over 128 as a reason to stop, and smaller ones as the end of the log.
const EXIT_LOST: u8 = 200;
/// The shortest and the longest pause after a stream broke off.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// `backstay vault wal …`.
#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// Stream a server's log into the repository, commit by commit.
    Stream(StreamArgs),
    /// Store one segment: the server's archive_command.
    Push(PushArgs),
    /// Fetch one segment: a server's restore_command.
    Get(GetArgs),
}

/// Stream a server's log into the repository through a replication slot.
#[derive(Debug, Args)]
pub(crate) struct StreamArgs {
    #[command(flatten)]
    opening: RepositoryArgs,
    /// The server, as `host=/run/postgresql port=5432 user=postgres`; PGHOST and the like count.
    #[arg(long, value_name = "CONNECTION", default_value = "")]
    postgres: String,
    /// The source's name, as its base backups have it.
    #[arg(long, value_name = "NAME")]
    source: String,
    /// The replication slot; it is made where it is missing.
    #[arg(long, value_name = "NAME", default_value = "backstay")]
    slot: String,
    /// What synchronous_standby_names calls this stream.
    #[arg(long, value_name = "NAME", default_value = "backstay")]
    standby_name: String,
    /// The most MiB of log that the server keeps while the repository cannot be written; then
    /// the slot is let go, so that the server's disk does not fill.
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    retain_max: u64,
    /// Record what was acknowledged every so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    mark_every: u64,
    /// Acknowledge what is durable in a file in this directory; the repository follows within a
    /// fraction of a second. It must not be on the server's machine or disk.
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// End when the stream breaks off, instead of beginning again.
    #[arg(long)]
    once: bool,
}

/// Store one segment of a log: `archive_command = 'backstay vault wal push --source NAME %p'`.
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    opening: RepositoryArgs,
    /// The source's name, as its base backups have it.
    #[arg(long, value_name = "NAME")]
    source: String,
    /// The segment's file.
    path: PathBuf,
}

/// Fetch one segment of a log. Exit code 1: it is not there, and need not be. 200: it was
/// acknowledged, and is missing or damaged.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    opening: RepositoryArgs,
    /// The source's name.
    #[arg(long, value_name = "NAME")]
    source: String,
    /// The segment's name, or a timeline's history's.
    name: String,
    /// Where it goes.
    path: PathBuf,
}

/// Runs a command.
///
/// # Errors
/// What it could not do.
pub(crate) fn run(command: &WalCommand) -> CliResult {
    protect_memory();
    match command {
        WalCommand::Stream(args) => stream(args),
        WalCommand::Push(args) => push(args),
        WalCommand::Get(args) => get(args),
    }
}

fn stream(args: &StreamArgs) -> CliResult {
    let tell = |event: Event| match &event {
        Event::Stored { .. } => {}
        other => eprintln!("{other}"),
    };
    let stop = AtomicBool::new(false);
    let mut pause = RETRY_MIN;
    loop {
        let mut repository = args.opening.open_whoever_is_silent()?;
        let began = std::time::Instant::now();
        let request = StreamRequest {
            info: ConnInfo::parse(&args.postgres)?,
            name: args.source.clone(),
            slot: args.slot.clone(),
            standby_name: args.standby_name.clone(),
            retain_max_bytes: args.retain_max << 20,
            mark_every: Duration::from_secs(args.mark_every),
            memory: Some(args.opening.state_dir.clone()),
            spool: args.spool.clone(),
            stop: &stop,
            tell: &tell,
        };
        let ended = vault::wal::stream::run(&mut repository, &request);
        match ended {
            Ok(()) if args.once => return Ok(ExitCode::SUCCESS),
            Err(error) if args.once => return Err(error),
            Ok(()) => {}
            Err(error @ VaultError::Refused(_)) => return Err(error),
            Err(error) => eprintln!("the stream broke off: {}", explain(&error)),
        }
        let lived = began.elapsed() > RETRY_MAX;
        pause = if lived { RETRY_MIN } else { (pause * 2).min(RETRY_MAX) };
        std::thread::sleep(pause);
    }
}

fn push(args: &PushArgs) -> CliResult {
    let name = args.path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
    let read = || fs::read(&args.path).map_err(VaultError::file("read", args.path.clone()));
    // Notes of a server for people; and the torn end of an old timeline, which the new one's
    // first segment holds, too.
    if name.ends_with(".backup") || name.ends_with(".partial") {
        return Ok(ExitCode::SUCCESS);
    }
    let mut repository = args.opening.open_whoever_is_silent()?;
    if let Some(timeline) = history_of(&name) {
        let Some(known) = repository.state().archives.get(&args.source).cloned() else {
            let what = "a base backup or a segment comes before a history: push those first";
            return Err(VaultError::Refused(what.to_owned()));
        };
        let mut archive =
            Archive::open(&repository, &args.source, known.system, known.segment_bytes)?;
        archive.store_history(&repository, timeline, &read()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let bytes = read()?;
    let (system, segment_bytes) = segment_header(&bytes).ok_or_else(|| {
        VaultError::Refused(format!("{} is no segment of a log", args.path.display()))
    })?;
    let segment = SegmentName::parse(&name, segment_bytes);
    let segment = segment.filter(|_| bytes.len() as u64 == segment_bytes);
    let segment =
        segment.ok_or_else(|| VaultError::Refused(format!("`{name}` is no segment of a log")))?;
    let mut archive = Archive::open(&repository, &args.source, system, segment_bytes)?;
    archive.store(&repository, segment.timeline, segment.start, &bytes)?;
    let upto = Lsn(segment.start.0 + segment_bytes);
    archive.acknowledge(&mut repository, segment.timeline, (segment.start, upto))?;
    let (ring, stream) = (repository.ring(), archive.stream());
    WalMemory::new(&args.opening.state_dir, &ring.repository, stream).remember(
        segment.timeline,
        segment.start,
        upto,
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The system and the segment size, from a segment's first page.
fn segment_header(bytes: &[u8]) -> Option<(u64, u64)> {
    let long = bytes.get(2)? & 2 != 0;
    let system = u64::from_le_bytes(*bytes.get(24..)?.first_chunk()?);
    let segment = u32::from_le_bytes(*bytes.get(32..)?.first_chunk()?);
    long.then_some((system, u64::from(segment)))
}

/// The timeline of `0000000A.history`.
fn history_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".history").filter(|d| d.len() == 8)?;
    u32::from_str_radix(digits, 16).ok()
}

fn get(args: &GetArgs) -> CliResult {
    let lost = |what: String| {
        eprintln!("error: {what}. Recovery must not go on as if the log ended here");
        Ok(ExitCode::from(EXIT_LOST))
    };
    let server = ahead::of_caller(&args.path, &args.opening.repository, &args.source);
    if ahead::is_left_behind() {
        return Ok(fill_queue(args, server));
    }
    let queue = server.map(|(queue, _)| queue);
    if let Some(queue) = &queue {
        match queue.take(&args.name, &args.path) {
            Ok(true) => return Ok(ExitCode::SUCCESS),
            Ok(false) => {}
            Err(error) => eprintln!("warning: {}", explain(&error)),
        }
    }
    let fetched = args.opening.open_alone().and_then(|repository| fetch(&repository, args));
    match fetched {
        Ok(Some(found)) => match hand_over(&found.bytes, &args.path, queue.as_ref()) {
            Ok(()) => {
                if let Some(queue) = &queue {
                    fetch_ahead(queue, &args.name, found.more_is_whole);
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => lost(explain(&error)),
        },
        Ok(None) => Ok(ExitCode::FAILURE),
        Err(error) => lost(explain(&error)),
    }
}

/// Fetches ahead. Nobody reads what it says, and a server that is process 1 takes any other exit
/// code than 0 and 1 for a crash: what fails is found again, and said, by the next question.
fn fill_queue(args: &GetArgs, server: Option<(Queue, Recovering)>) -> ExitCode {
    // Where the server is gone meanwhile there is nothing to do.
    let Some((queue, server)) = server else { return ExitCode::SUCCESS };
    let repository = args.opening.open_alone();
    let filled = repository.and_then(|r| ahead::fill(&r, &args.source, &queue, &server));
    if filled.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes the file. What was fetched ahead makes room for it where the disk is full.
fn hand_over(bytes: &[u8], path: &Path, queue: Option<&Queue>) -> Result<()> {
    let written = write(path, bytes);
    let (Err(error), Some(queue)) = (&written, queue) else { return written };
    eprintln!("warning: {}. What was fetched ahead makes room", explain(error));
    queue.remove()?;
    write(path, bytes)
}

/// Has the next segments fetched while the server replays this one. Without it recovery is
/// slower, and no less right.
fn fetch_ahead(queue: &Queue, name: &str, more: bool) {
    let started = match queue.missed(name, more) {
        Ok(true) => ahead::leave_behind(),
        missed => missed.map(drop),
    };
    if let Err(error) = started {
        eprintln!("warning: nothing is fetched ahead: {}", explain(&error));
    }
}

/// A file of a log.
struct Found {
    bytes: Vec<u8>,
    /// Whether it is a segment after which another whole one follows.
    more_is_whole: bool,
}

fn fetch(repository: &Repository, args: &GetArgs) -> Result<Option<Found>> {
    let (store, ring) = (&**repository.store(), repository.ring());
    let archive = repository.state().archives.get(&args.source);
    let archive = archive.ok_or_else(|| {
        VaultError::NotFound(format!("the repository holds no log of `{}`", args.source))
    })?;
    let catalog = Catalog::load(store, ring, &args.source, archive.system)?;
    if let Some(timeline) = history_of(&args.name) {
        let history = fetch_history(store, ring, &catalog, timeline)?;
        return Ok(history.map(|bytes| Found { bytes, more_is_whole: false }));
    }
    let Some(segment) = SegmentName::parse(&args.name, archive.segment_bytes) else {
        return Ok(None);
    };
    let mut archive = archive.clone();
    let stream = stream_id(ring, &args.source, archive.system);
    let memory = WalMemory::new(&args.opening.state_dir, &ring.repository, &stream);
    // Unreadable memory is weaker, and no reason not to restore.
    if let Ok(Some((timeline, from, upto))) = memory.recall() {
        archive.acknowledge(timeline, from, upto);
    }
    let segment_end = Lsn(segment.start.0 + archive.segment_bytes);
    let mark = archive.acknowledged(segment.timeline, segment.start);
    let wanted = mark.unwrap_or_default().min(segment_end);
    match fetch_segment(store, ring, &catalog, segment, archive.segment_bytes)? {
        Fetched::Found(bytes, stored) if segment.start.0 + stored >= wanted.0 => {
            let more_is_whole = ahead::is_of_use(&catalog, segment, archive.segment_bytes);
            Ok(Some(Found { bytes, more_is_whole }))
        }
        Fetched::Absent if wanted <= segment.start => Ok(None),
        _ => Err(VaultError::Refused(format!(
            "segment {} was acknowledged up to {wanted}, and is not all there",
            args.name
        ))),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(bytes)
    };
    write().map_err(VaultError::file("write", path))
}
