//! `unsafe` lives in one module of one crate.

use super::Finding;
use super::scan::File;
use super::unfinished::has_word;

/// That module.
const HOME: &str = "crates/drivers/src/sys/";

/// Finds it elsewhere.
pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    if file.path.starts_with(HOME) {
        return;
    }
    for (index, code) in file.code.iter().enumerate() {
        if has_word(code, "unsafe") {
            findings.push(Finding {
                path: file.path.clone(),
                line: index + 1,
                rule: "unsafe",
                text: format!("`unsafe` belongs in {HOME}"),
            });
        }
    }
}
