//! Reads Rust just far enough to tell code from comments and strings, and tests from the rest.
//! It is no parser: it follows quotes, comments and braces.

/// A text, line by line.
#[derive(Debug)]
pub(crate) struct File {
    /// From the root.
    pub(crate) path: String,
    /// As it is.
    pub(crate) lines: Vec<String>,
    /// The same lines with spaces for comments, and for what stands in quotes.
    pub(crate) code: Vec<String>,
    /// Whether each line belongs to a test module.
    pub(crate) test: Vec<bool>,
}

impl File {
    /// Reads a text. Only Rust has code; of other texts all lines are plain.
    pub(crate) fn new(path: &str, text: &str) -> File {
        let rust = path.ends_with(".rs");
        let lines: Vec<String> = text.lines().map(String::from).collect();
        let mut code: Vec<String> = match rust {
            true => blank(text).lines().map(String::from).collect(),
            false => lines.clone(),
        };
        code.resize(lines.len(), String::new());
        let mut test = vec![rust && is_test_file(path); lines.len()];
        for (first, last) in test_modules(&code) {
            test[first..=last].fill(true);
        }
        File { path: path.to_string(), lines, code, test }
    }

    /// The line on which the brace closes that opens at or after a place; `None` where it does
    /// not, or a `;` ends the item first.
    pub(crate) fn block_end(&self, line: usize, column: usize) -> Option<usize> {
        block_end(&self.code, line, column)
    }
}

fn is_test_file(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    parts.contains(&"tests") || parts.contains(&"benches") || path.ends_with("/tests.rs")
}

/// Lines of `#[cfg(test)] mod …` blocks, first and last.
fn test_modules(code: &[String]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (line, text) in code.iter().enumerate() {
        if text.trim_start().starts_with("#[cfg(test)]") {
            let column = text.find(']').map_or(0, |at| at + 1);
            found.extend(block_end(code, line, column).map(|end| (line, end)));
        }
    }
    found
}

fn block_end(code: &[String], line: usize, column: usize) -> Option<usize> {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (index, text) in code.iter().enumerate().skip(line) {
        let skip = if index == line { column } else { 0 };
        for c in text.chars().skip(skip) {
            match c {
                '(' | '[' => others += 1,
                ')' | ']' => others = others.saturating_sub(1),
                '{' => braces += 1,
                '}' if braces <= 1 => return (braces == 1).then_some(index),
                '}' => braces -= 1,
                ';' if braces == 0 && others == 0 => return None,
                _ => {}
            }
        }
    }
    None
}

/// The text with spaces instead of comments, strings and characters, line for line.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out
}

/// Where the comment, string or character ends that begins here; here where none does.
fn skipped(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied().unwrap_or_default();
    match chars[at] {
        '/' if next == '/' => position(chars, at, |c| c == '\n'),
        '/' if next == '*' => comment_end(chars, at),
        '"' => string_end(chars, at),
        'r' if !follows_word(chars, at) => raw_string_end(chars, at),
        '\'' => character_end(chars, at, next),
        _ => at,
    }
}

fn position(chars: &[char], from: usize, is: impl Fn(char) -> bool) -> usize {
    chars[from..].iter().position(|c| is(*c)).map_or(chars.len(), |offset| from + offset)
}

/// A letter before makes this the end of a word; `br"…"` is a raw string all the same.
fn follows_word(chars: &[char], at: usize) -> bool {
    let word = |at: usize| chars.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_');
    let before = at.checked_sub(1);
    let byte = before.is_some_and(|b| chars[b] == 'b' && !b.checked_sub(1).is_some_and(word));
    before.is_some_and(word) && !byte
}

fn comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], at: usize) -> usize {
    let quote = position(chars, at + 1, |c| c != '#');
    if chars.get(quote) != Some(&'"') {
        return at;
    }
    let hashes = quote - at - 1;
    let mut end = quote + 1;
    loop {
        end = position(chars, end, |c| c == '"');
        if end == chars.len() {
            return end;
        }
        end += 1;
        let closing = chars[end..].iter().take_while(|c| **c == '#').count();
        if closing >= hashes {
            return end + hashes;
        }
    }
}

/// `'a'` and `'\n'` are characters, `'a` is a lifetime.
fn character_end(chars: &[char], at: usize, next: char) -> usize {
    if next == '\\' {
        return (position(chars, at + 3, |c| c == '\'') + 1).min(chars.len());
    }
    if chars.get(at + 2) == Some(&'\'') { at + 3 } else { at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_quotes_are_blanked_and_nothing_else() {
        for (text, expect) in [
            ("a // b { }\nc", "a c"),
            ("a /* { /* } */ \n } */ b", "a b"),
            (r#"f("{ \" }") + g"#, "f( ) + g"),
            ("r#\"{ \" }\"# + a", "+ a"),
            ("br\"{\\\" + a", "b + a"),
            ("bar\"{\"", "bar"),
            ("'{' + '\\'' + '\\u{7b}' + a", "+ + + a"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("a \"never closed {", "a"),
            ("r#type + 'é'", "r#type +"),
            ("a /* never closed {", "a"),
        ] {
            let found = blank(text);
            let words: Vec<&str> = found.split_whitespace().collect();
            assert_eq!(words.join(" "), expect, "{text}");
            assert_eq!(found.chars().count(), text.chars().count(), "{text}");
            assert_eq!(found.lines().count(), text.lines().count(), "{text}");
        }
    }

    #[test]
    fn test_modules_are_found_with_their_end() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        assert_eq!(File::new("a.rs", text).test, [false, true, true, true, true, false]);
        let other = "#[cfg(test)]\nmod tests;\nfn a() {}\n";
        assert_eq!(File::new("a.rs", other).test, [false, false, false]);
    }
}
