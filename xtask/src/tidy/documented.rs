//! A module begins by saying what it is responsible for.

use super::Finding;
use super::scan::File;

/// Finds modules that do not. A file `tests.rs` is about the module it lies in.
pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    if file.path.ends_with("/tests.rs") {
        return;
    }
    let first = file.lines.iter().find(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("#!")
    });
    if first.is_none_or(|line| !line.starts_with("//!")) {
        findings.push(Finding {
            path: file.path.clone(),
            line: 1,
            rule: "module-docs",
            text: "begin with `//!`: what is this module responsible for?".to_string(),
        });
    }
}
