//! One user's session: its negotiation, what it publishes and what it gets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sluice_engine::clock::Instant;
use sluice_engine::ids::{ChannelId, LegId, SessionId, TrackId};
use sluice_engine::shard::mailbox::Command;

use super::channel_message::{MediaMapEntry, ToPeer};
use super::descriptions::{Description, DescriptionKind};
use super::directory::SessionConfig;
use super::effects::{Effect, Effects};
use super::hub::ConnectionId;
use super::lock::SignalingLock;
use super::message::{Rtc, RtcKind, ToPlugin};
use super::metrics::{Direction, ErrorKind, RtcdMetrics};
use super::track_class::TrackClass;
use super::tracks::Published;
use crate::sdp::{Change, Negotiator};

/// Time for a client's first offer.
pub(super) const FIRST_OFFER_MAX: Duration = Duration::from_secs(10);

/// Time for the answer to an offer of ours.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Time for a client to acknowledge the media map, after which the offer goes without. A map that is lost twice is there by then: SCTP
/// sends it again after one second and after two more (RFC 9260 §6.3.1).
const MAP_MAX: Duration = Duration::from_secs(5);

/// The wait before an offer that failed is made again; it doubles each time up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// The longest wait before an offer is made again.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// A user's session.
pub(super) struct Session {
    /// The engine's number.
    pub(super) number: SessionId,
    /// Who it is and what it joined with.
    pub(super) config: SessionConfig,
    /// The plugin's connection that messages to it take.
    pub(super) connection: ConnectionId,
    /// Its negotiation.
    pub(super) negotiator: Negotiator,
    /// What it publishes.
    pub(super) published: Vec<Published>,
    /// The stream that it shares as its screen, if any.
    pub(super) screen_stream: Option<String>,
    /// The stream of its camera, if any.
    pub(super) camera_stream: Option<String>,
    /// Whether its voice goes to nobody.
    pub(super) muted: bool,
    /// The voice by which the plugin was told that it speaks.
    speaking: Option<TrackId>,
    /// When it joined.
    pub(super) joined_at: Instant,
    /// When its first offer was answered.
    pub(super) answered_at: Option<Instant>,
    /// The data channels that it has open, the first of which is spoken over; the engine bounds them.
    channels: Vec<ChannelId>,
    /// Whether it ever had one.
    had_channel: bool,
    /// Who may negotiate.
    pub(super) lock: SignalingLock,
    /// What is sent to it: leg → track and media type.
    pub(super) legs: BTreeMap<LegId, (TrackId, &'static str)>,
    /// The media types of the tracks that it gets or waits for.
    mimes: BTreeMap<TrackId, &'static str>,
    round: Round,
    /// Offers that failed in a row.
    failed: u32,
}

/// Where the exchange of our next offer stands.
#[derive(Debug)]
enum Round {
    /// No offer is on its way.
    Idle,
    /// An offer waits until the client has the media map, or until then. The map takes the data channel and the offer the plugin's
    /// WebSocket, which may be faster; a client that applies the offer first drops the pictures.
    Mapped { offer: String, until: Instant },
    /// An offer waits for its answer until then.
    Offered { until: Instant },
    /// An offer failed and is made again then.
    Retry { at: Instant },
}

/// Over what a description came or goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carrier {
    /// The plugin's WebSocket.
    WebSocket,
    /// The session's data channel.
    DataChannel,
}

impl Session {
    /// Makes the session of a user that joined at `now`.
    pub(super) fn new(
        now: Instant,
        number: SessionId,
        config: SessionConfig,
        connection: ConnectionId,
        negotiator: Negotiator,
    ) -> Self {
        Self {
            number,
            config,
            connection,
            negotiator,
            published: Vec::new(),
            screen_stream: None,
            camera_stream: None,
            muted: false,
            speaking: None,
            joined_at: now,
            answered_at: None,
            channels: Vec::new(),
            had_channel: false,
            lock: SignalingLock::default(),
            legs: BTreeMap::new(),
            mimes: BTreeMap::new(),
            round: Round::Idle,
            failed: 0,
        }
    }

    /// The client's name: the first part of every label in metrics.
    pub(super) fn group(&self) -> &str {
        &self.config.group
    }

    /// Whether it takes AV1.
    pub(super) fn takes_av1(&self) -> bool {
        self.config.props.av1_support == Some(true)
    }

    /// A track of somebody else is to reach it.
    pub(super) fn add_track(&mut self, published: &Published) {
        self.negotiator.add_track(published.remote.clone());
        self.mimes.insert(published.track(), published.mime());
    }

    /// A track is no longer to reach it; what the engine must be told, if the track has not gone altogether.
    pub(super) fn drop_track(&mut self, track: TrackId, metrics: &RtcdMetrics) -> Option<Change> {
        self.mimes.remove(&track);
        let group = &self.config.group;
        self.legs.retain(|_, (of, mime)| {
            let stays = *of != track;
            if !stays {
                metrics.track_removed(group, Direction::Out, mime);
            }
            stays
        });
        self.negotiator.remove_track(track)
    }

    /// The media type of a track that it gets.
    pub(super) fn mime_of(&self, track: TrackId) -> &'static str {
        self.mimes.get(&track).copied().unwrap_or("unknown")
    }

    /// Its voices: one, unless it does what no client does.
    pub(super) fn voices(&self) -> impl Iterator<Item = TrackId> {
        let is_voice = |p: &&Published| p.class == Some(TrackClass::Voice);
        self.published.iter().filter(is_voice).map(Published::track)
    }

    /// Its voice began or ceased to be speech.
    pub(super) fn tell_voice(&mut self, track: TrackId, active: bool, out: &mut Effects) {
        if self.voices().next() != Some(track) {
            return;
        }
        self.speaking = active.then_some(track);
        let kind = if active { RtcKind::VoiceOn } else { RtcKind::VoiceOff };
        self.tell_plugin(ToPlugin::Vad(self.rtc(kind, Vec::new())), out);
    }

    /// A track is gone, or no voice after all: nobody speaks by it any longer.
    pub(super) fn silence(&mut self, track: TrackId, out: &mut Effects) {
        if self.speaking.take_if(|speaking| *speaking == track).is_some() {
            self.tell_plugin(ToPlugin::Vad(self.rtc(RtcKind::VoiceOff, Vec::new())), out);
        }
    }

    /// What it shares of its screen goes to nobody any longer, though it may still stand in its description.
    pub(super) fn withdraw_screen(&mut self) {
        let is_of_it = |p: &&mut Published| {
            matches!(p.class, Some(TrackClass::Screen | TrackClass::ScreenAudio))
        };
        self.published.iter_mut().filter(is_of_it).for_each(|published| published.withdrawn = true);
    }

    /// It has opened a data channel; whether that is the first ever.
    pub(super) fn channel_opened(&mut self, channel: ChannelId) -> bool {
        self.channels.push(channel);
        !std::mem::replace(&mut self.had_channel, true)
    }

    /// It has closed a data channel. What was said over it may not have been heard.
    pub(super) fn channel_closed(
        &mut self,
        now: Instant,
        channel: ChannelId,
        metrics: &RtcdMetrics,
    ) {
        let was_used = self.channels.first() == Some(&channel);
        self.channels.retain(|open| *open != channel);
        if was_used {
            self.unheard(now, metrics);
        }
    }

    /// A message about this session.
    pub(super) fn rtc(&self, kind: RtcKind, data: Vec<u8>) -> Rtc {
        Rtc {
            group: self.config.group.clone(),
            user: self.config.user.clone(),
            session: self.config.session.clone(),
            call: self.config.call.clone(),
            kind,
            data,
        }
    }

    /// Sends a message to the plugin.
    pub(super) fn tell_plugin(&self, message: ToPlugin, out: &mut Effects) {
        out.push(Effect::ToPlugin { session: self.number, message });
    }

    /// Sends a message over the data channel, if it is open.
    pub(super) fn tell_peer(&self, message: &ToPeer<'_>, out: &mut Effects) {
        self.send(message, false, out);
    }

    /// Answers a ping; one that is not answered comes again.
    pub(super) fn answer_ping(&self, pong: &ToPeer<'_>, out: &mut Effects) {
        out.extend(self.data(pong, false).map(Effect::Passing));
    }

    fn send(&self, message: &ToPeer<'_>, confirm: bool, out: &mut Effects) {
        out.extend(self.data(message, confirm).map(Effect::Command));
    }

    fn data(&self, message: &ToPeer<'_>, confirm: bool) -> Option<Command> {
        let &channel = self.channels.first()?;
        let (kind, bytes) = message.encode();
        Some(Command::SendData { session: self.number, channel, kind, bytes, confirm })
    }

    /// Sends a description of ours.
    pub(super) fn describe(
        &self,
        kind: DescriptionKind,
        sdp: &str,
        carrier: Carrier,
        out: &mut Effects,
    ) {
        let json = Description::write(kind, sdp);
        match carrier {
            Carrier::DataChannel => self.tell_peer(&ToPeer::Sdp(&json), out),
            Carrier::WebSocket => {
                let message = ToPlugin::Rtc(self.rtc(RtcKind::Sdp, json.into_bytes()));
                let session = self.number;
                out.push(match kind {
                    DescriptionKind::Offer => Effect::Offer { session, message },
                    DescriptionKind::Answer => Effect::ToPlugin { session, message },
                });
            }
        }
    }

    /// Makes one offer of all that waits, as soon as that is possible: the data channel is open, nothing else is on its way, and the
    /// lock is ours. `describe_track` says what a track is and whose.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        describe_track: &dyn Fn(TrackId) -> Option<(TrackClass, String)>,
        metrics: &RtcdMetrics,
        out: &mut Effects,
    ) {
        match &self.round {
            Round::Retry { at } if *at <= now => self.round = Round::Idle,
            Round::Mapped { offer, until } if *until <= now => {
                self.describe(DescriptionKind::Offer, offer, Carrier::WebSocket, out);
                self.round = Round::Offered { until: now + ANSWER_MAX };
            }
            _ => {}
        }
        if self.channels.is_empty() || !matches!(self.round, Round::Idle) {
            return;
        }
        if !self.negotiator.needs_offer() {
            return self.lock.stop_waiting();
        }
        let Some(waited) = self.lock.try_server(now) else { return };
        metrics.lock_grab_time(self.group(), waited);
        let Some(sdp) = self.negotiator.make_offer() else {
            return self.release_lock(now, metrics);
        };
        // The map first: a client looks up each track in it when the offer is applied.
        let map: Vec<MediaMapEntry> = self
            .negotiator
            .legs()
            .into_iter()
            .filter_map(|leg| {
                let (class, sender) = describe_track(leg.track)?;
                Some(MediaMapEntry { mid: leg.mid.as_str().to_owned(), class, sender })
            })
            .collect();
        let in_channel = self.config.props.dc_signaling == Some(true);
        self.send(&ToPeer::MediaMap(&map), !in_channel, out);
        if in_channel {
            self.describe(DescriptionKind::Offer, &sdp, Carrier::DataChannel, out);
            self.round = Round::Offered { until: now + ANSWER_MAX };
        } else {
            self.round = Round::Mapped { offer: sdp, until: now + MAP_MAX };
        }
    }

    /// The client has the media map: an offer that waits for that is due.
    pub(super) fn map_delivered(&mut self, now: Instant) {
        if let Round::Mapped { until, .. } = &mut self.round {
            *until = now;
        }
    }

    /// Whether an offer of ours has gone out and has no answer yet.
    pub(super) fn awaits_answer(&self) -> bool {
        matches!(self.round, Round::Offered { .. })
    }

    /// The answer to our offer was taken.
    pub(super) fn round_succeeded(&mut self, now: Instant, metrics: &RtcdMetrics) {
        self.failed = 0;
        self.round = Round::Idle;
        self.release_lock(now, metrics);
    }

    /// Our offer came to nothing: it is taken back and made again later. Nothing that waits is lost.
    pub(super) fn round_failed(&mut self, now: Instant, metrics: &RtcdMetrics) {
        metrics.error(self.group(), ErrorKind::Signaling);
        self.negotiator.rollback_offer();
        let wait = RETRY_FIRST.saturating_mul(1 << self.failed.min(8)).min(RETRY_MAX);
        self.failed += 1;
        self.round = Round::Retry { at: now + wait };
        self.release_lock(now, metrics);
    }

    /// A message to the peer was refused. If that was a media map, or an offer, both are made again.
    pub(super) fn unheard(&mut self, now: Instant, metrics: &RtcdMetrics) {
        let in_channel = self.config.props.dc_signaling == Some(true);
        if matches!(self.round, Round::Mapped { .. }) || in_channel && self.awaits_answer() {
            self.round_failed(now, metrics);
        }
    }

    fn release_lock(&mut self, now: Instant, metrics: &RtcdMetrics) {
        if let Some(held) = self.lock.release_server(now) {
            metrics.lock_locked_time(self.group(), held);
        }
    }

    /// What has run out of time at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant, metrics: &RtcdMetrics) -> Overdue {
        if let Some(held) = self.lock.expire(now) {
            metrics.lock_locked_time(self.group(), held);
            metrics.error(self.group(), ErrorKind::SignalingLockTimeout);
        }
        if self.answered_at.is_none() && now.since(self.joined_at) >= FIRST_OFFER_MAX {
            return Overdue::FirstOffer;
        }
        if let Round::Offered { until } = self.round
            && until <= now
        {
            self.round_failed(now, metrics);
        }
        Overdue::Nothing
    }

    /// When [`Session::handle_timeout`], and [`Session::advance`] after it, are to be called next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let first = self.answered_at.is_none().then(|| self.joined_at + FIRST_OFFER_MAX);
        let round = match self.round {
            Round::Idle => None,
            Round::Mapped { until, .. } | Round::Offered { until } => Some(until),
            Round::Retry { at } => Some(at),
        };
        [first, round, self.lock.expires_at()].into_iter().flatten().min()
    }

    /// The tracks that it gets, or is about to get, of those in `of`.
    pub(super) fn gets(&self, of: &[Published]) -> BTreeSet<TrackId> {
        let tracks = of.iter().map(Published::track);
        tracks.filter(|&track| self.negotiator.has_track(track)).collect()
    }
}

/// What came of a deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Overdue {
    /// Nothing that ends the session.
    Nothing,
    /// The client never made its first offer.
    FirstOffer,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcd::directory::SessionProps;
    use crate::sdp::Policy;
    use crate::sdp::tests::{RTCD_DATA, RTCD_MICROPHONE, negotiator};

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    /// A session whose data channel is open, and to which somebody's voice is to go.
    fn session(dc_signaling: bool) -> Session {
        let mut speaker = negotiator(Policy::RTCD);
        speaker.handle_offer(RTCD_DATA).unwrap();
        let changes = speaker.handle_offer(RTCD_MICROPHONE).unwrap().changes;
        let voice = changes.into_iter().find_map(|change| match change {
            Change::Publish { track, .. } => Some(track),
            _ => None,
        });

        let mut negotiator = negotiator(Policy::RTCD);
        negotiator.handle_offer(RTCD_DATA).unwrap();
        negotiator.add_track(voice.expect("a microphone"));
        let config = SessionConfig {
            group: "client".to_owned(),
            call: "call".to_owned(),
            user: "user".to_owned(),
            session: "session".to_owned(),
            props: SessionProps { dc_signaling: Some(dc_signaling), ..SessionProps::default() },
        };
        let mut session =
            Session::new(at(0), SessionId(1), config, ConnectionId::random(), negotiator);
        session.answered_at = Some(at(0));
        session.channel_opened(ChannelId(1));
        session
    }

    /// What leaves at `millis`, in order: `map`, to be confirmed or not, `description` in the channel, `plugin`.
    fn leaves(session: &mut Session, millis: u64) -> Vec<&'static str> {
        let (metrics, mut out) = (RtcdMetrics::default(), Effects::new());
        assert_eq!(session.handle_timeout(at(millis), &metrics), Overdue::Nothing);
        session.advance(
            at(millis),
            &|_| Some((TrackClass::Voice, "sender".to_owned())),
            &metrics,
            &mut out,
        );
        let name = |effect: Effect| match effect {
            Effect::Command(Command::SendData { confirm: true, .. }) => "map to confirm",
            Effect::Command(Command::SendData { bytes, .. }) if bytes.starts_with(&[0xcc, 9]) => {
                "map"
            }
            Effect::Command(Command::SendData { .. }) => "description",
            Effect::Offer { .. } => "plugin",
            other => panic!("unexpected: {other:?}"),
        };
        out.into_iter().map(name).collect()
    }

    #[test]
    fn an_offer_over_the_plugin_waits_until_the_client_has_the_map() {
        let mut session = session(false);
        assert_eq!(leaves(&mut session, 10), ["map to confirm"]);
        assert!(!session.awaits_answer());
        assert_eq!(leaves(&mut session, 20), [""; 0]);
        session.map_delivered(at(30));
        assert_eq!(session.next_deadline(), Some(at(30)));
        assert_eq!(leaves(&mut session, 30), ["plugin"]);
        assert!(session.awaits_answer());
        // What is confirmed later was not waited for.
        session.map_delivered(at(40));
        assert_eq!(leaves(&mut session, 40), [""; 0]);
        assert_eq!(session.next_deadline(), Some(at(30) + ANSWER_MAX));
    }

    #[test]
    fn an_offer_over_the_plugin_does_not_wait_for_ever() {
        let mut session = session(false);
        assert_eq!(leaves(&mut session, 10), ["map to confirm"]);
        assert_eq!(session.next_deadline(), Some(at(10) + MAP_MAX));
        assert_eq!(leaves(&mut session, 5_010), ["plugin"]);
    }

    #[test]
    fn an_offer_in_the_channel_follows_its_map() {
        let mut session = session(true);
        assert_eq!(leaves(&mut session, 10), ["map", "description"]);
        assert!(session.awaits_answer());
    }
}
