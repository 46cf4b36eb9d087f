//! What the control plane sees of a session.

use super::Session;
use crate::ids::{CallId, SessionId};
use crate::route::Transport;
use crate::srtp::Profile;

/// One session's state at a moment.
#[derive(Clone, Debug)]
pub struct SessionSnapshot {
    /// The session.
    pub session: SessionId,
    /// Its call.
    pub call: CallId,
    /// `checking`, `handshaking`, `connected`, `disconnected`.
    pub phase: &'static str,
    /// The selected route's transport, `udp` or `tcp`, once one is validated.
    pub transport: Option<&'static str>,
    /// The SRTP profile, once connected.
    pub profile: Option<Profile>,
    /// RTP packets received from the peer.
    pub packets_in: u64,
    /// RTP bytes received from the peer, headers included, SRTP overhead not.
    pub bytes_in: u64,
    /// RTP packets sent to the peer.
    pub packets_out: u64,
    /// RTP bytes sent to the peer, likewise.
    pub bytes_out: u64,
    /// Packets that the peer's streams lost on their way to us (RFC 3550 §6.4.1, cumulative).
    pub packets_lost_in: i64,
    /// Packets that the peer reports as lost on their way to it.
    pub packets_lost_out: i64,
    /// Round-trip time from the peer's latest report, microseconds.
    pub rtt_us: Option<u32>,
    /// What the path to the peer carries by its transport-cc feedback, bits per second; `None` without any.
    pub estimate_bps: Option<u64>,
}

impl Session {
    /// The session's state for the control plane.
    pub fn snapshot(&self) -> SessionSnapshot {
        let transport = self.ice.handshake_route().map(|route| match route.transport {
            Transport::Udp => "udp",
            Transport::Tcp(_) => "tcp",
        });
        let lost_in = self.receiver.streams().iter().map(|stream| stream.inbound.lost()).sum();
        let reports = self.sender.legs().filter_map(|(_, leg)| leg.stream.last_report());
        let lost_out = reports.map(|report| i64::from(report.cumulative_lost)).sum();
        SessionSnapshot {
            session: self.id,
            call: self.call,
            phase: self.phase.name(),
            transport,
            profile: self.profile(),
            packets_in: self.stats.packets_in,
            bytes_in: self.stats.bytes_in,
            packets_out: self.stats.packets_out,
            bytes_out: self.stats.bytes_out,
            packets_lost_in: lost_in,
            packets_lost_out: lost_out,
            rtt_us: self.timers.rtt().map(|rtt| rtt.as_micros() as u32),
            estimate_bps: self.sender.estimate().map(|estimate| estimate.target_bps),
        }
    }
}
