//! What rate the path to one peer carries, from the peer's transport-wide feedback. Source: draft-ietf-rmcat-gcc-02.

use std::time::Duration;

use super::Bounds;
use super::delay::DelayBased;
use super::loss::LossBased;
use super::sent::SentLog;
use crate::clock::Instant;
use crate::rtp::rate::RateMonitor;
use crate::wire::rtcp::twcc;

/// One session's estimate and the log that feedback is compared with. Made when its first leg carries transport-wide numbers.
pub struct SendSideEstimator {
    /// What was sent.
    pub log: SentLog,
    delay: DelayBased,
    loss: LossBased,
    /// What arrived, on the peer's clock.
    arrived: RateMonitor,
    /// The reference time of the latest feedback in ticks of 250 us, without its wraps.
    reference: Option<i64>,
    /// Whether feedback told of any arrival.
    is_measured: bool,
}

/// The estimate and its parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Estimate {
    /// The lower of both parts.
    pub target_bps: u64,
    /// What delay allows.
    pub delay_bps: u64,
    /// What loss allows.
    pub loss_bps: u64,
}

/// Over how long the rate that arrives is measured.
const ARRIVED_WINDOW: Duration = Duration::from_millis(500);

/// Microseconds of a tick. Source: draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1.5.
const TICK_US: i64 = 250;

/// Ticks of a unit of the reference time, 64 ms.
const REFERENCE_TICKS: i64 = 256;

/// Where the reference time wraps: 24 bits.
const REFERENCE_WRAP: i64 = REFERENCE_TICKS << 24;

/// The largest reference time: 35,000 years of ticks, which in microseconds are well within 64 bits.
const REFERENCE_MAX: i64 = 1 << 52;

impl SendSideEstimator {
    /// Makes an estimator that has no feedback yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            log: SentLog::new(),
            delay: DelayBased::new(bounds),
            loss: LossBased::new(bounds),
            arrived: RateMonitor::new(ARRIVED_WINDOW),
            reference: None,
            is_measured: false,
        }
    }

    /// Takes in one feedback; returns how many packets it tells of that the log does not hold.
    ///
    /// Of feedback about more packets than the log can hold, only the first that many are looked at.
    pub fn on_feedback(
        &mut self,
        now: Instant,
        feedback: &twcc::View<'_>,
        rtt: Option<Duration>,
    ) -> u64 {
        let mut tick = self.unwrapped(feedback.reference_time());
        let (mut arrived, mut lost, mut unknown) = (0, 0, 0);
        for (seq, delta) in feedback.statuses().take(SentLog::PACKETS) {
            tick += i64::from(delta.unwrap_or(0));
            let reported = match self.log.on_reported(now, seq, delta.is_some()) {
                Ok(Some(reported)) => reported,
                Ok(None) => continue,
                Err(_) => {
                    unknown += 1;
                    continue;
                }
            };
            if delta.is_none() {
                lost += 1;
                continue;
            }
            arrived += 1;
            let arrived_us = tick * TICK_US;
            self.arrived.on_packet(peer_time(arrived_us), reported.bytes);
            if let Some(sent) = reported.at {
                self.delay.on_packet(sent, arrived_us);
            }
        }
        self.is_measured |= arrived > 0;
        if arrived + lost > 0 {
            self.loss.on_feedback(now, arrived, lost);
            self.delay.update(now, self.arrived.bps().map(|bps| bps as f64), rtt);
        }
        unknown
    }

    /// The reference time in ticks, on one line with those before it.
    fn unwrapped(&mut self, reference_time: u32) -> i64 {
        let wrapped = i64::from(reference_time) * REFERENCE_TICKS;
        // A wrap above zero, so that what was before the first is not below it.
        let latest = self.reference.unwrap_or(wrapped + REFERENCE_WRAP);
        let ahead = (wrapped - latest).rem_euclid(REFERENCE_WRAP);
        let step = if ahead >= REFERENCE_WRAP / 2 { ahead - REFERENCE_WRAP } else { ahead };
        // A peer that steps the same way again and again gets no further than this.
        let reference = (latest + step).clamp(REFERENCE_WRAP, REFERENCE_MAX);
        self.reference = Some(reference);
        reference
    }

    /// The estimate; `None` before feedback told of any arrival.
    pub fn estimate(&self) -> Option<Estimate> {
        let (delay, loss) = (self.delay.target_bps(), self.loss.target_bps());
        self.is_measured.then_some(Estimate {
            target_bps: delay.min(loss) as u64,
            delay_bps: delay as u64,
            loss_bps: loss as u64,
        })
    }

    /// Goes on from another estimate: more is about to be sent than was so far.
    pub fn restart_at(&mut self, bps: u64) {
        self.delay.restart_at(bps as f64);
        self.loss.set_target(self.loss.target_bps().max(bps as f64));
    }
}

/// A moment of the peer's clock, for what only measures distances.
fn peer_time(us: i64) -> Instant {
    Instant::from_start(Duration::from_micros(us.max(0) as u64))
}

#[cfg(test)]
mod tests;
