//! The arguments with which a repository is opened, shared by all commands.

use super::cluster::ClusterArgs;
use age::x25519::Identity;
use clap::Args;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vault::chain::{Backup, Head, HeadMemory, newest_of};
use vault::keys::deletion::DeletionKey;
use vault::keys::{access, secret, shares};
use vault::pace::{Limits, Pacer, SystemClock};
use vault::repository::{OpenOptions, Repository};
use vault::{Result, VaultError};
use zeroize::Zeroizing;

/// A file with words is short.
const WORDS_FILE_BYTES_MAX: u64 = 64 << 10;

/// Which repository, and with which key.
#[derive(Clone, Debug, Args)]
pub(crate) struct RepositoryArgs {
    /// A directory, or s3://bucket/prefix.
    #[arg(short, long, env = "BACKSTAY_REPOSITORY", value_name = "PLACE")]
    pub(crate) repository: String,
    /// This machine's key file.
    #[arg(long, env = "BACKSTAY_KEY_FILE", value_name = "FILE", default_value_os_t = key_file())]
    pub(crate) key: PathBuf,
    /// Use the recovery key instead: its words are read from this file, `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery_key: Option<PathBuf>,
    /// Use a custodian's share instead; give it once for each share.
    #[arg(long, value_name = "FILE", conflicts_with = "recovery_key")]
    pub(crate) share: Vec<PathBuf>,
    /// Where the newest record seen is remembered.
    #[arg(long, env = "BACKSTAY_STATE_DIR", value_name = "DIR", default_value_os_t = state())]
    pub(crate) state_dir: PathBuf,
    /// A record that the repository must contain, as `number:hash`.
    #[arg(long, value_name = "HEAD")]
    pub(crate) expect_head: Option<String>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// What an opening asks the cluster, where one is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    /// Without its answer nothing is opened.
    Needed,
    /// Its silence is told.
    Wanted,
    /// Nothing.
    Nothing,
}

/// What a run may use.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct LimitArgs {
    /// Read at most so many KiB a second from the source.
    #[arg(long, value_name = "KIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit_read: Option<u64>,
    /// Move at most so many KiB a second to and from the repository.
    #[arg(long, value_name = "KIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit_repository: Option<u64>,
    /// Use at most so many percent of all processors.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) limit_processor: Option<u8>,
}

impl LimitArgs {
    /// What makes the run wait, where there is a limit.
    fn pacer(&self) -> Option<Arc<Pacer>> {
        let bytes = |kib: Option<u64>| kib.map(|kib| kib.saturating_mul(1024));
        let limits = Limits {
            read_bytes: bytes(self.limit_read),
            repository_bytes: bytes(self.limit_repository),
            processor_percent: self.limit_processor,
        };
        let pacer = || Arc::new(Pacer::new(limits, workers(), Arc::new(SystemClock)));
        (!limits.is_empty()).then(pacer)
    }
}

/// The deletion key of an append-only repository.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct DeletionArgs {
    /// The words of the deletion key, in this file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) deletion_key: Option<PathBuf>,
}

impl DeletionArgs {
    /// Reads the key, where one is given.
    ///
    /// # Errors
    /// Naming the mistyped word.
    pub(crate) fn read(&self) -> Result<Option<DeletionKey>> {
        let Some(path) = &self.deletion_key else { return Ok(None) };
        DeletionKey::from_words(&read_words(path)?).map(Some)
    }
}

/// Where the machine keeps its configuration: the system's place for root, one's own otherwise.
fn place(system: &str, variable: &str, own: &str) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return Path::new(system).join("backstay");
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(own);
    std::env::var_os(variable).map_or_else(home, PathBuf::from).join("backstay")
}

fn key_file() -> PathBuf {
    place("/etc", "XDG_CONFIG_HOME", ".config").join("vault.key")
}

/// What `vault run` does, as the operator wrote it.
pub(crate) fn schedule_file() -> PathBuf {
    place("/etc", "XDG_CONFIG_HOME", ".config").join("vault.toml")
}

fn state() -> PathBuf {
    place("/var/lib", "XDG_STATE_HOME", ".local/state").join("vault")
}

/// Takes as many file descriptors as this process may have: a restore holds directories and files
/// open that wait for their writers. Where the system refuses, the usual thousand has to do.
pub(crate) fn take_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let all = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, all) {
            eprintln!("warning: the limit of open files could not be raised: {error}");
        }
    }
}

/// Keeps keys out of core dumps; a system that refuses is told of, and the work goes on.
pub(crate) fn protect_memory() {
    if let Err(error) = secret::forbid_core_dumps() {
        eprintln!("warning: core dumps could not be forbidden ({error}): one may show keys");
    }
}

/// Reads words from a file or standard input.
///
/// # Errors
/// Where they cannot be read.
pub(crate) fn read_words(path: &Path) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        std::io::stdin().take(WORDS_FILE_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(WORDS_FILE_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(VaultError::file("read the words in", path))?;
    Ok(text)
}

impl RepositoryArgs {
    /// The secret half of the key to use.
    ///
    /// # Errors
    /// Where it cannot be read; a mistyped word is named.
    pub(crate) fn identity(&self) -> Result<Identity> {
        if let Some(path) = &self.recovery_key {
            return access::recovery_from_text(&read_words(path)?);
        }
        if self.share.is_empty() {
            return access::read_key_file(&self.key);
        }
        let texts: Result<Vec<_>> = self.share.iter().map(|path| read_words(path)).collect();
        shares::combine(&texts?)
    }

    /// What is remembered and expected.
    ///
    /// # Errors
    /// Where the expected head is malformed.
    pub(crate) fn options(&self) -> Result<OpenOptions> {
        let expect = match &self.expect_head {
            None => None,
            Some(text) => Some(Head::parse(text).ok_or_else(|| {
                VaultError::Refused(format!(
                    "`{text}` is no head; one looks like 42:9f…, as \
                                             `vault status` prints it"
                ))
            })?),
        };
        let memory = Some(HeadMemory::new(&self.state_dir));
        let pacer = self.limits.pacer();
        Ok(OpenOptions { memory, expect, pacer, ..OpenOptions::default() })
    }

    /// Opens the repository, and says what its chain lacks. Where a cluster is named, it contains
    /// what that remembers.
    ///
    /// # Errors
    /// See [`Repository::open`].
    pub(crate) fn open(&self) -> Result<Repository> {
        self.open_asking(Asking::Needed)
    }

    /// Opens it for a backup, which no silent cluster hinders.
    ///
    /// # Errors
    /// See [`Repository::open`].
    pub(crate) fn open_whoever_is_silent(&self) -> Result<Repository> {
        self.open_asking(Asking::Wanted)
    }

    /// Opens it and asks nobody: a server that recovers must not wait for a cluster.
    ///
    /// # Errors
    /// See [`Repository::open`].
    pub(crate) fn open_alone(&self) -> Result<Repository> {
        self.open_asking(Asking::Nothing)
    }

    fn open_asking(&self, asking: Asking) -> Result<Repository> {
        let store = vault::store::location::open(&self.repository)?;
        let cluster = match asking {
            Asking::Nothing => None,
            asking => self.cluster.link(asking == Asking::Needed),
        };
        let options = OpenOptions { cluster, ..self.options()? };
        let repository = Repository::open(store, &self.identity()?, options)?;
        for note in repository.notes() {
            eprintln!("warning: {note}");
        }
        for problem in &repository.chain().problems {
            eprintln!("warning: record {} of the chain: {}", problem.seq, problem.what);
        }
        Ok(repository)
    }
}

/// Which backup.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Which {
    /// The backup's number, as `vault list` shows it; the newest where none is given.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) backup: Option<u64>,
    /// Of this source.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// The newest that ended at or before this time (RFC 3339, or `2026-11-22 14:00` here).
    #[arg(long, value_name = "TIME", conflicts_with = "backup")]
    pub(crate) to_time: Option<String>,
}

impl Which {
    /// The backup meant.
    ///
    /// # Errors
    /// Where there is none, or the time cannot be read.
    pub(crate) fn find<'r>(&self, repository: &'r Repository) -> Result<(u64, &'r Backup)> {
        let state = repository.state();
        if let Some(seq) = self.backup {
            let found = state.backups.get(&seq).map(|backup| (seq, backup));
            return found.ok_or_else(|| VaultError::NotFound(format!("there is no backup {seq}")));
        }
        let limit_ms = self.to_time.as_deref().map(parse_time).transpose()?;
        let of_source = |b: &Backup| self.source.as_ref().is_none_or(|s| *s == b.source);
        let in_time = |b: &Backup| limit_ms.is_none_or(|limit| b.subject.ended_ms <= limit);
        let all = state.backups.iter().map(|(seq, backup)| (*seq, backup));
        newest_of(all.filter(|(_, b)| of_source(b) && in_time(b))).ok_or_else(|| {
            VaultError::NotFound("no backup fits; `backstay vault list` shows all".to_owned())
        })
    }
}

/// Milliseconds since 1970 of a time as people write it.
fn parse_time(text: &str) -> Result<i64> {
    parse_moment(text).map(jiff::Timestamp::as_millisecond)
}

/// A time as people write it.
///
/// # Errors
/// Where it is none.
pub(crate) fn parse_moment(text: &str) -> Result<jiff::Timestamp> {
    let with_zone = text.parse::<jiff::Timestamp>().ok();
    let local = || {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::system()).ok()?.timestamp())
    };
    with_zone.or_else(local).ok_or_else(|| {
        VaultError::Refused(format!(
            "`{text}` is no time; write 2026-11-22T14:00:00Z or \
                                     \"2026-11-22 14:00\""
        ))
    })
}

/// This machine's name.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Threads that read a repository: they wait for its disk half of the time.
pub(crate) fn readers() -> usize {
    2 * workers()
}

/// Threads to use: one a processor.
pub(crate) fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}
