//! Where in a database's history a backup is. It is the signed `position` of the backup's
//! statement, as words that people can read.

use super::{Lsn, Timeline};

/// No server gets here: one that writes a gigabyte a second would take 292 years. Below it, sums
/// of a position and a length don't overflow.
const LSN_END: Lsn = Lsn(1 << 63);

/// A backup's place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The server's version, as it numbers itself: 150018 is 15.18.
    pub version: u32,
    /// The database system's identity.
    pub system: u64,
    /// The timeline on which the backup was made.
    pub timeline: Timeline,
    /// Where replay begins.
    pub start: Lsn,
    /// Where replay must reach before the database is consistent.
    pub stop: Lsn,
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
    /// Every transaction from this one on commits after `stop`.
    pub next_xid: u64,
}

impl Position {
    /// The words.
    pub fn encode(&self) -> String {
        format!(
            "postgresql {} system {} timeline {} start {} stop {} segment {} xid {}",
            self.version,
            self.system,
            self.timeline,
            self.start,
            self.stop,
            self.segment_bytes,
            self.next_xid,
        )
    }

    /// Reads the words; nothing where they are others.
    pub fn parse(text: &str) -> Option<Position> {
        let words: Vec<&str> = text.split(' ').collect();
        let keys = ["postgresql", "system", "timeline", "start", "stop", "segment", "xid"];
        if words.len() != keys.len() * 2
            || !keys.iter().zip(words.iter().step_by(2)).all(|(a, b)| a == b)
        {
            return None;
        }
        let position = Position {
            version: words[1].parse().ok()?,
            system: words[3].parse().ok()?,
            timeline: words[5].parse().ok()?,
            start: Lsn::parse(words[7])?,
            stop: Lsn::parse(words[9])?,
            segment_bytes: words[11].parse().ok()?,
            next_xid: words[13].parse().ok()?,
        };
        let possible = super::lsn::is_segment_size(position.segment_bytes)
            && position.timeline > 0
            && position.start <= position.stop
            && position.stop < LSN_END;
        possible.then_some(position)
    }
}

/// What a backup's label says: the timeline and where replay begins.
pub fn parse_label(label: &str) -> Option<(Timeline, Lsn)> {
    let after = |key: &str| label.lines().find_map(|line| line.strip_prefix(key));
    let start = after("START WAL LOCATION: ")?.split(' ').next()?;
    Some((after("START TIMELINE: ")?.trim().parse().ok()?, Lsn::parse(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_back_and_no_others() {
        let position = Position {
            version: 150_018,
            system: 7_400_000_000_000_000_001,
            timeline: 2,
            start: Lsn(0x200_0028),
            stop: Lsn(0x200_0138),
            segment_bytes: 16 << 20,
            next_xid: 742,
        };
        assert_eq!(Position::parse(&position.encode()), Some(position.clone()));
        for text in ["", "postgresql 150018", &position.encode().replace("stop 0/2", "stop 0/1")] {
            assert_eq!(Position::parse(text), None, "{text}");
        }
        assert_eq!(Position::parse(&position.encode().replace("16777216", "0")), None);
        let beyond = position.encode().replace("stop 0/2000138", "stop FFFFFFFF/FFFFFFFF");
        assert_eq!(Position::parse(&beyond), None);
    }

    #[test]
    fn a_label_says_where_replay_begins() {
        let label = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n\
                     CHECKPOINT LOCATION: 0/2000060\nBACKUP METHOD: streamed\n\
                     START TIMELINE: 3\n";
        assert_eq!(parse_label(label), Some((3, Lsn(0x200_0028))));
        assert_eq!(parse_label("START TIMELINE: 3\n"), None);
    }
}
