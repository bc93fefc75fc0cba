//! Directories: our vault beside restic, borg and `cp -a`, on the same data in one run.
//!
//! The data: half random, a quarter ledger text, a quarter in small files (20,000 for 2 GiB);
//! the second generation has 3 % of it changed, scattered in runs of 64 KiB. Every figure is
//! the median of the runs; the source is in the page cache for everyone. A run of 2 GiB takes
//! 15 GB of disk, and all of them are there to the end.

use rustix::process::{Pid, WaitId, WaitIdOptions};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

const CHANGED_RUN_BYTES: u64 = 64 << 10;
const CHANGED_PERCENT: u64 = 3;
const POLL: Duration = Duration::from_millis(5);
const CLOCK_TICKS: f64 = 100.0;

/// What one command cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    pub(crate) resident_mb: f64,
    pub(crate) new_mb: f64,
}

/// Deterministic bytes.
struct Noise(blake3::OutputReader);

impl Noise {
    fn new(seed: u64) -> Noise {
        Noise(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.fill(&mut bytes);
        bytes
    }

    fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

fn ledger_text(noise: &mut Noise, length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 100);
    while text.len() < length {
        let n = noise.number();
        let (account, amount) = (n % 100_000, (n >> 20) % 10_000_000);
        writeln!(
            text,
            "2026-11-{:02}T{:02}:{:02}:{:02}Z account={account:08} debit={amount}.00 ref={:016x}",
            1 + (n >> 40) % 28,
            (n >> 45) % 24,
            (n >> 50) % 60,
            (n >> 56) % 60,
            noise.number(),
        )
        .expect("a vector takes everything");
    }
    text.truncate(length);
    text
}

/// Makes the first generation.
fn make_data(root: &Path, mib: u64) -> Outcome<()> {
    let mut noise = Noise::new(1);
    fs::create_dir_all(root.join("random"))?;
    fs::create_dir_all(root.join("ledger"))?;
    for file in 0..4 {
        let mut out = File::create(root.join(format!("random/{file}")))?;
        for _ in 0..mib / 8 {
            out.write_all(&noise.bytes(1 << 20))?;
        }
    }
    for file in 0..8 {
        let mut out = File::create(root.join(format!("ledger/{file}")))?;
        for _ in 0..mib / 32 {
            out.write_all(&ledger_text(&mut noise, 1 << 20))?;
        }
    }
    let files = 20_000 * mib / 2048;
    let each = (mib << 20) / 4 / files.max(1);
    for file in 0..files {
        let folder = root.join(format!("small/{:02x}/{:02x}", file % 16, file / 16 % 16));
        fs::create_dir_all(&folder)?;
        let length = (each / 2 + noise.number() % each) as usize;
        fs::write(folder.join(format!("{file:06}")), ledger_text(&mut noise, length))?;
    }
    Ok(())
}

/// Changes scattered runs of the large files and some small ones.
fn change_data(root: &Path, generation: u64) -> Outcome<()> {
    let mut noise = Noise::new(1000 + generation);
    let mut files: Vec<(PathBuf, u64)> = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            match meta.is_dir() {
                true => open.push(entry.path()),
                false => files.push((entry.path(), meta.len())),
            }
        }
    }
    files.sort();
    let total: u64 = files.iter().map(|(_, size)| size).sum();
    let mut left = total * CHANGED_PERCENT / 100;
    while left > 0 {
        let mut at = noise.number() % total;
        let found = files.iter().find(|(_, size)| {
            let inside = at < *size;
            at = if inside { at } else { at - size };
            inside
        });
        let Some((path, size)) = found else { continue };
        let from = at - at % CHANGED_RUN_BYTES;
        let length = CHANGED_RUN_BYTES.min(size - from);
        let file = OpenOptions::new().write(true).open(path)?;
        file.write_all_at(&noise.bytes(length as usize), from)?;
        left = left.saturating_sub(length);
    }
    Ok(())
}

/// Runs a command to its end and measures it.
pub(crate) fn measure(command: &mut Command) -> Outcome<Cost> {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let pid = Pid::from_raw(child.id() as i32).ok_or("a child has an id")?;
    let mut resident_kb = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
        resident_kb = resident_kb.max(peak.unwrap_or(0));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if rustix::process::waitid(WaitId::Pid(pid), options)?.is_some() {
            break;
        }
        std::thread::park_timeout(POLL);
    }
    let wall_s = begun.elapsed().as_secs_f64();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    let cpu_s = (11..=14).map(ticks).sum::<f64>() / CLOCK_TICKS;
    let mut errors = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        std::io::Read::read_to_string(&mut stderr, &mut errors)?;
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("{command:?}: {status}: {errors}").into());
    }
    Ok(Cost { wall_s, cpu_s, resident_mb: resident_kb as f64 / 1000.0, new_mb: 0.0 })
}

pub(crate) fn folder_mb(root: &Path) -> Outcome<f64> {
    let mut bytes = 0;
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let meta = entry.as_ref().map_err(|e| e.to_string())?.metadata()?;
            match meta.is_dir() {
                true => open.push(entry?.path()),
                false => bytes += meta.len(),
            }
        }
    }
    Ok(bytes as f64 / 1e6)
}

/// The command for a verb and a directory, where the tool has one.
type CommandLine = Box<dyn Fn(&str, &Path) -> Option<Command>>;

/// A tool and its command lines.
struct Tool {
    name: &'static str,
    repository: PathBuf,
    command: CommandLine,
}

fn words(program: &Path, line: &str) -> Command {
    let mut command = Command::new(program);
    command.args(line.split_whitespace());
    command
}

/// Whether there is such a program; one that is left out is said.
pub(crate) fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    let asked = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if asked.is_err() {
        println!("without {program}: it is not installed");
    }
    asked.is_ok()
}

/// Ours, and those that are installed.
fn tools(vault: &Path, scratch: &Path) -> Vec<Tool> {
    let others = [restic(scratch), borg(scratch)].into_iter().filter(|t| is_installed(t.name));
    [ours(vault, scratch)].into_iter().chain(others).collect()
}

fn ours(vault: &Path, scratch: &Path) -> Tool {
    let repository = scratch.join("ours");
    let (program, place, state) = (vault.to_owned(), repository.clone(), scratch.to_owned());
    Tool {
        name: "backstay",
        repository,
        command: Box::new(move |verb, data| {
            let data = data.display();
            let mut command = words(
                &program,
                &match verb {
                    "init" => "vault init".to_owned(),
                    "backup" => format!("backup --name data {data}"),
                    "verify" => "vault verify --bytes".to_owned(),
                    "restore" => format!("restore --target {data}"),
                    "one" => format!("vault prove small/00/00/000000 --out {data}"),
                    _ => return None,
                },
            );
            command.env("BACKSTAY_REPOSITORY", &place);
            command.env("BACKSTAY_KEY_FILE", state.join("key"));
            command.env("BACKSTAY_STATE_DIR", state.join("state"));
            Some(command)
        }),
    }
}

fn restic(scratch: &Path) -> Tool {
    let repository = scratch.join("restic");
    let (place, cache) = (repository.clone(), scratch.join("restic-cache"));
    Tool {
        name: "restic",
        repository,
        command: Box::new(move |verb, data| {
            let data = data.display();
            let mut command = words(
                Path::new("restic"),
                &match verb {
                    "init" => "init --repository-version 2".to_owned(),
                    "backup" => format!("backup {data}"),
                    "verify" => "check --read-data".to_owned(),
                    "restore" => format!("restore latest --target {data}"),
                    _ => return None,
                },
            );
            command.env("RESTIC_REPOSITORY", &place).env("RESTIC_PASSWORD", "bench");
            command.env("RESTIC_CACHE_DIR", &cache);
            Some(command)
        }),
    }
}

fn borg(scratch: &Path) -> Tool {
    let repository = scratch.join("borg");
    let (place, home) = (repository.clone(), scratch.join("borg-home"));
    let number = std::sync::atomic::AtomicU64::new(0);
    Tool {
        name: "borg",
        repository,
        command: Box::new(move |verb, data| {
            let next = || number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (at, path) = (place.display(), data.display());
            let mut command = words(
                Path::new("borg"),
                &match verb {
                    "init" => format!("init -e repokey-blake2 {at}"),
                    "backup" => format!("create -C zstd,1 {at}::g{} {path}", next()),
                    "verify" => format!("check --verify-data {at}"),
                    "restore" => format!("extract {at}::g0"),
                    _ => return None,
                },
            );
            if verb == "restore" {
                command.current_dir(data);
            }
            command.env("BORG_PASSPHRASE", "bench").env("BORG_BASE_DIR", &home);
            Some(command)
        }),
    }
}

/// Measures in a scratch directory: so much data, so often.
pub(crate) fn run(vault: &Path, scratch: &Path, mib: u64, runs: u64) -> Outcome<()> {
    let mut figures: BTreeMap<(String, &str), Vec<Cost>> = BTreeMap::new();
    for run in 0..runs {
        one_run(vault, &scratch.join(format!("run{run}")), mib, &mut figures)?;
    }
    print(&figures);
    Ok(())
}

fn one_run(
    vault: &Path,
    scratch: &Path,
    mib: u64,
    figures: &mut BTreeMap<(String, &'static str), Vec<Cost>>,
) -> Outcome<()> {
    fs::create_dir_all(scratch)?;
    let data = scratch.join("data");
    make_data(&data, mib)?;
    measure(&mut Command::new("sync"))?;
    let all = tools(vault, scratch);
    let mut put = |step: &str, tool: &'static str, cost: Cost| {
        println!("{step:<24} {tool:<9} {cost:?}");
        figures.entry((step.to_owned(), tool)).or_default().push(cost);
    };
    let copy = measure(Command::new("cp").arg("-a").arg(&data).arg(scratch.join("copy")))?;
    put("1 first", "cp -a", copy);
    for tool in &all {
        let Some(mut init) = (tool.command)("init", &data) else { continue };
        measure(&mut init)?;
        let mut backup = |step: &str| -> Outcome<()> {
            let before = folder_mb(&tool.repository)?;
            if let Some(mut command) = (tool.command)("backup", &data) {
                let mut cost = measure(&mut command)?;
                cost.new_mb = folder_mb(&tool.repository)? - before;
                put(step, tool.name, cost);
            }
            Ok(())
        };
        // Time stamps of files made just now are not trusted; the second look is the rule.
        backup("1 first")?;
        backup("2 nothing changed")?;
        backup("2 nothing changed again")?;
    }
    change_data(&data, 1)?;
    for tool in &all {
        let before = folder_mb(&tool.repository)?;
        if let Some(mut command) = (tool.command)("backup", &data) {
            let mut cost = measure(&mut command)?;
            cost.new_mb = folder_mb(&tool.repository)? - before;
            put("3 changed", tool.name, cost);
        }
        for (verb, step) in
            [("verify", "4 verify"), ("restore", "5 restore"), ("one", "6 prove one")]
        {
            let target = scratch.join(format!("{}-{verb}", tool.name));
            if verb == "restore" {
                fs::create_dir_all(&target)?;
            }
            if let Some(mut command) = (tool.command)(verb, &target) {
                put(step, tool.name, measure(&mut command)?);
            }
        }
    }
    // What a run leaves goes with all of them: ext4 looks at every inode that was deleted within
    // minutes before it gives one out, and the next run's restores would be measured by that.
    Ok(())
}

fn print(figures: &BTreeMap<(String, &'static str), Vec<Cost>>) {
    println!(
        "\n{:<24} {:<9} {:>8} {:>8} {:>8} {:>9}",
        "step", "tool", "wall s", "cpu s", "MB res", "MB new"
    );
    for ((step, tool), costs) in figures {
        let median = |field: fn(&Cost) -> f64| {
            let mut values: Vec<f64> = costs.iter().map(field).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!(
            "{step:<24} {tool:<9} {:>8.2} {:>8.2} {:>8.0} {:>9.1}",
            median(|c| c.wall_s),
            median(|c| c.cpu_s),
            median(|c| c.resident_mb),
            median(|c| c.new_mb),
        );
    }
}
