//! A timeline's history: which timelines led to it, and where each was left.

use crate::postgres::{Lsn, Timeline};

/// Timelines of one history.
const STEPS_MAX: usize = 100_000;

/// A timeline, and where the next one left it; nothing for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub timeline: Timeline,
    /// Where the next one begins.
    pub until: Option<Lsn>,
}

/// The way from the first timeline to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Its steps, the timeline itself last.
    pub steps: Vec<Step>,
}

impl History {
    /// A timeline that was never left for another.
    pub fn of_one(timeline: Timeline) -> History {
        History { steps: vec![Step { timeline, until: None }] }
    }

    /// Reads the file that a server writes: a timeline, where it was left, and why, on a line.
    pub fn parse(timeline: Timeline, text: &str) -> Option<History> {
        let mut steps: Vec<Step> = Vec::new();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let mut words = line.split_whitespace();
            let left = words.next()?.parse().ok()?;
            let until = Lsn::parse(words.next()?)?;
            let ascends = steps.last().is_none_or(|s| s.timeline < left && s.until <= Some(until));
            if !ascends || left >= timeline || steps.len() >= STEPS_MAX {
                return None;
            }
            steps.push(Step { timeline: left, until: Some(until) });
        }
        steps.push(Step { timeline, until: None });
        Some(History { steps })
    }

    /// The steps from a position on a timeline; nothing where this history does not lead there.
    pub fn from(&self, timeline: Timeline, at: Lsn) -> Option<&[Step]> {
        let number = self.steps.iter().position(|s| s.timeline == timeline)?;
        let on_way = self.steps[number].until.is_none_or(|until| at <= until);
        on_way.then(|| &self.steps[number..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_leads_from_any_position_on_its_way() {
        let text = "1\t0/3000000\tno recovery target specified\n\n2\t0/5000100\tbefore\n";
        let history = History::parse(4, text).unwrap();
        assert_eq!(history.steps.len(), 3);
        assert_eq!(history.from(1, Lsn(0x200_0000)).unwrap().len(), 3);
        assert_eq!(history.from(4, Lsn(0x900_0000)).unwrap().len(), 1);
        assert_eq!(history.from(1, Lsn(0x300_0001)), None);
        assert_eq!(history.from(3, Lsn(0)), None);
        for bad in ["2\t0/3\n1\t0/4\n", "4\t0/3\n", "x\n", "1\n"] {
            assert_eq!(History::parse(4, bad), None, "{bad}");
        }
    }
}
