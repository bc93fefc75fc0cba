//! Directories by the command line, which needs no server.

use crate::cluster::Vault;
use crate::common::{back_up, fingerprint, noise, sample_tree};
use crate::kills::{Calls, lives_killed_at, require_going_on};
use crate::proof::{command_line, command_line_of};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

/// A user who is not root.
const NOBODY: u32 = 65_534;

/// A repository with one backup of a small directory.
struct Small {
    folder: tempfile::TempDir,
    vault: Vault,
    data: PathBuf,
}

fn small(prepare: impl FnOnce(&Path)) -> Small {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = Vault::new(folder.path());
    let data = folder.path().join("data");
    sample_tree(&data);
    prepare(&data);
    back_up(&mut vault.repository, &data).unwrap();
    Small { folder, vault, data }
}

fn give_all(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give_all(&entry.unwrap().path(), user));
    }
}

pub(crate) fn devices_are_no_obstacle_to_a_proof() {
    if !rustix::process::geteuid().is_root() {
        println!("only root can make the device that this is about");
        return;
    }
    let small = small(|data| {
        let rights = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, data.join("null"), FileType::CharacterDevice, rights, makedev(1, 3)).unwrap();
        // Nobody but root can read these where they are restored without owners.
        fs::set_permissions(data.join("text"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(data.join("a"), fs::Permissions::from_mode(0o000)).unwrap();
    });
    let scratch = small.folder.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let words = ["vault", "prove-restore", "--scratch", scratch.to_str().unwrap()];
    let (code, said) = command_line(&small.vault, &words);
    assert!(code == 0 && said.contains("PROVEN") && !said.contains("NOT"), "{said}");
    give_all(small.folder.path(), NOBODY);
    let mut command = command_line_of(&small.vault, std::env::current_exe().unwrap());
    let output = command.args(words).uid(NOBODY).gid(NOBODY).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("PROVEN"), "{said}");
    assert!(said.contains("NOT checked: owners"), "{said}");
    assert!(said.contains("NOT checked: null: it is a device"), "{said}");
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "the scratch place is gone: {said}");
}

/// What a command says as JSON.
pub(crate) fn said_as_json(vault: &Vault, words: &[&str]) -> Value {
    let (code, said) = command_line(vault, &[words, &["--json"]].concat());
    assert_eq!(code, 0, "{said}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

pub(crate) fn a_dry_run_and_a_statement_say_what_is_restored() {
    let small = small(|_| {});
    let root = {
        let backup = small.vault.repository.state().newest(None).unwrap().1;
        backup.subject.root.iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    fs::write(small.data.join("text"), "a mistake").unwrap();
    fs::remove_dir(small.data.join("empty")).unwrap();
    let totals = small.vault.repository.state().newest(None).unwrap().1.totals;
    let in_place = ["restore", "--in-place"];
    let dry = said_as_json(&small.vault, &[&in_place[..], &["--dry-run"]].concat());
    let changes = serde_json::json!([
        {"path": "", "action": "adjust"},
        {"path": "empty", "action": "make"},
        {"path": "text", "action": "set aside"},
        {"path": "text", "action": "make"},
    ]);
    assert_eq!(dry["plan"]["changes"], changes, "{dry}");
    assert_eq!((&dry["plan"]["make"], &dry["plan"]["set_aside"]), (&2.into(), &1.into()));
    assert_eq!(fs::read(small.data.join("text")).unwrap(), b"a mistake");
    let (_, said) = command_line(&small.vault, &[&in_place[..], &["--dry-run"]].concat());
    for line in ["    set aside text", "    make text", "    make empty", "    adjust ."] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
    let done = said_as_json(&small.vault, &in_place);
    assert_eq!((&done["root"], &done["position"]), (&root.clone().into(), &"".into()));
    assert_eq!((&done["files"], &done["bytes"]), (&totals.files.into(), &totals.bytes.into()));
    assert_eq!((&done["directories"], &done["synced"]), (&totals.directories.into(), &true.into()));
    assert_eq!((&done["set_aside"], &done["files_changed"]), (&1.into(), &1.into()));
    assert_eq!(done["plan"], Value::Null);
    let bytes = fs::metadata(small.data.join("text")).unwrap().len();
    assert_eq!(done["bytes_written"], bytes);
    assert!(done["verified"].as_str().unwrap().contains("Merkle path of every entry"), "{done}");
    let aside = Path::new(done["set_aside_at"].as_str().unwrap()).join("text");
    assert_eq!(fs::read(aside).unwrap(), b"a mistake");
    // A part has its own numbers, under the same root.
    let place = small.folder.path().join("part");
    let words = ["restore", "a/deep", "--target", place.to_str().unwrap()];
    let done = said_as_json(&small.vault, &words);
    assert_eq!((&done["files"], &done["bytes"]), (&1.into(), &300_000.into()));
    assert_eq!(done["root"], root);
    let (_, said) = command_line(&small.vault, &words);
    assert!(said.contains(&format!("root {root}")) && said.contains("verified: "), "{said}");
    assert!(said.contains("on disk: yes"), "{said}");
}

/// What replaces, is moved aside, or must be found unharmed.
fn mistreat(data: &Path) {
    fs::write(data.join("text"), "a mistake").unwrap();
    fs::remove_file(data.join("a/link")).unwrap();
    fs::write(data.join("a/link"), "no link").unwrap();
    fs::remove_dir(data.join("empty")).unwrap();
    fs::write(data.join("empty"), "no directory").unwrap();
    fs::remove_file(data.join("z-also-one")).unwrap();
    fs::write(data.join("z-also-one"), "another file").unwrap();
    fs::remove_file(data.join("a/nothing")).unwrap();
    fs::write(data.join("a/deep/er/more"), "is left alone").unwrap();
}

pub(crate) fn a_restore_killed_at_every_write() {
    let small = small(|data| {
        let pipe = data.join("pipe");
        mknodat(CWD, pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        // One that several threads write.
        fs::write(data.join("large"), noise(8, 17 << 20)).unwrap();
        fs::set_permissions(data.join("a/deep"), fs::Permissions::from_mode(0o550)).unwrap();
    });
    let expected = fingerprint(&small.data);
    let folder = small.folder.path();
    let target = folder.join("target");
    let line = ["restore", "--target", target.to_str().unwrap()];
    let calls = Calls::of(&small.vault, &line, &folder.join("calls"));
    assert!(calls.count() > 60, "{} calls", calls.count());
    let mut killed = 0;
    for (call, n) in calls.places(&["fchmodat", "utimensat", "syncfs", "linkat"]) {
        let case = format!("{call} {n}");
        fs::remove_dir_all(&target).unwrap();
        if !lives_killed_at(&small.vault, (&call, n), &line) {
            killed += 1;
            require_going_on(&small.vault, &line, &case);
        }
        assert_eq!(fingerprint(&target), expected, "{case}");
    }
    calls.require_killed(killed);
}

pub(crate) fn a_restore_in_place_killed_at_every_write() {
    let small = small(|_| {});
    let folder = small.folder.path();
    let expected = fingerprint(&small.data);
    let asides = || -> Vec<PathBuf> {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.to_string_lossy().contains(".replaced-")).collect()
    };
    let again = || {
        fs::remove_dir_all(&small.data).unwrap();
        asides().into_iter().for_each(|aside| fs::remove_dir_all(aside).unwrap());
        let (code, said) = command_line(&small.vault, &["restore", "--in-place"]);
        assert_eq!(code, 0, "{said}");
        asides().into_iter().for_each(|aside| fs::remove_dir_all(aside).unwrap());
        mistreat(&small.data);
    };
    again();
    let line = ["restore", "--in-place"];
    let calls = Calls::of(&small.vault, &line, &folder.join("calls"));
    let mut killed = 0;
    for (call, n) in calls.places(&["renameat2", "unlinkat", "linkat", "syncfs"]) {
        let case = format!("{call} {n}");
        again();
        if !lives_killed_at(&small.vault, (&call, n), &line) {
            killed += 1;
            require_going_on(&small.vault, &line, &case);
        }
        let mut found = fingerprint(&small.data);
        assert!(found.remove("a/deep/er/more").is_some(), "{case}: nobody asked for it to go");
        assert_eq!(found, expected, "{case}");
        // Everything that was replaced lies aside, once. So may what was made of it by half.
        for (path, words) in [
            ("text", "a mistake"),
            ("a/link", "no link"),
            ("empty", "no directory"),
            ("z-also-one", "another file"),
        ] {
            let aside = asides().into_iter().map(|aside| aside.join(path));
            let found: Vec<_> = aside.filter_map(|path| fs::read_to_string(path).ok()).collect();
            let count = found.iter().filter(|found| *found == words).count();
            assert_eq!(count, 1, "{case}: {path}: {found:?}");
        }
    }
    calls.require_killed(killed);
}
