//! A value and where it stands.

use crate::source::Place;

/// A value read from a text.
#[derive(Debug, Clone)]
pub(crate) struct Found<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it stands.
    pub(crate) place: Place,
}

impl<T> Found<T> {
    /// The same place, another value.
    pub(crate) fn with<U>(&self, value: U) -> Found<U> {
        Found { value, place: self.place.clone() }
    }
}

/// The values alone.
pub(crate) fn values<T: Clone>(found: &[Found<T>]) -> Vec<T> {
    found.iter().map(|f| f.value.clone()).collect()
}
