//! The launcher's readers, for fuzz targets.

use super::{epochs, talk};

/// The lines of a program, where all of them are understood.
pub(crate) fn program_lines(bytes: &[u8]) -> Option<usize> {
    let mut lines = Vec::new();
    let mut buffer = bytes.to_vec();
    talk::take_lines(&mut buffer, &mut lines).then_some(lines.len())
}

/// The resources of a book of epochs and of a guard's statements.
pub(crate) fn epochs(book: &str, statements: &str) -> usize {
    epochs::known(book, statements).len()
}
