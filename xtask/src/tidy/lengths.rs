//! Lines and files fit on a screen and in a head.

use super::Finding;
use super::scan::File;

/// Most characters of a line.
const COLUMNS_MAX: usize = 100;
/// Most lines of a file, its tests not counted.
const LINES_MAX: usize = 500;

/// Finds longer ones. An address alone on its line can't be broken.
pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    let mut add = |line: usize, rule, text| {
        findings.push(Finding { path: file.path.clone(), line, rule, text });
    };
    for (index, line) in file.lines.iter().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX && !is_address(line) {
            add(
                index + 1,
                "line-length",
                format!("a line of {columns} characters; {COLUMNS_MAX} is the most"),
            );
        }
    }
    let counted = file.test.iter().filter(|test| !**test).count();
    if counted > LINES_MAX {
        add(
            file.lines.len(),
            "file-length",
            format!("a file of {counted} lines without its tests; {LINES_MAX} is the most"),
        );
    }
}

fn is_address(line: &str) -> bool {
    let bare = line.trim_start_matches(['/', '!', ' ', '*']);
    (bare.starts_with("http://") || bare.starts_with("https://")) && !bare.contains(' ')
}
