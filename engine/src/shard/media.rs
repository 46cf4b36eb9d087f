//! Media and its feedback: protected packets in, forwarded to their legs, and what RTCP asks of others.

use std::time::Duration;

use arrayvec::ArrayVec;

use super::mailbox::Report;
use super::stage::{Stage, Staged};
use super::{Shard, relay, send};
use crate::call::fanout;
use crate::call::table::{ForwardTable, Publisher};
use crate::clock::{self, Instant};
use crate::drop_reason::DropReason;
use crate::egress::Egress;
use crate::ids::{ExtSeqNum, SeqNum, SessionKey, TrackKey};
use crate::io::Network;
use crate::session::Session;
use crate::session::blocks::{Blocks, GROUP_MAX};
use crate::session::feedback::Wishes;
use crate::session::outbound::{Group, Written};
use crate::session::plain::PlainRtp;

/// What is known of a plain packet beside its bytes.
#[derive(Clone, Copy)]
pub(super) struct Incoming {
    /// Which stream of the track it came on.
    pub(super) source: u32,
    /// The simulcast layer of the stream; 0 without simulcast.
    pub(super) layer: u8,
    /// The publisher's packet index.
    pub(super) index: ExtSeqNum,
    /// Clock rate of the payload type in Hz.
    pub(super) clock_rate_hz: u32,
}

impl Shard {
    pub(super) fn handle_rtp(&mut self, now: Instant, key: SessionKey, datagram: &mut [u8]) {
        let Some(session) = self.sessions.get_mut(key) else {
            return self.drops.count(DropReason::SessionClosed);
        };
        let received = match session.handle_rtp(now, datagram) {
            Ok(received) => received,
            Err(reason) => return self.drops.count(reason),
        };
        let deadline = session.next_deadline();
        self.arm(key, deadline);
        self.counters.rtp_packets_in += 1;
        self.counters.rtp_bytes_in += received.plain.len() as u64;
        self.counters.rtx_in += u64::from(received.recovered);
        let packet = Incoming {
            source: received.source,
            layer: received.layer,
            index: received.index,
            clock_rate_hz: received.clock_rate_hz,
        };
        self.forward(received.track, packet, &datagram[received.plain]);
    }

    /// Takes one plain packet of a track; [`Shard::forward_staged`] brings it to all that is interested in it. There must be room:
    /// [`Stage::is_crowded`].
    pub(super) fn forward(&mut self, track: TrackKey, packet: Incoming, bytes: &[u8]) {
        if !self.stage.push(track, packet, bytes) {
            self.drops.count(DropReason::TooLarge);
        }
    }

    /// Forwards what waits, track by track.
    pub(super) fn forward_staged<N: Network>(&mut self, now: Instant, network: &mut N) {
        if self.stage.is_empty() {
            return;
        }
        let mut stage = std::mem::take(&mut self.stage);
        stage.sort();
        let mut from = 0;
        while let Some(first) = stage.packets().get(from) {
            let same = |staged: &&Staged| staged.track == first.track;
            let count = stage.packets()[from..].iter().take(GROUP_MAX).take_while(same).count();
            let staged = &stage.packets()[from..from + count];
            self.forward_group(now, first.track, &stage, staged, network);
            from += count;
        }
        self.current = None;
        self.relayed.current = None;
        stage.clear();
        self.stage = stage;
    }

    /// Brings a few packets of one track to legs, history, clock and counters.
    fn forward_group<N: Network>(
        &mut self,
        now: Instant,
        key: TrackKey,
        stage: &Stage,
        staged: &[Staged],
        network: &mut N,
    ) {
        let Some(track) = self.table.get(key) else {
            return self.drops.add(DropReason::UnknownSsrc, staged.len() as u64);
        };
        let (id, publisher) = (track.id, track.publisher.session());
        self.current = publisher;
        self.relayed.current = publisher.is_none().then_some(key);
        let mut speech = ArrayVec::<bool, GROUP_MAX>::new();
        let mut waiting = 0;
        let mut ready = ArrayVec::<PlainRtp<'_>, GROUP_MAX>::new();
        for packet in staged {
            let Some(track) = self.table.get_mut(key) else { return };
            let bytes = stage.bytes(packet);
            let Incoming { source, layer, index, clock_rate_hz } = packet.packet;
            let plain = PlainRtp::read(bytes, source, index, clock_rate_hz, &track.extensions);
            let Some(mut plain) = plain else {
                self.drops.count(DropReason::BadRtp);
                continue;
            };
            plain.layer = layer;
            // A muted track is listened to as well: its publisher may be told that nobody hears it.
            speech.extend(track.hear(now, &plain));
            let goes_along = |first: &PlainRtp<'_>| {
                (first.layer, first.payload_type) == (layer, plain.payload_type)
            };
            // Legs may change layers with this packet: what came before goes to those that had its layer then.
            if ready.first().is_some_and(|f| !goes_along(f) || track.is_layer_awaited(layer)) {
                self.fan_out(now, key, &mut ready, network);
            }
            let Some(track) = self.table.get_mut(key) else { return };
            waiting |= track.on_layer_packet(
                now,
                &mut plain,
                bytes.len(),
                &mut self.sessions,
                &mut self.counters,
            );
            let Some(layer) = track.layers.get_mut(usize::from(layer)) else {
                self.drops.count(DropReason::UnknownSsrc);
                continue;
            };
            layer.clock.on_packet(now, plain.numbers.timestamp, clock_rate_hz);
            if publisher.is_some() {
                let tally = &mut self.tallies[track.tally.index()];
                tally.packets_in += 1;
                tally.bytes_in += bytes.len() as u64;
            }
            if track.muted {
                self.counters.rtp_packets_muted += 1;
            } else {
                if let Some(history) = &mut layer.history {
                    history.store(source, index, bytes);
                }
                if !track.relays.is_empty() {
                    let (steering, drops) = (&mut self.steering, &mut self.drops);
                    self.counters.relayed_out +=
                        relay::pass_on(now, track, packet.packet, bytes, steering, drops);
                }
                if !track.legs.is_empty() {
                    ready.push(plain);
                }
            }
        }
        self.fan_out(now, key, &mut ready, network);
        if let Some(session) = publisher.and_then(|key| self.sessions.get(key)).map(|s| s.id) {
            for active in speech {
                self.report(Report::Voice { session, track: id, active });
            }
        }
        self.request_keyframes(now, key, waiting);
    }

    /// Writes `packets`, which are of one layer and payload type, to the legs of their track, and sends on the way. Leaves none.
    fn fan_out<N: Network>(
        &mut self,
        now: Instant,
        key: TrackKey,
        packets: &mut ArrayVec<PlainRtp<'_>, GROUP_MAX>,
        network: &mut N,
    ) {
        let Some(first) = packets.first() else { return };
        let Some(track) = self.table.get(key) else { return };
        let layer = first.layer;
        let tally = &mut self.tallies[track.tally.index()];
        let is_home = track.publisher.session().is_some();
        let is_timed = is_home && tally.times_one_of(packets.len());
        let mut took = Duration::ZERO;
        let mut written = Written::default();
        self.blocks.clear();
        let padding_max = self.config.padding_bytes_max;
        let mut group = Group { now, packets, blocks: &mut self.blocks, padding_max };
        let mut at = 0;
        while at < track.legs.len() {
            let begun = is_timed.then(clock::now);
            at = fanout::forward(
                &mut group,
                layer,
                &track.legs,
                at,
                &mut self.sessions,
                &mut self.egress,
                (&mut written, &mut self.drops),
            );
            took += begun.map_or(Duration::ZERO, |begun| clock::now().since(begun));
            if self.egress.is_ripe() {
                let counted = (&mut self.counters, &mut self.drops);
                send(&mut self.egress, &mut self.closing_paths, counted, network);
            }
        }
        tally.packets_out += written.packets;
        tally.bytes_out += written.bytes;
        self.counters.rtp_packets_out += written.packets;
        self.counters.rtp_bytes_out += written.bytes;
        self.counters.rtp_packets_padded += written.padded;
        if is_timed {
            tally.forward_times.observe(took / packets.len() as u32);
        }
        packets.clear();
    }

    pub(super) fn handle_rtcp(&mut self, now: Instant, key: SessionKey, datagram: &mut [u8]) {
        let Some(session) = self.sessions.get_mut(key) else {
            return self.drops.count(DropReason::SessionClosed);
        };
        let mut wishes = std::mem::take(&mut self.wishes);
        let outcome =
            session.handle_rtcp(now, &self.wall, datagram, &mut wishes, &mut self.counters);
        match outcome {
            Ok(()) => self.fulfil(now, key, &wishes),
            Err(reason) => self.drops.count(reason),
        }
        self.wishes = wishes;
    }

    /// Does what a peer's RTCP asks of others: clocks, retransmissions, key frames.
    fn fulfil(&mut self, now: Instant, key: SessionKey, wishes: &Wishes) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        for &ssrc in &wishes.reported {
            if let Some((track, layer, report)) = session.receiver.clock_of(ssrc)
                && let Some(track) = self.table.get_mut(track)
                && let Some(layer) = track.layers.get_mut(usize::from(layer))
            {
                layer.clock.report = Some(report);
                relay::tell_clocks(track, &mut self.steering);
            }
        }
        for &(position, seq) in &wishes.resends {
            let (blocks, egress) = (&mut self.blocks, &mut self.egress);
            match resend(now, session, &self.table, (position, seq), blocks, egress) {
                Some(Ok(bytes)) => {
                    self.counters.rtx_out += 1;
                    self.counters.rtp_packets_out += 1;
                    self.counters.rtp_bytes_out += bytes as u64;
                }
                Some(Err(reason)) => self.drops.count(reason),
                None => self.counters.rtx_missed += 1,
            }
        }
        for &(track, layer) in &wishes.keyframes {
            self.request_keyframe(now, track, layer);
        }
        if wishes.estimated {
            self.decide_layers(now, key);
        }
    }

    /// The estimate of a subscriber's path may have changed: which layers is it to get?
    fn decide_layers(&mut self, now: Instant, key: SessionKey) {
        let mut from = 0;
        loop {
            let Some(session) = self.sessions.get(key) else { return };
            let Some(estimate) = session.sender.estimate() else { return };
            let Some((position, track)) = session.sender.next_simulcast_leg(from) else { return };
            from = position + 1;
            let decided = self.table.get_mut(track);
            let decided = decided.and_then(|t| t.decide_layer(now, key, position, estimate));
            if let Some(layer) = decided {
                self.request_keyframe(now, track, layer);
            }
        }
    }

    /// Hands a wish for a key frame of a layer to the track's publisher, or to the shard that has it.
    pub(super) fn request_keyframe(&mut self, now: Instant, track: TrackKey, layer: u8) {
        let key = track;
        let Some(track) = self.table.get_mut(key) else { return };
        let (id, publisher) = (track.id, &mut track.publisher);
        let publisher = match publisher {
            Publisher::Session(publisher) => *publisher,
            Publisher::Relay(upstream) => {
                upstream.layers |= 1 << layer;
                return self.want(key);
            }
        };
        let Some(session) = self.sessions.get_mut(publisher) else { return };
        session.request_keyframe(now, id, layer, &mut self.egress, &mut self.counters);
        let deadline = session.next_deadline();
        self.arm(publisher, deadline);
    }

    /// The same for each layer whose bit is set.
    pub(super) fn request_keyframes(&mut self, now: Instant, track: TrackKey, layers: u8) {
        for layer in (0..u8::BITS as u8).filter(|layer| layers & (1 << layer) != 0) {
            self.request_keyframe(now, track, layer);
        }
    }
}

/// Looks up and sends again what a subscriber misses; `None` when the history no longer holds it.
fn resend(
    now: Instant,
    session: &mut Session,
    table: &ForwardTable,
    (position, seq): (u32, SeqNum),
    blocks: &mut Blocks,
    egress: &mut Egress,
) -> Option<Result<usize, DropReason>> {
    let (track, source, index) = session.sender.wanted(position, seq)?;
    let track = table.get(track)?;
    // A source is of one layer only, so no other layer's history has packets of it.
    let mut histories = track.layers.iter().filter_map(|layer| layer.history.as_ref());
    let bytes = histories.find_map(|history| history.get(source, index))?;
    // The clock rate is for numbering, and a retransmission is numbered already.
    let mut plain = PlainRtp::read(bytes, source, index, 0, &track.extensions)?;
    if let Some(simulcast) = &track.simulcast {
        plain.read_picture(simulcast.format_of(plain.payload_type));
    }
    blocks.clear();
    let packets = std::slice::from_ref(&plain);
    let mut group = Group { now, packets, blocks, padding_max: 0 };
    Some(session.resend_media(position, &mut group, egress))
}
