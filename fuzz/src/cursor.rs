//! Takes an input apart: numbers and pieces from its front, so that one input can be several
//! files, or a choice and a text.

/// What is left of an input.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next byte; 0 at the end.
    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next bytes, filled up with zeros at the end.
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let piece = self.take(N);
        bytes[..piece.len()].copy_from_slice(piece);
        bytes
    }

    /// The next little-endian number.
    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// At most so many bytes.
    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        piece
    }

    /// A piece with its length, two bytes, before it.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let length = u16::from_le_bytes(self.array());
        self.take(usize::from(length))
    }

    /// The rest as text, what is none replaced.
    pub(crate) fn text(self) -> String {
        String::from_utf8_lossy(self.0).into_owned()
    }
}

/// A piece as [`Cursor::piece`] takes it.
pub(crate) fn piece(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat()
}
