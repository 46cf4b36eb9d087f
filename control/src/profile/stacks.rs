//! Stacks and how often each was seen, within a bound.

use std::collections::{BTreeMap, HashMap};

/// Addresses that are kept, all different stacks together: 16 MiB, or some 70,000 stacks of usual depth.
const ADDRESSES_MAX: usize = 2 << 20;

/// A stack as the kernel writes it: from the innermost function out, with a mark before the kernel's part and before the program's.
type Stack = Box<[u64]>;

/// What was sampled so far.
#[derive(Debug)]
pub(super) struct Stacks {
    /// By the thread's name, then by stack.
    counts: BTreeMap<String, HashMap<Stack, u64>>,
    addresses: usize,
    addresses_max: usize,
    samples: u64,
    not_kept: u64,
}

impl Default for Stacks {
    fn default() -> Self {
        Self::with_bound(ADDRESSES_MAX)
    }
}

impl Stacks {
    fn with_bound(addresses_max: usize) -> Self {
        Self { counts: BTreeMap::new(), addresses: 0, addresses_max, samples: 0, not_kept: 0 }
    }

    /// Counts a sample. A stack that was not seen before and for which there is no room is only counted as not kept.
    pub(super) fn add(&mut self, thread: &str, stack: &[u64]) {
        if let Some(count) = self.counts.get_mut(thread).and_then(|known| known.get_mut(stack)) {
            *count += 1;
        } else if self.addresses + stack.len() > self.addresses_max {
            self.not_kept += 1;
            return;
        } else {
            self.addresses += stack.len();
            self.counts.entry(thread.to_owned()).or_default().insert(stack.into(), 1);
        }
        self.samples += 1;
    }

    /// Samples that were kept.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// Samples for which there was no room.
    pub(super) fn not_kept(&self) -> u64 {
        self.not_kept
    }

    /// Thread, stack and count, the most frequent first.
    pub(super) fn by_count(&self) -> Vec<(&str, &[u64], u64)> {
        let mut all: Vec<_> = self
            .counts
            .iter()
            .flat_map(|(thread, stacks)| {
                stacks.iter().map(|(stack, count)| (thread.as_str(), stack.as_ref(), *count))
            })
            .collect();
        all.sort_unstable_by(|a, b| (b.2, a.0, a.1).cmp(&(a.2, b.0, b.1)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_stacks_of_threads_of_one_name_are_one() {
        let mut stacks = Stacks::default();
        for (thread, stack) in [("a", [1, 2]), ("b", [1, 2]), ("a", [1, 3]), ("a", [1, 3])] {
            stacks.add(thread, &stack);
        }
        let expected: [(&str, &[u64], u64); 3] =
            [("a", &[1, 3], 2), ("a", &[1, 2], 1), ("b", &[1, 2], 1)];
        assert_eq!(stacks.by_count(), expected);
        assert_eq!((stacks.samples(), stacks.not_kept()), (4, 0));
    }

    #[test]
    fn beyond_the_bound_known_stacks_count_and_others_are_counted_as_not_kept() {
        let mut stacks = Stacks::with_bound(3);
        stacks.add("a", &[1, 2]);
        stacks.add("a", &[3, 4]);
        stacks.add("a", &[1, 2]);
        stacks.add("a", &[5]);
        let expected: [(&str, &[u64], u64); 2] = [("a", &[1, 2], 2), ("a", &[5], 1)];
        assert_eq!(stacks.by_count(), expected);
        assert_eq!((stacks.samples(), stacks.not_kept()), (3, 1));
    }
}
