//! `vault init` on stores that keep their promises, and on some that don't.

use super::Machine;
use super::liar::{Liar, Lie};
use std::process::Output;

/// Runs a command against a bucket of this store.
fn say(machine: &Machine, liar: &Liar, words: &[&str]) -> Output {
    let mut command = machine.command(words);
    command.env("BACKSTAY_REPOSITORY", "s3://bucket/some/prefix");
    command.env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", liar.port));
    command.env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command.output().unwrap()
}

pub(crate) fn a_store_that_lies_is_refused() {
    let cases = [
        (Lie::Conditions, "writers that raced to create one object were told that they had won"),
        (Lie::Listings, "a new object was not listed"),
        (Lie::Deletions, "a deleted object could still be read"),
        (Lie::Ranges, "a ranged read returned other bytes"),
    ];
    for (lie, expect) in cases {
        let (machine, liar) = (Machine::without_repository(), Liar::start(lie));
        for words in [
            &["vault", "init"][..],
            &["vault", "init"],
            &["vault", "selftest", "s3://bucket/some/prefix"],
        ] {
            let output = say(&machine, &liar, words);
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{lie:?}: {text}");
            assert!(text.contains("s3://bucket/some/prefix is not safe"), "{lie:?}: {text}");
            assert!(text.contains(expect) && text.contains("Use a store"), "{lie:?}: {text}");
            // No key is shown for a repository that there is not.
            assert_eq!(output.stdout, b"", "{lie:?}");
        }
        // Nothing is left but what the store itself does not delete.
        let left = liar.names();
        let is_probe = |name: &String| name.starts_with("some/prefix/probe/");
        assert!(left.iter().all(|name| lie == Lie::Deletions && is_probe(name)), "{left:?}");
        let data = machine.path("data");
        let output = say(&machine, &liar, &["backup", data.to_str().unwrap()]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains("no repository"), "{lie:?}: {text}");
    }
}

pub(crate) fn a_store_that_keeps_its_promises_gets_a_repository() {
    let (machine, store) = (Machine::without_repository(), Liar::start(Lie::Nothing));
    let is_good = |words: &[&str]| {
        let output = say(&machine, &store, words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    assert!(String::from_utf8_lossy(&is_good(&["vault", "init"])).contains("RECOVERY KEY"));
    assert!(store.names().iter().all(|name| !name.starts_with("some/prefix/probe/")));
    let (data, back) = (machine.path("data"), machine.path("back"));
    is_good(&["backup", "--name", "data", data.to_str().unwrap()]);
    is_good(&["restore", "--source", "data", "--target", back.to_str().unwrap()]);
    is_good(&["vault", "verify", "--bytes"]);
    let read = |folder: std::path::PathBuf| std::fs::read(folder.join("file")).unwrap();
    assert_eq!(read(back), read(data));
    // A second repository in the same place is none.
    let again = say(&machine, &store, &["vault", "init"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("already"), "{again:?}");
}
