//! A repository in an S3 bucket, against moto's server. `tests/install_moto.sh` installs it;
//! without it the test says `SKIPPED` and why.

mod common;

use common::*;
use object_store::aws::AmazonS3Builder;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vault::cleanup::{self, CleanupRequest};
use vault::repository::Repository;
use vault::store::s3::S3Store;
use vault::store::{Area, Store, selftest};
use vault::verify::Depth;

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
    target.join("moto/bin/moto_server")
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
    let child = Command::new(path)
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
    let settings = AmazonS3Builder::new()
        .with_endpoint(format!("http://127.0.0.1:{}", moto.port))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("test");
    Arc::new(S3Store::with(settings, "bucket", "some/prefix").unwrap())
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
