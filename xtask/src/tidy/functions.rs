//! A function fits on a screen.

use super::Finding;
use super::scan::File;

/// Most lines of a function, signature and closing brace included.
const LINES_MAX: usize = 70;

/// Finds longer ones.
pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    for (line, code) in file.code.iter().enumerate() {
        let Some(column) = function(code) else { continue };
        let Some(end) = file.block_end(line, column) else { continue };
        let length = end - line + 1;
        if length > LINES_MAX {
            findings.push(Finding {
                path: file.path.clone(),
                line: line + 1,
                rule: "function-length",
                text: format!("a function of {length} lines; {LINES_MAX} is the most"),
            });
        }
    }
}

/// The column, in characters, after `fn` where a function is defined: a name follows it.
fn function(code: &str) -> Option<usize> {
    let chars: Vec<char> = code.chars().collect();
    let word = |at: usize| chars.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_');
    (0..chars.len()).find_map(|at| {
        let here = chars[at..].starts_with(&['f', 'n', ' ']) && word(at + 3);
        let starts = at.checked_sub(1).is_none_or(|before| !word(before));
        (here && starts).then_some(at + 2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_functions_and_types_are_not() {
        assert_eq!(function("pub(crate) const fn name() {"), Some(19));
        assert_eq!(function("    run: fn(u8) -> u8,"), None);
        assert_eq!(function("impl Fn for often nothing"), None);
        assert_eq!(function("dfn x"), None);
    }
}
