//! One error or warning: what is wrong, where, why it matters and what to do.

use std::fmt;

use serde::Serialize;

use crate::code::{Code, Severity};
use crate::source::Place;

/// Most diagnostics that one look at a configuration gives.
pub const DIAGNOSTICS_MAX: usize = 200;
/// A line longer than this is not shown; the place is named instead.
const LINE_SHOWN_MAX: usize = 400;

/// One error or warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What it is about.
    pub code: Code,
    /// What is wrong, and why it matters.
    pub message: String,
    /// What to do.
    pub help: String,
    /// Where, if it is about a place in a text.
    pub place: Option<Place>,
    /// What is written below the underlined text.
    pub label: String,
    /// A second place in the same text that has to do with it, and what is written there.
    pub related: Option<(Place, String)>,
}

impl Diagnostic {
    /// A diagnostic that is not about a place yet.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code,
            message: message.into(),
            help: help.into(),
            place: None,
            label: String::new(),
            related: None,
        }
    }

    /// Says where, and what to write below the underlined text.
    #[must_use]
    pub fn at(mut self, place: &Place, label: impl Into<String>) -> Diagnostic {
        self.place = Some(place.first_line());
        self.label = label.into();
        self
    }

    /// Says where, if it is known.
    #[must_use]
    pub fn at_known(self, place: Option<&Place>, label: impl Into<String>) -> Diagnostic {
        match place {
            Some(place) => self.at(place, label),
            None => self,
        }
    }

    /// Names a second place. One in another file is named in the help instead of shown.
    #[must_use]
    pub fn and(mut self, place: &Place, label: &str) -> Diagnostic {
        match &self.place {
            Some(first) if first.source == place.source => {
                self.related = Some((place.first_line(), label.to_string()));
            }
            _ => self.help = format!("{label}: {place}\n{}", self.help),
        }
        self
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// Whether it refuses the configuration.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity() == Severity::Error
    }

    /// What `--json` prints of it.
    #[must_use]
    pub fn to_json(&self) -> DiagnosticJson {
        let position = self.place.as_ref().map(Place::position);
        DiagnosticJson {
            code: self.code.as_str(),
            severity: self.severity().as_str(),
            file: self.place.as_ref().map(|p| p.source.name.clone()),
            line: position.map(|p| p.line),
            column: position.map(|p| p.column),
            message: self.message.clone(),
            help: self.help.clone(),
        }
    }

    fn shown(&self) -> Option<&Place> {
        self.place.as_ref().filter(|p| p.line_length() <= LINE_SHOWN_MAX)
    }
}

/// The stable `--json` form of a diagnostic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiagnosticJson {
    /// The code.
    pub code: &'static str,
    /// `error`, `warning` or `note`.
    pub severity: &'static str,
    /// The file, as it was named.
    pub file: Option<String>,
    /// Line, from 1.
    pub line: Option<usize>,
    /// Column, from 1, in characters.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// Puts errors before warnings before notes, each in the order of the text, drops repetitions,
/// and cuts the list at [`DIAGNOSTICS_MAX`] with a last one that says how many were left out.
pub(crate) fn sort(diagnostics: &mut Vec<Diagnostic>) {
    let key = |d: &Diagnostic| {
        let place = d.place.as_ref().map_or((usize::MAX, 0), |p| (p.source.order, p.span.start));
        (d.severity(), place, d.code)
    };
    diagnostics.sort_by_key(key);
    diagnostics.dedup();
    if diagnostics.len() > DIAGNOSTICS_MAX {
        let left_out = diagnostics.len() - DIAGNOSTICS_MAX;
        diagnostics.truncate(DIAGNOSTICS_MAX);
        diagnostics.push(Diagnostic::new(
            Code::More,
            format!("{left_out} more are not shown"),
            "mend those above and check again",
        ));
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) if self.shown().is_none() => write!(f, "{place}: {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(format!("{}[{}]", self.severity().as_str(), self.code)))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity() {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
            Severity::Note => miette::Severity::Advice,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.help))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.shown().map(|_| self as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let place = self.shown()?;
        let mark = |place: &Place, label: &str| {
            let label = (!label.is_empty()).then(|| label.to_string());
            (label, place.span.start, place.span.len())
        };
        let (label, start, length) = mark(place, &self.label);
        let first = miette::LabeledSpan::new_primary_with_span(label, (start, length));
        let second = self.related.iter().map(move |(place, label)| {
            let (label, start, length) = mark(place, label);
            miette::LabeledSpan::new(label, start, length)
        });
        Some(Box::new(std::iter::once(first).chain(second)))
    }
}

impl miette::SourceCode for Diagnostic {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let place = self.shown().ok_or(miette::MietteError::OutOfBounds)?;
        let inner = place.source.text.as_str().read_span(span, before, after)?;
        Ok(Box::new(miette::MietteSpanContents::new_named(
            place.source.name.clone(),
            inner.data(),
            *inner.span(),
            inner.line(),
            inner.column(),
            inner.line_count(),
        )))
    }
}
