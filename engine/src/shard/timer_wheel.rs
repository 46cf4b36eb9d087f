//! Deadline → session slot. One armed deadline per slot, held in lists that need no memory of their own per timer.
//!
//! The wheel has slots of one millisecond and looks two seconds ahead. A deadline further away waits in the last slot and is
//! armed again when that comes up; the owner of the deadline is asked anyway whether it is really due.

use std::time::Duration;

use crate::clock::Instant;

const SLOTS: usize = 2048;
const SLOT_US: u64 = 1_000;
const WORDS: usize = SLOTS / 64;
const NONE: u32 = u32::MAX;

/// A wheel of deadlines for entries numbered densely from zero.
pub struct TimerWheel {
    /// First entry of each slot.
    heads: Box<[u32; SLOTS]>,
    /// One bit per slot that has entries.
    occupied: [u64; WORDS],
    nodes: Vec<Node>,
    /// The tick that was handled last.
    tick: u64,
    /// The latest time the wheel was told. What is armed from then on fires later, even while due entries are being taken.
    now: u64,
}

#[derive(Clone, Copy)]
struct Node {
    next: u32,
    previous: u32,
    /// The tick it fires at; `None` when not armed.
    tick: Option<u64>,
}

impl TimerWheel {
    /// Makes an empty wheel that starts at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            heads: Box::new([NONE; SLOTS]),
            occupied: [0; WORDS],
            nodes: Vec::new(),
            tick: now.as_micros() / SLOT_US,
            now: now.as_micros() / SLOT_US,
        }
    }

    /// Makes room for entries up to `entry`, so that arming it does not allocate.
    pub fn reserve(&mut self, entry: u32) {
        if self.nodes.len() <= entry as usize {
            self.nodes.resize(entry as usize + 1, Node { next: NONE, previous: NONE, tick: None });
        }
    }

    /// Fires `entry` at `deadline` at the latest: an earlier deadline that is armed stays.
    pub fn arm(&mut self, entry: u32, deadline: Instant) {
        self.reserve(entry);
        // Rounded up, so that nothing fires before its time; within the horizon, so that slots are unambiguous.
        let tick = deadline.as_micros().div_ceil(SLOT_US);
        let tick = tick.max(self.now + 1).min(self.tick + SLOTS as u64 - 1);
        match self.nodes[entry as usize].tick {
            Some(armed) if armed <= tick => return,
            Some(_) => self.disarm(entry),
            None => {}
        }
        let slot = (tick % SLOTS as u64) as usize;
        let head = self.heads[slot];
        self.nodes[entry as usize] = Node { next: head, previous: NONE, tick: Some(tick) };
        if head != NONE {
            self.nodes[head as usize].previous = entry;
        }
        self.heads[slot] = entry;
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// Forgets the deadline of `entry`, if it has one.
    pub fn disarm(&mut self, entry: u32) {
        let Some(&Node { next, previous, tick: Some(tick) }) = self.nodes.get(entry as usize)
        else {
            return;
        };
        let slot = (tick % SLOTS as u64) as usize;
        if previous == NONE {
            self.heads[slot] = next;
            if next == NONE {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
            }
        } else {
            self.nodes[previous as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        self.nodes[entry as usize].tick = None;
    }

    /// Takes one entry whose time has come; call until `None`. A taken entry is no longer armed.
    pub fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let now_tick = now.as_micros() / SLOT_US;
        self.now = self.now.max(now_tick);
        if let Some(tick) = self.next_tick()
            && tick <= now_tick
        {
            let entry = self.heads[(tick % SLOTS as u64) as usize];
            self.disarm(entry);
            self.tick = tick.saturating_sub(1).max(self.tick);
            return Some(entry);
        }
        self.tick = self.tick.max(now_tick);
        None
    }

    /// The earliest armed deadline, to the millisecond.
    pub fn next_deadline(&self) -> Option<Instant> {
        let tick = self.next_tick()?;
        Some(Instant::from_start(Duration::from_micros(tick * SLOT_US)))
    }

    /// The earliest tick after the last handled one that has entries.
    fn next_tick(&self) -> Option<u64> {
        let first = self.tick + 1;
        let start = (first % SLOTS as u64) as usize;
        // The word that holds `start` is looked at twice: its upper bits first, its lower bits last.
        for step in 0..=WORDS {
            let word = (start / 64 + step) % WORDS;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == WORDS {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - start) % SLOTS;
                return Some(first + ahead as u64);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn due(wheel: &mut TimerWheel, now: Instant) -> Vec<u32> {
        let mut entries: Vec<_> = std::iter::from_fn(|| wheel.pop_due(now)).collect();
        entries.sort_unstable();
        entries
    }

    #[test]
    fn entries_fire_at_their_time_and_once() {
        let mut wheel = TimerWheel::new(at(0));
        wheel.arm(3, at(10));
        wheel.arm(4, at(10));
        wheel.arm(5, at(500));
        assert_eq!(wheel.next_deadline(), Some(at(10)));
        assert_eq!(due(&mut wheel, at(9)), []);
        assert_eq!(due(&mut wheel, at(10)), [3, 4]);
        assert_eq!(due(&mut wheel, at(499)), []);
        assert_eq!(due(&mut wheel, at(600)), [5]);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn the_earlier_of_two_deadlines_counts() {
        let mut wheel = TimerWheel::new(at(0));
        wheel.arm(0, at(100));
        wheel.arm(0, at(50));
        wheel.arm(0, at(200));
        assert_eq!(due(&mut wheel, at(50)), [0]);
        assert_eq!(due(&mut wheel, at(300)), []);
    }

    #[test]
    fn a_far_deadline_comes_up_at_the_horizon() {
        let mut wheel = TimerWheel::new(at(0));
        wheel.arm(0, at(30_000));
        let first = wheel.next_deadline().expect("armed");
        assert!(first > at(2_000) && first < at(2_100));
        assert_eq!(due(&mut wheel, first), [0]);
        wheel.arm(0, at(30_000));
        assert_eq!(due(&mut wheel, at(30_000)), [0]);
    }

    #[test]
    fn disarmed_entries_do_not_fire() {
        let mut wheel = TimerWheel::new(at(5_000));
        for entry in 0..3 {
            wheel.arm(entry, at(5_100));
        }
        wheel.disarm(1);
        wheel.disarm(7);
        assert_eq!(due(&mut wheel, at(5_100)), [0, 2]);
    }

    #[test]
    fn an_overdue_entry_armed_while_firing_waits_for_the_next_tick() {
        let mut wheel = TimerWheel::new(at(0));
        wheel.arm(0, at(10));
        assert_eq!(wheel.pop_due(at(50)), Some(0));
        wheel.arm(0, at(20));
        assert_eq!(wheel.pop_due(at(50)), None);
        assert_eq!(wheel.pop_due(at(51)), Some(0));
    }

    #[test]
    fn random_deadlines_fire_exactly_once_and_never_early() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut wheel = TimerWheel::new(at(0));
        let mut armed = std::collections::HashMap::new();
        let mut now = 0;
        for _ in 0..20_000 {
            let entry = rng.u32(0..200);
            let deadline = now + rng.u64(0..3_000);
            wheel.arm(entry, at(deadline));
            let old = armed.get(&entry).copied().unwrap_or(u64::MAX);
            armed.insert(entry, old.min(deadline));
            now += rng.u64(0..20);
            while let Some(entry) = wheel.pop_due(at(now)) {
                let deadline = armed.remove(&entry).expect("fires once");
                if deadline > now {
                    // Beyond the horizon: the owner arms it again.
                    wheel.arm(entry, at(deadline));
                    armed.insert(entry, deadline);
                }
            }
            assert!(armed.values().all(|&d| d + 1 >= now), "late at {now}");
        }
    }
}
