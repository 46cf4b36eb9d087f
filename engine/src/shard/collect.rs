//! How long a shard lets datagrams lie so that one turn serves several of them.
//!
//! A wake-up costs as much as forwarding several packets, and packets of one frame that are served in turns of their own leave in
//! system calls of their own. A shard with little to do answers at once all the same: what it would save is nothing to anybody. In
//! between the window grows with the load, as far as there are datagrams to be joined.

use std::time::Duration;

use crate::clock::Instant;
use crate::io::Window;

/// Measures turns and says how long to collect.
pub(super) struct Collector {
    /// The longest window; zero switches collecting off.
    longest: Duration,
    /// What was measured of the time before `span`.
    measured: Measured,
    span: Span,
    window: Duration,
}

/// What turns were like lately, the latest most.
#[derive(Clone, Copy, Default)]
struct Measured {
    /// Share of time spent in turns and in waking up for them, from 0 to 1.
    load: f64,
    /// Datagrams a second.
    rate: f64,
    /// Datagrams that one turn took: the mean, each turn counted by the time it took. A frame of a large call among a hundred
    /// receiver reports is what the time goes into.
    company: f64,
}

/// Sums over the turns since `start`.
struct Span {
    start: Instant,
    busy_s: f64,
    waits: u32,
    datagrams: u64,
    /// Sum of each turn's datagrams times its seconds.
    datagram_seconds: f64,
}

/// Time that is measured in one piece: some turns of a shard that has something to do.
const SPAN: Duration = Duration::from_millis(10);

/// Time over which measurements fade, seconds: a few frames of video.
const MEMORY_S: f64 = 0.1;

/// What waking up costs, seconds. Measured in a virtual machine: 15 µs; hosts without one need less.
const WAKE_S: f64 = 15e-6;

/// Up to this load a shard answers at once.
const LOAD_NONE: f64 = 0.03;

/// From this load on the window is as long as it is useful.
const LOAD_FULL: f64 = 0.1;

/// A shorter sleep costs more than it collects.
const SHORTEST: Duration = Duration::from_micros(50);

impl Collector {
    /// Makes a collector whose windows are `longest` at most.
    pub(super) fn new(now: Instant, longest: Duration) -> Self {
        let (measured, span) = (Measured::default(), Span::new(now));
        Self { longest, measured, span, window: Duration::ZERO }
    }

    /// Counts a turn that took `datagrams`, and the wait after it, if there is one.
    pub(super) fn count_turn(
        &mut self,
        started: Instant,
        ended: Instant,
        datagrams: u64,
        waits: bool,
    ) {
        let turn_s = ended.since(started).as_secs_f64();
        self.span.busy_s += turn_s;
        self.span.waits += u32::from(waits);
        self.span.datagrams += datagrams;
        self.span.datagram_seconds += turn_s * datagrams as f64;
        let passed = ended.since(self.span.start);
        if passed >= SPAN {
            self.measured.add(&self.span, passed.as_secs_f64());
            self.span = Span::new(ended);
            self.window = self.measured.window(self.longest);
        }
    }

    /// The window of the wait that follows a turn which took `turn`: what came during the turn has waited that long already.
    pub(super) fn window(&self, turn: Duration) -> Window {
        Window { rest: self.window.saturating_sub(turn), whole: self.window }
    }
}

impl Span {
    fn new(start: Instant) -> Self {
        Self { start, busy_s: 0.0, waits: 0, datagrams: 0, datagram_seconds: 0.0 }
    }
}

impl Measured {
    /// Adds what was measured over `seconds`.
    fn add(&mut self, span: &Span, seconds: f64) {
        let weight = seconds / (seconds + MEMORY_S);
        let fade = |old: &mut f64, new: f64| *old += (new - *old) * weight;
        let awake_s = span.busy_s + f64::from(span.waits) * WAKE_S;
        fade(&mut self.load, (awake_s / seconds).min(1.0));
        fade(&mut self.rate, span.datagrams as f64 / seconds);
        if span.datagram_seconds > 0.0 {
            fade(&mut self.company, span.datagram_seconds / span.busy_s);
        }
    }

    /// The window under what was measured.
    fn window(&self, longest: Duration) -> Duration {
        let loaded = ((self.load - LOAD_NONE) / (LOAD_FULL - LOAD_NONE)).clamp(0.0, 1.0);
        // Others to be served with a datagram: those that come with it already, as packets of a frame do, or those that come
        // by chance. A window that none would join is time lost.
        let by_chance = self.rate * longest.as_secs_f64();
        let useful = (self.company - 1.0).max(by_chance).clamp(0.0, 1.0);
        let window = longest.mul_f64(loaded * useful);
        if window < SHORTEST { Duration::ZERO } else { window }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_micros(500);

    /// Runs turns of `turn_us` that take `datagrams` each, one every `period_us`, for a second; returns the window.
    fn after(turn_us: u64, datagrams: u64, period_us: u64) -> Duration {
        let mut collector = Collector::new(Instant::default(), LONGEST);
        run(&mut collector, Instant::default(), turn_us, datagrams, period_us)
    }

    fn run(
        collector: &mut Collector,
        start: Instant,
        turn_us: u64,
        datagrams: u64,
        period_us: u64,
    ) -> Duration {
        let mut at = start;
        while at.since(start) < Duration::from_secs(1) {
            collector.count_turn(at, at + Duration::from_micros(turn_us), datagrams, true);
            at = at + Duration::from_micros(period_us);
        }
        collector.window(Duration::ZERO).whole
    }

    #[test]
    fn an_idle_shard_answers_at_once() {
        assert_eq!(
            Collector::new(Instant::default(), LONGEST).window(Duration::ZERO),
            Window::NONE
        );
        assert_eq!(after(10, 1, 2_000), Duration::ZERO, "0.5 % and 500 wake-ups a second");
    }

    #[test]
    fn the_window_grows_with_the_load_and_ends_at_the_longest() {
        let windows: Vec<_> = (1..100).map(|percent| after(percent * 100, 6, 10_000)).collect();
        assert!(windows.is_sorted(), "{windows:?}");
        assert_eq!((windows[0], windows[30]), (Duration::ZERO, LONGEST));
        // No step is large, but for the first, from nothing to what is worth a sleep.
        let steps = windows.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(steps.max() <= Some(LONGEST / 5), "{windows:?}");
    }

    #[test]
    fn wake_ups_are_load() {
        // Turns of 4 µs are 4 % of the time; waking up for them is 15 %.
        assert!(after(4, 1, 100) > LONGEST / 2);
    }

    #[test]
    fn nothing_is_waited_for_where_nothing_would_come() {
        // One packet for a thousand receivers every 10 ms: a fifth of the time, and always alone.
        assert_eq!(after(2_000, 1, 10_000), Duration::ZERO);
        assert!(after(2_000, 2, 10_000) > LONGEST.mul_f64(0.99));
    }

    #[test]
    fn small_turns_do_not_hide_what_the_time_goes_into() {
        let mut collector = Collector::new(Instant::default(), LONGEST);
        let mut at = Instant::default();
        for _ in 0..100 {
            collector.count_turn(at, at + Duration::from_millis(3), 6, true);
            at = at + Duration::from_millis(20);
            for _ in 0..20 {
                collector.count_turn(at, at + Duration::from_micros(5), 1, true);
                at = at + Duration::from_micros(500);
            }
        }
        assert!(collector.window(Duration::ZERO).whole > LONGEST / 4);
    }

    #[test]
    fn the_window_falls_back_when_the_load_does() {
        let mut collector = Collector::new(Instant::default(), LONGEST);
        let at = Instant::default();
        assert_eq!(run(&mut collector, at, 3_000, 6, 10_000), LONGEST);
        let at = at + Duration::from_secs(1);
        assert_eq!(run(&mut collector, at, 10, 1, 5_000), Duration::ZERO);
    }

    #[test]
    fn a_turn_counts_towards_the_window() {
        let mut collector = Collector::new(Instant::default(), LONGEST);
        run(&mut collector, Instant::default(), 3_000, 6, 10_000);
        let window = |us| collector.window(Duration::from_micros(us));
        assert_eq!(window(100), Window { rest: Duration::from_micros(400), whole: LONGEST });
        assert_eq!(window(900), Window { rest: Duration::ZERO, whole: LONGEST });
    }

    #[test]
    fn a_longest_window_of_nothing_is_off() {
        let mut collector = Collector::new(Instant::default(), Duration::ZERO);
        run(&mut collector, Instant::default(), 3_000, 6, 10_000);
        assert_eq!(collector.window(Duration::ZERO), Window::NONE);
    }
}
