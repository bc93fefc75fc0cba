//! Cases are data: each directory of `tests/cases` holds a `cluster.toml` (with snippets, or a
//! `measurement.toml`) and the text that an operator sees, each of `tests/diffs` two files and
//! what `diff` says. `BLESS=1 cargo test -p backstay-config` writes the expectations anew.

mod cases;
mod docs;
mod examples;
mod garbled;
mod limits;
mod measured;
mod round_trip;

use std::path::{Path, PathBuf};

/// Compares with a file, or writes it where `BLESS` is set. Answers what differs.
fn expect(path: &Path, found: &str) -> Option<String> {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, found).expect("the expectation can be written");
        return None;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    (expected != found).then(|| {
        let name = path.display();
        format!("--- {name} expects\n{expected}\n--- but this was found\n{found}")
    })
}

/// The directories of a directory, by name.
fn directories(path: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).expect("the cases are there");
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("an entry").path()).filter(|p| p.is_dir()).collect();
    paths.sort();
    paths
}

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
