//! Many subscribers' wishes for a key frame become few requests. Source: RFC 4585 §6.3.1 (PLI), RFC
//! 5104 §4.3.1 (FIR).

use std::time::Duration;

use crate::clock::Instant;

/// Merges the key frame wishes about one publisher stream: at most one request per interval.
///
/// A request that brought no key frame is not repeated by itself: it may have been lost, but so may
/// the publisher be gone, and decoders that still need one ask again on their own.
#[derive(Clone, Copy, Debug)]
pub struct KeyframeRequests {
    interval_min: Duration,
    requested_at: Option<Instant>,
    is_pending: bool,
}

impl KeyframeRequests {
    /// Makes the state of a stream that is asked for a key frame at most once in `interval_min`.
    pub fn new(interval_min: Duration) -> Self {
        Self { interval_min, requested_at: None, is_pending: false }
    }

    /// Takes note of a wish: true if a PLI is to be sent at once, otherwise it is remembered for
    /// [`KeyframeRequests::due`].
    pub fn want(&mut self, now: Instant) -> bool {
        self.is_pending = true;
        self.due(now)
    }

    /// Whether a remembered wish is due: true if a PLI is to be sent at once.
    pub fn due(&mut self, now: Instant) -> bool {
        let is_due = self.next_deadline().is_some_and(|deadline| now >= deadline);
        if is_due {
            self.requested_at = Some(now);
            self.is_pending = false;
        }
        is_due
    }

    /// A key frame passed: the wishes so far are fulfilled. The next request still keeps the
    /// interval.
    pub fn satisfied(&mut self) {
        self.is_pending = false;
    }

    /// When the remembered wish is due; `None` without one.
    pub fn next_deadline(&self) -> Option<Instant> {
        let earliest = self.requested_at.map_or(Instant::default(), |at| at + self.interval_min);
        self.is_pending.then_some(earliest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn requests() -> KeyframeRequests {
        KeyframeRequests::new(Duration::from_millis(500))
    }

    #[test]
    fn the_first_wish_is_sent_at_once() {
        let mut requests = requests();
        assert_eq!(requests.next_deadline(), None);
        assert!(!requests.due(at(0)));
        assert!(requests.want(at(0)));
        assert_eq!(requests.next_deadline(), None);
    }

    #[test]
    fn wishes_within_the_interval_become_one_request_at_its_end() {
        let mut requests = requests();
        assert!(requests.want(at(100)));
        for millis in [100, 101, 350, 599] {
            assert!(!requests.want(at(millis)), "at {millis} ms");
        }
        assert_eq!(requests.next_deadline(), Some(at(600)));
        assert!(!requests.due(at(599)));
        assert!(requests.due(at(600)));
        assert!(!requests.due(at(600)));
        assert_eq!(requests.next_deadline(), None);
        assert!(!requests.want(at(1_099)), "the interval starts again");
        assert!(requests.want(at(1_100)));
        assert_eq!(requests.next_deadline(), None, "nothing is left over");
    }

    #[test]
    fn a_key_frame_fulfils_the_pending_wish_and_keeps_the_interval() {
        let mut requests = requests();
        assert!(requests.want(at(0)));
        assert!(!requests.want(at(10)));
        requests.satisfied();
        assert_eq!(requests.next_deadline(), None);
        assert!(!requests.due(at(1_000)));
        assert!(requests.want(at(1_000)));
        requests.satisfied();
        assert!(!requests.want(at(1_001)), "a storm of wishes right after the key frame");
        assert_eq!(requests.next_deadline(), Some(at(1_500)));
    }

    #[test]
    fn a_request_without_answer_is_not_repeated() {
        let mut requests = requests();
        assert!(requests.want(at(0)));
        assert_eq!(requests.next_deadline(), None);
        assert!(!requests.due(at(60_000)));
    }
}
