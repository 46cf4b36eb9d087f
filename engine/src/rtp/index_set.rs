//! A set of numbers over a sliding window: one bit each.

/// Which of the last `WORDS` × 64 numbers are in the set. The owner knows where the window ends.
#[derive(Clone, Debug)]
pub(crate) struct IndexSet<const WORDS: usize> {
    words: [u64; WORDS],
}

impl<const WORDS: usize> IndexSet<WORDS> {
    /// How many consecutive numbers the window holds.
    pub(crate) const WINDOW: u64 = WORDS as u64 * 64;

    /// The empty set.
    pub(crate) fn new() -> Self {
        Self { words: [0; WORDS] }
    }

    /// Whether `index` is in the set; `index` must lie in the window.
    pub(crate) fn contains(&self, index: u64) -> bool {
        self.words[Self::word(index)] & Self::bit(index) != 0
    }

    /// Puts `index` in; returns whether it was absent.
    pub(crate) fn insert(&mut self, index: u64) -> bool {
        let absent = !self.contains(index);
        self.words[Self::word(index)] |= Self::bit(index);
        absent
    }

    /// Takes `index` out; returns whether it was in.
    pub(crate) fn remove(&mut self, index: u64) -> bool {
        let present = self.contains(index);
        self.words[Self::word(index)] &= !Self::bit(index);
        present
    }

    /// Moves the end of the window from `from` to `to` (both inclusive ends, `to` above `from`):
    /// what leaves at the other end is forgotten.
    pub(crate) fn advance(&mut self, from: u64, to: u64) {
        if to - from >= Self::WINDOW {
            self.words = [0; WORDS];
            return;
        }
        for index in from + 1..=to {
            self.words[Self::word(index)] &= !Self::bit(index);
        }
    }

    fn word(index: u64) -> usize {
        (index / 64) as usize % WORDS
    }

    fn bit(index: u64) -> u64 {
        1 << (index % 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advancing_forgets_what_left_the_window_and_nothing_else() {
        let mut set = IndexSet::<2>::new();
        assert!(set.insert(1_000));
        assert!(!set.insert(1_000));
        assert!(set.insert(1_001));
        set.advance(1_001, 1_128);
        assert!(!set.contains(1_128), "1,000 stood in the same place");
        assert!(set.contains(1_001));
        set.advance(1_128, 1_129);
        assert!(!set.contains(1_129), "1,001 stood in the same place");
    }

    #[test]
    fn a_jump_over_the_whole_window_forgets_everything() {
        let mut set = IndexSet::<1>::new();
        for index in 0..64 {
            set.insert(index);
        }
        set.advance(63, 127);
        assert!((64..128).all(|index| !set.contains(index)));
    }

    #[test]
    fn removing_tells_whether_it_was_there() {
        let mut set = IndexSet::<1>::new();
        set.insert(5);
        assert!(set.remove(5));
        assert!(!set.remove(5));
    }
}
