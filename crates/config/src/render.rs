//! Diagnostics as an operator sees them: text for a terminal, or JSON for a program.

use miette::{GraphicalReportHandler, GraphicalTheme, ThemeCharacters, ThemeStyles};

use crate::code::Severity;
use crate::diagnostic::{Diagnostic, DiagnosticJson};

/// Width that help and messages are wrapped to.
const WIDTH: usize = 96;

/// All diagnostics for a terminal, each with its line of the file, and a last line that counts
/// them. Without diagnostics the text is empty.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], colour: bool) -> String {
    // The terminal's own sixteen colours: they fit its background, whatever that is.
    let styles = if colour { ThemeStyles::ansi() } else { ThemeStyles::none() };
    let theme = GraphicalTheme { characters: ThemeCharacters::unicode(), styles };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_links(false)
        .with_width(WIDTH)
        .with_break_words(false)
        .with_context_lines(1)
        .without_syntax_highlighting();
    let mut out = String::new();
    for diagnostic in diagnostics {
        let mut one = String::new();
        if handler.render_report(&mut one, diagnostic).is_err() {
            one = format!("{diagnostic}\n  help: {}\n", diagnostic.help);
        }
        // The renderer leaves the line below the code empty, which tears the two apart.
        let lines = one.trim_end().lines().enumerate();
        for (_, line) in lines.filter(|(index, line)| *index != 1 || !line.trim().is_empty()) {
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out.push('\n');
    }
    if !diagnostics.is_empty() {
        out.push_str(&summary(diagnostics));
        out.push('\n');
    }
    out
}

/// `2 errors, 1 warning`.
#[must_use]
pub fn summary(diagnostics: &[Diagnostic]) -> String {
    let parts: Vec<String> = [Severity::Error, Severity::Warning, Severity::Note]
        .into_iter()
        .filter_map(|severity| {
            let count = diagnostics.iter().filter(|d| d.severity() == severity).count();
            let plural = if count == 1 { "" } else { "s" };
            (count > 0).then(|| format!("{count} {}{plural}", severity.as_str()))
        })
        .collect();
    if parts.is_empty() { "no errors, no warnings".to_string() } else { parts.join(", ") }
}

/// All diagnostics as data for `--json`.
#[must_use]
pub fn to_json(diagnostics: &[Diagnostic]) -> Vec<DiagnosticJson> {
    diagnostics.iter().map(Diagnostic::to_json).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_there_is_no_escape_and_with_it_the_text_is_the_same() {
        let found = crate::parse("[cluster]\nname = 5\n", "cluster.toml").diagnostics;
        let (plain, coloured) = (render(&found, false), render(&found, true));
        assert!(!plain.contains('\x1b') && coloured.contains("\x1b[31m"), "{coloured:?}");
        let mut stripped = String::new();
        for piece in coloured.split('\x1b') {
            let text = match piece.strip_prefix('[') {
                Some(rest) => rest.split_once('m').map_or("", |(_, text)| text),
                None => piece,
            };
            stripped.push_str(text);
        }
        let trimmed: Vec<&str> = stripped.lines().map(str::trim_end).collect();
        assert_eq!(trimmed, plain.lines().collect::<Vec<_>>());
    }
}
