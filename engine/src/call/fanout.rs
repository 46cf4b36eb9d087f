//! The hot loop: a few plain packets of one track in, protected packets out for each leg.

use super::table::LegRef;
use crate::drop_reason::DropCounters;
use crate::egress::Egress;
use crate::ids::SessionKey;
use crate::session::Session;
use crate::session::outbound::{Group, Written};
use crate::slots::Slots;

/// How many legs ahead the memory of a session is asked for, and of its leg, which is found through it. A leg takes a few hundred
/// nanoseconds without its sends: several times what the third-level cache takes.
const SESSION_AHEAD: usize = 4;
const LEG_AHEAD: usize = 2;

/// Writes the packets of `group`, which are of the layer `layer`, to the legs from `at` on that get it, until so much is written that
/// it is better sent; returns where to go on. `written` counts.
///
/// It goes leg by leg: what is a leg's own is fetched once for all packets, and they leave as one run. A leg that cannot take one
/// counts why in `drops`; the others are not affected.
pub fn forward(
    group: &mut Group<'_>,
    layer: u8,
    legs: &[LegRef],
    mut at: usize,
    sessions: &mut Slots<SessionKey, Session>,
    egress: &mut Egress,
    (written, drops): (&mut Written, &mut DropCounters),
) -> usize {
    while at < legs.len() && !egress.is_ripe() {
        if let Some(ahead) = legs.get(at + SESSION_AHEAD) {
            sessions.prefetch(ahead.session, Session::HOT_BYTES);
        }
        if let Some(ahead) = legs.get(at + LEG_AHEAD)
            && let Some(session) = sessions.get(ahead.session)
        {
            session.sender.prefetch(ahead.leg);
        }
        let leg = &legs[at];
        at += 1;
        if leg.layer == layer
            && let Some(session) = sessions.get_mut(leg.session)
        {
            let Written { packets, padded, bytes } =
                session.send_media(leg.leg, group, egress, drops);
            written.packets += packets;
            written.padded += padded;
            written.bytes += bytes;
        }
    }
    at
}
