//! The hot loop: one plain packet in, one protected packet out per leg.

use super::table::LegRef;
use crate::clock::Instant;
use crate::drop_reason::DropCounters;
use crate::egress::Egress;
use crate::ids::SessionKey;
use crate::metrics::ShardCounters;
use crate::session::Session;
use crate::session::plain::PlainRtp;
use crate::slots::Slots;

/// Writes `packet` to every leg that gets its layer. A leg that cannot take it counts why; the others are not affected.
pub fn forward(
    now: Instant,
    packet: &PlainRtp<'_>,
    legs: &[LegRef],
    sessions: &mut Slots<SessionKey, Session>,
    egress: &mut Egress,
    counters: &mut ShardCounters,
    drops: &mut DropCounters,
) {
    for leg in legs.iter().filter(|leg| leg.layer == packet.layer) {
        let Some(session) = sessions.get_mut(leg.session) else { continue };
        match session.send_media(now, leg.leg, packet, egress) {
            Ok(bytes) => {
                counters.rtp_packets_out += 1;
                counters.rtp_bytes_out += bytes as u64;
            }
            Err(reason) => drops.count(reason),
        }
    }
}
