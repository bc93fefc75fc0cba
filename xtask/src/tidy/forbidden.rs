//! Words that mean something on one machine only.

use super::Finding;
use super::scan::File;

/// Beginnings of paths and names of one workplace; taken apart here, so that this file does not
/// find itself.
const WORDS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("arti", "factory"),
    concat!("sub", "agent"),
];

/// Finds them in any text.
pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    for (index, line) in file.lines.iter().enumerate() {
        let lower = line.to_lowercase();
        if let Some(word) = WORDS.iter().find(|word| stands(&lower, word)) {
            findings.push(Finding {
                path: file.path.clone(),
                line: index + 1,
                rule: "forbidden-word",
                text: format!("{word:?} means something on one machine only"),
            });
        }
    }
}

/// A path begins there: no longer path and no address contains it.
fn stands(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !word.starts_with('/')
            || !before.is_some_and(|c| c.is_alphanumeric() || "-_./}".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_are_found_and_parts_of_others_are_not() {
        let word = WORDS[0];
        assert!(stands(&format!("see {word}x"), word) && stands(word, word));
        assert!(!stands(&format!("target{word}x"), word));
    }
}
