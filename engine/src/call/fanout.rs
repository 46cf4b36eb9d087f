//! The hot loop: a few plain packets of one track in, protected packets out for each leg.

use super::table::LegRef;
use crate::drop_reason::DropCounters;
use crate::egress::Egress;
use crate::ids::SessionKey;
use crate::session::Session;
use crate::session::outbound::{Group, Written};
use crate::slots::Slots;

/// Writes the packets of `group`, which are of the layer `layer`, to every leg that gets it, leg by leg: what is a leg's own is
/// fetched once for all of them, and they leave as one run. A leg that cannot take one counts why in `drops`; the others are not affected.
pub fn forward(
    group: &mut Group<'_>,
    layer: u8,
    legs: &[LegRef],
    sessions: &mut Slots<SessionKey, Session>,
    egress: &mut Egress,
    drops: &mut DropCounters,
) -> Written {
    let mut written = Written::default();
    for leg in legs.iter().filter(|leg| leg.layer == layer) {
        let Some(session) = sessions.get_mut(leg.session) else { continue };
        let Written { packets, bytes } = session.send_media(leg.leg, group, egress, drops);
        written.packets += packets;
        written.bytes += bytes;
    }
    written
}
