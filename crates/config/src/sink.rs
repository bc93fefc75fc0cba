//! Where a look at a configuration puts what it finds: diagnostics, and the places of values.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::diagnostic::{DIAGNOSTICS_MAX, Diagnostic};
use crate::source::Place;

/// Most errors, and most warnings, kept while looking; the rest is cut when they are sorted.
const KEPT_MAX: usize = DIAGNOSTICS_MAX * 8;

/// Where the value of every key stands: `cluster.profile`, `node.a.links`,
/// `resource.gateway.rto_ms`. A table's own name (`node.a`) is the place of its `name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<String, Place>);

impl Places {
    /// The place of the first of these paths that has one.
    #[must_use]
    pub fn first(&self, paths: &[&str]) -> Option<&Place> {
        paths.iter().find_map(|path| self.0.get(*path))
    }

    /// The place of a key of a node, or of the node's name.
    #[must_use]
    pub fn node(&self, node: &str, key: &str) -> Option<&Place> {
        self.first(&[&format!("node.{node}.{key}"), &format!("node.{node}")])
    }

    /// The place of a key of a resource, or of the resource's name.
    #[must_use]
    pub fn resource(&self, resource: &str, key: &str) -> Option<&Place> {
        self.first(&[&format!("resource.{resource}.{key}"), &format!("resource.{resource}")])
    }

    /// Whether the text says anything there.
    #[must_use]
    pub fn says(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
}

/// Collects while a configuration is read.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    diagnostics: RefCell<Vec<Diagnostic>>,
    errors: Cell<usize>,
    warnings: Cell<usize>,
    unread: Cell<bool>,
    places: RefCell<Places>,
}

impl Sink {
    /// Adds a diagnostic.
    pub(crate) fn report(&self, diagnostic: Diagnostic) {
        let seen = if diagnostic.is_error() { &self.errors } else { &self.warnings };
        seen.set(seen.get() + 1);
        if seen.get() <= KEPT_MAX {
            self.diagnostics.borrow_mut().push(diagnostic);
        }
    }

    /// Whether an error was reported so far.
    pub(crate) fn failed(&self) -> bool {
        self.errors.get() > 0
    }

    /// Says that a text could not be read at all: what the others refer to may be in it.
    pub(crate) fn set_unread(&self) {
        self.unread.set(true);
    }

    /// Whether a text could not be read at all.
    pub(crate) fn unread(&self) -> bool {
        self.unread.get()
    }

    /// Remembers where a value stands.
    pub(crate) fn place(&self, path: String, place: Place) {
        self.places.borrow_mut().0.entry(path).or_insert(place);
    }

    /// What was found.
    pub(crate) fn into_parts(self) -> (Vec<Diagnostic>, Places) {
        (self.diagnostics.into_inner(), self.places.into_inner())
    }
}
