//! A configuration text with its name, and places in it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// One text: `cluster.toml`, a snippet, or what an operator sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// What the operator calls it: the path as it was given.
    pub name: String,
    /// Its whole text.
    pub text: String,
    /// Which of the texts it is, in reading order: diagnostics are sorted by it.
    pub order: usize,
}

impl Source {
    /// Wraps a text.
    #[must_use]
    pub fn new(name: &str, text: &str, order: usize) -> Arc<Source> {
        Arc::new(Source { name: name.to_string(), text: text.to_string(), order })
    }

    /// Line and column of a byte offset, both counted from 1, the column in characters. An
    /// offset beyond the text is its end.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Position {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// A line and a column, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// A stretch of one source.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The text.
    pub source: Arc<Source>,
    /// Bytes of it, always on character boundaries and inside the text.
    pub span: Range<usize>,
}

impl Place {
    /// A place in a source. A span that is not inside the text is cut to it.
    #[must_use]
    pub fn new(source: &Arc<Source>, span: Range<usize>) -> Place {
        let text = &source.text;
        let boundary = |mut at: usize| {
            at = at.min(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = boundary(span.start);
        let end = boundary(span.end).max(start);
        Place { source: Arc::clone(source), span: start..end }
    }

    /// The same place, cut at the end of its first line.
    #[must_use]
    pub fn first_line(&self) -> Place {
        let text = &self.source.text[self.span.clone()];
        let length = text.find('\n').unwrap_or(text.len());
        Place::new(&self.source, self.span.start..self.span.start + length)
    }

    /// Where it begins.
    #[must_use]
    pub fn position(&self) -> Position {
        self.source.position(self.span.start)
    }

    /// How many bytes long the longest line it touches is.
    #[must_use]
    pub fn line_length(&self) -> usize {
        let text = &self.source.text;
        let start = text[..self.span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[self.span.end..].find('\n').map_or(text.len(), |at| self.span.end + at);
        text[start..end].lines().map(str::len).max().unwrap_or(0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position();
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}+{}", self.span.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_offsets_never_split_one() {
        let source = Source::new("x", "a = 1\nné = 2\n", 0);
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(10), Position { line: 2, column: 4 });
        assert_eq!(source.position(8), Position { line: 2, column: 2 }, "inside é");
        assert_eq!(source.position(999), Position { line: 3, column: 1 });
        let place = Place::new(&source, 6..999);
        assert_eq!(place.first_line().span, 6..13);
        assert_eq!(place.to_string(), "x:2:1");
    }
}
