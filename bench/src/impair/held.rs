//! Datagrams that wait for their time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use sluice_engine::clock::Instant;

/// A datagram and when it is due.
#[derive(Debug)]
pub struct Datagram {
    /// When it is sent.
    pub at: Instant,
    /// Whose it is.
    pub client: u64,
    /// Where it goes.
    pub way: Way,
    /// How often it is sent.
    pub copies: u8,
    /// What it says.
    pub bytes: Box<[u8]>,
}

/// A direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From a client to the server.
    Up,
    /// From the server to a client.
    Down,
}

/// Datagrams by the time they are due, those of one time in the order they were put in.
#[derive(Debug)]
pub struct Held {
    entries: BinaryHeap<Reverse<Entry>>,
    bytes: usize,
    bytes_max: usize,
    next_order: u64,
}

#[derive(Debug)]
struct Entry {
    order: u64,
    datagram: Datagram,
}

impl Held {
    /// Holds nothing, and at most `bytes_max` bytes, its own records included.
    pub fn new(bytes_max: usize) -> Self {
        Self { entries: BinaryHeap::new(), bytes: 0, bytes_max, next_order: 0 }
    }

    /// Takes a datagram in; `false` when it is full, and the datagram is gone.
    #[must_use]
    pub fn put(&mut self, datagram: Datagram) -> bool {
        let cost = cost(&datagram);
        if self.bytes + cost > self.bytes_max {
            return false;
        }
        self.bytes += cost;
        self.entries.push(Reverse(Entry { order: self.next_order, datagram }));
        self.next_order += 1;
        true
    }

    /// The next one that is due by `now`.
    pub fn take_due(&mut self, now: Instant) -> Option<Datagram> {
        self.next_deadline().filter(|&at| at <= now)?;
        let Reverse(Entry { datagram, .. }) = self.entries.pop()?;
        self.bytes -= cost(&datagram);
        Some(datagram)
    }

    /// When the next one is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.entries.peek().map(|Reverse(entry)| entry.datagram.at)
    }
}

fn cost(datagram: &Datagram) -> usize {
    size_of::<Entry>() + datagram.bytes.len()
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.datagram.at, self.order).cmp(&(other.datagram.at, other.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn datagram(millis: u64, client: u64) -> Datagram {
        Datagram { at: at(millis), client, way: Way::Up, copies: 1, bytes: vec![0; 100].into() }
    }

    #[test]
    fn the_earliest_comes_first_and_equals_in_their_order() {
        let mut held = Held::new(usize::MAX);
        for (millis, client) in [(5, 0), (3, 1), (5, 2), (4, 3), (5, 4)] {
            assert!(held.put(datagram(millis, client)));
        }
        assert_eq!(held.next_deadline(), Some(at(3)));
        assert!(held.take_due(at(2)).is_none());
        let order: Vec<_> = std::iter::from_fn(|| held.take_due(at(5)).map(|d| d.client)).collect();
        assert_eq!(order, [1, 3, 0, 2, 4]);
        assert_eq!((held.next_deadline(), held.bytes), (None, 0));
    }

    #[test]
    fn what_finds_it_full_is_refused_until_there_is_room() {
        let mut held = Held::new(3 * cost(&datagram(0, 0)));
        for millis in 1..=3 {
            assert!(held.put(datagram(millis, 0)));
        }
        assert!(!held.put(datagram(4, 0)));
        assert!(held.take_due(at(1)).is_some());
        assert!(held.put(datagram(4, 0)));
    }
}
