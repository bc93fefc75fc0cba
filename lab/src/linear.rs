//! Is a history linearizable? A search in the manner of Wing & Gong ("Testing and verifying
//! concurrent objects", 1993) with Lowe's memory of what was tried ("Testing for
//! linearizability", 2017). It knows one register: a version that counts, and the value that
//! came with it. It shares no code with what it judges.

use std::collections::HashSet;

use model::Moment;

/// What the register holds: how often it was changed, and to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Register {
    pub(crate) version: u64,
    pub(crate) value: u64,
}

/// What somebody did, and was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Looked, and saw this.
    Read(Register),
    /// Put a value there, and was told the version that it became.
    Put { value: u64, version: u64 },
    /// Wanted to put a value there, and does not know what became of it.
    PutPerhaps { value: u64 },
    /// Wanted to put a value there, and was told that it is there already.
    Unchanged { value: u64 },
}

/// A deed with its time: it took effect, if at all, between these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) deed: Deed,
    pub(crate) begun: Moment,
    /// When the answer came. A deed of unknown outcome may take effect at any time after.
    pub(crate) ended: Moment,
}

impl Operation {
    fn is_perhaps(&self) -> bool {
        matches!(self.deed, Deed::PutPerhaps { .. })
    }

    /// By when it has taken effect.
    fn latest(&self) -> Moment {
        if self.is_perhaps() { Moment(u64::MAX) } else { self.ended }
    }
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// There is an order in which all of it makes sense.
    Linearizable,
    /// There is none; this operation is the first that none of the longest attempts got past.
    Not(usize),
    /// The search was given up.
    Undecided,
}

/// Most states that are looked at.
const STATES_MAX: usize = 2_000_000;

/// What the register becomes, where the deed makes sense.
fn step(register: Register, deed: Deed) -> Option<Register> {
    match deed {
        Deed::Read(seen) => (seen == register).then_some(register),
        Deed::Unchanged { value } => (value == register.value).then_some(register),
        Deed::Put { value, version } => {
            (version == register.version + 1).then_some(Register { version, value })
        }
        Deed::PutPerhaps { value } => Some(Register { version: register.version + 1, value }),
    }
}

/// One way on: what was done, as a set of bits, and where that led.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    done: Vec<u64>,
    register: Register,
}

impl Place {
    fn has(&self, number: usize) -> bool {
        self.done[number / 64] & 1 << (number % 64) != 0
    }

    fn with(&self, number: usize, register: Register) -> Place {
        let mut done = self.done.clone();
        done[number / 64] |= 1 << (number % 64);
        Place { done, register }
    }
}

/// Judges a history that began with this register. Operations are in the order of their begin.
pub(crate) fn judge(begin: Register, history: &[Operation]) -> Judgement {
    debug_assert!(history.is_sorted_by_key(|operation| operation.begun), "by their begin");
    let first = Place { done: vec![0; history.len() / 64 + 1], register: begin };
    let (mut tried, mut ways) = (HashSet::from([first.clone()]), vec![first]);
    let mut furthest = 0;
    while let Some(place) = ways.pop() {
        let open = |number: &usize| !place.has(*number);
        let must = |number: &usize| open(number) && !history[*number].is_perhaps();
        let Some(next) = (0..history.len()).find(must) else { return Judgement::Linearizable };
        furthest = furthest.max(next);
        // What begins after something has ended comes after it.
        let end = (next..history.len()).filter(must).map(|n| history[n].latest()).min();
        let end = end.unwrap_or(Moment(u64::MAX));
        let early = |number: &usize| history[*number].begun <= end;
        for number in (0..history.len()).take_while(early).filter(open) {
            if let Some(register) = step(place.register, history[number].deed) {
                let on = place.with(number, register);
                if tried.insert(on.clone()) {
                    ways.push(on);
                }
            }
        }
        if tried.len() > STATES_MAX {
            return Judgement::Undecided;
        }
    }
    Judgement::Not(furthest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Register = Register { version: 1, value: 10 };

    fn op(deed: Deed, begun: u64, ended: u64) -> Operation {
        Operation { deed, begun: Moment(begun), ended: Moment(ended) }
    }

    fn read(version: u64, value: u64, begun: u64, ended: u64) -> Operation {
        op(Deed::Read(Register { version, value }), begun, ended)
    }

    fn put(value: u64, version: u64, begun: u64, ended: u64) -> Operation {
        op(Deed::Put { value, version }, begun, ended)
    }

    fn perhaps(value: u64, begun: u64, ended: u64) -> Operation {
        op(Deed::PutPerhaps { value }, begun, ended)
    }

    fn same(value: u64, begun: u64, ended: u64) -> Operation {
        op(Deed::Unchanged { value }, begun, ended)
    }

    #[test]
    fn what_has_an_order_is_linearizable() {
        let good: [&[Operation]; 8] = [
            &[],
            &[read(1, 10, 0, 1), put(20, 2, 2, 3), read(2, 20, 4, 5)],
            // At the same time as the change: either may be seen, by each for itself.
            &[put(20, 2, 0, 9), read(1, 10, 1, 2), read(2, 20, 3, 4)],
            // Two changes at once take effect in the order of their versions.
            &[put(30, 3, 0, 9), put(20, 2, 1, 9), read(3, 30, 10, 11)],
            // A change of unknown outcome: never, late, or at once.
            &[perhaps(20, 0, 1), read(1, 10, 2, 3)],
            &[perhaps(20, 0, 1), read(1, 10, 2, 3), read(2, 20, 4, 5)],
            &[perhaps(20, 0, 1), read(2, 20, 2, 3), put(30, 3, 4, 5), read(3, 30, 6, 7)],
            &[put(20, 2, 0, 1), same(20, 2, 3), same(20, 2, 4), read(2, 20, 5, 6)],
        ];
        for history in good {
            assert_eq!(judge(BEGIN, history), Judgement::Linearizable, "{history:?}");
        }
    }

    #[test]
    fn what_has_none_is_found_out() {
        let bad: [(&str, &[Operation]); 8] = [
            ("a stale read", &[put(20, 2, 0, 1), read(1, 10, 2, 3)]),
            ("a value that was never put", &[read(1, 11, 0, 1)]),
            ("time goes back", &[put(20, 2, 0, 9), read(2, 20, 1, 2), read(1, 10, 3, 4)]),
            ("an update is lost", &[put(20, 2, 0, 1), put(30, 2, 2, 3)]),
            ("versions in the wrong order", &[put(20, 3, 0, 1), put(30, 2, 2, 3)]),
            (
                "what happened once happens again",
                &[
                    perhaps(20, 0, 1),
                    read(2, 20, 2, 3),
                    put(30, 3, 4, 5),
                    read(3, 30, 6, 7),
                    read(4, 20, 8, 9),
                ],
            ),
            ("an effect before its cause", &[read(2, 20, 0, 1), put(20, 2, 2, 3)]),
            ("unchanged, though it is changed", &[put(20, 2, 0, 1), same(10, 2, 3)]),
        ];
        for (what, history) in bad {
            assert!(matches!(judge(BEGIN, history), Judgement::Not(_)), "{what}");
        }
    }

    #[test]
    fn one_altered_read_in_a_long_history_is_found() {
        // Four clients, each operation overlapping the next ones; a put every fourth.
        let mut history = Vec::new();
        let mut register = BEGIN;
        for n in 0..400u64 {
            if n % 4 == 0 {
                register = Register { version: register.version + 1, value: n + 100 };
                let Register { version, value } = register;
                history.push(put(value, version, n * 10, n * 10 + 9));
            } else {
                let Register { version, value } = register;
                history.push(read(version, value, n * 10, n * 10 + 25));
            }
        }
        assert_eq!(judge(BEGIN, &history), Judgement::Linearizable);
        for at in [41, 199, 398] {
            let mut planted = history.clone();
            let Deed::Read(seen) = planted[at].deed else { panic!("no read") };
            let old = history[..at - 12].iter().rev().find_map(|o| match o.deed {
                Deed::Read(old) => Some(old),
                _ => None,
            });
            planted[at].deed = Deed::Read(old.expect("an older one"));
            assert_ne!(planted[at].deed, Deed::Read(seen));
            assert!(matches!(judge(BEGIN, &planted), Judgement::Not(_)), "at {at}");
        }
    }
}
