//! A reader of the output that is gone, as `head` goes: the command ends, and says nothing of it.

use std::process::{Command, Output, Stdio};

use backstay::stdout::READER_GONE;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/orders/cluster.toml");

/// Runs a command whose output nobody reads any more.
fn unread(words: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    command.args(words).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    command.spawn().unwrap().wait_with_output().unwrap()
}

#[test]
fn a_command_whose_reader_is_gone_ends_quietly() {
    let cases: [&[&str]; 5] = [
        &["complete", "bash"],
        &["check", EXAMPLE],
        &["check", EXAMPLE, "--timers"],
        &["check", EXAMPLE, "--json"],
        &["check", "/nonexistent/cluster.toml", "--json"],
    ];
    for words in cases {
        let output = unread(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(READER_GONE)), "{words:?}: {said}");
        assert_eq!(said, "", "{words:?}");
    }
    // The help's printer passes over what nobody reads.
    for words in [&["--help"][..], &["demo", "--help"]] {
        let output = unread(words);
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    }
}
