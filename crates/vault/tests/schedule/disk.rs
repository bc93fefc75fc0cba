//! Full disks: where a restore writes, where a repository lies, and where a machine remembers.

use super::Machine;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own, which ends with the test.
struct Disk(PathBuf);

impl Disk {
    /// Mounts one of so many KiB; nothing, and says so, where this user may not.
    fn mount(path: PathBuf, kib: u64) -> Option<Disk> {
        fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]).arg(&path);
        let output = mount.output().unwrap();
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            println!("SKIPPED: a file system of its own cannot be mounted here: {why}");
            return None;
        }
        Some(Disk(path))
    }

    fn grow(&self, kib: u64) {
        let options = format!("remount,size={kib}k");
        assert!(
            Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success()
        );
    }

    /// Fills all there is.
    fn fill(&self) -> PathBuf {
        use std::io::Write;
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also after a failure, and whoever still has a file open there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Files of different lengths that don't compress, 6 MiB in all.
fn data(machine: &Machine) -> PathBuf {
    let data = machine.path("data");
    for number in 0..6 {
        let bytes = super::common::noise(number, (1 << 20) - 1000 * number as usize);
        fs::write(data.join(format!("noise{number}")), bytes).unwrap();
    }
    data
}

/// The exit code and everything said.
fn outcome(machine: &Machine, words: &[&str]) -> (i32, String) {
    let output = machine.say(words);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

fn assert_full(what: &str, (code, text): &(i32, String), place: &Path) {
    assert!(*code != 0, "{what}: {text}");
    assert!(text.contains("No space left on device"), "{what}: {text}");
    assert!(text.contains(&place.display().to_string()), "{what}: {text}");
}

pub(crate) fn a_restore_onto_a_full_disk_goes_on_once_there_is_room() {
    let machine = Machine::new();
    let data = data(&machine);
    assert!(machine.say(&["backup", "--name", "data", data.to_str().unwrap()]).status.success());
    let target = machine.path("target");
    let Some(disk) = Disk::mount(target.clone(), 3 << 10) else { return };
    let restore = ["restore", "--source", "data", "--target", target.to_str().unwrap()];
    let compare = ["vault", "compare", target.to_str().unwrap(), "--source", "data"];
    for _ in 0..2 {
        assert_full("restore", &outcome(&machine, &restore), &target);
        // What is there does not pass for the backup.
        assert_ne!(outcome(&machine, &compare).0, 0);
    }
    disk.grow(32 << 10);
    let (code, text) = outcome(&machine, &restore);
    assert_eq!(code, 0, "{text}");
    assert_eq!(super::common::fingerprint(&target), super::common::fingerprint(&data));
    let (code, text) = outcome(&machine, &compare);
    assert_eq!(code, 0, "{text}");
}

pub(crate) fn a_backup_with_a_full_disk_goes_on_once_there_is_room() {
    for full in ["repository", "state"] {
        let machine = Machine::without_repository();
        let data = data(&machine);
        let Some(disk) = Disk::mount(machine.path(full), 4 << 10) else { return };
        assert!(machine.say(&["vault", "init"]).status.success());
        let backup = ["backup", "--name", "data", data.to_str().unwrap()];
        let before = outcome(&machine, &["vault", "list", "--json"]);
        let filler = disk.fill();
        for _ in 0..2 {
            let outcome = outcome(&machine, &backup);
            assert_full(full, &outcome, &disk.0);
            assert!(outcome.1.contains("Make room there and run the command again"), "{full}");
        }
        fs::remove_file(filler).unwrap();
        disk.grow(32 << 10);
        if full == "repository" {
            assert_eq!(outcome(&machine, &["vault", "list", "--json"]), before);
        }
        for words in [&backup[..], &["vault", "verify", "--bytes"]] {
            let (code, text) = outcome(&machine, words);
            assert_eq!(code, 0, "{full}: {text}");
        }
        let back = machine.path("back");
        let restore = ["restore", "--source", "data", "--target", back.to_str().unwrap()];
        let (code, text) = outcome(&machine, &restore);
        assert_eq!(code, 0, "{full}: {text}");
        assert_eq!(super::common::fingerprint(&back), super::common::fingerprint(&data));
    }
}
