//! Stretches of a file, in bytes.

/// Stretches of a file that ascend and do not touch each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stretches(Vec<(u64, u64)>);

impl Stretches {
    /// Those of blocks of this length, given by their numbers in order.
    pub fn of_blocks(numbers: &[u32], block_bytes: u64) -> Stretches {
        let mut all = Stretches::default();
        for number in numbers {
            let from = u64::from(*number) * block_bytes;
            all.push(from, from + block_bytes);
        }
        all
    }

    /// Adds one behind the others; one that begins where the last ends lengthens it.
    ///
    /// # Panics
    /// Where it begins before the last ends, or ends before it begins.
    pub fn push(&mut self, from: u64, end: u64) {
        assert!(from <= end, "a stretch ends where it begins or later");
        match self.0.last_mut() {
            Some((_, last)) if *last == from => *last = end,
            Some((_, last)) if *last > from => panic!("stretches ascend"),
            _ if from == end => {}
            _ => self.0.push((from, end)),
        }
    }

    /// Whether any of them has a byte from `from` to before `end`.
    pub fn touches(&self, from: u64, end: u64) -> bool {
        let next = self.0.partition_point(|(_, last)| *last <= from);
        self.0.get(next).is_some_and(|(first, _)| *first < end)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes are in them.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(from, end)| end - from).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_touched_by_its_first_and_by_its_last_byte() {
        let mut all = Stretches::default();
        all.push(10, 20);
        all.push(20, 25);
        all.push(25, 25);
        all.push(40, 41);
        assert_eq!((all.len(), all.bytes()), (2, 16));
        let cases =
            [(0, 10, false), (0, 11, true), (24, 30, true), (25, 40, false), (40, 50, true)];
        for (from, end, expect) in cases {
            assert_eq!(all.touches(from, end), expect, "{from}..{end}");
        }
        assert!(!all.touches(41, u64::MAX));
    }

    #[test]
    fn neighbouring_blocks_are_one_stretch() {
        let all = Stretches::of_blocks(&[0, 1, 5], 8192);
        assert_eq!((all.len(), all.bytes()), (2, 3 * 8192));
        assert!(all.touches(8192, 16_384) && !all.touches(16_384, 40_960));
        assert!(Stretches::of_blocks(&[], 8192).is_empty());
    }
}
