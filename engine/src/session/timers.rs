//! What a session does by itself, and when: a table of deadlines, one per kind.

use std::time::Duration;

use super::inbound::{Receiver, Role};
use super::phase::Phase;
use super::{Handshake, Session};
use crate::call::table::ForwardTable;
use crate::clock::{Instant, WallClock};
use crate::egress::Egress;
use crate::metrics::ShardCounters;
use crate::rtp::report::ReportTimer;
use crate::session_error::SessionError;

/// The kinds of deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    /// The handshake must be done.
    Connect,
    /// The handshake's next flight.
    Dtls,
    /// The association of the data channels.
    Sctp,
    /// The next SR and RR.
    Report,
    /// Packets to ask for.
    Missing,
    /// The next transport-cc feedback.
    Feedback,
    /// A key frame wish that had to wait.
    Keyframe,
    /// Consent did not come back.
    Disconnected,
}

/// Packets of media in and out.
type Traffic = (u64, u64);

/// The time between two reports that have nothing to tell. Source: RFC 3550 §6.2, the least interval.
const REPORT_INTERVAL_IDLE: Duration = Duration::from_secs(5);

/// Reports wait for the next multiple of it, so that a shard of many idle sessions wakes for some of them at a time. Microseconds.
const REPORT_GRID_US: u64 = 20_000;

fn on_grid(at: Instant) -> Instant {
    let grid = at.as_micros().next_multiple_of(REPORT_GRID_US);
    Instant::from_start(Duration::from_micros(grid))
}

const KINDS: usize = Timer::Disconnected as usize + 1;

/// How long a session waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the peer's half being known to a finished handshake.
    pub connect: Duration,
    /// From the last check to silence (RFC 7675 §5.1).
    pub consent: Duration,
    /// From lost consent to the end.
    pub disconnected: Duration,
}

/// The table of deadlines.
pub(super) struct Timers {
    deadlines: [Option<Instant>; KINDS],
    timeouts: Timeouts,
    reports: Option<ReportTimer>,
    /// The media of either way that the last report spoke of, and when that went out.
    reported: (Traffic, Instant),
    rtt: Option<Duration>,
}

/// What came due that others need to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Consent was lost.
    Disconnected,
    /// Keys came with a handshake flight that a timer sent.
    Connected,
    /// The session is over.
    Ended(SessionError),
}

/// What a session needs of its shard when something comes due.
pub struct Surroundings<'a> {
    /// The time.
    pub now: Instant,
    /// Dates sender reports.
    pub wall: &'a WallClock,
    /// The clocks of the tracks that are forwarded.
    pub table: &'a ForwardTable,
    /// Spreads reports.
    pub rng: &'a mut fastrand::Rng,
    /// Where RTCP goes.
    pub egress: &'a mut Egress,
    /// What is counted.
    pub counters: &'a mut ShardCounters,
}

impl Timers {
    pub(super) fn new(timeouts: &Timeouts) -> Self {
        Self {
            deadlines: [None; KINDS],
            timeouts: *timeouts,
            reports: None,
            reported: (Traffic::default(), Instant::default()),
            rtt: None,
        }
    }

    /// The peer's half is known: from now on it has its time to connect.
    pub(super) fn expect_peer(&mut self, now: Instant) {
        self.set(Timer::Connect, Some(now + self.timeouts.connect));
    }

    pub(super) fn set(&mut self, timer: Timer, deadline: Option<Instant>) {
        self.deadlines[timer as usize] = deadline;
    }

    fn is_due(&self, timer: Timer, now: Instant) -> bool {
        self.deadlines[timer as usize].is_some_and(|deadline| deadline <= now)
    }

    /// Round-trip time to the peer, from its latest report.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(super) fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = Some(rtt);
    }

    /// Without consent nothing is sent: only the end at `deadline` is left to wait for.
    fn fall_silent(&mut self, deadline: Instant) {
        for timer in [Timer::Sctp, Timer::Report, Timer::Missing, Timer::Feedback, Timer::Keyframe]
        {
            self.set(timer, None);
        }
        self.set(Timer::Disconnected, Some(deadline));
    }

    pub(super) fn start_reports(&mut self, now: Instant, random: u32) {
        let reports = ReportTimer::new(now, random);
        self.set(Timer::Report, Some(on_grid(reports.next_deadline())));
        self.reports = Some(reports);
    }

    /// Whether to report. While no media moves there is nothing to say: peers that are only connected hear of us at the rate of
    /// RFC 3550 §6.2, and who begins to send or to get something hears within the usual second.
    fn report_is_due(&mut self, now: Instant, random: u32, traffic: Traffic) -> bool {
        let Some(reports) = &mut self.reports else { return false };
        let mut is_due = reports.due(now, random);
        self.deadlines[Timer::Report as usize] = Some(on_grid(reports.next_deadline()));
        let (before, at) = self.reported;
        is_due &= traffic != before || now.since(at) >= REPORT_INTERVAL_IDLE;
        if is_due {
            self.reported = (traffic, now);
        }
        is_due
    }

    /// A media packet came: packets may be missing, and its arrival is to be told.
    pub(super) fn media_arrived(&mut self, receiver: &Receiver) {
        let missing = receiver.streams().iter().filter_map(|stream| match &stream.role {
            Role::Media { missing: Some(missing), .. } => missing.next_deadline(),
            _ => None,
        });
        self.set(Timer::Missing, missing.min());
        self.set(Timer::Feedback, receiver.arrivals.next_deadline());
    }
}

impl Session {
    /// The earliest moment at which [`Session::handle_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let own = self.timers.deadlines.iter().flatten().min().copied();
        own.into_iter().chain(self.ice.next_deadline()).min()
    }

    /// Does all that is due.
    pub fn handle_timeout(&mut self, around: &mut Surroundings<'_>) -> Due {
        let now = around.now;
        if self.timers.is_due(Timer::Connect, now) {
            let what = match self.phase {
                Phase::Checking => "no connectivity check came",
                _ => "the DTLS handshake did not finish",
            };
            return Due::Ended(SessionError::TimedOut(what));
        }
        if self.timers.is_due(Timer::Disconnected, now) {
            return Due::Ended(SessionError::TimedOut("consent was lost and did not come back"));
        }
        let mut due = self.expire_consent(now);
        if self.timers.is_due(Timer::Dtls, now) {
            self.timers.set(Timer::Dtls, None);
            if let Some(dtls) = self.phase.dtls_mut() {
                dtls.handle_timeout(now);
            }
            match self.drive_handshake(now, around.egress) {
                Handshake::Running => {}
                Handshake::Connected => due = Due::Connected,
                Handshake::Ended(error) => return Due::Ended(error),
            }
        }
        if self.is_connected() {
            if self.timers.is_due(Timer::Sctp, now) {
                self.handle_data_timeout(now);
            }
            self.send_what_is_due(around);
        }
        due
    }

    fn expire_consent(&mut self, now: Instant) -> Due {
        // Silent routes go with it; the shard closes those that are no longer valid.
        while self.ice.handle_timeout(now).is_some() {}
        if self.ice.has_consent(now) {
            return Due::Nothing;
        }
        match &mut self.phase {
            Phase::Connected { lost: lost @ None, .. } => {
                *lost = Some(now);
                let deadline = now + self.timers.timeouts.disconnected;
                self.timers.fall_silent(deadline);
                Due::Disconnected
            }
            _ => Due::Nothing,
        }
    }

    /// Consent is back: the countdown to the end stops.
    pub(super) fn consent_is_back(&mut self, now: Instant) {
        self.timers.set(Timer::Disconnected, None);
        self.timers.start_reports(now, self.ssrc.0);
        self.timers.set(Timer::Sctp, Some(now));
    }

    fn send_what_is_due(&mut self, around: &mut Surroundings<'_>) {
        let now = around.now;
        if self.timers.is_due(Timer::Missing, now) {
            self.send_nacks(around);
            self.timers.media_arrived(&self.receiver);
        }
        if self.timers.is_due(Timer::Feedback, now) {
            self.send_transport_cc(around);
            self.timers.media_arrived(&self.receiver);
        }
        if self.timers.is_due(Timer::Keyframe, now) {
            self.send_due_keyframe_requests(around);
        }
        let random = around.rng.u32(..);
        let traffic = (self.stats.packets_in, self.stats.packets_out);
        if self.timers.report_is_due(now, random, traffic) {
            self.send_reports(around);
        }
    }

    /// Arms the timer of key frame wishes that wait.
    pub(super) fn arm_keyframes(&mut self) {
        let requests = self.receiver.tracks.iter().flat_map(|track| &track.keyframes);
        let waiting = requests.filter_map(|keyframes| keyframes.next_deadline());
        self.timers.set(Timer::Keyframe, waiting.min());
    }
}
