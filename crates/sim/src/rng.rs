//! The one source of chance in a simulated world: a seed gives the same run for ever.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A generator whose numbers follow from `seed` alone.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        let mut rng = Rng { state: seed ^ 0x9e37_79b9_7f4a_7c15 };
        rng.draw();
        rng
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(end)) >> 64) as u64
    }

    /// A number from `from` up to, without, `to`.
    pub fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }

    /// True so many times out of a thousand.
    pub fn permille(&mut self, share: u64) -> bool {
        share > 0 && self.below(1_000) < share
    }

    /// One of a list's places.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len() as u64) as usize)
    }

    /// A number between the bounds whose magnitude is drawn evenly: short more often than long.
    pub fn skewed(&mut self, from: u64, to: u64) -> u64 {
        let doublings = (to / from.max(1)).max(1).ilog2();
        let scale = from.max(1) << self.below(u64::from(doublings) + 1);
        self.range(scale, (scale * 2).min(to.max(scale + 1)))
    }
}
