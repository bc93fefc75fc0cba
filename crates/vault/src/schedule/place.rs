//! Where in a cluster a job runs: where a resource is active, or on a standby of it. What the
//! cluster remembers of it comes with that, so that a node that takes over goes on where the last
//! one was, and makes up what was missed.
//!
//! Of several standbys the first one's turn is now; each later one waits [`TURN_MS`] more, and
//! finds in the log that it was done. So a dead standby costs some minutes, and no backup.

use super::{JobKey, Kind, Plan};
use crate::cluster::View;
use model::vault::RepositoryId;
use model::{NodeName, ResourceName};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// How much later the turn of each further standby comes.
pub const TURN_MS: i64 = 15 * 60_000;

/// Where a job runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Place {
    /// Where this resource is active.
    Active(ResourceName),
    /// On a standby of it.
    Standby(ResourceName),
    /// On a standby of it, or, after all of those, where it is active.
    Either(ResourceName),
}

impl Place {
    /// Reads what an operator wrote.
    ///
    /// # Errors
    /// Saying what can be written.
    pub fn parse(text: &str) -> Result<Place, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let place = match words[..] {
            ["active", "of", name] => ResourceName::new(name).map(Place::Active).ok(),
            ["standby", "of", name] => ResourceName::new(name).map(Place::Standby).ok(),
            ["standby", "or", "active", "of", name] => {
                ResourceName::new(name).map(Place::Either).ok()
            }
            _ => None,
        };
        place.ok_or_else(|| {
            format!(
                "`{text}` is no place; write \"active of NAME\", \"standby of NAME\" or \"standby \
                 or active of NAME\""
            )
        })
    }
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Place, String> {
        Place::parse(&text)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Active(resource) => write!(f, "active of {resource}"),
            Place::Standby(resource) => write!(f, "standby of {resource}"),
            Place::Either(resource) => write!(f, "standby or active of {resource}"),
        }
    }
}

/// What this machine knows of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// This machine's turn at each place that is its own, from 0.
    pub turns: BTreeMap<Place, u32>,
    /// When, by what the cluster remembers, each job was last done by anybody.
    pub done: BTreeMap<JobKey, i64>,
}

impl Seen {
    /// What a view says to this machine. `me` is its node; none where it is none.
    pub fn of(view: &View, plan: &Plan, me: Option<&NodeName>, repository: RepositoryId) -> Seen {
        let mut seen = Seen::default();
        let chain = view.repositories.get(&repository);
        for job in &plan.jobs {
            let Some(place) = &job.only else { continue };
            if let Some(turn) = me.and_then(|me| turn(view, place, me)) {
                seen.turns.insert(place.clone(), turn);
            }
            let source = job.key.source.as_ref();
            let known = chain.zip(source).and_then(|(chain, source)| chain.sources.get(source));
            let done = known.and_then(|known| match job.key.kind {
                Kind::Backup => known.newest.as_ref().map(|newest| newest.begun_ms),
                Kind::Prove => known.proven.as_ref().map(|proven| proven.at_ms),
                _ => None,
            });
            seen.done.extend(done.map(|done_ms| (job.key.clone(), done_ms)));
        }
        seen
    }
}

fn turn(view: &View, place: &Place, me: &NodeName) -> Option<u32> {
    let (Place::Active(resource) | Place::Standby(resource) | Place::Either(resource)) = place;
    let duty = view.duties.iter().find(|duty| duty.resource == *resource)?;
    let is_active = duty.active.as_ref() == Some(me);
    let standby = duty.standbys.iter().position(|node| node == me);
    let turn = match place {
        Place::Active(_) => is_active.then_some(0),
        Place::Standby(_) => standby,
        // Never the first: that nobody stands by may be so for a moment only.
        Place::Either(_) => standby.or(is_active.then_some(duty.standbys.len().max(1))),
    };
    turn.map(|turn| u32::try_from(turn).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::ScheduleFile;
    use super::*;
    use model::vault::Duty;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[test]
    fn places_are_read_and_shown_again() {
        for text in ["active of ledger", "standby of ledger", "standby or active of ledger"] {
            assert_eq!(Place::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "active", "active ledger", "primary of ledger", "active of LEDGER"] {
            assert!(Place::parse(text).unwrap_err().contains("standby of NAME"), "{text}");
        }
    }

    #[test]
    fn each_node_has_its_turn_where_it_has_a_part() {
        let text = "[cluster]\n[[source]]\npath = \"/a\"\nbackup = \"every 1h\"\n\
                    only = \"standby of r\"\n[[source]]\npath = \"/b\"\nbackup = \"every 1h\"\n\
                    only = \"active of r\"\n[[source]]\npath = \"/c\"\n\
                    backup = \"every 1h\"\nonly = \"standby or active of r\"\n";
        let plan = ScheduleFile::parse(text).unwrap().plan();
        let duty = Duty {
            resource: ResourceName::new("r").unwrap(),
            active: Some(node("a")),
            standbys: vec![node("c"), node("b")],
        };
        let view = View { duties: vec![duty], ..View::default() };
        let turns = |me: Option<&str>| {
            let me = me.map(node);
            let seen = Seen::of(&view, &plan, me.as_ref(), RepositoryId([0; 16]));
            let each = seen.turns.iter().map(|(place, turn)| format!("{place}: {turn}"));
            each.collect::<Vec<_>>()
        };
        assert_eq!(turns(Some("a")), ["active of r: 0", "standby or active of r: 2"]);
        assert_eq!(turns(Some("c")), ["standby of r: 0", "standby or active of r: 0"]);
        assert_eq!(turns(Some("b")), ["standby of r: 1", "standby or active of r: 1"]);
        assert_eq!(turns(Some("d")), [""; 0]);
        assert_eq!(turns(None), [""; 0]);
    }
}
