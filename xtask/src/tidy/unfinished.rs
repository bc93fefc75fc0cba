//! Nothing unfinished is called done.

use super::Finding;
use super::scan::File;

/// What stands in code.
const IN_CODE: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore"];
/// What stands in comments; taken apart here, so that this file does not find itself.
const IN_COMMENTS: &[&str] = &[concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")];

/// Finds what is left to do.
pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    for (index, (line, code)) in file.lines.iter().zip(&file.code).enumerate() {
        let in_code = IN_CODE.iter().find(|word| code.contains(**word));
        let in_comment = IN_COMMENTS.iter().find(|word| has_word(line, word));
        if let Some(word) = in_code.or(in_comment) {
            findings.push(Finding {
                path: file.path.clone(),
                line: index + 1,
                rule: "unfinished",
                text: format!("{word} is unfinished work"),
            });
        }
    }
}

/// Whether a word stands alone in a line.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}
