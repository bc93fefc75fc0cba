//! Errors, risks and differences as an operator sees them.

use std::collections::BTreeSet;
use std::path::Path;

use config::diff::Now;
use config::{Code, Measurement, Placed, Severity};

use crate::{directories, expect};

const CASES_MIN: usize = 40;

fn look(case: &Path) -> Vec<config::Diagnostic> {
    let loaded = config::load(&case.join("cluster.toml"));
    let mut diagnostics = loaded.diagnostics;
    let measurement = case.join("measurement.toml");
    if let (Some(spec), true) = (&loaded.spec, measurement.exists()) {
        let measurement = Measurement::load(&measurement).expect("the case's measurement is one");
        diagnostics = config::risk::check_measured(spec, &loaded.places, &measurement);
    }
    let refused = diagnostics.iter().any(config::Diagnostic::is_error);
    assert!(loaded.spec.is_some() || refused, "{}: no specification, no error", case.display());
    diagnostics
}

#[test]
fn every_case_says_what_it_is_expected_to_say() {
    let cases = directories("tests/cases");
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let prefix = format!("{}/", case.display());
        let found = config::render(&look(case), false).replace(&prefix, "");
        wrong.extend(expect(&case.join("expected.txt"), &found));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A code that no case shows may be one that nothing can cause.
#[test]
fn every_code_is_shown_by_a_case() {
    // These two need a file that the repository should not hold: see limits.rs.
    let mut shown = BTreeSet::from([Code::TooLarge, Code::NotText, Code::More]);
    for case in directories("tests/cases") {
        shown.extend(look(&case).iter().map(|diagnostic| diagnostic.code));
    }
    let missing: Vec<&Code> = Code::ALL.iter().filter(|code| !shown.contains(code)).collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}

#[test]
fn every_diagnostic_names_its_line_and_says_what_to_do() {
    for case in directories("tests/cases") {
        for json in config::to_json(&look(&case)) {
            assert!(!json.help.is_empty() && !json.message.is_empty(), "{json:?}");
            let placeless = [Code::CannotRead.as_str()].contains(&json.code);
            assert!(placeless || json.line.is_some(), "{}: {json:?}", case.display());
            assert!(json.line != Some(0) && json.column != Some(0));
        }
    }
}

#[test]
fn errors_come_first_and_each_kind_in_the_order_of_the_text() {
    for case in directories("tests/cases") {
        let severities: Vec<Severity> = look(&case).iter().map(|d| d.severity()).collect();
        assert!(severities.is_sorted(), "{}: {severities:?}", case.display());
    }
}

#[test]
fn every_difference_is_told_as_expected() {
    let mut wrong = Vec::new();
    for case in directories("tests/diffs") {
        let spec = |name: &str| {
            let loaded = config::load(&case.join(name));
            loaded.spec.unwrap_or_else(|| panic!("{}", config::render(&loaded.diagnostics, false)))
        };
        let placed = match std::fs::read_to_string(case.join("placed.txt")) {
            Ok(text) => text.lines().filter_map(placement).collect(),
            Err(_) => Placed::new(),
        };
        let (old, new) = (spec("old.toml"), spec("new.toml"));
        let joined = match std::fs::read_to_string(case.join("joined.txt")) {
            Ok(text) => text.lines().map(|name| name.parse().expect("a node's name")).collect(),
            Err(_) => old.nodes.keys().cloned().collect(),
        };
        let now = Now { placed, joined };
        let diff = config::diff(&old, &new, &now);
        assert!(config::diff(&old, &old, &Now::default()).is_empty(), "nothing changes to itself");
        let json = serde_json::to_string_pretty(&diff).expect("a difference is data");
        let found = format!("{diff}\n{json}\n");
        wrong.extend(expect(&case.join("expected.txt"), &found));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `gateway a`
fn placement(line: &str) -> Option<(model::ResourceName, model::NodeName)> {
    let (resource, node) = line.split_once(' ')?;
    Some((resource.parse().ok()?, node.parse().ok()?))
}
