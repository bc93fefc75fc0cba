//! A repository in an S3 bucket, against moto's server. `tests/install_moto.sh` installs it;
//! without it the test says `SKIPPED` and why.

mod common;

use age::x25519::Identity;
use common::unreliable::Unreliable;
use common::*;
use object_store::aws::AmazonS3Builder;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vault::cleanup::{self, CleanupRequest};
use vault::postgres::Lsn;
use vault::repository::Repository;
use vault::store::local::LocalStore;
use vault::store::patient::PatientStore;
use vault::store::s3::S3Store;
use vault::store::{
    Area, Created, Listed, ObjectName, Protection, Store, StoreError, require_lock, selftest,
};
use vault::verify::Depth;
use vault::wal::{Archive, fetch_stretch};

/// The server; it ends with the test.
struct Moto {
    child: Child,
    port: u16,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server_path() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target =
        target.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"));
    target.join("moto/bin/python3")
}

fn request(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn start() -> Option<Moto> {
    let path = server_path();
    if !path.exists() {
        println!("SKIPPED s3: {} is not there; tests/install_moto.sh makes it", path.display());
        return None;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/moto_in_turn.py");
    let child = Command::new(path)
        .arg(server)
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let moto = Moto { child, port };
    let create = "PUT /bucket HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\
                  Connection: close\r\n\r\n";
    let begun = Instant::now();
    loop {
        match request(port, create) {
            Ok(answer) if answer.contains(" 200 ") => return Some(moto),
            other => assert!(begun.elapsed() < Duration::from_secs(60), "{other:?}"),
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn open(moto: &Moto) -> Arc<dyn Store> {
    open_bucket(moto, "bucket")
}

fn open_bucket(moto: &Moto, bucket: &str) -> Arc<dyn Store> {
    let settings = AmazonS3Builder::new()
        .with_endpoint(format!("http://127.0.0.1:{}", moto.port))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("test");
    let bucket = S3Store::with(settings, bucket, "some/prefix").unwrap();
    Arc::new(PatientStore::new(Arc::new(bucket)))
}

#[test]
fn a_repository_in_a_bucket_does_what_one_in_a_directory_does() {
    let Some(moto) = start() else { return };
    let store = open(&moto);
    selftest::run(&*store, true).unwrap();
    assert_eq!(store.list(Area::Probe, None).unwrap(), []);
    let folder = tempfile::tempdir().unwrap();
    let (data, back) = (folder.path().join("data"), folder.path().join("back"));
    sample_tree(&data);
    let clock = TestClock::new();
    let (mut repository, identity) = init(Arc::clone(&store), &clock);
    let first = back_up(&mut repository, &data).unwrap().seq;
    fs::write(data.join("text"), "changed").unwrap();
    let second = back_up(&mut repository, &data).unwrap().seq;
    let mut repository = Repository::open(open(&moto), &identity, clock.options()).unwrap();
    let report = restore(&repository, second, &back).unwrap();
    assert!(report.is_complete(), "{:?}", report.notes);
    assert_eq!(fingerprint(&back), fingerprint(&data));
    assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
    // Two writers at once: both are recorded, one after the other.
    let mut other = Repository::open(open(&moto), &identity, clock.options()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| back_up(&mut other, &data).unwrap());
        back_up(&mut repository, &data).unwrap();
    });
    repository.refresh().unwrap();
    assert_eq!(repository.state().backups.len(), 4);
    let forget = vault::chain::Body::Forget { backups: vec![first], why: String::new() };
    repository.append(forget, None, |_| Ok(())).unwrap();
    for _ in 0..3 {
        clock.advance(WAIT + Duration::from_secs(60));
        cleanup::run(&mut repository, &CleanupRequest::default()).unwrap();
    }
    assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
    restore(&repository, second, &folder.path().join("again")).unwrap();
    assert_eq!(fingerprint(&folder.path().join("again")), fingerprint(&data));
}

/// A log of a database, stored through a store that can't be relied on.
struct Logging<'a> {
    good: &'a Arc<dyn Store>,
    bad: Arc<dyn Store>,
    identity: &'a Identity,
    clock: &'a TestClock,
    stream: &'a str,
    system: u64,
}

/// Bytes of a segment, and of what is stored at once.
const SEGMENT: u64 = 16 << 20;
const PART: u64 = 24 << 10;
/// Attempts at what a store may refuse, although each of its requests is tried again.
const ATTEMPTS_MAX: u32 = 3;

impl Logging<'_> {
    /// The log itself: every position has its byte.
    fn bytes(&self, from: u64, upto: u64) -> Vec<u8> {
        let byte = |at: u64| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
        (from..upto).map(byte).collect()
    }

    fn open(&self, store: Arc<dyn Store>) -> vault::Result<Repository> {
        Repository::open(store, self.identity, self.clock.options())
    }

    /// One attempt to store a part and to sign for it.
    fn store(&self, from: u64, upto: u64) -> vault::Result<()> {
        let mut repository = self.open(self.bad.clone())?;
        let mut archive = Archive::open(&repository, self.stream, self.system, SEGMENT)?;
        archive.store(&repository, 1, Lsn(from), &self.bytes(from, upto))?;
        archive.acknowledge(&mut repository, 1, (Lsn(from), Lsn(upto)))
    }

    /// One attempt to read a part back: right, or not at all.
    fn read(&self, store: Arc<dyn Store>, from: u64, upto: u64) -> vault::Result<()> {
        let repository = self.open(Arc::clone(&store))?;
        let archive = Archive::open(&repository, self.stream, self.system, SEGMENT)?;
        let (ring, catalog) = (repository.ring(), archive.catalog());
        let read = fetch_stretch(&*store, ring, catalog, 1, Lsn(from)..Lsn(upto))?;
        assert!(read == self.bytes(from, upto), "other bytes than were stored");
        Ok(())
    }

    /// Stores `parts`, however often it takes, and reads each back in both ways.
    fn play(&self, parts: u64) -> u32 {
        let (begin, mut refusals) = (SEGMENT, 0);
        for part in 0..parts {
            let from = begin + part * PART;
            let stored = (0..ATTEMPTS_MAX).any(|_| {
                let stored = self.store(from, from + PART).is_ok();
                refusals += u32::from(!stored);
                stored
            });
            assert!(stored, "part {part} was refused {ATTEMPTS_MAX} times");
            // What was signed for is there, whatever the store said on the way.
            self.read(Arc::clone(self.good), begin, from + PART).unwrap();
            for _ in 0..3 {
                refusals += u32::from(self.read(self.bad.clone(), begin, from + PART).is_err());
            }
        }
        let repository = self.open(Arc::clone(self.good)).unwrap();
        let known = &repository.state().archives[self.stream];
        let end = known.acknowledged(1, Lsn(begin));
        assert_eq!(end, Some(Lsn(begin + parts * PART)), "one unbroken stretch");
        refusals
    }

    /// A clean-up whose deletions may be lies takes nothing that is needed.
    fn clean_up(&self) {
        for _ in 0..3 {
            self.clock.advance(WAIT + Duration::from_secs(60));
            let clean_up = || {
                let mut repository = self.open(self.bad.clone())?;
                cleanup::run(&mut repository, &CleanupRequest::default())
            };
            let failures: Vec<_> = (0..ATTEMPTS_MAX).map_while(|_| clean_up().err()).collect();
            assert!(
                failures.len() < ATTEMPTS_MAX as usize,
                "no clean-up came through: {failures:?}"
            );
        }
    }
}

/// Plays a log against a store, with every misdeed.
fn log_through_an_unreliable(
    good: &Arc<dyn Store>,
    seeds: std::ops::Range<u64>,
    (parts, permille): (u64, u64),
) {
    let clock = TestClock::new();
    let (_, identity) = init(Arc::clone(good), &clock);
    for seed in seeds {
        let unreliable = Arc::new(Unreliable::new(Arc::clone(good), seed, permille));
        let pause = Duration::from_millis(1);
        let bad = Arc::new(PatientStore::with_pause(Arc::<Unreliable>::clone(&unreliable), pause));
        let stream = format!("ledger-{seed}");
        let (identity, clock, stream) = (&identity, &clock, stream.as_str());
        let system = 7 + seed;
        let logging = Logging { good, bad, identity, clock, stream, system };
        let refusals = logging.play(parts);
        let mut repository = logging.open(Arc::clone(good)).unwrap();
        leave_garbage(&mut repository, seed);
        logging.clean_up();
        logging.read(Arc::clone(good), SEGMENT, SEGMENT + parts * PART).unwrap();
        let done = &unreliable.misdeeds;
        let counts = [&done.failed, &done.lost_answers, &done.short, &done.slow, &done.kept]
            .map(|count| count.load(Ordering::SeqCst));
        println!("seed {seed}: {refusals} refusals, {done:?}");
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}: it was tame");
    }
    let mut repository = Repository::open(Arc::clone(good), &identity, clock.options()).unwrap();
    assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
    assert_all_goes(&mut repository, &clock);
}

/// Backups that were forgotten: what a clean-up has to delete.
fn leave_garbage(repository: &mut Repository, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut backups = Vec::new();
    for round in 0..3 {
        fs::write(folder.path().join("file"), noise(seed * 10 + round, 100_000)).unwrap();
        backups.push(back_up(repository, folder.path()).unwrap().seq);
    }
    let forget = vault::chain::Body::Forget { backups, why: String::new() };
    repository.append(forget, None, |_| Ok(())).unwrap();
}

/// What a lying deletion left is named again by the next clean-up, until it is gone.
fn assert_all_goes(repository: &mut Repository, clock: &TestClock) {
    for _ in 0..3 {
        clock.advance(WAIT + Duration::from_secs(25 * 3600));
        cleanup::run(repository, &CleanupRequest::default()).unwrap();
    }
    let packs = repository.store().list(Area::Packs, None).unwrap();
    let packs: BTreeSet<_> = packs.iter().filter_map(|listed| listed.name.id()).collect();
    assert_eq!(packs, cleanup::live_packs(repository).unwrap());
    assert!(verify(repository, Depth::Bytes).unwrap().is_intact());
}

/// Backs a tree up twice, forgets the first, cleans up and restores, all through a store with
/// every misdeed: each comes through, at the first attempt or one of the next.
#[test]
fn backups_through_an_unreliable_store_come_through() {
    let deleted: u64 = (1..4).map(backups_through_an_unreliable).sum();
    assert!(deleted >= 3, "{deleted} objects deleted");
}

/// Returns how many objects the clean-up deleted.
fn backups_through_an_unreliable(seed: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let (data, clock) = (folder.path().join("data"), TestClock::new());
    sample_tree(&data);
    let good: Arc<dyn Store> =
        Arc::new(LocalStore::create(&folder.path().join("repository")).unwrap());
    let (_, identity) = init(Arc::clone(&good), &clock);
    let unreliable = Arc::new(Unreliable::new(Arc::clone(&good), seed, 80));
    let bad: Arc<dyn Store> =
        Arc::new(PatientStore::with_pause(unreliable.clone(), Duration::from_millis(1)));
    let attempt = |what: &dyn Fn(&mut Repository) -> vault::Result<u64>| {
        let run = |_| what(&mut Repository::open(bad.clone(), &identity, clock.options())?);
        let mut results = (0..ATTEMPTS_MAX).map(run);
        results.find_map(Result::ok).expect("it comes through")
    };
    fs::write(data.join("gone"), noise(seed, 3 << 20)).unwrap();
    let first = attempt(&|repository| Ok(back_up(repository, &data)?.seq));
    fs::write(data.join("text"), "changed").unwrap();
    fs::remove_file(data.join("gone")).unwrap();
    let second = attempt(&|repository| Ok(back_up(repository, &data)?.seq));
    attempt(&|repository| {
        let forget = vault::chain::Body::Forget { backups: vec![first], why: String::new() };
        repository.append(forget, None, |_| Ok(()))
    });
    let mut deleted = 0;
    for _ in 0..3 {
        clock.advance(WAIT + Duration::from_secs(25 * 3600));
        deleted +=
            attempt(
                &|repository| Ok(cleanup::run(repository, &CleanupRequest::default())?.deleted),
            );
    }
    let back = folder.path().join("back");
    attempt(&|repository| {
        let report = restore(repository, second, &back)?;
        assert!(report.is_complete(), "{:?}", report.notes);
        Ok(0)
    });
    assert_eq!(fingerprint(&back), fingerprint(&data));
    let kept = unreliable.misdeeds.kept.load(Ordering::SeqCst);
    assert!(kept > 0, "no deletion was a lie: {:?}", unreliable.misdeeds);
    let mut repository = Repository::open(good, &identity, clock.options()).unwrap();
    assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
    assert_all_goes(&mut repository, &clock);
    println!("{:?}", unreliable.misdeeds);
    deleted
}

#[test]
fn a_log_through_an_unreliable_store_is_whole_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good: Arc<dyn Store> =
        Arc::new(LocalStore::create(&folder.path().join("repository")).unwrap());
    log_through_an_unreliable(&good, 1..3, (8, 60));
}

#[test]
fn a_log_through_an_unreliable_bucket_is_whole_or_refused() {
    let Some(moto) = start() else { return };
    log_through_an_unreliable(&open(&moto), 11..12, (6, 80));
}

/// A request of somebody who has the right to write; returns the status and the answer.
fn plainly(moto: &Moto, line: &str, headers: &str, body: &str) -> (u16, String) {
    // The server looks who it is, and not at the signature.
    let text = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
         SignedHeaders=host, Signature=none\r\n{headers}\r\n{body}",
        body.len()
    );
    let answer = request(moto.port, &text).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// A bucket with object lock, and the default retention that this rule says.
fn make_locking(moto: &Moto, bucket: &str, rule: &str) {
    let enabled = "x-amz-bucket-object-lock-enabled: true\r\n";
    assert_eq!(plainly(moto, &format!("PUT /{bucket}"), enabled, "").0, 200);
    if rule.is_empty() {
        return;
    }
    let body = format!(
        "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>{rule}\
         </DefaultRetention></Rule></ObjectLockConfiguration>"
    );
    assert_eq!(plainly(moto, &format!("PUT /{bucket}?object-lock"), "", &body).0, 200);
}

/// One version of an object: a deletion's mark where it has no bytes.
#[derive(Debug)]
struct Version {
    key: String,
    id: String,
    is_latest: bool,
    is_mark: bool,
}

/// Every version in a bucket, the newest of each object first.
fn versions(moto: &Moto, bucket: &str) -> Vec<Version> {
    let (status, answer) =
        plainly(moto, &format!("GET /{bucket}?versions&max-keys=100000"), "", "");
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("<IsTruncated>false"), "{answer}");
    let between = |text: &str, tag: &str| {
        let rest = text.split_once(&format!("<{tag}>")).unwrap().1;
        rest.split_once('<').unwrap().0.to_owned()
    };
    let of = |tag: &str, is_mark: bool| {
        let parts: Vec<&str> = answer.split(&format!("<{tag}>")).skip(1).collect();
        let version = |part: &&str| Version {
            key: between(part, "Key"),
            id: between(part, "VersionId"),
            is_latest: between(part, "IsLatest") == "true",
            is_mark,
        };
        parts.iter().map(version).collect::<Vec<_>>()
    };
    [of("Version", false), of("DeleteMarker", true)].into_iter().flatten().collect()
}

fn delete_version(moto: &Moto, bucket: &str, version: &Version) -> (u16, String) {
    let line = format!("DELETE /{bucket}/{}?versionId={}", version.key, version.id);
    plainly(moto, &line, "", "")
}

#[test]
fn a_bucket_is_asked_whether_it_locks_objects() {
    let Some(moto) = start() else { return };
    make_locking(&moto, "compliance", "<Mode>COMPLIANCE</Mode><Days>30</Days>");
    make_locking(&moto, "years", "<Mode>GOVERNANCE</Mode><Years>2</Years>");
    make_locking(&moto, "no-default", "");
    let locked = |mode: &str, days| Protection::Locked { mode: mode.to_owned(), days };
    for (bucket, expect) in [
        ("bucket", Protection::Nothing),
        ("no-default", Protection::Versions),
        ("compliance", locked("COMPLIANCE", 30)),
        ("years", locked("GOVERNANCE", 730)),
    ] {
        let store = open_bucket(&moto, bucket);
        assert_eq!(store.protection().unwrap(), expect, "{bucket}");
        // What is asked for is there, or refused.
        let days = expect.days().unwrap();
        assert_eq!(require_lock(&*store, 1).is_ok(), days > 0, "{bucket}");
        assert!(days == 0 || require_lock(&*store, days).is_ok(), "{bucket}");
        let error = require_lock(&*store, days + 1).unwrap_err().to_string();
        assert!(error.contains(&format!("for {} days: ", days + 1)), "{error}");
    }
}

/// Without a lock, versions go: what a refusal means elsewhere.
#[test]
fn a_bucket_without_a_lock_lets_go_of_versions() {
    let Some(moto) = start() else { return };
    make_locking(&moto, "versions", "");
    let name = ObjectName::of_record(1);
    assert_eq!(open_bucket(&moto, "versions").put_new(&name, b"x").unwrap(), Created::New);
    let all = versions(&moto, "versions");
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(delete_version(&moto, "versions", &all[0]).0, 204);
    assert!(versions(&moto, "versions").is_empty());
}

/// What the vault does in a bucket that locks each object: all of it, and what it deletes stays.
#[test]
fn a_bucket_that_locks_its_objects_keeps_what_is_deleted() {
    let Some(moto) = start() else { return };
    make_locking(&moto, "locking", "<Mode>COMPLIANCE</Mode><Days>30</Days>");
    let store = open_bucket(&moto, "locking");
    selftest::run(&*store, true).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (data, clock) = (folder.path().join("data"), TestClock::new());
    sample_tree(&data);
    fs::write(data.join("gone"), noise(3, 3 << 20)).unwrap();
    let (mut repository, identity) = init(Arc::clone(&store), &clock);
    let first = back_up(&mut repository, &data).unwrap().seq;
    fs::remove_file(data.join("gone")).unwrap();
    let second = back_up(&mut repository, &data).unwrap().seq;
    let forget = vault::chain::Body::Forget { backups: vec![first], why: String::new() };
    repository.append(forget, None, |_| Ok(())).unwrap();
    let mut deleted = 0;
    for _ in 0..3 {
        clock.advance(WAIT + Duration::from_secs(60));
        deleted += cleanup::run(&mut repository, &CleanupRequest::default()).unwrap().deleted;
    }
    assert!(deleted > 0);
    assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
    let all = versions(&moto, "locking");
    let marks = all.iter().filter(|v| v.is_mark && v.key.contains("/packs/")).count();
    assert!(marks > 0, "{all:?}");
    // No version goes, of what is needed or not.
    for version in all.iter().filter(|v| !v.is_mark) {
        let (status, answer) = delete_version(&moto, "locking", version);
        assert!(status == 403 && answer.contains("AccessDenied"), "{version:?}: {answer}");
    }
    // Somebody with the right to write deletes everything, and overwrites some of it.
    for area in Area::ALL {
        for listed in store.list(area, None).unwrap() {
            store.delete(&listed.name).unwrap();
        }
    }
    let record = "/locking/some/prefix/chain/00000000000000000001";
    let checked = "x-amz-sdk-checksum-algorithm: SHA256\r\n";
    assert_eq!(plainly(&moto, &format!("PUT {record}"), checked, "rubbish").0, 200);
    assert!(Repository::open(Arc::clone(&store), &identity, clock.options()).is_err());
    bring_back(&moto, "locking");
    let repository = Repository::open(store, &identity, clock.options()).unwrap();
    assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
    let back = folder.path().join("back");
    assert!(restore(&repository, second, &back).unwrap().is_complete());
    assert_eq!(fingerprint(&back), fingerprint(&data));
}

/// As docs/guides/vault.md says: every object's oldest version is what was written under that name,
/// for a name is never written to twice.
fn bring_back(moto: &Moto, bucket: &str) {
    let all = versions(moto, bucket);
    let mut oldest: BTreeMap<&str, &Version> = BTreeMap::new();
    all.iter().filter(|v| !v.is_mark).for_each(|version| {
        oldest.insert(&version.key, version);
    });
    for (key, version) in oldest.into_iter().filter(|(_, version)| !version.is_latest) {
        let headers = format!(
            "x-amz-copy-source: /{bucket}/{key}?versionId={}\r\n\
             x-amz-sdk-checksum-algorithm: SHA256\r\n",
            version.id
        );
        let (status, answer) = plainly(moto, &format!("PUT /{bucket}/{key}"), &headers, "");
        assert_eq!(status, 200, "{answer}");
    }
}

/// A store that refuses deletions while it is told to, and says of itself what it is told to say.
struct Refusing {
    inner: Arc<dyn Store>,
    refuses: AtomicBool,
    protection: Protection,
}

impl Store for Refusing {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StoreError> {
        self.inner.put_new(name, bytes)
    }
    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        self.inner.get(name)
    }
    fn get_range(&self, name: &ObjectName, at: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.inner.get_range(name, at, out)
    }
    fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
        self.inner.size(name)
    }
    fn list(&self, area: Area, after: Option<&ObjectName>) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(area, after)
    }
    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        if name.area() == Area::Probe || !self.refuses.load(Ordering::SeqCst) {
            return self.inner.delete(name);
        }
        let (path, what) = (name.to_string(), name.to_string());
        let source = "locked".into();
        let source = Box::new(object_store::Error::PermissionDenied { path, source });
        Err(StoreError::Remote { action: "delete", what, source })
    }
    fn remove_leftovers(&self, age: Duration) -> Result<u64, StoreError> {
        self.inner.remove_leftovers(age)
    }
    fn protection(&self) -> Result<Protection, StoreError> {
        Ok(self.protection.clone())
    }
    fn ranges_are_cheap(&self) -> bool {
        true
    }
}

/// A store that refuses to delete what is locked: clean-up leaves it, goes on, and comes back.
#[test]
fn what_a_store_does_not_let_go_of_is_deleted_by_a_later_clean_up() {
    let mode = "COMPLIANCE".to_owned();
    for protection in [Protection::Locked { mode, days: 30 }, Protection::Nothing] {
        let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
        let data = folder.path().join("data");
        let is_locking = protection != Protection::Nothing;
        let inner = Arc::new(LocalStore::create(&folder.path().join("repository")).unwrap());
        let store = Arc::new(Refusing { inner, refuses: AtomicBool::new(true), protection });
        let (mut repository, _) = init(store.clone(), &clock);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("gone"), noise(5, 3 << 20)).unwrap();
        let first = back_up(&mut repository, &data).unwrap().seq;
        fs::remove_file(data.join("gone")).unwrap();
        fs::write(data.join("text"), "stays").unwrap();
        back_up(&mut repository, &data).unwrap();
        let forget = vault::chain::Body::Forget { backups: vec![first], why: String::new() };
        repository.append(forget, None, |_| Ok(())).unwrap();
        let mut clean_up = || {
            clock.advance(WAIT + Duration::from_secs(60));
            cleanup::run(&mut repository, &CleanupRequest::default())
        };
        let packs = || store.list(Area::Packs, None).unwrap().len();
        let before = packs();
        let marked = clean_up().unwrap().marked;
        assert!(marked > 0);
        // What refuses everything and locks nothing does not let us delete at all.
        let refused = clean_up();
        assert_eq!(refused.is_ok(), is_locking, "{refused:?}");
        if let Ok(report) = refused {
            assert_eq!((report.deleted, report.refused, report.freed_bytes), (0, marked, 0));
            assert!(report.marked >= marked, "it is named again: {report:?}");
        }
        assert_eq!(packs(), before);
        store.refuses.store(false, Ordering::SeqCst);
        let freed_bytes: u64 = (0..3).map(|_| clean_up().unwrap().freed_bytes).sum();
        assert!(freed_bytes > 3 << 20 && packs() < before, "{freed_bytes} {}", packs());
        assert!(verify(&repository, Depth::Bytes).unwrap().is_intact());
    }
}
