//! What `vault verify` says on the command line of damage and of what is gone, and with which
//! exit code.

use super::{Machine, deeper};
use std::fs;
use std::path::PathBuf;

/// Something is wrong with the repository.
const FOUND: i32 = 3;

fn say(machine: &Machine, words: &[&str]) -> (i32, String) {
    let output = machine.say(words);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

fn back_up(machine: &Machine, options: &[&str]) -> serde_json::Value {
    let data = machine.path("data");
    let words = ["backup", "--name", "data", data.to_str().unwrap(), "--json"];
    let output = machine.say(&[&words, options].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The object of a record.
fn record(machine: &Machine, seq: u64) -> PathBuf {
    let digits = seq.to_string();
    let records = fs::read_dir(machine.repository.join("chain")).unwrap();
    let mut paths = records.map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        path.file_name().unwrap().to_str().unwrap().trim_start_matches('0') == digits
    };
    paths.find(is_it).expect("the record is there")
}

pub(crate) fn a_removed_newest_backup_is_missed() {
    let machine = Machine::new();
    back_up(&machine, &[]);
    machine.data("two");
    let newest = back_up(&machine, &[]);
    let (seq, head) = (newest["backup"].as_u64().unwrap(), newest["head"].as_str().unwrap());
    assert_eq!(say(&machine, &["vault", "verify"]).0, 0);
    fs::remove_file(record(&machine, seq)).unwrap();
    // The machine that made it remembers it, and works with nothing less.
    let data = machine.path("data");
    for words in [&["vault", "verify"][..], &["vault", "list"], &["backup", data.to_str().unwrap()]]
    {
        let (code, said) = say(&machine, words);
        assert_eq!(code, 1, "{words:?}: {said}");
        assert!(said.contains(&format!("record {seq}")), "{words:?}: {said}");
    }
    // Another one knows only what it is told.
    let other = machine.beside();
    let (code, said) = say(&other, &["vault", "verify"]);
    assert!(code == 0 && said.contains("freshness: not provable"), "{said}");
    let (code, said) = say(&other, &["vault", "verify", "--expect-head", head]);
    assert!(code == 1 && said.contains(&format!("record {seq}")), "{said}");
}

pub(crate) fn a_flipped_bit_of_a_pack_is_named() {
    let machine = Machine::new();
    let first = back_up(&machine, &[])["backup"].to_string();
    let pack = deeper(&machine.repository.join("packs")).unwrap();
    let name = pack.file_name().unwrap().to_str().unwrap().to_owned();
    // A further backup stands on the same chunks.
    let second = back_up(&machine, &[])["backup"].to_string();
    let bytes = fs::read(&pack).unwrap();
    let mut altered = bytes.clone();
    altered[60] ^= 1;
    fs::write(&pack, &altered).unwrap();
    let (code, said) = say(&machine, &["vault", "verify", "--bytes"]);
    assert_eq!(code, FOUND, "{said}");
    assert!(said.contains(&name), "{said}");
    assert!(said.contains(&format!("backups that lost something: {first}, {second}")), "{said}");
    fs::write(&pack, &bytes).unwrap();
    let (code, said) = say(&machine, &["vault", "verify", "--bytes"]);
    assert!(code == 0 && said.ends_with("intact\n"), "{said}");
}

pub(crate) fn reread_reads_what_seems_unchanged() {
    let machine = Machine::new();
    // Time stamps of the last two seconds are trusted by nobody.
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    let file = fs::File::open(machine.path("data/file")).unwrap();
    file.set_modified(old).unwrap();
    super::until("the file's own time stamp is old enough", || {
        back_up(&machine, &[])["files_read"] == 0
    });
    let reread = back_up(&machine, &["--reread"]);
    assert_eq!((&reread["files_read"], &reread["bytes_stored"]), (&1.into(), &0.into()));
    assert_eq!(back_up(&machine, &[])["files_read"], 0);
}
