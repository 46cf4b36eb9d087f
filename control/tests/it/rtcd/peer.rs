//! The peer connection of one user: str0m, a socket, and the steps of a Calls client around them.
//!
//! A peer lives in a task of its own. Tests hand it closures and look at what it has [`Seen`].

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::{ChannelData, ChannelId};
use str0m::format::Codec;
use str0m::media::{
    Direction, KeyframeRequestKind, MediaKind, Mid, Rid, Simulcast, SimulcastLayer,
};
use str0m::net::{DatagramRecv, Protocol, Receive, TcpType};
use str0m::rtp::{RtpPacket, RtpWrite};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc};
use tokio::sync::{mpsc, watch};

use super::codec::{self, FromChannel, Signal, channel, kind};
use super::description::{only_codec, without_candidates};
use super::plugin::Plugin;
use super::publication::Publication;
use super::seen::{Description, Seen};
use super::transport::{Datagram, Transport};
use super::user::Options;

/// How often the web client asks again for a lock that was refused (3.3).
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// Something to do inside the peer's task.
pub(crate) type Act = Box<dyn FnOnce(&mut Peer) + Send>;

pub(crate) struct Peer {
    pub(crate) session: String,
    pub(crate) plugin: Plugin,
    pub(crate) options: Options,
    pub(crate) seen: watch::Sender<Seen>,
    /// What is sent at present.
    pub(crate) published: Vec<Publication>,
    rtc: Rtc,
    rtc_due: Instant,
    events: VecDeque<Event>,
    transport: Transport,
    channel: Option<ChannelId>,
    /// Candidates that came before the first answer.
    early_candidates: Vec<String>,
    answered: bool,
    /// m= sections by SSRC, as packets have shown.
    mids: BTreeMap<u32, String>,
    changes: VecDeque<Change>,
    step: Step,
    /// Whether the server gave us the signalling lock.
    locked: bool,
    /// An offer of the server's that waits.
    held: Option<(String, Description)>,
}

/// What a client negotiates by an offer of its own.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// The data channel: the first offer.
    Channel,
    /// Adds tracks of one MediaStream, one for each codec.
    Publish {
        stream: String,
        codecs: Vec<Codec>,
        simulcast: bool,
        publication: Publication,
    },
    /// Takes a track back.
    Unpublish(Mid),
    IceRestart,
}

/// Where the client is with its first waiting change.
enum Step {
    Idle,
    /// `Lock` was sent.
    Locking,
    /// The lock was refused; asked again at this time.
    Refused(Instant),
    /// An offer is out. The mids are of the sections that it adds.
    Offered(SdpPendingOffer, Vec<Mid>),
}

impl Peer {
    pub(crate) async fn new(
        session: &str,
        plugin: &Plugin,
        options: Options,
        seen: watch::Sender<Seen>,
    ) -> Self {
        let mut rtc = Rtc::builder()
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .enable_av1(true)
            .build(now());
        let transport = Transport::bind().await;
        if !options.tcp {
            let candidate = Candidate::host(transport.udp_address(), "udp").expect("an address");
            rtc.add_local_candidate(candidate);
        }
        Self {
            session: session.to_owned(),
            plugin: plugin.clone(),
            options,
            seen,
            published: Vec::new(),
            rtc,
            rtc_due: now(),
            events: VecDeque::new(),
            transport,
            channel: None,
            early_candidates: Vec::new(),
            answered: false,
            mids: BTreeMap::new(),
            changes: VecDeque::new(),
            step: Step::Idle,
            locked: false,
            held: None,
        }
    }

    /// Runs until the connection has ended or nobody looks any more.
    pub(crate) async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Signal>,
        mut acts: mpsc::UnboundedReceiver<Act>,
    ) {
        let mut buffer = vec![0; 2048];
        loop {
            self.drain();
            self.handle_events();
            if !self.rtc.is_alive() {
                break;
            }
            let due = self.due();
            tokio::select! {
                datagram = self.transport.receive(&mut buffer) => self.handle_datagram(&datagram),
                () = tokio::time::sleep_until(due.into()) => self.handle_time(),
                Some(signal) = inbox.recv() => {
                    self.catch_up(&mut buffer).await;
                    self.handle_signal(signal).await;
                }
                act = acts.recv() => match act {
                    Some(act) => act(&mut self),
                    None => break,
                },
            }
        }
        self.note(|seen| seen.ended = true);
    }

    /// Takes what the network brought before a message came through the plugin.
    ///
    /// The runtime looks at its sockets when tasks yield: without this, a datagram could lie in the socket unseen. The
    /// second yield is for the task that reads a TCP connection.
    async fn catch_up(&mut self, buffer: &mut [u8]) {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        while let Some(datagram) = self.transport.receive(buffer).now_or_never() {
            self.handle_datagram(&datagram);
            self.handle_events();
        }
        // What str0m wants to do at once, such as to hand out a message.
        while self.rtc_due <= now() {
            self.input(Input::Timeout(now()));
            self.handle_events();
        }
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.events.pop_front() {
            self.handle_event(event);
            self.drain();
        }
    }

    /// Changes what was seen.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Seen)) {
        self.seen.send_modify(change);
    }

    fn wrong(&self, what: String) {
        self.note(|seen| seen.wrong.push(what));
    }

    /// Takes all that str0m wants to say; required after each change to it.
    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(due)) => {
                    self.rtc_due = due;
                    return;
                }
                Ok(Output::Transmit(transmit)) => self.transport.send(&transmit),
                Ok(Output::Event(event)) => self.events.push_back(event),
                Err(error) => {
                    self.wrong(format!("the peer connection failed: {error}"));
                    self.rtc.disconnect();
                    return;
                }
            }
        }
    }

    fn due(&self) -> Instant {
        let retry = match self.step {
            Step::Refused(at) => Some(at),
            _ => None,
        };
        let media = self.published.iter().filter_map(Publication::due);
        media.chain(retry).chain([self.rtc_due]).min().unwrap_or(self.rtc_due)
    }

    fn handle_time(&mut self) {
        let now = now();
        if matches!(self.step, Step::Refused(at) if at <= now) {
            self.step = Step::Idle;
            self.next_change();
        }
        for at in 0..self.published.len() {
            while let Some((mid, rid, write)) = self.published[at].next_packet(now) {
                self.write(mid, rid, write);
                let note = self.published[at].stamp.note;
                self.note(|seen| *seen.sent.entry(note).or_default() += 1);
            }
        }
        self.input(Input::Timeout(now));
    }

    fn write(&mut self, mid: Mid, rid: Option<Rid>, write: RtpWrite) {
        if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(mid, rid) {
            stream.write_rtp(write);
        }
        self.drain();
    }

    fn input(&mut self, input: Input<'_>) {
        if let Err(error) = self.rtc.handle_input(input) {
            self.wrong(format!("the peer connection failed: {error}"));
        }
        self.drain();
    }

    fn handle_datagram(&mut self, datagram: &Datagram) {
        let Ok(contents) = DatagramRecv::try_from(&datagram.bytes[..]) else {
            return self
                .wrong(format!("a datagram is of no known protocol: {:02x?}", datagram.bytes));
        };
        let receive = Receive {
            proto: datagram.protocol,
            source: datagram.source,
            destination: datagram.destination,
            contents,
        };
        self.input(Input::Receive(now(), receive));
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Connected => self.note(|seen| seen.connected = true),
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) | Event::Closed => {
                self.note(|seen| seen.ended = true);
            }
            Event::ChannelOpen(..) => {
                self.note(|seen| seen.channel_open = true);
                self.next_change();
            }
            Event::ChannelData(data) => self.handle_channel(&data),
            Event::RtpPacket(packet) => self.handle_packet(&packet),
            Event::KeyframeRequest(request) => {
                let rid = request.rid.map(|rid| rid.to_string()).unwrap_or_default();
                let of_mid = self.published.iter_mut().filter(|p| p.mid == Some(request.mid));
                of_mid.for_each(|publication| publication.ask_key_frame(request.rid));
                let key = (request.mid.to_string(), rid);
                self.note(|seen| *seen.keyframe_requests.entry(key).or_default() += 1);
            }
            _ => {}
        }
    }

    fn handle_packet(&mut self, packet: &RtpPacket) {
        let ssrc = packet.header.ssrc;
        if !self.mids.contains_key(&ssrc) {
            let mut direct = self.rtc.direct_api();
            let Some(stream) = direct.stream_rx(&ssrc) else { return };
            // A browser asks for a key frame as soon as it has a picture to show.
            stream.request_keyframe(KeyframeRequestKind::Pli);
            let mid = stream.mid().to_string();
            self.mids.insert(*ssrc, mid);
        }
        let mid = self.mids[&*ssrc].clone();
        self.note(|seen| {
            let received = seen.received.entry(mid).or_default();
            received.note(*ssrc, *packet.header.payload_type, &packet.payload);
        });
    }

    fn handle_channel(&mut self, data: &ChannelData) {
        if !data.binary {
            let text = String::from_utf8_lossy(&data.data).into_owned();
            return self.note(|seen| seen.texts.push(text));
        }
        match codec::read_channel_message(&data.data) {
            Ok(FromChannel::Pong) => self.note(|seen| seen.pongs += 1),
            Ok(FromChannel::Lock(granted)) => self.handle_lock(granted),
            Ok(FromChannel::MediaMap(map)) => self.note(|seen| {
                seen.media_map = map;
                seen.media_maps += 1;
            }),
            Ok(FromChannel::Sdp(description)) => self.handle_description(&description, true),
            Err(error) => self.wrong(format!("a data channel message is wrong: {error}")),
        }
    }

    /// A message of the server's that came through the plugin: JSON with its type at the top (2.5).
    async fn handle_signal(&mut self, signal: Signal) {
        let Ok(message) = serde_json::from_slice::<Value>(&signal.data) else {
            return self.wrong(format!("rtc {} carries no JSON", signal.kind));
        };
        match (signal.kind, message["type"].as_str()) {
            (kind::SDP, Some("offer" | "answer")) => self.handle_description(&message, false),
            (kind::ICE, Some("candidate")) => {
                let init = &message["candidate"];
                let Some(candidate) = init["candidate"].as_str() else {
                    return self.wrong(format!("no candidate.candidate in {message}"));
                };
                if !init["sdpMid"].is_string() || !init["sdpMLineIndex"].is_u64() {
                    self.wrong(format!("a browser refuses the candidate {init}"));
                }
                let candidate = candidate.to_owned();
                self.note(|seen| seen.candidates.push(candidate.clone()));
                self.early_candidates.push(candidate);
            }
            (kind, other) => self.wrong(format!("rtc {kind} carries JSON of type {other:?}")),
        }
        if self.answered {
            for candidate in std::mem::take(&mut self.early_candidates) {
                self.add_candidate(&candidate).await;
            }
        }
    }

    async fn add_candidate(&mut self, text: &str) {
        let candidate = match Candidate::from_sdp_string(text) {
            Ok(candidate) => candidate,
            Err(error) => return self.wrong(format!("the candidate {text} is wrong: {error}")),
        };
        let is_tcp = candidate.proto() == Protocol::Tcp;
        if self.options.tcp && is_tcp && !self.transport.has_tcp() {
            let local = match self.transport.connect(candidate.addr()).await {
                Ok(local) => local,
                Err(error) => return self.wrong(format!("nobody listens at {text}: {error}")),
            };
            let active = Candidate::builder().tcp().host(local).tcptype(TcpType::Active).build();
            self.rtc.add_local_candidate(active.expect("an address"));
            self.drain();
        }
        if is_tcp == self.options.tcp {
            self.rtc.add_remote_candidate(candidate);
            self.drain();
        }
    }

    fn handle_description(&mut self, description: &Value, by_channel: bool) {
        let sdp = description["sdp"].as_str().unwrap_or_default();
        let facts = Description::new(sdp, by_channel);
        match description["type"].as_str() {
            Some("offer") => self.handle_offer(sdp, facts),
            Some("answer") => self.handle_answer(sdp, facts),
            other => self.wrong(format!("a description of type {other:?}")),
        }
    }

    /// Browsers are polite (3.2): an offer of ours that is out is rolled back and made again later.
    fn handle_offer(&mut self, sdp: &str, facts: Description) {
        if facts.by_channel != self.options.dc_signaling {
            self.wrong(format!("an offer came over the wrong transport: {facts:?}"));
        }
        let locked = self.locked;
        self.note(|seen| {
            seen.offers_under_lock += usize::from(locked);
            seen.offers.push(facts.clone());
        });
        if self.options.holds_offers {
            self.held = Some((sdp.to_owned(), facts));
        } else {
            self.apply_offer(sdp, &facts);
        }
    }

    /// Answers the offer that was held, and holds no further one.
    pub(crate) fn release_offer(&mut self) {
        self.options.holds_offers = false;
        if let Some((sdp, facts)) = self.held.take() {
            self.apply_offer(&sdp, &facts);
        }
    }

    fn apply_offer(&mut self, sdp: &str, facts: &Description) {
        if matches!(self.step, Step::Offered(..)) {
            self.step = Step::Idle;
            self.note(|seen| seen.rollbacks += 1);
        }
        self.note(|seen| seen.take_offer(facts));
        let answer = SdpOffer::from_sdp_string(sdp).map_err(|error| error.to_string());
        let answer = answer.and_then(|offer| {
            self.rtc.sdp_api().accept_offer(offer).map_err(|error| error.to_string())
        });
        self.drain();
        match answer {
            Ok(answer) => self.send_description("answer", &answer.to_sdp_string()),
            Err(error) => self.wrong(format!("an offer cannot be applied: {error}\n{sdp}")),
        }
        self.next_change();
    }

    fn handle_answer(&mut self, sdp: &str, facts: Description) {
        let Step::Offered(pending, mids) = std::mem::replace(&mut self.step, Step::Idle) else {
            return self.wrong("an answer came without an offer of ours".to_owned());
        };
        let first = !self.answered;
        if facts.by_channel != (self.options.dc_signaling && !first) {
            self.wrong(format!("an answer came over the wrong transport: {facts:?}"));
        }
        let accepted = SdpAnswer::from_sdp_string(sdp).map_err(|error| error.to_string());
        let accepted = accepted.and_then(|answer| {
            self.rtc.sdp_api().accept_answer(pending, answer).map_err(|error| error.to_string())
        });
        self.drain();
        if let Err(error) = accepted {
            return self.wrong(format!("an answer cannot be applied: {error}\n{sdp}"));
        }
        self.answered = true;
        self.note(|seen| seen.answers.push(facts));
        if let Some(change) = self.changes.pop_front() {
            self.carry_out(change, &mids);
        }
        if !first {
            // The web client does so after every answer, whether it holds the lock or not (3.3).
            self.send_channel(&codec::channel_message(channel::UNLOCK, None));
            self.locked = false;
        }
        self.next_change();
        let waiting = self.changes.len();
        self.note(|seen| seen.waiting = waiting);
    }

    /// A change was agreed: begins or ends to send.
    fn carry_out(&mut self, change: Change, mids: &[Mid]) {
        match change {
            Change::Publish { codecs, simulcast, publication, .. } => {
                for (mid, codec) in mids.iter().zip(codecs) {
                    let Some(media) = self.rtc.media(*mid) else { continue };
                    let agreed = media.remote_pts();
                    let params = self.rtc.codec_config();
                    let pt = params
                        .params()
                        .iter()
                        .find(|p| p.spec().codec == codec && agreed.contains(&p.pt()))
                        .map(|p| p.pt());
                    match pt.filter(|_| media.direction().is_sending()) {
                        Some(pt) => {
                            let begun =
                                publication.clone().begin(*mid, pt, codec, simulcast, now());
                            self.published.push(begun);
                        }
                        None => {
                            let mid = mid.to_string();
                            self.note(|seen| seen.refused.push(mid));
                        }
                    }
                }
            }
            Change::Unpublish(mid) => self.published.retain(|p| p.mid != Some(mid)),
            Change::Channel | Change::IceRestart => {}
        }
    }

    /// Queues a change and begins to negotiate when nothing else is under way.
    pub(crate) fn change(&mut self, change: Change) {
        self.changes.push_back(change);
        let waiting = self.changes.len();
        self.note(|seen| seen.waiting = waiting);
        self.next_change();
    }

    /// Takes back what is published in this MediaStream.
    pub(crate) fn unpublish(&mut self, stream: &str) {
        let of_stream = |p: &&Publication| p.stream == stream;
        let mids: Vec<_> = self.published.iter().filter(of_stream).filter_map(|p| p.mid).collect();
        for mid in mids {
            self.change(Change::Unpublish(mid));
        }
    }

    fn next_change(&mut self) {
        let Some(change) = self.changes.front().cloned() else { return };
        if !matches!(self.step, Step::Idle) {
            return;
        }
        let is_first = matches!(change, Change::Channel);
        if !is_first && self.options.locking && !self.locked {
            self.step = Step::Locking;
            return self.send_channel(&codec::channel_message(channel::LOCK, None));
        }
        self.offer(&change);
    }

    fn handle_lock(&mut self, granted: bool) {
        self.note(|seen| seen.locks.push(granted));
        if self.options.ignores_locks {
            return;
        }
        self.locked |= granted;
        if !matches!(self.step, Step::Locking) {
            return;
        }
        if granted {
            self.step = Step::Idle;
            self.next_change();
        } else {
            self.step = Step::Refused(now() + LOCK_RETRY);
        }
    }

    fn offer(&mut self, change: &Change) {
        let mut mids = Vec::new();
        let mut opened = None;
        let mut api = self.rtc.sdp_api();
        match change {
            Change::Channel => opened = Some(api.add_channel("calls-dc".to_owned())),
            Change::Publish { stream, codecs, simulcast, .. } => {
                for codec in codecs {
                    let media = if codec.is_audio() { MediaKind::Audio } else { MediaKind::Video };
                    let mut layers = Simulcast::new();
                    for rid in ["l", "h"] {
                        layers.add_send_layer(SimulcastLayer::new(rid));
                    }
                    let layers = simulcast.then_some(layers);
                    let stream = Some(stream.clone());
                    mids.push(api.add_media(media, Direction::SendRecv, stream, None, layers));
                }
            }
            Change::Unpublish(mid) => api.set_direction(*mid, Direction::RecvOnly),
            Change::IceRestart => {
                api.ice_restart(true);
            }
        }
        let Some((offer, pending)) = api.apply() else {
            self.wrong(format!("{change:?} changes nothing"));
            return;
        };
        self.drain();
        self.channel = self.channel.or(opened);
        let mut sdp = offer.to_sdp_string();
        if let Change::Publish { codecs, .. } = change {
            // An AV1 section beside one of VP8 offers nothing else (3.6).
            let av1 = mids.iter().zip(codecs).filter(|(_, codec)| **codec == Codec::Av1);
            for (mid, _) in av1 {
                sdp = only_codec(&sdp, &mid.to_string(), "AV1");
            }
        }
        self.step = Step::Offered(pending, mids);
        let (sdp, candidates) = without_candidates(&sdp);
        self.send_description("offer", &sdp);
        for candidate in candidates {
            let init = json!({
                "candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": null,
            });
            self.plugin.rtc(&self.session, kind::ICE, init.to_string().as_bytes());
        }
    }

    /// Over the data channel when the session was joined so and the channel is open, else through the plugin.
    fn send_description(&mut self, kind: &str, sdp: &str) {
        let json = json!({"type": kind, "sdp": sdp}).to_string();
        if self.options.dc_signaling && self.answered {
            self.send_channel(&codec::channel_sdp(&json));
        } else {
            self.plugin.rtc(&self.session, codec::kind::SDP, json.as_bytes());
        }
    }

    /// Sends any bytes over the data channel.
    pub(crate) fn send_channel(&mut self, bytes: &[u8]) {
        self.send_channel_as(true, bytes);
    }

    pub(crate) fn send_channel_as(&mut self, binary: bool, bytes: &[u8]) {
        let channel = self.channel.and_then(|id| self.rtc.channel(id));
        let written = channel.map(|mut channel| channel.write(binary, bytes));
        self.drain();
        if !matches!(written, Some(Ok(true))) {
            self.wrong(format!("the data channel takes no message: {written:?}"));
        }
    }

    /// Closes the connection, as a browser's `close()`.
    pub(crate) fn close(&mut self) {
        let _ = self.rtc.close();
        self.drain();
    }
}

/// The clock of the runtime.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
