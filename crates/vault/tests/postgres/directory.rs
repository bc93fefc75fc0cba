//! Directories by the command line, which needs no server.

use crate::cluster::Vault;
use crate::common::{back_up, sample_tree};
use crate::proof::{command_line, command_line_of};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
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
