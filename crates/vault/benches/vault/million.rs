//! Many files: how long listing all of them, planning a restore and finding one take. They are
//! empty, so that trees and indexes are measured and nothing else.

use crate::directories::{Outcome, measure};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// Files of one directory.
const FOLDER_FILES: u64 = 1000;

/// Measures with so many files.
pub(crate) fn run(program: &Path, scratch: &Path, files: u64) -> Outcome<()> {
    let data = scratch.join("data");
    for folder in 0..files.div_ceil(FOLDER_FILES) {
        let place = data.join(format!("{:02}/{folder:06}", folder % 32));
        fs::create_dir_all(&place)?;
        let first = folder * FOLDER_FILES;
        for file in first..files.min(first + FOLDER_FILES) {
            File::create(place.join(format!("file-{file:09}.txt")))?;
        }
    }
    let wanted = files / 2;
    let folder = wanted / FOLDER_FILES;
    let one = format!("{:02}/{folder:06}/file-{wanted:09}.txt", folder % 32);
    let text = |path: &Path| path.display().to_string();
    let (data_text, empty) = (text(&data), text(&scratch.join("empty")));
    let (restored, proof) = (text(&scratch.join("one")), text(&scratch.join("proof")));
    let in_part = format!("file-{wanted:09}");
    let steps: &[(&str, &[&str])] = &[
        ("init", &["vault", "init"]),
        ("first backup", &["backup", "--name", "data", &data_text]),
        ("second, nothing changed", &["backup", "--name", "data", &data_text]),
        ("list all", &["vault", "list", "/"]),
        ("find by a part of the name", &["vault", "list", "/", "--find", &in_part]),
        ("plan a restore of all", &["restore", "--dry-run", "--target", &empty]),
        ("restore one", &["restore", &one, "--target", &restored]),
        ("prove one", &["vault", "prove", &one, "--out", &proof]),
    ];
    println!("{:<28} {:>8} {:>8} {:>8}", format!("{files} files"), "wall s", "cpu s", "MB res");
    for (what, words) in steps {
        let mut command = Command::new(program);
        command.args(*words);
        command.env("BACKSTAY_REPOSITORY", scratch.join("ours"));
        command.env("BACKSTAY_KEY_FILE", scratch.join("key"));
        command.env("BACKSTAY_STATE_DIR", scratch.join("state"));
        let cost = measure(&mut command)?;
        println!("{what:<28} {:>8.2} {:>8.2} {:>8.0}", cost.wall_s, cost.cpu_s, cost.resident_mb);
    }
    Ok(())
}
