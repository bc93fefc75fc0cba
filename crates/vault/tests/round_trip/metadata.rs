//! Attributes, access control lists, owners and devices.

use super::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use vault::source::directory::DirectorySource;
use vault::source::{ScanContext, ScanEvent, ScanSink, Source};
use vault::tree::{Content, Entry, EntryKind, Metadata, Stamp};

/// Whether the place where tests write knows attributes of users and access control lists; says
/// so where it does not.
pub(crate) fn has_attributes() -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    let user = set(file.path(), "user.note", b"kept");
    let list = set(file.path(), "system.posix_acl_access", &acl(4));
    let refused = user.and(list);
    if let Err(error) = refused {
        println!("SKIPPED: {} refuses attributes: {error}", file.path().display());
    }
    refused.is_ok()
}

fn set(path: &Path, name: &str, value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
}

fn attribute(path: &Path, name: &str) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

/// A POSIX access control list as Linux keeps it: the owner reads and writes, user 12345 has
/// these rights, the group and the mask have them too, others have none.
fn acl(rights: u16) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let mut list = 2u32.to_le_bytes().to_vec();
    let entries = [
        (1, 6, NOBODY),
        (2, rights, 12345),
        (4, rights, NOBODY),
        (16, rights, NOBODY),
        (32, 0, NOBODY),
    ];
    for (tag, rights, id) in entries {
        list.extend_from_slice(&u16::to_le_bytes(tag));
        list.extend_from_slice(&u16::to_le_bytes(rights));
        list.extend_from_slice(&u32::to_le_bytes(id));
    }
    list
}

#[test]
fn attributes_and_access_control_lists_come_back() {
    if !has_attributes() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, back) = (folder.path().join("data"), folder.path().join("back"));
    fs::create_dir_all(data.join("dir")).unwrap();
    fs::write(data.join("file"), "text").unwrap();
    // One that is read in segments.
    fs::write(data.join("large"), noise(1, 20 << 20)).unwrap();
    let long = noise(4, 3000);
    for name in ["file", "large", "dir"] {
        set(&data.join(name), "user.note", &long).unwrap();
        set(&data.join(name), "user.empty", b"").unwrap();
        set(&data.join(name), "system.posix_acl_access", &acl(4)).unwrap();
    }
    set(&data.join("dir"), "system.posix_acl_default", &acl(6)).unwrap();
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let outcome = back_up(&mut repository, &data).unwrap();
    assert_eq!(outcome.backup.skipped, []);
    let report = restore(&repository, outcome.seq, &back).unwrap();
    assert!(report.is_complete(), "{:?}", report.notes);
    for name in ["file", "large", "dir"] {
        let path = back.join(name);
        assert_eq!(attribute(&path, "user.note").unwrap(), long, "{name}");
        assert_eq!(attribute(&path, "user.empty").unwrap(), b"", "{name}");
        assert_eq!(attribute(&path, "system.posix_acl_access").unwrap(), acl(4), "{name}");
    }
    assert_eq!(attribute(&back.join("dir"), "system.posix_acl_default").unwrap(), acl(6));
    assert_eq!(fingerprint(&back), fingerprint(&data));

    // A list that is altered alters the root, and is found by the next backup.
    set(&data.join("file"), "system.posix_acl_access", &acl(6)).unwrap();
    let second = back_up(&mut repository, &data).unwrap();
    assert_ne!(second.backup.subject.root, outcome.backup.subject.root);
    assert_eq!(second.backup.statistics.files_read, 1);
}

#[test]
fn a_file_that_is_a_backup_of_its_own_keeps_its_attributes() {
    if !has_attributes() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, back) = (folder.path().join("file"), folder.path().join("back"));
    fs::write(&data, "text").unwrap();
    set(&data, "user.note", b"kept").unwrap();
    set(&data, "system.posix_acl_access", &acl(4)).unwrap();
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let outcome = back_up(&mut repository, &data).unwrap();
    let blobs = repository.blobs().unwrap();
    let source = DirectorySource::new(&data, &[], false).unwrap();
    let compared = vault::compare::compare(&blobs, &outcome.backup, &source, &data).unwrap();
    assert!(compared.is_equal(), "{compared:?}");
    assert!(restore(&repository, outcome.seq, &back).unwrap().is_complete());
    let restored = fs::read_dir(&back).unwrap().next().unwrap().unwrap().path();
    assert_eq!(attribute(&restored, "user.note").unwrap(), b"kept");
    assert_eq!(attribute(&restored, "system.posix_acl_access").unwrap(), acl(4));
}

/// Whether this is root, who may give files away and make devices; says so where not.
fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: {what} needs root");
    }
    root
}

#[test]
fn owners_rights_and_devices_come_back_to_root() {
    if !is_root("giving files away and making devices") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, back) = (folder.path().join("data"), folder.path().join("back"));
    fs::create_dir_all(data.join("dir")).unwrap();
    fs::write(data.join("file"), "text").unwrap();
    std::os::unix::fs::symlink("file", data.join("link")).unwrap();
    let rights = Mode::from_raw_mode(0o620);
    let null = mknodat(CWD, data.join("null"), FileType::CharacterDevice, rights, makedev(1, 3));
    null.expect("root makes devices");
    mknodat(CWD, data.join("loop"), FileType::BlockDevice, rights, makedev(7, 5)).unwrap();
    for (number, name) in ["dir", "file", "null", "loop"].iter().enumerate() {
        let id = 40_000 + number as u32;
        chown(data.join(name), Some(id), Some(id + 100)).unwrap();
    }
    std::os::unix::fs::lchown(data.join("link"), Some(50_000), Some(50_001)).unwrap();
    // After the owner: a change of it clears these bits.
    fs::set_permissions(data.join("file"), fs::Permissions::from_mode(0o6755)).unwrap();
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let outcome = back_up(&mut repository, &data).unwrap();
    assert_eq!(outcome.backup.skipped, []);

    let blobs = repository.blobs().unwrap();
    let mut request = restore_request(&back);
    request.devices = true;
    let report = vault::restore::run(&blobs, &outcome.backup, &request).unwrap();
    assert!(report.is_complete(), "{:?}", report.notes);
    assert_eq!(fingerprint(&back), fingerprint(&data));
    let owner = |name: &str| fs::symlink_metadata(back.join(name)).map(|m| (m.uid(), m.gid()));
    assert_eq!(owner("file").unwrap(), (40_001, 40_101));
    assert_eq!(owner("link").unwrap(), (50_000, 50_001));
    let mode = fs::metadata(back.join("file")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o6755);
    let null = fs::symlink_metadata(back.join("null")).unwrap();
    assert!(null.file_type().is_char_device() && null.rdev() == makedev(1, 3));
    let device = fs::symlink_metadata(back.join("loop")).unwrap();
    assert!(device.file_type().is_block_device() && device.rdev() == makedev(7, 5));

    // Nobody asked for devices: each is noted, and none is made.
    let request = restore_request(&folder.path().join("without"));
    let report = vault::restore::run(&blobs, &outcome.backup, &request).unwrap();
    for name in ["null", "loop"] {
        let noted =
            report.notes.iter().any(|note| note.path == name && note.what.contains("--devices"));
        assert!(noted, "{name}: {:?}", report.notes);
        assert!(!request.target.join(name).exists());
    }
}

/// A tree of root's, told to whoever asks.
struct Roots;

impl Source for Roots {
    fn kind(&self) -> vault::chain::SourceKind {
        vault::chain::SourceKind::Directory
    }

    fn origin(&self) -> String {
        "/".to_owned()
    }

    fn scan(&self, _: &ScanContext<'_>, sink: &mut dyn ScanSink) -> vault::Result<()> {
        let meta = |mode| Metadata { mode, ..Metadata::default() };
        let (stamp, root) = (Stamp::default(), *blake3::hash(b"").as_bytes());
        sink.event(ScanEvent::Enter { name: Vec::new(), meta: meta(0o755), stamp })?;
        let content = Content::Inline(Vec::new());
        let file = EntryKind::File { size_bytes: 0, root, content };
        let null = EntryKind::CharDevice { major: 1, minor: 3 };
        for (name, kind, mode) in [("file", file, 0o4755), ("null", null, 0o666)] {
            let (name, meta) = (name.as_bytes().to_vec(), meta(mode));
            sink.event(ScanEvent::Ready(Box::new(Entry { name, meta, kind, stamp })))?;
        }
        sink.event(ScanEvent::Leave)
    }
}

/// Runs one test of this binary as a user without rights.
fn again_as_nobody(test: &str) {
    const NOBODY: u32 = 65_534;
    let mut program = fs::File::open(std::env::current_exe().unwrap()).unwrap();
    // A place that this user reaches.
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let copy: PathBuf = folder.path().join("tests");
    std::io::copy(&mut program, &mut fs::File::create(&copy).unwrap()).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = std::process::Command::new(&copy);
    command.args(["--exact", test, "--nocapture"]).env("TMPDIR", folder.path());
    let output = command.current_dir("/").uid(NOBODY).gid(NOBODY).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let text = format!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{text}");
}

#[test]
fn owners_and_devices_that_may_not_be_given_are_noted() {
    if rustix::process::geteuid().is_root() {
        return again_as_nobody("metadata::owners_and_devices_that_may_not_be_given_are_noted");
    }
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let (mut repository, _) = init(memory(), &clock);
    let backup = vault::backup::run(&mut repository, &request_for(&Roots)).unwrap().backup;
    let blobs = repository.blobs().unwrap();
    let mut request = restore_request(&folder.path().join("back"));
    (request.owners, request.devices) = (true, true);
    let report = vault::restore::run(&blobs, &backup, &request).unwrap();
    let noted = |path: &str, why: &str| {
        let found = report.notes.iter().any(|note| note.path == path && note.what.contains(why));
        assert!(found, "{path}: {:?}", report.notes);
    };
    noted("file", "could not be given to 0:0");
    noted("null", "only root can make");
    assert!(!report.is_complete());
    // A program of root's does not become one that runs as this user for everybody.
    request = restore_request(&folder.path().join("own"));
    let report = vault::restore::run(&blobs, &backup, &request).unwrap();
    let file = fs::metadata(request.target.join("file")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.uid()), (0o755, rustix::process::geteuid().as_raw()));
    assert_eq!(report.notes.len(), 1, "{:?}", report.notes);
}
