//! A person in a call: what the web client of Calls does with a click each.

use std::time::Duration;

use rmpv::Value;
use serde_json::json;
use str0m::format::Codec;
use tokio::sync::{mpsc, watch};

use super::codec::{channel, channel_message, kind};
use super::media::{Stamp, sender_number};
use super::peer::{Act, Change, Peer};
use super::plugin::Plugin;
use super::publication::{Publication, Sound};
use super::seen::Seen;

/// How a user's client is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// `av1Support` of the join.
    pub(crate) av1: bool,
    /// `dcSignaling` of the join: descriptions after the first go over the data channel.
    pub(crate) dc_signaling: bool,
    /// Takes the signalling lock before each offer (clients since plugin 1.7).
    pub(crate) locking: bool,
    /// ICE-TCP in place of UDP.
    pub(crate) tcp: bool,
    /// Leaves the server's offers unanswered until [`Peer::release_offer`].
    pub(crate) holds_offers: bool,
    /// Asks for locks and never offers under them.
    pub(crate) ignores_locks: bool,
    /// Time between two packets of voice.
    pub(crate) voice_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            av1: false,
            dc_signaling: false,
            locking: true,
            tcp: false,
            holds_offers: false,
            ignores_locks: false,
            voice_interval: Duration::from_millis(20),
        }
    }
}

/// A user in a call. Its peer lives until this is dropped.
pub(crate) struct User {
    pub(crate) session: String,
    plugin: Plugin,
    acts: mpsc::UnboundedSender<Act>,
    inbox: mpsc::UnboundedSender<super::codec::Signal>,
    seen: watch::Receiver<Seen>,
    options: Options,
    streams: u32,
    /// The microphone's stream, from the first unmute on.
    voice: Option<String>,
}

impl User {
    /// Joins with the defaults, and waits until the data channel is open.
    pub(crate) async fn join(plugin: &Plugin, call: &str, name: &str) -> Self {
        Self::join_with(plugin, call, name, Options::default()).await
    }

    pub(crate) async fn join_with(
        plugin: &Plugin,
        call: &str,
        name: &str,
        options: Options,
    ) -> Self {
        let user = Self::begin(plugin, call, name, options).await;
        user.wait("the data channel", |seen| seen.channel_open).await;
        user
    }

    /// Joins and makes the first offer; waits for nothing.
    pub(crate) async fn begin(plugin: &Plugin, call: &str, name: &str, options: Options) -> Self {
        let session = session_of(name);
        let (inbox, signals) = mpsc::unbounded_channel();
        let (acts, to_do) = mpsc::unbounded_channel();
        plugin.route(&session, &inbox);
        plugin.join(call, name, &session, [options.av1, options.dc_signaling]);
        let (seen_sender, seen) = watch::channel(Seen::default());
        let mut peer = Peer::new(&session, plugin, options, seen_sender).await;
        peer.change(Change::Channel);
        tokio::spawn(peer.run(signals, to_do));
        let plugin = plugin.clone();
        Self { session, plugin, acts, inbox, seen, options, streams: 0, voice: None }
    }

    /// Does something inside the peer's task.
    pub(crate) fn act(&self, act: impl FnOnce(&mut Peer) + Send + 'static) {
        let _ = self.acts.send(Box::new(act));
    }

    /// Looks at what was seen.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&Seen) -> T) -> T {
        at(&self.seen.borrow())
    }

    /// Waits until `happened`; what the server may not do fails the test at once.
    pub(crate) async fn wait(&self, what: &str, happened: impl Fn(&Seen) -> bool) {
        let mut seen = self.seen.clone();
        let over = |seen: &Seen| happened(seen) || !seen.wrong.is_empty();
        let in_time = tokio::time::timeout(super::PATIENCE, seen.wait_for(over)).await;
        let in_time = in_time.is_ok_and(|outcome| outcome.is_ok());
        let seen = self.seen.borrow();
        let session = &self.session;
        assert!(seen.wrong.is_empty(), "{session}, waiting for {what}: {:#?}", seen.wrong);
        assert!(in_time, "{session}: {what} did not come; it has seen {:#?}", *seen);
    }

    /// Waits until everything of ours is negotiated.
    pub(crate) async fn negotiated(&self) {
        self.pings().await;
        self.wait("the end of own negotiations", |seen| seen.waiting == 0).await;
    }

    /// Waits until packets of `kind` by `sender` with this note come in.
    pub(crate) async fn gets(&self, kind: &str, sender: &Self, note: u8) {
        let number = sender_number(&sender.session);
        let what = format!("{kind} of {} with note {note}", sender.session);
        let is_it = |stamp: &Stamp| stamp.sender == number && stamp.note == note;
        self.wait(&what, |seen| seen.received(kind, &sender.session).count(is_it) > 2).await;
    }

    /// Waits until so many packets with this note have left, and the server has them.
    pub(crate) async fn sends(&self, note: u8, count: usize) {
        self.wait("own packets", |seen| seen.sent.get(&note) >= Some(&count)).await;
        self.pings().await;
    }

    /// Packets by `sender` with this note, over all sections.
    pub(crate) fn packets_of(&self, sender: &Self, note: u8) -> usize {
        let number = sender_number(&sender.session);
        let is_it = |stamp: &Stamp| stamp.sender == number && stamp.note == note;
        self.look(|seen| seen.received.values().map(|received| received.count(is_it)).sum())
    }

    /// Waits until the track of `kind` by `sender` has ended.
    pub(crate) async fn loses(&self, kind: &str, sender: &str) {
        self.wait(&format!("the end of {kind} of {sender}"), |seen| {
            seen.track(kind, sender).is_none()
                && seen.tracks.iter().any(|t| t.kind == kind && t.sender == sender)
        })
        .await;
    }

    /// `Ping`, and waits for the `Pong`: what went before over the peer connection has arrived.
    pub(crate) async fn pings(&self) {
        let before = self.look(|seen| seen.pongs);
        self.act(|peer| peer.send_channel(&channel_message(channel::PING, None)));
        self.wait("a pong", |seen| seen.pongs > before).await;
    }

    /// What the packets of all that is published carry from here on.
    pub(crate) fn note(&self, note: u8) {
        self.act(move |peer| peer.published.iter_mut().for_each(|p| p.stamp.note = note));
    }

    fn stamp(&self) -> Stamp {
        Stamp { sender: sender_number(&self.session), note: 0, high: false }
    }

    /// Id of a further MediaStream of this user's.
    pub(crate) fn next_stream(&mut self) -> String {
        self.streams += 1;
        format!("stream{}-{}", self.streams, &self.session[..4])
    }

    /// Publishes tracks of one stream, one for each codec; does not wait.
    pub(crate) fn publish(&self, stream: &str, codecs: &[Codec], simulcast: bool) {
        let mut publication = Publication::new(stream, self.stamp());
        publication.voice_interval = self.options.voice_interval;
        let (stream, codecs) = (stream.to_owned(), codecs.to_vec());
        let change = Change::Publish { stream, codecs, simulcast, publication };
        self.act(move |peer| peer.change(change));
    }

    /// First unmute: adds the microphone. Later: sends again (3.6).
    pub(crate) async fn unmute(&mut self) {
        if self.voice.is_none() {
            let stream = self.next_stream();
            self.publish(&stream, &[Codec::Opus], false);
            self.voice = Some(stream);
            self.negotiated().await;
        } else {
            self.voice(|publication| publication.sending = true);
        }
        self.plugin.rtc(&self.session, kind::UNMUTE, &[]);
    }

    pub(crate) fn mute(&self) {
        self.voice(|publication| publication.sending = false);
        self.plugin.rtc(&self.session, kind::MUTE, &[]);
    }

    /// What the microphone hears from here on.
    pub(crate) fn sound(&self, sound: Sound) {
        self.voice(move |publication| publication.sound = sound);
    }

    /// Changes how the microphone's track is sent.
    pub(crate) fn voice(&self, change: impl Fn(&mut Publication) + Send + 'static) {
        let Some(stream) = self.voice.clone() else { return };
        self.act(move |peer| {
            peer.published.iter_mut().filter(|p| p.stream == stream).for_each(change);
        });
    }

    /// ScreenOn.
    pub(crate) fn screen_on(&self, stream: &str) {
        let data = json!({"screenStreamID": stream}).to_string();
        self.plugin.rtc(&self.session, kind::SCREEN_ON, data.as_bytes());
    }

    pub(crate) fn screen_off(&self) {
        self.plugin.rtc(&self.session, kind::SCREEN_OFF, &[]);
    }

    /// VideoOn.
    pub(crate) fn video_on(&self, stream: &str) {
        let data = json!({"videoStreamID": stream}).to_string();
        self.plugin.rtc(&self.session, kind::VIDEO_ON, data.as_bytes());
    }

    pub(crate) fn video_off(&self) {
        self.plugin.rtc(&self.session, kind::VIDEO_OFF, &[]);
    }

    /// Shares a screen: ScreenOn, then its tracks. Gives the stream.
    pub(crate) async fn share_screen(&mut self, codecs: &[Codec], simulcast: bool) -> String {
        let stream = self.next_stream();
        self.screen_on(&stream);
        self.publish(&stream, codecs, simulcast);
        self.negotiated().await;
        stream
    }

    /// Takes the tracks of a stream back; waits for the answer.
    pub(crate) async fn unpublish(&self, stream: &str) {
        let stream = stream.to_owned();
        self.act(move |peer| peer.unpublish(&stream));
        self.negotiated().await;
    }

    /// Stops sharing: the client removes the tracks, then ScreenOff.
    pub(crate) async fn stop_screen(&self, stream: &str) {
        self.unpublish(stream).await;
        self.screen_off();
    }

    /// Turns the camera on: tracks first, then VideoOn.
    pub(crate) async fn camera_on(&mut self) -> String {
        let stream = self.next_stream();
        self.publish(&stream, &[Codec::Vp8], false);
        self.negotiated().await;
        self.video_on(&stream);
        stream
    }

    /// What the client measures of its connection (3.4): an integer where the value is one, as JavaScript writes it.
    pub(crate) fn report_figures(&self) {
        let figures = [
            (channel::LOSS_RATE, Value::from(0)),
            (channel::ROUND_TRIP_TIME, Value::from(0.012)),
            (channel::JITTER, Value::from(0.5_f32)),
        ];
        for (kind, value) in figures {
            self.act(move |peer| peer.send_channel(&channel_message(kind, Some(value))));
        }
    }

    pub(crate) async fn restart_ice(&self) {
        self.act(|peer| peer.change(Change::IceRestart));
        self.negotiated().await;
    }

    /// The user's own connection moved to another node of the installation, or this node's was made anew.
    pub(crate) fn reconnect(&mut self, plugin: &Plugin) {
        self.move_to(plugin);
        plugin.reconnect(&self.session);
    }

    /// Like [`Self::reconnect`], without telling the server.
    pub(crate) fn move_to(&mut self, plugin: &Plugin) {
        self.plugin.unroute(&self.session);
        self.plugin = plugin.clone();
        plugin.route(&self.session, &self.inbox);
        let plugin = plugin.clone();
        self.act(move |peer| peer.plugin = plugin);
    }

    /// Leaves, and waits for the server's `close`.
    pub(crate) async fn leave(&self) {
        self.plugin.leave(&self.session);
        self.act(Peer::close);
        self.closed().await;
    }

    /// Waits for the server's `close`.
    pub(crate) async fn closed(&self) {
        let what = format!("the close of {}", self.session);
        self.plugin.wait(&what, |seen| seen.closed(&self.session)).await;
    }
}

/// A session id like those of Mattermost: 26 letters and digits.
pub(crate) fn session_of(name: &str) -> String {
    format!("{name:0<26}")
}
