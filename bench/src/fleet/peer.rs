//! One client: it joins, sends what it has, counts what it gets, reports on it, and leaves. No IO.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use sluice_engine::bwe::feedback::ArrivalLog;
use sluice_engine::clock::{Instant, NtpTime};
use sluice_engine::ids::{ChannelId, RtpTime, SeqNum, Ssrc};
use sluice_engine::rtp::inbound::Arrival;
use sluice_engine::sctp::dcep::Reliability;
use sluice_engine::sctp::{ChannelEvent, DataKind};
use sluice_engine::testing::client::{Client, ClientParams};
use sluice_engine::wire::rtcp::{self, Packet, nack, pli, rr, sdes, sr, twcc};
use sluice_engine::wire::rtp::RtpHeader;
use sluice_engine::wire::rtp_ext;

use super::publication::Publication;
use super::received::ReceivedStream;
use super::seats::Seat;
use crate::conversation::target::is_public;
use crate::conversation::{Conversation, Heard, ReceiveFormat, Remote, SendStream, Wish};
use crate::scenario::Scenario;
use crate::worker::protocol::Assignment;

/// Where a client is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Asked for, not yet in.
    Joining,
    /// Takes part.
    Joined,
    /// Has said that it goes.
    Leaving,
}

/// One client.
pub struct Peer {
    pub seat: Seat,
    /// Whether the others' streams come to it.
    pub receives: bool,
    pub stage: Stage,
    pub conversation: Conversation,
    /// ICE, DTLS and SRTP, once the server's side is known.
    pub media: Option<Client>,
    identity: ClientIdentity,
    addresses: Vec<SocketAddr>,
    /// Which address is tried, and until when.
    address_at: usize,
    address_until: Instant,
    /// The data channel that the conversation wants.
    label: Option<&'static str>,
    channel: Option<ChannelId>,
    pub publications: Vec<Publication>,
    formats: Vec<ReceiveFormat>,
    pub received: Vec<ReceivedStream>,
    arrivals: Option<ArrivalLog>,
    transport_seq: u16,
    ssrc: Ssrc,
    next_report: Instant,
    /// When it asked to join.
    pub asked_at: Instant,
    is_connected: bool,
    is_ready: bool,
    /// Timestamps of the last key frames that have begun, until one of them is complete.
    keyframes: VecDeque<(usize, RtpTime)>,
    has_first_frame: bool,
    is_first_frame_told: bool,
    /// Publishers' packets that the server reports as lost, the latest of each stream.
    pub upstream_lost: Vec<(Ssrc, i32)>,
    pub muted: bool,
    /// Which client of the worker it is, those who left counted.
    pub number: u32,
    /// Until when it is kept after it said that it goes: an answer that is under way may still make it say so.
    pub leaves_until: Instant,
    /// Why it cannot go on.
    pub failed: Option<String>,
}

/// Whether a packet is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opening {
    /// The first ones of a stream: they say whose it is and give SRTP its roll-over counter.
    Always,
    /// With the others of its kind by chance.
    Sample,
    /// It came before: SRTP would refuse it as a replay.
    Never,
}

/// What a client shows of itself.
#[derive(Clone)]
pub struct ClientIdentity {
    pub params: sluice_engine::dtls::Identity,
    pub local: sluice_engine::ice::Credentials,
    pub seed: u64,
}

/// What a client that is asked for datagrams does with them.
pub type Send<'a> = &'a mut dyn FnMut(&[u8]);

/// How long an address of the server is tried before the next one.
const ADDRESS_TIMEOUT: Duration = Duration::from_millis(1_500);
const CNAME: &[u8] = b"bench";
/// Statuses of one feedback packet.
const FEEDBACK_MAX: usize = 256;
const NACKS_MAX: usize = 64;
/// Key frames of which packets may come before the frame is complete.
const KEYFRAMES_MAX: usize = 8;

impl Peer {
    /// A client that has not said anything yet.
    pub fn new(
        seat: Seat,
        conversation: Conversation,
        identity: ClientIdentity,
        scenario: &Scenario,
        number: u32,
        receives: bool,
        now: Instant,
    ) -> Self {
        let mut rng = fastrand::Rng::with_seed(identity.seed);
        let report = Duration::from_secs_f64(scenario.clients.report_s);
        Self {
            seat,
            receives,
            stage: Stage::Joining,
            conversation,
            media: None,
            identity,
            addresses: Vec::new(),
            address_at: 0,
            address_until: now,
            label: None,
            channel: None,
            publications: Vec::new(),
            formats: Vec::new(),
            received: Vec::new(),
            arrivals: scenario.clients.transport_cc.then(ArrivalLog::new),
            transport_seq: 0,
            ssrc: Ssrc(rng.u32(1..)),
            // Reports of all clients spread over the interval.
            next_report: now + report.mul_f64(rng.f64()),
            asked_at: now,
            is_connected: false,
            is_ready: false,
            keyframes: VecDeque::new(),
            has_first_frame: false,
            is_first_frame_told: false,
            upstream_lost: Vec::new(),
            muted: false,
            number,
            leaves_until: now,
            failed: None,
        }
    }

    /// Whether media can flow both ways.
    pub fn is_in(&self) -> bool {
        self.is_connected && self.is_ready
    }

    /// The server's address that is tried or was found to work.
    pub fn address(&self) -> Option<SocketAddr> {
        self.addresses.get(self.address_at).copied()
    }

    /// Begins ICE and DTLS.
    fn connect(&mut self, now: Instant, remote: Remote, allow_public: bool) {
        let params = ClientParams {
            identity: self.identity.params.clone(),
            local: self.identity.local.clone(),
            remote: remote.credentials,
            fingerprint: remote.fingerprint,
            dtls_role: remote.dtls_role,
            seed: self.identity.seed,
        };
        self.addresses = remote.addresses;
        if !allow_public {
            // A server decides where its media is: that must not be at strangers.
            self.addresses.retain(|address| !is_public(address.ip()));
            if self.addresses.is_empty() {
                self.failed =
                    Some("the server names only public addresses for its media".to_owned());
                return;
            }
        }
        self.address_until = now + ADDRESS_TIMEOUT;
        self.media = Some(Client::new(now, params));
        self.try_address();
        self.open_channel();
    }

    /// Opens the channel that was asked for; it is there once there is an association.
    fn open_channel(&mut self) {
        if let (Some(media), Some(label), None) = (&mut self.media, self.label, self.channel) {
            self.channel = Some(media.data.open(label, false, Reliability::Reliable));
        }
    }

    /// Tells the client whom it talks to: a server that checks us wants to know where its checks came from.
    fn try_address(&mut self) {
        if let (Some(media), Some(address)) = (&mut self.media, self.addresses.get(self.address_at))
        {
            media.set_remote_address(*address);
        }
    }

    /// Does what a wish asks of the media side; gives back what is not for it.
    pub fn fulfil(
        &mut self,
        now: Instant,
        wish: Wish,
        assignment: &Assignment,
        send: Send,
    ) -> Option<Wish> {
        match wish {
            Wish::Connect(remote) => self.connect(now, remote, assignment.allow_public),
            Wish::OpenChannel(label) => {
                self.label = Some(label);
                self.open_channel();
            }
            Wish::Channel(bytes) => {
                if let (Some(media), Some(channel)) = (&mut self.media, self.channel) {
                    // A full queue says that the server does not read: the conversation repeats what matters.
                    let _ = media.data.send(channel, DataKind::Binary, bytes);
                    media.serve_data(now, send);
                }
            }
            Wish::Send(stream) => self.publish(&assignment.scenario, &stream),
            Wish::Receive(format) => {
                self.formats.retain(|known| known.payload_type != format.payload_type);
                self.formats.push(format);
            }
            Wish::Ready => self.is_ready = true,
            Wish::Fail(reason) => self.failed = self.failed.take().or(Some(reason)),
            other => return Some(other),
        }
        None
    }

    fn publish(&mut self, scenario: &Scenario, stream: &SendStream) {
        if self.publications.iter().any(|known| known.source == stream.source) {
            return;
        }
        let seat = self.seat;
        let number = |layer| seat.stream(scenario, stream.source, layer);
        self.publications.extend(Publication::of_stream(scenario, stream, number));
    }

    /// Writes and seals the next packet of a publication; the datagram goes to `send`.
    pub fn send_next(&mut self, at: usize, now: Instant, ntp: NtpTime, send: Send) {
        let (Some(publication), Some(media)) = (self.publications.get_mut(at), &mut self.media)
        else {
            return;
        };
        if publication.is_numbered() {
            self.transport_seq = self.transport_seq.wrapping_add(1);
        }
        let mut plain = [0; 1_500];
        let (index, len) = publication.write_packet(now, ntp, self.transport_seq, &mut plain);
        media.send_rtp(index, &plain[..len], &mut |sealed| {
            publication.remember(index.seq(), sealed);
            send(sealed);
        });
    }

    /// Takes a media packet by its clear header.
    ///
    /// Returns the position of its stream, and what is to be done with it; `None` when nobody agreed to such a packet.
    pub fn count(
        &mut self,
        at: Instant,
        datagram: &[u8],
        scenario: &Scenario,
    ) -> Option<(usize, Opening)> {
        let header = RtpHeader::parse(datagram).ok()?;
        let known = self.received.iter().position(|stream| stream.ssrc == header.ssrc);
        let position = match known {
            Some(position) => position,
            None if self.received.len() >= streams_max(scenario) => return None,
            None => {
                let format = self.formats.iter().find(|f| f.payload_type == header.payload_type)?;
                let (rate, repairs) = (scenario.screen.frame_rate, scenario.clients.nack);
                self.received.push(ReceivedStream::new(header.ssrc, *format, rate, repairs));
                self.received.len() - 1
            }
        };
        let stream = &mut self.received[position];
        let (arrival, complete) = stream.on_packet(at, &header, datagram.len());
        if let (Some(arrivals), Some(id)) = (&mut self.arrivals, stream.format.transport_cc)
            && let Some(number) = transport_number(datagram, id)
        {
            arrivals.on_packet(at, number);
        }
        for timestamp in complete.into_iter().flatten() {
            self.note_complete(position, timestamp);
        }
        let stream = &self.received[position];
        let awaits_frame = stream.format.is_video && !self.has_first_frame;
        let opening = match arrival {
            Arrival::Duplicate => Opening::Never,
            Arrival::New if stream.stream.is_none() || awaits_frame => Opening::Always,
            Arrival::New => Opening::Sample,
        };
        Some((position, opening))
    }

    /// A key frame of a stream has begun: its first packet was opened. It may be complete already.
    pub fn note_keyframe(&mut self, position: usize, timestamp: RtpTime) {
        if self.has_first_frame {
            return;
        }
        if self.keyframes.len() == KEYFRAMES_MAX {
            self.keyframes.pop_front();
        }
        self.keyframes.push_back((position, timestamp));
        let frames = self.received.get(position).and_then(|stream| stream.frames.as_ref());
        if frames.is_some_and(|frames| frames.is_complete(timestamp)) {
            self.note_complete(position, timestamp);
        }
    }

    fn note_complete(&mut self, position: usize, timestamp: RtpTime) {
        if !self.has_first_frame && self.keyframes.contains(&(position, timestamp)) {
            self.has_first_frame = true;
            self.keyframes = VecDeque::new();
        }
    }

    /// How long it took from the wish to join to the first complete key frame; told once.
    pub fn take_first_frame(&mut self, now: Instant) -> Option<Duration> {
        let is_news = self.has_first_frame && !self.is_first_frame_told;
        self.is_first_frame_told = self.has_first_frame;
        is_news.then(|| now.since(self.asked_at))
    }

    /// What it still waits for, for people.
    pub fn what_lacks(&self) -> &'static str {
        match &self.media {
            None => "the server gave no description that could be used",
            Some(media) if media.checks_answered() == 0 => {
                "the server answered no connectivity check"
            }
            Some(media) if !media.is_connected() => "DTLS did not come to an end",
            Some(_) if !self.is_ready => {
                "what it sends was not negotiated, or the data channel did not open"
            }
            Some(_) => "nothing",
        }
    }

    /// Takes a datagram that is not media, or media that is to be opened.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8], send: Send) {
        let Some(media) = &mut self.media else { return };
        media.handle_datagram(now, datagram, send);
        if media.is_connected() && !self.is_connected {
            self.is_connected = true;
            self.conversation.handle(now, Heard::Connected);
        }
        for event in std::mem::take(&mut media.data.events) {
            let heard = match event {
                ChannelEvent::Opened(id, _) if Some(id) == self.channel => Heard::ChannelOpen,
                ChannelEvent::Message(id, _, bytes) if Some(id) == self.channel => {
                    Heard::Channel(bytes)
                }
                _ => continue,
            };
            self.conversation.handle(now, heard);
        }
        for compound in std::mem::take(&mut media.received_rtcp) {
            self.handle_rtcp(&compound, send);
        }
    }

    fn handle_rtcp(&mut self, compound: &[u8], send: Send) {
        for packet in rtcp::packets(compound) {
            match packet {
                Ok(Packet::Pli { media, .. }) => self.want_keyframe(media),
                Ok(Packet::Fir(view)) => {
                    view.entries().for_each(|(ssrc, _)| self.want_keyframe(ssrc))
                }
                Ok(Packet::Nack(view)) => {
                    let known = self.publications.iter().find(|p| p.ssrc == view.media());
                    let Some(publication) = known else { continue };
                    for seq in view.lost().take(NACKS_MAX) {
                        if let Some(sealed) = publication.remembered(seq) {
                            send(sealed);
                        }
                    }
                }
                Ok(Packet::SenderReport(view)) => self.note_blocks(view.blocks()),
                Ok(Packet::ReceiverReport(view)) => self.note_blocks(view.blocks()),
                _ => {}
            }
        }
    }

    fn note_blocks(&mut self, blocks: rr::ReportBlocks<'_>) {
        for block in blocks {
            if !self.publications.iter().any(|own| own.ssrc == block.ssrc) {
                continue;
            }
            match self.upstream_lost.iter_mut().find(|(ssrc, _)| *ssrc == block.ssrc) {
                Some((_, lost)) => *lost = block.cumulative_lost,
                None => self.upstream_lost.push((block.ssrc, block.cumulative_lost)),
            }
        }
    }

    fn want_keyframe(&mut self, ssrc: Ssrc) {
        if let Some(publication) = self.publications.iter_mut().find(|p| p.ssrc == ssrc) {
            publication.want_keyframe();
        }
    }

    /// Does what is due but the media: checks, handshake, pings, reports, requests.
    pub fn handle_timeout(&mut self, now: Instant, ntp: NtpTime, scenario: &Scenario, send: Send) {
        if self.conversation.next_deadline().is_some_and(|due| due <= now) {
            self.conversation.handle_timeout(now);
        }
        let Some(media) = &mut self.media else { return };
        if media.next_deadline().is_some_and(|due| due <= now) {
            media.handle_timeout(now, send);
        }
        if !self.is_connected {
            if media.checks_answered() == 0 && self.address_until <= now {
                self.address_at = (self.address_at + 1) % self.addresses.len().max(1);
                self.address_until = now + ADDRESS_TIMEOUT;
                self.try_address();
            }
            return;
        }
        if let Some(closed) = media.closed() {
            self.failed.get_or_insert_with(|| format!("the connection ended: {closed:?}"));
        }
        if self.next_report <= now {
            self.next_report = now + Duration::from_secs_f64(scenario.clients.report_s);
            self.send_reports(now, ntp, send);
        }
        if scenario.clients.nack {
            self.send_requests(now, send);
        }
        self.send_feedback(now, send);
    }

    /// Sender reports, or one receiver report. Source: RFC 3550 §6.4.
    fn send_reports(&mut self, now: Instant, ntp: NtpTime, send: Send) {
        let blocks: Vec<_> =
            self.received.iter_mut().filter_map(|stream| stream.report(now)).take(31).collect();
        let mut compound = [0; 1_400];
        let mut len = 0;
        let mut own = self.publications.iter().filter_map(|p| p.report(ntp)).peekable();
        let written = match own.peek() {
            None if blocks.is_empty() => return,
            None => rr::write(&mut compound, self.ssrc, &blocks),
            Some(report) => sr::write(&mut compound, report, &blocks),
        };
        own.next();
        len += written.unwrap_or(0);
        for report in own {
            len += sr::write(&mut compound[len..], &report, &[]).unwrap_or(0);
        }
        let first = self.publications.first().map_or(self.ssrc, |publication| publication.ssrc);
        len += sdes::write_cname(&mut compound[len..], first, CNAME).unwrap_or(0);
        self.send_rtcp(&compound[..len], send);
    }

    fn send_requests(&mut self, now: Instant, send: Send) {
        for at in 0..self.received.len() {
            let mut lost = [SeqNum(0); NACKS_MAX];
            let stream = &mut self.received[at];
            let (ssrc, (count, needs_keyframe)) = (stream.ssrc, stream.due(now, &mut lost));
            let mut packet = [0; 400];
            if let Some(len) = nack::write(&mut packet, self.ssrc, ssrc, &lost[..count]) {
                self.send_rtcp(&packet[..len], send);
            }
            if needs_keyframe && let Some(len) = pli::write(&mut packet, self.ssrc, ssrc) {
                self.send_rtcp(&packet[..len], send);
            }
        }
    }

    fn send_feedback(&mut self, now: Instant, send: Send) {
        let media = self.received.first().map_or(Ssrc(0), |stream| stream.ssrc);
        let mut statuses = [None; FEEDBACK_MAX];
        while let Some(plan) = self.arrivals.as_mut().and_then(|log| log.build(now, &mut statuses))
        {
            let feedback = twcc::Feedback {
                sender: self.ssrc,
                media,
                base_seq: plan.base_seq,
                reference_time: plan.reference_time,
                feedback_count: plan.feedback_count,
                statuses: &statuses[..plan.count],
            };
            let mut packet = [0; 1_200];
            if let Some(len) = twcc::write(&mut packet, &feedback) {
                self.send_rtcp(&packet[..len], send);
            }
        }
    }

    fn send_rtcp(&mut self, plain: &[u8], send: Send) {
        if let Some(media) = &mut self.media {
            media.send_rtcp(plain, send);
        }
    }

    /// Packets of its own that the server reports as lost.
    pub fn upstream_lost(&self) -> i64 {
        self.upstream_lost.iter().map(|(_, lost)| i64::from(*lost)).sum()
    }
}

/// Streams that one client takes: each publisher's several times over, in case a server begins them anew, and no more.
fn streams_max(scenario: &Scenario) -> usize {
    (scenario.calls.unmuted + scenario.calls.screens) as usize * 4 + 16
}

/// The transport-wide number of a packet whose header is in the clear.
fn transport_number(datagram: &[u8], id: u8) -> Option<u16> {
    let view = sluice_engine::wire::rtp::RtpView::parse(datagram).ok()?;
    let (profile, block) = view.extension()?;
    let (_, value) = rtp_ext::elements(profile, block).find(|(number, _)| *number == id)?;
    Some(u16::from_be_bytes(value.try_into().ok()?))
}
