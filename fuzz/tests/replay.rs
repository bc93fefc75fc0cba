//! Every kept input is read again, in an ordinary build: what was found once stays fixed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fuzz::{PLANTED, Target};

/// One test, because the allocations of an input are counted for the whole process.
#[test]
fn kept_inputs_and_seeds_are_read_without_a_fault() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut faults = Vec::new();
    for target in Target::all() {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        let mut inputs: Vec<(String, Vec<u8>)> = Vec::new();
        inputs.extend(seeds.into_iter().map(|seed| ("a seed".to_owned(), seed)));
        let directory = corpus.join(target.name);
        for kept in std::fs::read_dir(&directory).expect("each target has a corpus") {
            let path = kept.expect("it can be listed").path();
            let bytes = std::fs::read(&path).expect("it can be read");
            inputs.push((path.display().to_string(), bytes));
        }
        for (name, input) in inputs {
            if catch_unwind(AssertUnwindSafe(|| target.run(&input))).is_err() {
                faults.push(format!("{}: {name}", target.name));
            }
        }
        let planted = catch_unwind(AssertUnwindSafe(|| target.run_planted(&PLANTED)));
        assert!(planted.is_err(), "{}: a planted bug panics", target.name);
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn names_are_in_order_and_each_corpus_has_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let names: Vec<&str> = Target::all().iter().map(|target| target.name).collect();
    let directories = std::fs::read_dir(corpus).expect("there are corpora");
    let mut listed: Vec<String> = directories
        .map(|entry| entry.expect("it can be listed").file_name().to_string_lossy().into_owned())
        .collect();
    listed.sort();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(listed, sorted);
}
