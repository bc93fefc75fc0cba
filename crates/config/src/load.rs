//! Reads `cluster.toml` and its snippets, checks them as one, and gives the merged text.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::ClusterSpec;

use crate::code::Code;
use crate::diagnostic::{self, Diagnostic};
use crate::read::{self, Draft};
use crate::sink::{Places, Sink};
use crate::source::Source;
use crate::{print, risk, rules};

/// Largest text, of one file and of all together, in bytes.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
/// Most snippets in an included directory.
pub const SNIPPETS_MAX: usize = 512;

/// What a text was found to be.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The specification, where there is no error.
    pub spec: Option<ClusterSpec>,
    /// Errors, warnings and notes: errors first, each in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// Where each value stands.
    pub places: Places,
}

/// What a file and its snippets were found to be.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The specification, where there is no error.
    pub spec: Option<ClusterSpec>,
    /// The specification as one TOML text that needs no other file and leaves nothing to a
    /// default: what `apply` commits. Empty where there is an error.
    pub text: String,
    /// Errors, warnings and notes: errors first, each in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// Where each value stands.
    pub places: Places,
}

/// Reads one self-contained text; `name` is what diagnostics call it. It never panics, whatever
/// the text is. An `include` is an error here: only [`load`] knows of files.
#[must_use]
pub fn parse(text: &str, name: &str) -> Parsed {
    let sink = Sink::default();
    let mut draft = Draft::default();
    if small_enough(text.len(), name, &sink) {
        read::main_file(&Source::new(name, text, 0), &mut draft, &sink);
    }
    if let Some(include) = &draft.include {
        sink.report(
            Diagnostic::new(
                Code::Include,
                "this text must be complete: there are no files to include from here",
                "give the file to `backstay apply` or `check`, which merge its snippets",
            )
            .at(&include.place, "a directory"),
        );
    }
    finish(draft, sink)
}

/// Reads a file with its snippets.
#[must_use]
pub fn load(path: &Path) -> Loaded {
    let sink = Sink::default();
    let mut draft = Draft::default();
    let mut total = 0;
    if let Some(source) = read_file(path, 0, &mut total, &sink) {
        read::main_file(&source, &mut draft, &sink);
    }
    for (index, snippet) in snippets(path, &draft, &sink).iter().enumerate() {
        if let Some(source) = read_file(snippet, index + 1, &mut total, &sink) {
            read::snippet(&source, &mut draft, &sink);
        }
    }
    let Parsed { spec, diagnostics, places } = finish(draft, sink);
    let text = spec.as_ref().map(print::to_toml).unwrap_or_default();
    Loaded { spec, text, diagnostics, places }
}

fn finish(draft: Draft, sink: Sink) -> Parsed {
    let mut spec = match sink.unread() {
        true => None,
        false => rules::assemble(draft, &sink).filter(|_| !sink.failed()),
    };
    let (mut diagnostics, places) = sink.into_parts();
    if let Some(found) = &spec {
        diagnostics.extend(risk::check(found, &places));
    }
    if diagnostics.iter().any(Diagnostic::is_error) {
        spec = None;
    }
    diagnostic::sort(&mut diagnostics);
    Parsed { spec, diagnostics, places }
}

fn small_enough(bytes: usize, name: &str, sink: &Sink) -> bool {
    if bytes > TEXT_BYTES_MAX {
        sink.set_unread();
        sink.report(Diagnostic::new(
            Code::TooLarge,
            format!("{name} and what was read before it is larger than {TEXT_BYTES_MAX} bytes"),
            "a configuration of this size is most likely another file; name the right one",
        ));
    }
    bytes <= TEXT_BYTES_MAX
}

/// Reads a file, but never more than the limit.
fn read_file(path: &Path, order: usize, total: &mut usize, sink: &Sink) -> Option<Arc<Source>> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let limit = TEXT_BYTES_MAX as u64 + 1;
    if let Err(error) = fs::File::open(path).and_then(|f| f.take(limit).read_to_end(&mut bytes)) {
        sink.set_unread();
        sink.report(Diagnostic::new(
            Code::CannotRead,
            format!("can't read {name}: {error}"),
            "check the path and who may read it",
        ));
        return None;
    }
    *total += bytes.len();
    if !small_enough(*total, &name, sink) {
        return None;
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Some(Source::new(&name, text, order)),
        Err(error) => {
            sink.set_unread();
            let line = bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
            sink.report(Diagnostic::new(
                Code::NotText,
                format!("{name} is not UTF-8 text: line {line} has a byte that can't be read"),
                "save it as UTF-8; if it is a binary, name the right file",
            ));
            None
        }
    }
}

/// The snippets that the draft includes, in the order of their names.
fn snippets(main: &Path, draft: &Draft, sink: &Sink) -> Vec<PathBuf> {
    let Some(include) = &draft.include else { return Vec::new() };
    let directory = main.parent().unwrap_or(Path::new("")).join(&include.value);
    let report = |message: String, help: &str| {
        sink.set_unread();
        sink.report(
            Diagnostic::new(Code::Include, message, help).at(&include.place, "this directory"),
        );
    };
    let listed: Result<Vec<PathBuf>, std::io::Error> = fs::read_dir(&directory)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
    let mut paths = match listed {
        Ok(paths) => paths,
        Err(error) => {
            let help = "make the directory, or remove `include`; it is relative to this file";
            report(format!("can't list {}: {error}", directory.display()), help);
            return Vec::new();
        }
    };
    let hidden =
        |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    paths.retain(|path| path.extension().is_some_and(|e| e == "toml") && !hidden(path));
    paths.sort();
    if paths.len() > SNIPPETS_MAX {
        let message = format!("{} snippets; {SNIPPETS_MAX} is the most", paths.len());
        report(message, "merge some of them");
        paths.truncate(SNIPPETS_MAX);
    }
    paths
}
