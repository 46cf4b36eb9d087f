//! A map with a bound: what was used longest ago makes room.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use tokio::time::Instant;

/// Holds at most `capacity` entries.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    entries: HashMap<K, (Instant, V)>,
    capacity: usize,
    evicted: u64,
}

impl<K: Eq + Hash + Clone, V> Bounded<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), capacity, evicted: 0 }
    }

    /// The entry, made if it is missing. When the map is full, making one drops the one that was
    /// used longest ago.
    pub(super) fn entry(&mut self, key: &K, now: Instant, make: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(key) && self.entries.len() >= self.capacity {
            // A walk over some thousand entries is little beside the hash that follows.
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&oldest);
                self.evicted += 1;
            }
        }
        let (used, value) = self.entries.entry(key.clone()).or_insert_with(|| (now, make()));
        *used = now;
        value
    }

    /// The entry, if it is there. It does not count as used.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// The entry to change, if it is there. It does not count as used.
    pub(super) fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.entries.remove(key).map(|(_, value)| value)
    }

    /// How many entries made room for others so far.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_was_used_longest_ago_makes_room() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut map = Bounded::new(2);
        *map.entry(&"a", at(0), || 1) += 10;
        map.entry(&"b", at(1), || 2);
        map.entry(&"a", at(2), || 3);
        map.entry(&"c", at(3), || 4);
        assert_eq!((map.get("a"), map.get("b"), map.get("c")), (Some(&11), None, Some(&4)));
        assert_eq!(map.evicted(), 1);
        assert_eq!(map.remove("a"), Some(11));
        map.entry(&"d", at(4), || 5);
        assert_eq!((map.evicted(), map.get("c")), (1, Some(&4)));
    }
}
