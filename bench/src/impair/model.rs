//! What a bad network does to each datagram of one client in one direction.
//!
//! A function of the settings, a seed, and the times and lengths of what came before: it owns no clock and no socket.

use std::time::Duration;

use sluice_engine::clock::Instant;

use crate::scenario::Impair;

/// One direction of one client.
#[derive(Clone, Debug)]
pub struct Model {
    random: fastrand::Rng,
    loss: f64,
    burst: Burst,
    delay: Duration,
    jitter: Duration,
    reorder: f64,
    duplicate: f64,
    rate_bps: u64,
    /// When the link has sent all that it took.
    free_at: Instant,
    /// When the last of those that keep their order arrives.
    last_at: Instant,
}

/// What happens to a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is gone.
    Drop(Reason),
    /// It arrives.
    Forward {
        /// When. Of two with the same moment, the one that was decided first goes first.
        at: Instant,
        /// How often: 1 or 2.
        copies: u8,
        /// Whether it was sent without its delay.
        overtakes: bool,
    },
}

/// Why a datagram is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// `loss`.
    Loss,
    /// `burst_loss`.
    Burst,
    /// `rate_bps`: it would have waited longer than [`QUEUE_MAX`].
    Queue,
}

/// Two states, source: Gilbert 1960, Elliott 1963. All is lost in the bad one, nothing in the good one.
#[derive(Clone, Copy, Debug)]
struct Burst {
    enter: f64,
    leave: f64,
    inside: bool,
}

/// The longest that a datagram waits for a link of limited rate.
pub const QUEUE_MAX: Duration = Duration::from_millis(200);

impl Model {
    /// A model without history. `impair` has passed [`check`](super::check).
    pub fn new(impair: &Impair, seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            loss: impair.loss,
            burst: Burst::new(impair.burst_loss, impair.burst_length),
            delay: Duration::from_secs_f64(impair.delay_ms / 1e3),
            jitter: Duration::from_secs_f64(impair.jitter_ms / 1e3),
            reorder: impair.reorder,
            duplicate: impair.duplicate,
            rate_bps: impair.rate_bps,
            free_at: Instant::default(),
            last_at: Instant::default(),
        }
    }

    /// Decides on a datagram of `len` bytes that came at `now`, which never goes back.
    pub fn decide(&mut self, now: Instant, len: usize) -> Verdict {
        // Each datagram takes as many random numbers, whatever is set and whatever becomes of it. So the same seed loses the same datagrams
        // whether there is jitter or not, and runs that differ in one setting can be compared.
        let [burst, loss, reorder, duplicate, jitter] = [(); 5].map(|()| self.random.f64());
        if self.burst.step(burst) {
            return Verdict::Drop(Reason::Burst);
        }
        if loss < self.loss {
            return Verdict::Drop(Reason::Loss);
        }
        let copies = if duplicate < self.duplicate { 2 } else { 1 };
        let Some(sent_at) = self.enqueue(now, len * usize::from(copies)) else {
            return Verdict::Drop(Reason::Queue);
        };
        if reorder < self.reorder {
            return Verdict::Forward { at: sent_at, copies, overtakes: true };
        }
        // Who comes sooner after another than the jitter is long may have to wait for that one: the mean moves up, the bound stays.
        let at = sent_at + self.delay + self.jitter.mul_f64(jitter);
        self.last_at = self.last_at.max(at);
        Verdict::Forward { at: self.last_at, copies, overtakes: false }
    }

    /// When the link has sent these bytes; `None` when they find the queue full.
    fn enqueue(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        if self.rate_bps == 0 {
            return Some(now);
        }
        let begin = self.free_at.max(now);
        if begin.since(now) > QUEUE_MAX {
            return None;
        }
        let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(self.rate_bps);
        self.free_at = begin + Duration::from_nanos(nanos as u64);
        Some(self.free_at)
    }
}

impl Burst {
    /// A burst ends after each of its datagrams with the chance 1 / `length`; how often one begins follows from the `share` of both states.
    fn new(share: f64, length: f64) -> Self {
        if share == 0.0 {
            return Self { enter: 0.0, leave: 1.0, inside: false };
        }
        let leave = 1.0 / length;
        Self { enter: leave * share / (1.0 - share), leave, inside: false }
    }

    /// Whether the next datagram falls into a burst.
    fn step(&mut self, random: f64) -> bool {
        self.inside = if self.inside { random >= self.leave } else { random < self.enter };
        self.inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Duration = Duration::from_millis(1);

    /// The verdicts on `count` datagrams of 1,000 bytes, `GAP` apart, with the time each came.
    fn verdicts(impair: &Impair, seed: u64, count: u32) -> Vec<(Instant, Verdict)> {
        let mut model = Model::new(impair, seed);
        let start = Instant::from_start(Duration::from_secs(1));
        let times = (0..count).map(|at| start + GAP * at);
        times.map(|now| (now, model.decide(now, 1_000))).collect()
    }

    fn share(verdicts: &[(Instant, Verdict)], wanted: impl Fn(&Verdict) -> bool) -> f64 {
        verdicts.iter().filter(|(_, verdict)| wanted(verdict)).count() as f64
            / verdicts.len() as f64
    }

    #[test]
    fn without_settings_each_goes_at_once_and_once() {
        for (now, verdict) in verdicts(&Impair::default(), 1, 1_000) {
            assert_eq!(verdict, Verdict::Forward { at: now, copies: 1, overtakes: false });
        }
    }

    #[test]
    fn the_same_seed_decides_the_same_and_another_differently() {
        let impair = Impair {
            loss: 0.1,
            burst_loss: 0.1,
            burst_length: 4.0,
            delay_ms: 20.0,
            jitter_ms: 10.0,
            reorder: 0.1,
            duplicate: 0.1,
            rate_bps: 7_000_000,
            ..Impair::default()
        };
        assert_eq!(verdicts(&impair, 7, 5_000), verdicts(&impair, 7, 5_000));
        assert_ne!(verdicts(&impair, 7, 5_000), verdicts(&impair, 8, 5_000));
    }

    #[test]
    fn jitter_changes_nothing_about_what_is_lost() {
        let smooth = Impair { loss: 0.1, ..Impair::default() };
        let rough = Impair { jitter_ms: 30.0, duplicate: 0.5, ..smooth };
        let lost = |impair| {
            let all = verdicts(impair, 3, 1_000);
            let is_lost = |at: &usize| matches!(all[*at].1, Verdict::Drop(_));
            (0..all.len()).filter(is_lost).collect::<Vec<_>>()
        };
        assert_eq!(lost(&smooth), lost(&rough));
    }

    #[test]
    fn loss_duplicates_and_overtaking_are_as_frequent_as_asked_for() {
        let impair = Impair {
            loss: 0.02,
            delay_ms: 5.0,
            reorder: 0.03,
            duplicate: 0.04,
            ..Impair::default()
        };
        let all = verdicts(&impair, 1, 200_000);
        let lost = share(&all, |v| *v == Verdict::Drop(Reason::Loss));
        let early = share(&all, |v| matches!(v, Verdict::Forward { overtakes: true, .. }));
        let twice = share(&all, |v| matches!(v, Verdict::Forward { copies: 2, .. }));
        // Five standard deviations of the least frequent are 0.0016.
        for (seen, asked) in [(lost, 0.02), (early, 0.98 * 0.03), (twice, 0.98 * 0.04)] {
            assert!((seen - asked).abs() < 0.002, "{seen} for {asked}");
        }
    }

    #[test]
    fn bursts_take_their_share_and_have_their_length() {
        for (burst_loss, burst_length) in [(0.05, 8.0), (0.5, 3.0), (0.01, 1.0)] {
            let impair = Impair { burst_loss, burst_length, ..Impair::default() };
            let all = verdicts(&impair, 5, 500_000);
            let is_lost = |at: usize| all[at].1 == Verdict::Drop(Reason::Burst);
            let lost = (0..all.len()).filter(|&at| is_lost(at)).count() as f64;
            let bursts = (1..all.len()).filter(|&at| is_lost(at) && !is_lost(at - 1)).count();
            let seen = lost / all.len() as f64;
            assert!((seen / burst_loss - 1.0).abs() < 0.1, "{seen} for {burst_loss}");
            let length = lost / bursts as f64;
            assert!((length / burst_length - 1.0).abs() < 0.05, "{length} for {burst_length}");
        }
    }

    #[test]
    fn jitter_is_uniform_for_datagrams_that_are_far_apart() {
        let impair = Impair { delay_ms: 10.0, jitter_ms: 50.0, ..Impair::default() };
        let mut model = Model::new(&impair, 2);
        let mut of_five = [0; 5];
        for number in 1..=20_000 {
            let now = Instant::from_start(Duration::from_millis(100) * number);
            let Verdict::Forward { at, .. } = model.decide(now, 1_000) else { panic!("lost") };
            let jitter = at.since(now) - Duration::from_millis(10);
            of_five[(jitter.as_micros() / 10_000) as usize] += 1;
        }
        // Five standard deviations of 4,000 are 283.
        assert!(of_five.iter().all(|count: &u32| count.abs_diff(4_000) < 300), "{of_five:?}");
    }

    #[test]
    fn jitter_keeps_the_order_of_datagrams_that_are_close_together() {
        let impair = Impair { delay_ms: 10.0, jitter_ms: 50.0, ..Impair::default() };
        let mut last = Instant::default();
        let mut delays = Vec::new();
        for (now, verdict) in verdicts(&impair, 2, 20_000) {
            let Verdict::Forward { at, .. } = verdict else { panic!("{verdict:?}") };
            assert!(at >= last, "{at:?} after {last:?}");
            last = at;
            delays.push(at.since(now));
        }
        let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
        assert!(*least >= Duration::from_millis(10) && *most <= Duration::from_millis(60));
        assert!(*most - *least > Duration::from_millis(20), "{least:?} to {most:?}");
    }

    #[test]
    fn what_overtakes_goes_at_once_and_holds_up_nobody() {
        let impair = Impair { delay_ms: 100.0, reorder: 0.2, ..Impair::default() };
        for (now, verdict) in verdicts(&impair, 2, 1_000) {
            let Verdict::Forward { at, overtakes, .. } = verdict else { panic!("{verdict:?}") };
            let delay = if overtakes { Duration::ZERO } else { Duration::from_millis(100) };
            assert_eq!(at.since(now), delay);
        }
    }

    /// 8 Mbit/s come, 2 Mbit/s pass.
    #[test]
    fn the_rate_is_kept_and_the_queue_has_a_bound() {
        let impair = Impair { rate_bps: 2_000_000, duplicate: 0.1, ..Impair::default() };
        let all = verdicts(&impair, 1, 5_000);
        let start = all[0].0;
        let mut bits_in_second = [0_u64; 5];
        for (now, verdict) in &all {
            if let Verdict::Forward { at, copies, .. } = verdict {
                // One that waited all it may is sent in another 4 or, when doubled, 8 ms.
                assert!(at.since(*now) <= QUEUE_MAX + Duration::from_millis(8));
                if let Some(bits) = bits_in_second.get_mut(at.since(start).as_secs() as usize) {
                    *bits += 8_000 * u64::from(*copies);
                }
            }
        }
        for bits in bits_in_second {
            assert!(bits.abs_diff(2_000_000) <= 16_000, "{bits} bits in a second");
        }
        let dropped = share(&all, |v| *v == Verdict::Drop(Reason::Queue));
        assert!(dropped > 0.7, "{dropped} dropped");
    }

    #[test]
    fn a_queue_that_was_idle_delays_by_the_sending_time_alone() {
        let impair = Impair { rate_bps: 8_000_000, ..Impair::default() };
        let mut model = Model::new(&impair, 1);
        for second in 1..5 {
            let now = Instant::from_start(Duration::from_secs(second));
            let at = now + Duration::from_millis(1);
            assert_eq!(
                model.decide(now, 1_000),
                Verdict::Forward { at, copies: 1, overtakes: false }
            );
        }
    }
}
