//! The whole demo, run as a person runs it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::cluster_rig::{alone, processes_naming};
use super::demo_rig::{Process, until};

const FAULTS: [&str; 7] = [
    "process-killed",
    "node-killed",
    "coordinator-killed",
    "coordinator-and-active-killed",
    "node-frozen",
    "node-cut",
    "switchover",
];

/// `backstay demo`, with a directory for temporary files that only this demo names.
fn demo(temporary: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    command.arg("demo").args(arguments).env("TMPDIR", temporary).stdin(Stdio::null());
    command
}

/// A directory whose name is short enough for the demo to use it.
fn temporary() -> tempfile::TempDir {
    tempfile::tempdir_in("/tmp").unwrap()
}

fn run(arguments: &[&str]) -> Output {
    let temporary = temporary();
    let output = demo(temporary.path(), arguments).output().unwrap();
    assert_nothing_left(temporary.path());
    output
}

fn assert_nothing_left(temporary: &Path) {
    let left: Vec<PathBuf> =
        std::fs::read_dir(temporary).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "the demo left {left:?}");
    let left = processes_naming(temporary);
    assert!(left.is_empty(), "the demo left processes: {left:?}");
}

fn report(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_whole_demo_loses_nothing_and_says_so_in_one_object() {
    let _alone = alone();
    let output = run(&["--json", "--runs", "1"]);
    let report = report(&output);
    assert!(output.status.success(), "{report:#}");
    assert_eq!(keys(&report), BTreeSet::from(["profile", "runs", "faults"]));
    assert_eq!((&report["profile"], &report["runs"]), (&"lan".into(), &1.into()));
    let faults = report["faults"].as_array().unwrap();
    let named: Vec<&str> = faults.iter().map(|f| f["fault"].as_str().unwrap()).collect();
    assert_eq!(named, FAULTS);
    for fault in faults {
        check_fault(fault);
    }
}

fn check_fault(fault: &Value) {
    let expected = [
        "fault",
        "outage_ms",
        "acknowledged",
        "lost",
        "duplicated",
        "unknown",
        "refused_stale",
        "two_active_ms",
        "evidence",
        "phases_ms",
    ];
    assert_eq!(keys(fault), BTreeSet::from(expected), "{fault:#}");
    for must_be_none in ["lost", "duplicated", "two_active_ms"] {
        assert_eq!(fault[must_be_none], 0, "{must_be_none} in {fault:#}");
    }
    let spread = &fault["outage_ms"];
    assert_eq!(keys(spread), BTreeSet::from(["min", "median", "max"]));
    assert!(spread["median"].as_f64().unwrap() > 0.0, "{fault:#}");
    assert!(fault["acknowledged"].as_u64().unwrap() > 0, "{fault:#}");
    assert!(fault["unknown"].is_u64() && fault["refused_stale"].is_u64(), "{fault:#}");
    assert!(!fault["evidence"].as_str().unwrap().is_empty(), "{fault:#}");
    let phases = &fault["phases_ms"];
    let expected = BTreeSet::from(["detect", "decide", "commit", "fence", "promote"]);
    assert_eq!(keys(phases), expected, "{fault:#}");
    let name = fault["fault"].as_str().unwrap();
    // There the service stays where it is: there is no move to tell the phases of.
    let moved = name != "coordinator-killed";
    assert!(expected.iter().all(|phase| phases[phase].is_number() == moved), "{fault:#}");
    let refused = fault["refused_stale"].as_u64().unwrap();
    assert!(name != "node-frozen" || refused >= 1, "{fault:#}");
}

#[test]
fn without_fencing_the_demo_fails_and_says_why() {
    let _alone = alone();
    let json = run(&["--json", "--plant", "no-fencing", "--faults", "node-cut"]);
    let report = report(&json);
    assert_eq!(json.status.code(), Some(1), "{report:#}");
    let fault = &report["faults"][0];
    assert!(fault["two_active_ms"].as_f64().unwrap() > 0.0, "{report:#}");
}

#[test]
fn a_service_that_heeds_nothing_is_stopped_by_fencing_alone() {
    let _alone = alone();
    let output = run(&["--plant", "heedless-service", "--faults", "node-cut"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("never were two active"), "{text}");
}

#[test]
fn an_interrupted_demo_leaves_no_process_and_no_file() {
    let _alone = alone();
    let temporary = temporary();
    let mut command = demo(temporary.path(), &[]);
    let spawned = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut demo = Process(spawned.unwrap());
    // In the middle: the service has moved once already.
    until("the service's move", || {
        let dir = std::fs::read_dir(temporary.path()).unwrap().next()?.unwrap().path();
        let moments = std::fs::read_to_string(dir.join("active.jsonl")).ok()?;
        let lines = moments.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let epochs: BTreeSet<String> = lines.map(|moment| moment["epoch"].to_string()).collect();
        (epochs.len() > 1).then_some(())
    });
    assert!(processes_naming(temporary.path()).len() > 9, "nine parts, store, client, servers");
    kill_process(Pid::from_child(&demo.0), Signal::INT).unwrap();
    let status = demo.0.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert_nothing_left(temporary.path());
}
