//! `vault key` as an operator uses it, and the schedule's test that keys still open the
//! repository.

use super::Machine;
use super::secrets::machine;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use vault::keys::access::{recovery_words, write_key_file};

impl Machine {
    /// Runs the command, which comes through; returns its answer.
    fn json(&self, words: &[&str]) -> serde_json::Value {
        let output = self.say(&[words, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs the command, which fails; returns what it says of it.
    fn refusal(&self, words: &[&str]) -> String {
        let output = self.say(words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {text}");
        text
    }

    fn is_good(&self, words: &[&str]) {
        let output = self.say(words);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {text}");
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Makes a key, splits it, and writes each share to a file.
    fn split(&self, shares: usize, threshold: usize) -> Vec<PathBuf> {
        let (shares, threshold) = (shares.to_string(), threshold.to_string());
        let words = ["vault", "key", "split", "--shares", &shares, "--threshold", &threshold];
        let split = self.json(&words);
        let texts = split["texts"].as_array().unwrap().iter().enumerate();
        let write = |(number, text): (usize, &serde_json::Value)| {
            self.write(&format!("share-{number}"), text.as_str().unwrap())
        };
        texts.map(write).collect()
    }
}

/// The arguments that use these shares.
fn with_shares(paths: &[&PathBuf]) -> Vec<String> {
    paths.iter().map(|path| format!("--share={}", path.display())).collect()
}

fn key_test(arguments: &[String]) -> Vec<&str> {
    let arguments = arguments.iter().map(String::as_str);
    ["vault", "key", "test"].into_iter().chain(arguments).collect()
}

pub(crate) fn tested_on_a_schedule() {
    let (machine, words) = machine();
    let paper = machine.write("paper", &words);
    let shares = machine.split(3, 2);
    machine.schedule(&format!(
        "[key_test]\nwhen = \"every 1d\"\nrecovery_key = {paper:?}\nshare = [{:?}, {:?}]\n",
        shares[0], shares[2],
    ));
    // A machine that remembers no run: all is due.
    let run = || {
        fs::remove_dir_all(machine.path("state")).unwrap();
        let (code, text) = machine.once();
        (code, text, machine.job("key-test"))
    };
    let (code, text, row) = run();
    assert!(code == 0 && text.contains("key-test: done"), "{text}");
    assert_eq!(
        (&row["runs"], &row["failures"], &row["trouble"]),
        (&1.into(), &0.into(), &().into())
    );

    let second = fs::read_to_string(&shares[2]).unwrap();
    let stranger = recovery_words(&age::x25519::Identity::generate()).to_string();
    let cases: &[(&Path, Option<&str>, &str)] = &[
        (&paper, Some(&stranger), "does not open"),
        (&paper, Some(&words[words.find(' ').unwrap()..]), "words were given"),
        (&paper, None, "read the words in"),
        (&shares[2], Some(&fs::read_to_string(&shares[0]).unwrap()), "given twice"),
        (&shares[2], Some(&words), "words were given"),
        (&shares[2], None, "read the words in"),
    ];
    for (path, text, expect) in cases {
        match text {
            Some(text) => fs::write(path, text).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let (code, text, row) = run();
        let what = format!("{} {expect}: {text}\n{row}", path.display());
        assert!(code == 1 && text.contains("key-test: FAILED"), "{what}");
        assert_eq!((&row["runs"], &row["failures"]), (&0.into(), &1.into()), "{what}");
        assert!(row["trouble"].as_str().unwrap().contains(expect), "{what}");
        let metrics = machine.say(&["vault", "status", "--metrics"]).stdout;
        let line = "backstay_vault_job_failures{job=\"key-test\",source=\"\"} 1";
        assert!(String::from_utf8_lossy(&metrics).contains(line), "{what}");
        fs::write(&paper, &words).unwrap();
        fs::write(&shares[2], &second).unwrap();
    }
    // The paper is right and opens nothing any more.
    machine.is_good(&["vault", "key", "revoke", "recovery"]);
    let (code, text, _) = run();
    assert!(code == 1 && text.contains("key-test: FAILED"), "{text}");
    assert!(!text.contains(&words[..20]), "{text}");
}

pub(crate) fn split_combined_rotated_and_revoked() {
    let (machine, words) = machine();
    let recovery = vec![format!("--recovery-key={}", machine.write("paper", &words).display())];
    machine.is_good(&["backup", "--name", "data", machine.path("data").to_str().unwrap()]);
    let shares = machine.split(5, 3);
    let (few, enough) = (
        with_shares(&[&shares[4], &shares[1]]),
        with_shares(&[&shares[4], &shares[0], &shares[2]]),
    );
    let refused = machine.refusal(&key_test(&few));
    assert!(refused.contains("2 shares were given, 3 are needed"), "{refused}");

    // Brought together, the shares are a key file like a machine's; nothing is replaced by it.
    let out = machine.path("custodians");
    let files: Vec<&str> = shares[..3].iter().map(|path| path.to_str().unwrap()).collect();
    let combine =
        [&["vault", "key", "combine", "--out", out.to_str().unwrap()], &files[..]].concat();
    machine.is_good(&combine);
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o7777, 0o600);
    let written = fs::read(&out).unwrap();
    assert!(machine.refusal(&combine).contains("create the key file"));
    assert_eq!(fs::read(&out).unwrap(), written);
    let few_files = [&["vault", "key", "combine", "--out", "/dev/null/x"], &files[..2]].concat();
    assert!(machine.refusal(&few_files).contains("3 are needed"));

    // Another machine.
    let other = age::x25519::Identity::generate();
    let key = machine.path("other");
    write_key_file(&key, &other).unwrap();
    let other_key = vec![format!("--key={}", key.display())];
    assert!(machine.refusal(&key_test(&other_key)).contains("does not open"));
    let public = other.to_public().to_string();
    machine.is_good(&["vault", "key", "add", &public, "--label", "other"]);
    let custodians = vec![format!("--key={}", out.display())];
    let all = [vec![], recovery.clone(), enough.clone(), custodians.clone(), other_key.clone()];
    for round in 0..2 {
        for arguments in &all {
            machine.is_good(&key_test(arguments));
        }
        let rotated = machine.json(&["vault", "key", "rotate"]);
        let epoch = format!("key epoch {}", round + 1);
        assert!(rotated["done"].as_str().unwrap().ends_with(&epoch), "{rotated}");
        machine.is_good(&["backup", "--name", "data", machine.path("data").to_str().unwrap()]);
    }
    revoke(&machine, &recovery, [enough, custodians, other_key]);
}

/// Takes the custodians' key and the other machine's away.
fn revoke(machine: &Machine, recovery: &[String], gone: [Vec<String>; 3]) {
    assert!(machine.refusal(&["vault", "key", "revoke", "nobody"]).contains("nobody"));
    machine.is_good(&["vault", "key", "revoke", "custodians", "other"]);
    for arguments in [&[], recovery] {
        machine.is_good(&key_test(arguments));
    }
    let data = machine.path("data");
    let backup = ["backup", "--name", "data", data.to_str().unwrap()];
    for arguments in &gone {
        let refused = machine.refusal(&key_test(arguments));
        assert!(refused.contains("revoked"), "{refused}");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let refused = machine.refusal(&[&backup, &arguments[..]].concat());
        assert!(refused.contains("revoked"), "{refused}");
    }
    machine.is_good(&backup);
    for arguments in &gone {
        // What is written from now on is not for them.
        let arguments = arguments.iter().map(String::as_str);
        let list: Vec<&str> = ["vault", "list"].into_iter().chain(arguments).collect();
        machine.refusal(&list);
    }
    let own = vault::keys::access::read_key_file(&machine.key).unwrap().to_public().to_string();
    let last = machine.refusal(&["vault", "key", "revoke", "recovery", &own]);
    assert!(last.contains("keep at least one key"), "{last}");
    // The paper alone brings everything back, whatever was written before and after.
    let back = machine.path("back");
    let restore = ["restore", "--source", "data", "--target", back.to_str().unwrap(), &recovery[0]];
    fs::remove_file(&machine.key).unwrap();
    machine.is_good(&restore);
    assert_eq!(fs::read(back.join("file")).unwrap(), fs::read(machine.path("data/file")).unwrap());
}
