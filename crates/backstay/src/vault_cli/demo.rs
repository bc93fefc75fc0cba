//! `demo vault`: a small ledger is backed up while a client writes, a flipped bit is found and
//! named, and a mistake is undone. No root, under a minute, nothing left behind ([`demo_room`]).
//! Where PostgreSQL is installed, the ledger is a database; else it is a directory, as here.

use super::CliResult;
use super::demo_room::{self, Ended};
use super::output::{Output, hex, moment, size, timed};
use age::x25519::Identity;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use vault::backup::{BackupOutcome, BackupRequest};
use vault::blobs::ReadBuffers;
use vault::keys::wrap::Holder;
use vault::repository::{InitRequest, NewRecipient, OpenOptions, Repository};
use vault::restore::{RestoreCounters, RestoreRequest};
use vault::source::directory::DirectorySource;
use vault::store::local::LocalStore;
use vault::tree::{Extent, each_extents};
use vault::verify::{Depth, VerifyRequest};
use vault::{Result, VaultError};

/// Accounts of the ledger, a file each.
const ACCOUNTS: u64 = 200;
/// Bookings before the first backup.
const BOOKINGS: u64 = 60_000;
/// The undone mistake is this much later than what is restored.
const BEFORE: Duration = Duration::from_secs(1);
/// The client pauses so long between bookings.
const PAUSE: Duration = Duration::from_micros(200);

/// How to play.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct DemoVaultArgs {
    /// With a directory, also where PostgreSQL is installed.
    #[arg(long)]
    directory: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) step: String,
    pub(crate) result: String,
    pub(crate) took_ms: u64,
}

/// Runs the demonstration.
///
/// # Errors
/// Where a step does not do what it shows.
pub(crate) fn run(args: &DemoVaultArgs, output: Output) -> CliResult {
    super::opening::protect_memory();
    if let Some(folder) = demo_room::of_child()? {
        Output::Json.show(&play(args, &folder)?, |_| String::new());
        return Ok(ExitCode::SUCCESS);
    }
    let (ended, took) = timed(demo_room::play);
    let printed = match ended? {
        Ended::Itself(status, printed) if status.success() => printed,
        // It has said why.
        Ended::Itself(status, _) if status.code().is_some() => return Ok(ExitCode::FAILURE),
        Ended::Itself(status, _) => {
            return Err(VaultError::Refused(format!("the demonstration ended with {status}")));
        }
        Ended::Told(signal) => {
            eprintln!("ended before its end, as told; nothing was left behind");
            // As shells count.
            return Ok(ExitCode::from(128_u8.saturating_add(signal.as_raw() as u8)));
        }
    };
    let rows: Vec<Row> = serde_json::from_slice(&printed)
        .map_err(|e| VaultError::Refused(format!("the demonstration printed no table: {e}")))?;
    output.show(&rows, |rows| {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["step", "result", "ms"]);
        for row in rows {
            table.add_row([row.step.clone(), row.result.clone(), row.took_ms.to_string()]);
        }
        format!("{table}\n{:.1} s; nothing was left behind", took.as_secs_f64())
    });
    Ok(ExitCode::SUCCESS)
}

fn play(args: &DemoVaultArgs, folder: &Path) -> Result<Vec<Row>> {
    match super::demo_postgres::programs().filter(|_| !args.directory) {
        Some(programs) => super::demo_postgres::play(folder, programs),
        None => play_directory(folder),
    }
}

/// The stage.
struct Stage {
    ledger: PathBuf,
    store: PathBuf,
    repository: Repository,
    identity: Identity,
    rows: Vec<Row>,
}

/// What an undone mistake must bring back.
struct Truth {
    /// The backup that was under way while the client wrote.
    wanted: BackupOutcome,
    /// Bookings that were made before it began.
    booked: u64,
    /// Every account right before the mistake, read without the vault.
    accounts: BTreeMap<u64, Vec<u8>>,
}

fn play_directory(folder: &Path) -> Result<Vec<Row>> {
    let mut stage = set_up(folder)?;
    let stop = AtomicBool::new(false);
    let booked = AtomicU64::new(0);
    let ledger = stage.ledger.clone();
    let (wanted, before) = std::thread::scope(|scope| -> Result<_> {
        let client = scope.spawn(|| client(&ledger, &stop, &booked));
        let played = stage.back_up_twice(&booked);
        stop.store(true, Ordering::Release);
        client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        played
    })?;
    let truth = Truth { wanted, booked: before, accounts: accounts(&stage.ledger)? };
    let mistake_ms = stage.make_mistake()?;
    stage.back_up("third backup, with the mistake in it")?;
    stage.flip_a_bit()?;
    stage.undo(folder, mistake_ms - BEFORE.as_millis() as i64, &truth)?;
    stage.compare(&truth.wanted)?;
    Ok(stage.rows)
}

fn set_up(folder: &Path) -> Result<Stage> {
    let (ledger, place) = (folder.join("ledger"), folder.join("repository"));
    let (filled, took) = timed(|| fill(&ledger));
    filled?;
    let identity = Identity::generate();
    let store = Arc::new(LocalStore::create(&place)?);
    let recipients = vec![NewRecipient {
        holder: Holder::Machine,
        label: "demo".to_owned(),
        recipient: identity.to_public().to_string(),
    }];
    let wait = Duration::from_secs(3600);
    let request = InitRequest { recipients, deletion_key: None, wait };
    let repository = Repository::init(store, &request, OpenOptions::default())?;
    let result = format!("{ACCOUNTS} accounts, {BOOKINGS} bookings");
    let mut stage = Stage { ledger, store: place, repository, identity, rows: Vec::new() };
    stage.row("ledger", result, took);
    Ok(stage)
}

fn account(ledger: &Path, number: u64) -> PathBuf {
    ledger.join(format!("account-{number:03}.ledger"))
}

fn fill(ledger: &Path) -> Result<()> {
    fs::create_dir(ledger).map_err(VaultError::file("make", ledger))?;
    let mut texts: BTreeMap<u64, String> = BTreeMap::new();
    for booking in 0..BOOKINGS {
        let text = texts.entry(booking % ACCOUNTS).or_default();
        *text += &line(booking);
    }
    for (number, text) in texts {
        let path = account(ledger, number);
        fs::write(&path, text).map_err(VaultError::file("write", path))?;
    }
    Ok(())
}

fn line(booking: u64) -> String {
    let amount = booking.wrapping_mul(7919) % 100_000;
    format!("booking {booking:>9} debit {amount:>6} credit {amount:>6}\n")
}

/// A client that books until it is told to stop.
fn client(ledger: &Path, stop: &AtomicBool, booked: &AtomicU64) -> Result<()> {
    while !stop.load(Ordering::Acquire) {
        let booking = BOOKINGS + booked.load(Ordering::Relaxed);
        let path = account(ledger, booking % ACCOUNTS);
        let append = || {
            let mut file = fs::OpenOptions::new().append(true).open(&path)?;
            file.write_all(line(booking).as_bytes())
        };
        append().map_err(VaultError::file("book in", path.clone()))?;
        booked.fetch_add(1, Ordering::Relaxed);
        std::thread::park_timeout(PAUSE);
    }
    Ok(())
}

impl Stage {
    fn row(&mut self, step: &str, result: String, took: Duration) {
        self.rows.push(Row { step: step.to_owned(), result, took_ms: took.as_millis() as u64 });
    }

    /// The second backup, and how much was booked before it began. The client goes on until it
    /// ended a while ago.
    fn back_up_twice(&mut self, booked: &AtomicU64) -> Result<(BackupOutcome, u64)> {
        self.back_up("first backup, while a client writes")?;
        let before = booked.load(Ordering::Relaxed);
        let outcome = self.back_up("second backup, while it writes on")?;
        let until_ms = outcome.backup.subject.ended_ms + BEFORE.as_millis() as i64;
        while self.repository.now_ms() <= until_ms {
            std::thread::park_timeout(PAUSE);
        }
        let count = booked.load(Ordering::Relaxed);
        self.row("client", format!("{count} bookings meanwhile"), Duration::ZERO);
        Ok((outcome, before))
    }

    fn back_up(&mut self, step: &'static str) -> Result<BackupOutcome> {
        let source = DirectorySource::new(&self.ledger, &[], false)?;
        let workers = super::opening::workers();
        let request = BackupRequest::plain("ledger", "demo", &source, workers);
        let (outcome, took) = timed(|| vault::backup::run(&mut self.repository, &request));
        let outcome = outcome?;
        let statistics = outcome.backup.statistics;
        let result = format!(
            "backup {}: {} of {}, {} new",
            outcome.seq,
            outcome.backup.totals.files,
            size(outcome.backup.totals.bytes),
            size(statistics.bytes_stored),
        );
        self.row(step, result, took);
        Ok(outcome)
    }

    fn make_mistake(&mut self) -> Result<i64> {
        let time_ms = self.repository.now_ms();
        for number in (0..ACCOUNTS).step_by(3) {
            let path = account(&self.ledger, number);
            fs::write(&path, "").map_err(VaultError::file("write", path))?;
        }
        let result = format!("every third account emptied at {}", moment(time_ms));
        self.row("mistake", result, Duration::ZERO);
        Ok(time_ms)
    }

    fn verify(&self) -> Result<vault::verify::VerifyReport> {
        let store = Arc::new(LocalStore::open(&self.store));
        let repository = Repository::open(store, &self.identity, OpenOptions::default())?;
        let bytes_read = Arc::new(AtomicU64::new(0));
        let workers = super::opening::workers();
        vault::verify::run(
            &repository,
            &VerifyRequest { depth: Depth::Bytes, workers, bytes_read, memory: None },
        )
    }

    /// A place within a chunk that the newest backup needs. Not any place of a pack will do: a
    /// file that changed while it was read was read again, and what was stored of it before
    /// belongs to no backup, so that damage there is named and harms none.
    fn needed_byte(&self) -> Result<(PathBuf, usize)> {
        let missing = |what: &str| VaultError::NotFound(what.to_owned());
        let (_, backup) =
            self.repository.state().newest(None).ok_or_else(|| missing("there is no backup"))?;
        let blobs = self.repository.blobs()?;
        let entry = vault::tree::find_path(&blobs, &backup.top, b"account-001.ledger")?;
        let mut found = None;
        let mut buffers = ReadBuffers::default();
        each_extents(&blobs, &entry.kind, &mut buffers, |_, _, extents| {
            for extent in extents {
                if let Extent::Data { id, .. } = extent {
                    found = found.or(blobs.locate(&blobs.index(), id)?.first().copied());
                }
            }
            Ok(())
        })?;
        let at = found.ok_or_else(|| missing("the account has no chunk"))?;
        let path = self.store.join("packs").join(at.pack.to_string());
        Ok((path, (at.blob.offset + at.blob.stored_bytes / 3) as usize))
    }

    fn flip_a_bit(&mut self) -> Result<()> {
        let (path, at) = self.needed_byte()?;
        let mut bytes = fs::read(&path).map_err(VaultError::file("read", path.clone()))?;
        let mut flip = || {
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).map_err(VaultError::file("write", path.clone()))
        };
        flip()?;
        let (report, took) = timed(|| self.verify());
        let found = report?;
        flip()?;
        let first = found.findings.first().map(ToString::to_string).unwrap_or_default();
        if found.is_intact() || found.damaged_backups.is_empty() {
            return Err(VaultError::Refused("the flipped bit was not found".to_owned()));
        }
        self.row("a bit flipped, verify", first, took);
        let (report, took) = timed(|| self.verify());
        let report = report?;
        if !report.is_intact() {
            return Err(VaultError::Refused("the repository is damaged".to_owned()));
        }
        let result = format!("{} chunks, every byte, intact", report.chunks_read);
        self.row("flipped back, verify", result, took);
        Ok(())
    }

    /// Restores the newest backup that had ended by this time.
    fn undo(&mut self, folder: &Path, time_ms: i64, truth: &Truth) -> Result<()> {
        let mut backups = self.repository.state().backups.iter().rev();
        let found = backups.find(|(_, backup)| backup.subject.ended_ms <= time_ms);
        let (seq, backup) = found.map(|(seq, backup)| (*seq, backup.clone())).ok_or_else(|| {
            VaultError::NotFound("no backup had ended before the mistake".to_owned())
        })?;
        if seq != truth.wanted.seq {
            return Err(VaultError::Refused(format!("backup {seq} was chosen by its time")));
        }
        let blobs = self.repository.blobs()?;
        let request = RestoreRequest {
            path: Vec::new(),
            target: self.ledger.clone(),
            set_aside: Some(folder.join("replaced")),
            dry_run: false,
            owners: false,
            devices: false,
            workers: super::opening::workers(),
            counters: Arc::new(RestoreCounters::default()),
        };
        let (report, took) = timed(|| vault::restore::run(&blobs, &backup, &request));
        let report = report?;
        let bookings = truth.check(&accounts(&self.ledger)?)?;
        if !report.is_complete() {
            return Err(VaultError::Refused("the restore is not complete".to_owned()));
        }
        let result = format!(
            "to {}, a second before: backup {seq}, {bookings} bookings, {} accounts set aside",
            moment(time_ms),
            report.set_aside,
        );
        self.row("restored to before the mistake", result, took);
        Ok(())
    }

    fn compare(&mut self, wanted: &BackupOutcome) -> Result<()> {
        let source = DirectorySource::new(&self.ledger, &[], false)?;
        let blobs = self.repository.blobs()?;
        let compare = || vault::compare::compare(&blobs, &wanted.backup, &source, &self.ledger);
        let (found, took) = timed(compare);
        let found = found?;
        if !found.is_equal() {
            return Err(VaultError::Refused(format!("{:?} differ", found.differences)));
        }
        let result = format!("one Merkle root: {}…", &hex(&found.live)[..16]);
        self.row("live data equals the backup", result, took);
        Ok(())
    }
}

impl Truth {
    /// Accounts only grow, a line a booking: each must be a beginning of what it was before the
    /// mistake, with all that was booked before the backup began. Returns how many bookings there
    /// are.
    fn check(&self, restored: &BTreeMap<u64, Vec<u8>>) -> Result<u64> {
        let mut all = 0;
        for (number, bytes) in restored {
            let before = self.accounts.get(number).map(Vec::as_slice).unwrap_or_default();
            // Bookings go round all accounts.
            let least = (BOOKINGS + self.booked).saturating_sub(*number).div_ceil(ACCOUNTS);
            let bookings = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            if !before.starts_with(bytes) || bookings < least {
                let what = format!("account {number} is not what it was: {bookings} bookings");
                return Err(VaultError::Refused(what));
            }
            all += bookings;
        }
        Ok(all)
    }
}

/// What every account says.
fn accounts(ledger: &Path) -> Result<BTreeMap<u64, Vec<u8>>> {
    let read = |number| {
        let path = account(ledger, number);
        let bytes = fs::read(&path).map_err(VaultError::file("read", path))?;
        Ok((number, bytes))
    };
    (0..ACCOUNTS).map(read).collect()
}
