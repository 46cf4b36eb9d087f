//! A queue that is fair to those who wait: each in turn, however many places one of them takes.

use std::collections::{BTreeMap, VecDeque};

/// Items of several owners. Holds at most `capacity`.
#[derive(Debug)]
pub(super) struct FairQueue<K, T> {
    waiting: BTreeMap<K, VecDeque<T>>,
    /// Owners with items, in the order of their turns.
    turns: VecDeque<K>,
    len: usize,
    capacity: usize,
}

impl<K: Ord + Copy, T> FairQueue<K, T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { waiting: BTreeMap::new(), turns: VecDeque::new(), len: 0, capacity }
    }

    /// Adds an item. When the queue is full, the newest item of whoever has most in it is given
    /// back instead: that may be the one just added.
    pub(super) fn push(&mut self, owner: K, item: T) -> Option<T> {
        let items = self.waiting.entry(owner).or_default();
        if items.is_empty() {
            self.turns.push_back(owner);
        }
        items.push_back(item);
        self.len += 1;
        if self.len <= self.capacity {
            return None;
        }
        // Among equals the newcomer goes, so that what waits is not replaced again and again.
        let most = self.waiting.iter().max_by_key(|(k, items)| (items.len(), **k == owner));
        let most = most.map(|(k, _)| *k)?;
        let items = self.waiting.get_mut(&most)?;
        let given_back = items.pop_back();
        if items.is_empty() {
            self.waiting.remove(&most);
            self.turns.retain(|k| *k != most);
        }
        self.len -= 1;
        given_back
    }

    /// Takes the oldest item of the owner whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let owner = self.turns.pop_front()?;
        let items = self.waiting.get_mut(&owner)?;
        let item = items.pop_front();
        if items.is_empty() {
            self.waiting.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        self.len -= 1;
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_owner_has_its_turn() {
        let mut queue = FairQueue::new(100);
        for i in 0..5 {
            assert_eq!(queue.push("flooder", i), None);
        }
        assert_eq!(queue.push("guest", 10), None);
        assert_eq!(queue.push("guest", 11), None);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [0, 10, 1, 11, 2, 3, 4]);
        assert_eq!((queue.len, queue.waiting.len(), queue.turns.len()), (0, 0, 0));
    }

    #[test]
    fn a_full_queue_takes_from_whoever_has_most() {
        let mut queue = FairQueue::new(3);
        for i in 0..3 {
            assert_eq!(queue.push("flooder", i), None);
        }
        assert_eq!(queue.push("flooder", 3), Some(3), "its own newest");
        assert_eq!(queue.push("a", 10), Some(2), "room for somebody else");
        assert_eq!(queue.push("b", 20), Some(1));
        assert_eq!(queue.push("c", 30), Some(30), "all have one: those who wait stay");
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [0, 10, 20]);
    }
}
