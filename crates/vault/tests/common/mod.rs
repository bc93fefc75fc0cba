//! What the integration tests share: small repositories and trees.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]

pub mod unreliable;

use age::x25519::Identity;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use vault::backup::{BackupOutcome, BackupRequest};
use vault::keys::wrap::Holder;
use vault::repository::{InitRequest, NewRecipient, OpenOptions, Repository};
use vault::restore::{RestoreCounters, RestoreReport, RestoreRequest};
use vault::source::directory::DirectorySource;
use vault::store::Store;
use vault::verify::{Depth, VerifyReport, VerifyRequest};

/// A clock that tests move.
#[derive(Clone)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn new() -> TestClock {
        // Far ahead of the test's files, so that their time stamps are trusted.
        TestClock(Arc::new(AtomicI64::new(4_000_000_000_000)))
    }

    /// One that shows this time.
    pub fn at(time_ms: i64) -> TestClock {
        TestClock(Arc::new(AtomicI64::new(time_ms)))
    }

    pub fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as i64, Ordering::SeqCst);
    }

    pub fn options(&self) -> OpenOptions {
        let time = Arc::clone(&self.0);
        OpenOptions {
            clock: Arc::new(move || time.fetch_add(1, Ordering::SeqCst)),
            ..OpenOptions::default()
        }
    }
}

pub const WAIT: Duration = Duration::from_secs(3600);

pub fn init(store: Arc<dyn Store>, clock: &TestClock) -> (Repository, Identity) {
    init_with(store, clock, None)
}

pub fn init_with(
    store: Arc<dyn Store>,
    clock: &TestClock,
    deletion_key: Option<[u8; 32]>,
) -> (Repository, Identity) {
    let identity = Identity::generate();
    let recipient = identity.to_public().to_string();
    let machine = NewRecipient { holder: Holder::Machine, label: "machine".to_owned(), recipient };
    let request = InitRequest { recipients: vec![machine], deletion_key, wait: WAIT };
    (Repository::init(store, &request, clock.options()).unwrap(), identity)
}

pub fn request(source: &DirectorySource) -> BackupRequest<'_> {
    BackupRequest::plain("data", "a", source, 2)
}

pub fn back_up(repository: &mut Repository, path: &Path) -> vault::Result<BackupOutcome> {
    let source = DirectorySource::new(path, &[], false)?;
    vault::backup::run(repository, &request(&source))
}

pub fn restore_request(target: &Path) -> RestoreRequest {
    RestoreRequest {
        path: Vec::new(),
        target: target.to_owned(),
        set_aside: None,
        dry_run: false,
        owners: rustix::process::geteuid().is_root(),
        devices: false,
        workers: 2,
        counters: Arc::new(RestoreCounters::default()),
    }
}

pub fn restore(repository: &Repository, seq: u64, target: &Path) -> vault::Result<RestoreReport> {
    let backup = &repository.state().backups[&seq];
    vault::restore::run(&repository.blobs()?, backup, &restore_request(target))
}

pub fn verify(repository: &Repository, depth: Depth) -> vault::Result<VerifyReport> {
    let bytes_read = Arc::new(AtomicU64::new(0));
    vault::verify::run(repository, &VerifyRequest { depth, workers: 2, bytes_read, memory: None })
}

/// Deterministic bytes that don't compress.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A small tree with one of almost everything.
pub fn sample_tree(root: &Path) {
    fs::create_dir_all(root.join("a/deep/er")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::write(root.join("a/one"), "one\n").unwrap();
    fs::write(root.join("a/nothing"), "").unwrap();
    fs::write(root.join("a/deep/er/noise"), noise(1, 300_000)).unwrap();
    fs::write(root.join("text"), "2026-11-22 debit 17 credit 42\n".repeat(9000)).unwrap();
    fs::hard_link(root.join("a/one"), root.join("z-also-one")).unwrap();
    std::os::unix::fs::symlink("../text", root.join("a/link")).unwrap();
    fs::set_permissions(root.join("text"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o711)).unwrap();
}

/// Everything that a restore must bring back, as text by path.
pub fn fingerprint(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut inodes: BTreeMap<u64, String> = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let what = if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            "directory".to_owned()
        } else if meta.is_symlink() {
            format!("link to {}", fs::read_link(&path).unwrap().display())
        } else if meta.is_file() {
            blake3::hash(&fs::read(&path).unwrap()).to_string()
        } else {
            format!("special {:?} {}", meta.file_type(), meta.rdev())
        };
        let group = match meta.nlink() > 1 && meta.is_file() {
            true => format!("{} names", meta.nlink()),
            false => String::new(),
        };
        inodes.insert(meta.ino(), name.clone());
        let rights = if meta.is_symlink() { 0 } else { meta.mode() & 0o7777 };
        let mut line = format!(
            "{what} {rights:o} {}:{} {}.{} {group}",
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
        );
        if !meta.is_symlink() {
            let mut names = vec![0; 4096];
            if let Ok(length) = rustix::fs::llistxattr(&path, &mut names[..]) {
                names.truncate(length);
                // Their order is the file system's affair.
                let names: BTreeSet<_> = names.split(|b| *b == 0).collect();
                for attribute in names.into_iter().filter(|n| !n.is_empty()) {
                    let mut value = vec![0; 4096];
                    let length = rustix::fs::lgetxattr(&path, attribute, &mut value[..]).unwrap();
                    let attribute = String::from_utf8_lossy(attribute);
                    line += &format!(" {attribute}={}", blake3::hash(&value[..length]));
                }
            }
        }
        found.insert(name, line);
    }
    found
}
