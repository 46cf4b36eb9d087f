//! Calls from their users' messages to what the engine is told: real negotiations, no sockets.

mod joining;
mod media;
mod rounds;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sluice_engine::dtls::{Fingerprint, HashFunction};
use sluice_engine::ice::Credentials;
use sluice_engine::ids::{ChannelId, LegId};
use sluice_engine::shard::mailbox::{DataKind, Report};

use super::super::descriptions::{Description, DescriptionKind};
use super::super::directory::SessionProps;
use super::super::message::{Rtc, RtcKind, ToPlugin};
use super::*;
use crate::sdp::host_candidates;
use crate::sdp::tests::client::{Client, Verdict};

/// The channel that users open first.
const CHANNEL: ChannelId = ChannelId(0);

/// A call with its users' clients and what the engine would know.
struct World {
    now: Instant,
    call: Call,
    users: BTreeMap<&'static str, User>,
    numbers: Arc<AtomicU64>,
    /// Tracks and the session that each comes from.
    tracks: BTreeMap<TrackId, SessionId>,
    /// Whether media maps arrive.
    confirms: bool,
    /// Legs by the session that they go to.
    legs: BTreeMap<SessionId, BTreeMap<LegId, TrackId>>,
    muted: BTreeSet<TrackId>,
    /// Sessions that the plugin was told the end of.
    closed: Vec<String>,
    /// What the plugin was told of voices: whose, and whether it began.
    voices: Vec<(String, bool)>,
}

struct User {
    number: SessionId,
    client: Client,
    /// Whether it answers offers; otherwise they are kept.
    answers: bool,
    offers: Vec<String>,
    answered: usize,
}

impl World {
    fn new() -> Self {
        Self {
            now: Instant::from_start(Duration::from_secs(100)),
            call: Call::new(CallId(1), RtcdMetrics::default()),
            users: BTreeMap::new(),
            numbers: Arc::new(AtomicU64::new(1)),
            tracks: BTreeMap::new(),
            confirms: true,
            legs: BTreeMap::new(),
            muted: BTreeSet::new(),
            closed: Vec::new(),
            voices: Vec::new(),
        }
    }

    /// Users with their data channels open.
    fn with(names: &[&'static str]) -> Self {
        let mut world = Self::new();
        names.iter().for_each(|name| world.join(name, false));
        world
    }

    fn join(&mut self, name: &'static str, av1: bool) {
        self.begin(name, av1);
        self.user(name).client.add("application", false, false);
        self.offer(name);
        self.open_channel(name, CHANNEL);
    }

    /// A user whose client has said nothing yet.
    fn begin(&mut self, name: &'static str, av1: bool) {
        let number = SessionId(self.numbers.fetch_add(1, Ordering::Relaxed));
        let ipv4 = "192.0.2.10:8443".parse().unwrap();
        let udp = [ipv4, "[2001:db8::10]:8443".parse().unwrap()];
        let candidates = host_candidates(&udp, &[ipv4]);
        let fingerprint = Fingerprint { hash: HashFunction::Sha256, value: (0..32).collect() };
        let mut supply = TestSupply(Arc::clone(&self.numbers));
        let local = LocalTransport { ice: supply.credentials(), fingerprint, candidates };
        let props = SessionProps { av1_support: Some(av1), ..SessionProps::default() };
        let config = SessionConfig {
            group: "group".to_owned(),
            call: "call".to_owned(),
            user: name.to_owned(),
            session: name.to_owned(),
            props,
        };
        let connection = ConnectionId::random();
        let user =
            User { number, client: Client::new(), answers: true, offers: Vec::new(), answered: 0 };
        self.users.insert(name, user);
        let joining = Joining { number, config, connection, local, supply: Box::new(supply) };
        self.act(|call, now, out| call.join(now, joining, out));
    }

    fn user(&mut self, name: &str) -> &mut User {
        self.users.get_mut(name).expect("a user")
    }

    /// Does something to the call, and then all that comes of it.
    fn act(&mut self, step: impl FnOnce(&mut Call, Instant, &mut Effects)) {
        let mut out = Effects::new();
        step(&mut self.call, self.now, &mut out);
        for effect in out {
            match effect {
                Effect::Command(command) | Effect::Passing(command) => self.take_command(command),
                Effect::ToPlugin { session, message } | Effect::Offer { session, message } => {
                    self.take_message(session, message);
                }
                Effect::Closed { config, .. } => self.closed.push(config.session),
            }
        }
    }

    fn take_command(&mut self, command: Command) {
        match command {
            Command::SendData { session, channel, confirm: true, .. } if self.confirms => {
                self.report(Report::DataDelivered { session, channel });
            }
            Command::AddTrack { session, track } => drop(self.tracks.insert(track.track, session)),
            Command::AddLeg { session, leg } => {
                assert!(self.tracks.contains_key(&leg.track), "a leg of a track that is not there");
                self.legs.entry(session).or_default().insert(leg.leg, leg.track);
            }
            Command::RemoveLeg { session, leg } => {
                self.legs.entry(session).or_default().remove(&leg);
            }
            Command::RemoveTrack { track, .. } => self.end_track(track),
            Command::SetMuted { track, muted: true, .. } => drop(self.muted.insert(track)),
            Command::SetMuted { track, muted: false, .. } => drop(self.muted.remove(&track)),
            Command::RemoveSession { session } => {
                self.legs.remove(&session);
                let of_it = self.tracks.iter().filter(|(_, of)| **of == session);
                let of_it: Vec<TrackId> = of_it.map(|(track, _)| *track).collect();
                of_it.into_iter().for_each(|track| self.end_track(track));
            }
            _ => {}
        }
    }

    fn end_track(&mut self, track: TrackId) {
        self.tracks.remove(&track);
        self.muted.remove(&track);
        self.legs.values_mut().for_each(|legs| legs.retain(|_, of| *of != track));
    }

    fn take_message(&mut self, session: SessionId, message: ToPlugin) {
        let rtc = match message {
            ToPlugin::Vad(rtc) => {
                return self.voices.push((rtc.session, rtc.kind == RtcKind::VoiceOn));
            }
            ToPlugin::Rtc(rtc) if rtc.kind == RtcKind::Sdp => rtc,
            _ => return,
        };
        let Some(user) = self.users.values_mut().find(|user| user.number == session) else {
            return;
        };
        let Description { kind, sdp } = Description::read(&rtc.data).unwrap();
        match kind {
            DescriptionKind::Answer => {
                user.answered += 1;
                user.client.take_answer(&sdp);
            }
            DescriptionKind::Offer if user.answers => {
                let answer = user.client.answer(&sdp, || Verdict::Take);
                self.describe(&rtc.session, DescriptionKind::Answer, &answer);
            }
            DescriptionKind::Offer => user.offers.push(sdp),
        }
    }

    fn rtc(&mut self, name: &str, kind: RtcKind, data: &str) {
        let number = self.user(name).number;
        let message = Rtc {
            group: String::new(),
            user: String::new(),
            session: name.to_owned(),
            call: String::new(),
            kind,
            data: data.as_bytes().to_vec(),
        };
        self.act(|call, now, out| call.handle_rtc(now, number, &message, out));
    }

    fn describe(&mut self, name: &str, kind: DescriptionKind, sdp: &str) {
        self.rtc(name, RtcKind::Sdp, &Description::write(kind, sdp));
    }

    /// A user's client offers what it has; whether it was answered.
    fn offer(&mut self, name: &str) -> bool {
        let user = self.user(name);
        let (sdp, before) = (user.client.offer(), user.answered);
        self.describe(name, DescriptionKind::Offer, &sdp);
        self.user(name).answered > before
    }

    /// A user sends a further track; the index of its transceiver.
    fn send(&mut self, name: &str, media: &str, stream: &str) -> usize {
        let client = &mut self.user(name).client;
        let index = client.add(media, true, false);
        client.transceivers[index].stream = Some(stream.to_owned());
        assert!(self.offer(name), "{media} of {name}");
        index
    }

    /// A user stops to send a track.
    fn stop(&mut self, name: &str, index: usize) {
        self.user(name).client.transceivers[index].send = false;
        assert!(self.offer(name), "{name} stops");
    }

    fn screen_on(&mut self, name: &str, stream: &str) {
        self.rtc(name, RtcKind::ScreenOn, &format!(r#"{{"screenStreamID":"{stream}"}}"#));
    }

    fn video_on(&mut self, name: &str, stream: &str) {
        self.rtc(name, RtcKind::VideoOn, &format!(r#"{{"videoStreamID":"{stream}"}}"#));
    }

    fn open_channel(&mut self, name: &str, channel: ChannelId) {
        let session = self.user(name).number;
        self.report(Report::ChannelOpened { session, channel, label: "calls-dc".to_owned() });
    }

    fn close_channel(&mut self, name: &str, channel: ChannelId) {
        let session = self.user(name).number;
        self.report(Report::ChannelClosed { session, channel });
    }

    fn report(&mut self, report: Report) {
        self.act(|call, now, out| call.handle_report(now, report, out));
    }

    fn leave(&mut self, name: &str) {
        let number = self.user(name).number;
        self.act(|call, now, out| call.leave(now, number, out));
    }

    /// Lets time pass and does what falls due meanwhile.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.call.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.act(|call, now, out| call.handle_timeout(now, out));
        }
        self.now = until;
    }

    /// What reaches a user: class and sender of each track, in order.
    fn gets(&self, name: &str) -> Vec<String> {
        let number = self.users[name].number;
        let tracks = self.legs.get(&number).into_iter().flat_map(BTreeMap::values);
        let shown = |track: &TrackId| match self.call.classes.get(track) {
            Some((class, sender)) => format!("{} {sender}", class.as_str()),
            None => "unknown".to_owned(),
        };
        let mut all: Vec<String> = tracks.map(shown).collect();
        all.sort();
        all
    }

    /// The tracks of a user, in the order of their coming.
    fn tracks_of(&self, name: &str) -> Vec<TrackId> {
        let number = self.users[name].number;
        self.call.sessions[&number].published.iter().map(Published::track).collect()
    }

    fn gauges(&self) -> Vec<String> {
        let mut registry = prometheus_client::registry::Registry::default();
        self.call.metrics.register(&mut registry, &[]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let is_gauge = |line: &&str| {
            line.starts_with("rtc_rtp_tracks_total{") || line.starts_with("rtc_sessions_total{")
        };
        text.lines().filter(is_gauge).map(str::to_owned).collect()
    }
}

/// Counts; what it gives is never the same.
struct TestSupply(Arc<AtomicU64>);

impl TestSupply {
    fn next(&mut self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl Supply for TestSupply {
    fn track_id(&mut self) -> TrackId {
        TrackId(self.next())
    }

    fn leg_id(&mut self) -> LegId {
        LegId(self.next())
    }

    fn credentials(&mut self) -> Credentials {
        let number = self.next();
        Credentials { ufrag: format!("srv{number:05}"), pwd: format!("password-{number:020}") }
    }

    fn random(&mut self, bytes: &mut [u8]) {
        let number = self.next().to_be_bytes();
        bytes.iter_mut().rev().zip(number.iter().rev()).for_each(|(b, n)| *b = *n);
    }
}
