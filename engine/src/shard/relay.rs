//! Tracks that are published on one shard and received on others.
//!
//! Each packet crosses once for each shard that wants it, and is forwarded there as if it had come from a publisher: [`Shard::forward`]
//! has the legs, the history that answers their NACKs, and the clocks of their sender reports. Upstream go wishes for key frames,
//! gathered over a turn, and nothing else. A track of another shard is here as long as it has legs.

use super::media::Incoming;
use super::steering::{RELAYED_BYTES_MAX, Steering};
use super::{Shard, budget};
use crate::call::table::{Publisher, Track};
use crate::clock::Instant;
use crate::command_error::CommandError;
use crate::drop_reason::{DropCounters, DropReason};
use crate::ids::{CallId, SessionId, ShardId, TrackId, TrackKey};
use crate::io::Network;
use crate::relay::{LEASE, Lease, Message, PacketHead, REFRESH, Upstream, Word};
use crate::session::inbound::LAYERS_MAX;
use crate::session::params::{LegParams, TrackParams};

/// The tracks of other shards that this one has.
#[derive(Default)]
pub(super) struct Relayed {
    tracks: usize,
    /// Those whose home is to be told that they are wanted; each once. Those that have gone since are passed over.
    due: Vec<TrackKey>,
    /// When all homes are told again.
    refresh_at: Instant,
    /// Whose packet is being forwarded: taken down when that panics.
    pub(super) current: Option<TrackKey>,
}

impl Relayed {
    /// How many there are.
    pub(super) fn tracks(&self) -> usize {
        self.tracks
    }

    /// Whether a home is to be told something that the ring had no room for.
    pub(super) fn is_waiting(&self) -> bool {
        !self.due.is_empty()
    }

    /// When homes are to be told again; `None` while there is nothing of theirs.
    pub(super) fn next_refresh(&self) -> Option<Instant> {
        (self.tracks > 0).then_some(self.refresh_at)
    }
}

/// Hands a packet of a track to every shard that wants it; returns to how many.
pub(super) fn pass_on(
    now: Instant,
    track: &Track,
    packet: Incoming,
    bytes: &[u8],
    steering: &mut Steering,
    drops: &mut DropCounters,
) -> u64 {
    let Incoming { source, layer, index, clock_rate_hz } = packet;
    let head = PacketHead { source, layer, index, clock_rate_hz, resumed: track.resumed };
    let message = about(track, Word::Packet(head));
    let mut sent = 0;
    for lease in track.relays.iter().filter(|lease| lease.until > now) {
        match steering.send_relay(lease.to, &message, bytes) {
            true => sent += 1,
            false => drops.count(DropReason::TrackRelayFull),
        }
    }
    sent
}

/// Tells every shard that wants the track what is known of its publisher's clock. What finds no room is said again with the next
/// report.
pub(super) fn tell_clocks(track: &Track, steering: &mut Steering) {
    for lease in &track.relays {
        tell_clock(track, lease.to, steering);
    }
}

fn tell_clock(track: &Track, to: ShardId, steering: &mut Steering) {
    for (layer, of) in track.layers.iter().enumerate() {
        if let Some((clock, ntp, rtp)) = of.clock.report {
            let word = Word::Clock { layer: layer as u8, clock, ntp, rtp };
            steering.send_relay(to, &about(track, word), &[]);
        }
    }
}

fn about(track: &Track, word: Word) -> Message {
    Message { call: track.call, track: track.id, word }
}

impl Shard {
    /// Handles what other shards say of tracks, within the budget; true when more may wait.
    pub(super) fn receive_relayed<N: Network>(&mut self, now: Instant, network: &mut N) -> bool {
        let mut more = false;
        let mut buffer = [0; RELAYED_BYTES_MAX];
        for from in (0..self.steering.shards() as u16).map(ShardId) {
            let mut left = budget::RELAYED;
            while left > 0
                && let Some((message, len)) = self.steering.take_relay(now, from, &mut buffer)
            {
                left -= 1;
                self.make_room(now, network);
                self.handle_relay(now, from, &message, &buffer[..len], network);
            }
            more |= left == 0;
        }
        more
    }

    fn handle_relay<N: Network>(
        &mut self,
        now: Instant,
        from: ShardId,
        message: &Message,
        packet: &[u8],
        network: &mut N,
    ) {
        let Message { call, track, word } = *message;
        match word {
            Word::Packet(head) => {
                self.take_packet(now, from, (call, track), (head, packet), network);
            }
            Word::Clock { layer, clock, ntp, rtp } => {
                if let Some(key) = self.track_from(from, call, track)
                    && let Some(track) = self.table.get_mut(key)
                    && let Some(layer) = track.layers.get_mut(usize::from(layer))
                {
                    layer.clock.report = Some((clock, ntp, rtp));
                }
            }
            Word::Want { layers } => self.lease(now, from, (call, track), layers),
            Word::Stop => {
                if let Some(track) = self.track_at_home(call, track) {
                    track.relays.retain(|lease| lease.to != from);
                }
            }
            Word::Ended => {
                if let Some(key) = self.track_from(from, call, track) {
                    self.drop_track(key);
                }
            }
        }
    }

    /// The track of another shard, if it is there that it is from.
    fn track_from(&mut self, home: ShardId, call: CallId, track: TrackId) -> Option<TrackKey> {
        let key = self.find_track(call, track)?;
        let upstream = self.table.get_mut(key)?.publisher.upstream()?;
        (upstream.home == home).then_some(key)
    }

    /// The track that is published here.
    fn track_at_home(&mut self, call: CallId, track: TrackId) -> Option<&mut Track> {
        let key = self.find_track(call, track)?;
        self.table.get_mut(key).filter(|track| track.publisher.session().is_some())
    }

    fn take_packet<N: Network>(
        &mut self,
        now: Instant,
        from: ShardId,
        (call, track): (CallId, TrackId),
        (head, packet): (PacketHead, &[u8]),
        network: &mut N,
    ) {
        let Some(key) = self.track_from(from, call, track) else {
            return self.drops.count(DropReason::UnknownRelay);
        };
        let upstream = self.table.get_mut(key).and_then(|track| track.publisher.upstream());
        let before = upstream.and_then(|upstream| upstream.resumed.replace(head.resumed));
        if before.is_some_and(|before| before != head.resumed) {
            // What waits is from before.
            self.forward_staged(now, network);
            self.resume_legs(now, key);
        }
        self.counters.relayed_in += 1;
        let PacketHead { source, layer, index, clock_rate_hz, .. } = head;
        self.forward(key, Incoming { source, layer, index, clock_rate_hz }, packet);
    }

    /// Another shard wants a track of ours, and key frames of some of its layers.
    fn lease(&mut self, now: Instant, to: ShardId, of: (CallId, TrackId), layers: u8) {
        let Some(track) = self.track_at_home(of.0, of.1) else {
            let ended = Message { call: of.0, track: of.1, word: Word::Ended };
            // If there is no room to say so, it asks again.
            self.steering.send_relay(to, &ended, &[]);
            return;
        };
        let until = now + LEASE;
        track.relays.retain(|lease| lease.to == to || lease.until > now);
        match track.relays.iter_mut().find(|lease| lease.to == to) {
            Some(lease) => lease.until = until,
            None => {
                track.relays.push(Lease { to, until });
                if let Some(key) = self.find_track(of.0, of.1)
                    && let Some(track) = self.table.get(key)
                {
                    tell_clock(track, to, &mut self.steering);
                }
            }
        }
        if let Some(key) = self.find_track(of.0, of.1) {
            self.request_keyframes(now, key, layers);
        }
    }

    /// Adds a leg of a track that is published on another shard.
    pub(super) fn add_relayed_leg(
        &mut self,
        now: Instant,
        session: SessionId,
        leg: LegParams,
        home: ShardId,
        params: &TrackParams,
    ) -> Result<(), CommandError> {
        let key = self.key_of(session)?;
        let Some(call) = self.sessions.get(key).map(|session| session.call) else { return Ok(()) };
        if self.find_track(call, params.track).is_none() {
            let is_elsewhere = home != self.id && home.index() < self.steering.shards();
            if leg.track != params.track || !is_elsewhere {
                return Err(CommandError::UnknownTrack(leg.track));
            }
            if params.layers.len() > LAYERS_MAX {
                let limit = LAYERS_MAX;
                return Err(CommandError::LimitReached { what: "layers per track", limit });
            }
            let key = self.insert_track(call, Publisher::Relay(Upstream::new(home)), params)?;
            self.relayed.tracks += 1;
            if self.relayed.tracks == 1 {
                self.relayed.refresh_at = now + REFRESH;
            }
            self.want(key);
        }
        let added = self.add_leg(now, session, leg);
        if let Some(key) = self.find_track(call, params.track) {
            self.drop_unwanted(key);
        }
        added
    }

    /// At the end of this turn the track's home is told that it is wanted.
    pub(super) fn want(&mut self, key: TrackKey) {
        let track = self.table.get_mut(key);
        if let Some(upstream) = track.and_then(|track| track.publisher.upstream())
            && !std::mem::replace(&mut upstream.is_due, true)
        {
            self.relayed.due.push(key);
        }
    }

    /// Tells homes what is wanted of them; what finds no room waits for the next turn.
    pub(super) fn say_what_is_wanted(&mut self, now: Instant) {
        let Self { table, steering, relayed, .. } = self;
        if relayed.next_refresh().is_some_and(|at| at <= now) {
            relayed.refresh_at = now + REFRESH;
            let is_quiet = |track: &Track| match track.publisher {
                Publisher::Session(_) => false,
                Publisher::Relay(upstream) => !upstream.is_due,
            };
            let quiet = table.iter().filter(|(_, track)| is_quiet(track));
            relayed.due.extend(quiet.map(|(key, _)| key));
        }
        relayed.due.retain(|&key| {
            let Some(track) = table.get_mut(key) else { return false };
            let Some(upstream) = track.publisher.upstream() else { return false };
            let (home, layers) = (upstream.home, upstream.layers);
            let said = steering.send_relay(home, &about(track, Word::Want { layers }), &[]);
            if let Some(upstream) = track.publisher.upstream() {
                upstream.is_due = !said;
                upstream.layers = if said { 0 } else { layers };
            }
            !said
        });
    }

    /// A track of another shard that nobody here gets any longer goes.
    pub(super) fn drop_unwanted(&mut self, key: TrackKey) {
        if self.table.get(key).is_some_and(|track| track.legs.is_empty()) {
            self.give_up(key);
        }
    }

    /// A track of another shard goes, and its home need not send it any longer. One of this shard stays.
    pub(super) fn give_up(&mut self, key: TrackKey) {
        let Some(track) = self.table.get_mut(key) else { return };
        if let Some(home) = track.publisher.upstream().map(|upstream| upstream.home) {
            // If there is no room to say so, the home forgets us by itself.
            self.steering.send_relay(home, &about(track, Word::Stop), &[]);
            self.drop_track(key);
        }
    }

    /// A track has left the table: the shards that had it from here are told, or it is counted as gone that came from another.
    pub(super) fn end_relays(&mut self, track: &Track) {
        for lease in &track.relays {
            // If there is no room to say so, the shard asks for it again and is told then.
            self.steering.send_relay(lease.to, &about(track, Word::Ended), &[]);
        }
        self.relayed.tracks -= usize::from(track.publisher.session().is_none());
    }
}

const _: () = assert!(
    REFRESH.as_millis() * 3 < LEASE.as_millis(),
    "a wish may be lost twice before its lease ends"
);
