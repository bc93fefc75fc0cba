//! Generations meet: whoever is of a lower one is told so, and is heard no further.
//!
//! A node that is told goes by the word of a voter or witness alone, as its certificate says:
//! these are trusted with the log too (a crash stops them, they don't lie). Nobody of a lower
//! generation gets past the hello, whatever replica it says it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::frame::Hello;
use crate::identity::{Caller, Role};

/// Called with the number of a higher generation.
pub type OnSuperseded = Arc<dyn Fn(u64) + Send + Sync>;

/// This node's generation, and whom to tell of a higher one.
#[derive(Clone)]
pub struct Generations {
    /// This node's; 0 while it knows none.
    pub mine: Arc<AtomicU64>,
    /// Told of a higher one.
    pub superseded: OnSuperseded,
}

/// How the one who says hello stands to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meeting {
    /// Of one generation, or one of the two knows none yet.
    Equal,
    /// It is of a lower one than this.
    Lower(u64),
    /// It is of a higher one.
    Higher(u64),
}

impl Default for Generations {
    /// Of no generation, for a node that is told of none.
    fn default() -> Self {
        Generations { mine: Arc::default(), superseded: Arc::new(|_| {}) }
    }
}

impl Generations {
    pub(super) fn mine(&self) -> u64 {
        self.mine.load(Ordering::Acquire)
    }

    /// Compares this node with one that says hello.
    pub(super) fn meet(&self, hello: &Hello) -> Meeting {
        let (mine, theirs) = (self.mine(), hello.generation);
        match (mine, theirs) {
            (0, _) | (_, 0) => Meeting::Equal,
            _ if theirs < mine => Meeting::Lower(mine),
            _ if theirs > mine => Meeting::Higher(theirs),
            _ => Meeting::Equal,
        }
    }

    /// Takes the word of a node that a higher generation began. False where its role is not
    /// trusted with that, or it is not higher.
    pub(super) fn told(&self, by: &Caller, generation: u64) -> bool {
        let trusted = matches!(by.role, Role::Voter | Role::Witness) && !by.expired;
        let mine = self.mine();
        let higher = trusted && mine != 0 && generation > mine;
        if higher {
            (self.superseded)(generation);
        }
        higher
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::identity::{ClusterId, Fingerprint, Standing};

    fn hello(generation: u64) -> Hello {
        let (cluster, to_name) = (ClusterId([1; 16]), "a".parse().unwrap());
        Hello {
            version: super::super::frame::VERSION,
            cluster,
            from: 2,
            to: 1,
            to_name,
            generation,
        }
    }

    fn generations(mine: u64) -> (Generations, Arc<Mutex<Vec<u64>>>) {
        let told: Arc<Mutex<Vec<u64>>> = Arc::default();
        let to = Arc::clone(&told);
        let superseded: OnSuperseded = Arc::new(move |higher| to.lock().unwrap().push(higher));
        (Generations { mine: Arc::new(AtomicU64::new(mine)), superseded }, told)
    }

    #[test]
    fn whoever_knows_no_generation_yet_is_of_any() {
        for (mine, theirs, expected) in [
            (0, 7, Meeting::Equal),
            (7, 0, Meeting::Equal),
            (7, 7, Meeting::Equal),
            (8, 7, Meeting::Lower(8)),
            (7, 8, Meeting::Higher(8)),
        ] {
            assert_eq!(generations(mine).0.meet(&hello(theirs)), expected, "{mine} {theirs}");
        }
    }

    #[test]
    fn only_those_who_are_trusted_with_the_log_end_a_generation() {
        let caller = |role, expired| Caller {
            role,
            name: "b".parse().unwrap(),
            cluster: ClusterId([1; 16]),
            begins_s: 0,
            expires_s: 0,
            fingerprint: Fingerprint([0; 32]),
            expired,
            issuer: None,
            standing: Standing::Good,
        };
        for (role, expired, mine, word, believed) in [
            (Role::Voter, false, 7, 8, true),
            (Role::Witness, false, 7, 8, true),
            (Role::Voter, true, 7, 8, false),
            (Role::Member, false, 7, 8, false),
            (Role::Operator, false, 7, 8, false),
            (Role::Voter, false, 7, 7, false),
            (Role::Voter, false, 7, 6, false),
            (Role::Voter, false, 0, 8, false),
        ] {
            let (generations, told) = generations(mine);
            let case = format!("{role} {expired} {mine} {word}");
            assert_eq!(generations.told(&caller(role, expired), word), believed, "{case}");
            assert_eq!(told.lock().unwrap().len(), usize::from(believed), "{case}");
        }
    }
}
