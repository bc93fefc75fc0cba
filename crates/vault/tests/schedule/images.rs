//! Disk images through the command line.

use super::Machine;
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Output;

const IMAGE_BYTES: u64 = 8 << 20;

fn told(output: &Output) -> Value {
    let why = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {why}"))
}

fn write(image: &Path, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(image).unwrap().write_all_at(bytes, offset).unwrap();
}

pub(super) fn by_hand_and_on_schedule() {
    let machine = Machine::new();
    let (image, map) = (machine.path("disk.raw"), machine.path("map"));
    File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
    write(&image, 1 << 20, &b"data ".repeat(100_000));
    let (image_word, map_word) = (image.display().to_string(), map.display().to_string());
    let backup = |more: &[&str]| {
        let words = ["backup", "--json", "--name", "vm", "--image", &image_word];
        machine.say(&[&words[..], more].concat())
    };
    let first = told(&backup(&[]));
    write(&image, 2 << 20, b"changed");
    let lines = format!("size {IMAGE_BYTES}\n{} 4096\nend\n", 2 << 20);
    let (root, seq) = (first["root"].as_str().unwrap(), first["backup"].as_u64().unwrap());

    // Wrong words are no backup, nor is a map of another time.
    assert_eq!(backup(&["--dirty", &map_word]).status.code(), Some(2));
    assert_eq!(backup(&["--since", root]).status.code(), Some(2));
    let dirty = |since: &str, more: &[&str]| {
        backup(&[&["--dirty", &map_word, "--since", since], more].concat())
    };
    assert_eq!(dirty(root, &["--reread"]).status.code(), Some(2));
    assert_eq!(dirty(root, &["--verify-sample", "101"]).status.code(), Some(2));
    for since in ["99", &root[1..], "newest"] {
        assert_eq!(dirty(since, &[]).status.code(), Some(1), "{since}");
    }
    // The hook before the backup may write the map.
    let hook = format!("printf '{}' > {map_word}", lines.replace('\n', "\\n"));
    let second = told(&dirty(root, &["--before", &hook, "--verify-sample", "0"]));
    assert_eq!((&second["parent"], second["bytes_read"].as_u64()), (&seq.into(), Some(65_536)));

    let source = ["--source", "vm"];
    let is_equal = || machine.say(&[&["vault", "compare"][..], &source].concat()).status.code();
    assert_eq!(is_equal(), Some(0));
    let stream = machine.say(&[&["restore", "--stdout"][..], &source].concat());
    assert!(stream.stdout == fs::read(&image).unwrap());
    write(&image, 5 << 20, b"x");
    assert_eq!(is_equal(), Some(3));
    // The map does not tell of it, and every block is looked at.
    let number = second["backup"].to_string();
    let lied = dirty(&number, &["--verify-sample", "100"]);
    let said = String::from_utf8_lossy(&lied.stderr).into_owned();
    assert!(
        said.contains("the map lied: it calls the block at bytes 5242880 to 5308416"),
        "{said}"
    );
    assert!(machine.say(&["restore", "--in-place", "--source", "vm"]).status.success());
    assert_eq!(is_equal(), Some(0));

    machine.schedule(&format!(
        "[[source]]\nname = \"vm\"\nimage = \"{image_word}\"\nbackup = \"every 1h\"\n\
         prove = \"every 1h\"\n"
    ));
    let (code, text) = machine.once();
    assert_eq!(code, 0, "{text}");
    let status = machine.status();
    assert_eq!(status["sources"][0]["proven"], status["sources"][0]["newest"], "{status}");
}
