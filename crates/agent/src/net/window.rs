//! The sliding window that tells a datagram received twice from one that was only overtaken
//! (RFC 4303, appendix A2, is where the idea is from).

const WORDS: usize = 4;
/// How far a counter may lie behind the newest one received and still be accepted.
pub(crate) const WINDOW: u64 = (WORDS as u64) * 64;

/// What was received of one sender, start and link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    /// The newest counter received; counters begin at 1.
    newest: u64,
    /// Bit `c mod WINDOW` says whether counter `c` of the window was received.
    seen: [u64; WORDS],
}

impl Window {
    /// Whether this counter is new. Ask before the tag is checked: it is cheaper.
    pub(crate) fn is_new(&self, counter: u64) -> bool {
        if counter > self.newest {
            return true;
        }
        let (word, bit) = place(counter);
        counter != 0 && self.newest - counter < WINDOW && self.seen[word] & bit == 0
    }

    /// Notes a counter whose tag was right.
    pub(crate) fn note(&mut self, counter: u64) {
        if counter > self.newest {
            let skipped = counter - self.newest;
            if skipped >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                for between in self.newest + 1..counter {
                    let (word, bit) = place(between);
                    self.seen[word] &= !bit;
                }
            }
            self.newest = counter;
        }
        let (word, bit) = place(counter);
        self.seen[word] |= bit;
    }
}

fn place(counter: u64) -> (usize, u64) {
    let at = counter % WINDOW;
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Feeds counters and compares with a set that forgets nothing.
    #[test]
    fn every_counter_is_accepted_at_most_once_and_only_within_the_window() {
        let (mut window, mut taken, mut newest) = (Window::default(), BTreeSet::new(), 0);
        let mut state = 1_u64;
        for step in 0..20_000_u64 {
            // A deterministic walk forward with jumps, repeats and late ones.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step);
            let back = (state >> 33) % (WINDOW + 40);
            let counter = (newest + (state >> 20) % 3).saturating_sub(back * ((state >> 7) % 2));
            let expect = counter != 0 && !taken.contains(&counter) && counter + WINDOW > newest;
            assert_eq!(window.is_new(counter), expect, "{counter} after {newest}");
            if expect {
                window.note(counter);
                taken.insert(counter);
                newest = newest.max(counter);
            }
        }
        window.note(newest + 10 * WINDOW);
        assert!(!window.is_new(newest), "a jump leaves the old ones behind");
        assert!(window.is_new(newest + 10 * WINDOW - 1));
    }
}
