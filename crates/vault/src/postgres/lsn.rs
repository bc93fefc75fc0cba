//! Positions in the write-ahead log, and the names of its segments.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A timeline: one higher after each promotion.
pub type Timeline = u32;

/// A position in the write-ahead log, in bytes from its beginning.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Reads `0/2000028`, as PostgreSQL prints it.
    pub fn parse(text: &str) -> Option<Lsn> {
        let (high, low) = text.trim().split_once('/')?;
        let fits = |part: &str| !part.is_empty() && part.len() <= 8;
        if !fits(high) || !fits(low) {
            return None;
        }
        let part = |text: &str| u64::from_str_radix(text, 16).ok();
        Some(Lsn(part(high)? << 32 | part(low)?))
    }

    /// The beginning of the segment that holds this byte.
    pub fn segment_start(self, segment_bytes: u64) -> Lsn {
        Lsn(self.0 - self.0 % segment_bytes)
    }

    /// The end of the segment that holds the byte before this position.
    pub fn segment_end(self, segment_bytes: u64) -> Lsn {
        Lsn(self.0.div_ceil(segment_bytes) * segment_bytes)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// A segment of the log, as its file is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Its timeline.
    pub timeline: Timeline,
    /// Its first byte.
    pub start: Lsn,
}

impl SegmentName {
    /// Reads 24 hexadecimal digits.
    pub fn parse(name: &str, segment_bytes: u64) -> Option<SegmentName> {
        let plain = name.len() == 24 && name.bytes().all(|b| b.is_ascii_hexdigit());
        if !plain || !is_segment_size(segment_bytes) {
            return None;
        }
        let part = |from: usize| u64::from_str_radix(&name[from..from + 8], 16).ok();
        let per_high = (1u64 << 32) / segment_bytes;
        let low = part(16)?;
        let number = part(8)? * per_high + low;
        let start = Lsn(number.checked_mul(segment_bytes)?);
        (low < per_high).then_some(SegmentName { timeline: part(0)? as Timeline, start })
    }

    /// The file's name.
    pub fn file_name(&self, segment_bytes: u64) -> String {
        let per_high = (1u64 << 32) / segment_bytes;
        let number = self.start.0 / segment_bytes;
        format!("{:08X}{:08X}{:08X}", self.timeline, number / per_high, number % per_high)
    }
}

/// Whether a server can have segments of this size: a power of two, 1 MiB to 1 GiB.
pub(crate) fn is_segment_size(bytes: u64) -> bool {
    bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back_as_postgresql_prints_them() {
        for text in ["0/0", "0/2000028", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(Lsn::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "0", "/", "0/", "x/1", "123456789/0", "-1/0"] {
            assert_eq!(Lsn::parse(text), None, "{text}");
        }
        let mib = 1 << 20;
        assert_eq!(Lsn(mib).segment_start(mib), Lsn(mib));
        assert_eq!(Lsn(mib).segment_end(mib), Lsn(mib));
        assert_eq!(Lsn(mib + 1).segment_end(mib), Lsn(2 * mib));
    }

    #[test]
    fn segment_names_read_back_for_every_size() {
        for (name, size, start) in [
            ("000000010000000000000001", 16 << 20, 16 << 20),
            ("0000000A00000003000000FF", 16 << 20, (3 << 32) + (255 << 20) * 16),
            ("000000010000000200000FFF", 1 << 20, (2 << 32) + (0xfff << 20)),
        ] {
            let parsed = SegmentName::parse(name, size).unwrap();
            assert_eq!((parsed.start, parsed.file_name(size)), (Lsn(start), name.to_owned()));
        }
        for name in
            ["", "00000001000000000000000", "000000010000000000000100", "../../../../../../../../"]
        {
            assert_eq!(SegmentName::parse(name, 16 << 20), None, "{name}");
        }
    }
}
