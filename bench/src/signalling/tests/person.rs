//! One participant with real media: a conversation, a client of the engine, a socket.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::UdpSocket;

use sluice_engine::clock::{self, Instant};
use sluice_engine::dtls::Identity;
use sluice_engine::ice::Credentials;
use sluice_engine::ids::{ChannelId, ExtSeqNum, PayloadType, RtpTime, ShardId};
use sluice_engine::sctp::dcep::Reliability;
use sluice_engine::sctp::{ChannelEvent, DataKind};
use sluice_engine::testing::client::{Client, ClientParams};
use sluice_engine::wire::rtp::{FixedHeader, RtpView, write_fixed_header};
use sluice_engine::wire::rtp_ext::ExtensionWriter;

use crate::conversation::{
    Conversation, Heard, Participant, ReceiveFormat, SendStream, Source, Target, Wish,
};
use crate::signalling::{ClientNumber, Signalling};

/// The beginning of a key frame of VP8, 16 × 16, after a payload descriptor. Source: RFC 7741 §4.2, RFC 6386 §9.1.
const KEY_FRAME: [u8; 11] = [0x10, 0x50, 0x01, 0x00, 0x9d, 0x01, 0x2a, 16, 0, 16, 0];

/// A participant.
pub struct Person {
    pub number: ClientNumber,
    pub session: String,
    pub conversation: Conversation,
    identity: Identity,
    local: Credentials,
    socket: UdpSocket,
    client: Option<Client>,
    label: Option<&'static str>,
    channel: Option<ChannelId>,
    was_connected: bool,
    has_left: bool,
    /// What it may send, and the next number of each layer.
    pub sends: Vec<SendStream>,
    numbers: HashMap<u32, u64>,
    /// By payload type.
    pub formats: HashMap<u8, ReceiveFormat>,
    /// Payloads that came, by payload type.
    pub received: HashMap<u8, Vec<Vec<u8>>>,
    pub channel_messages: Vec<Vec<u8>>,
    pub is_ready: bool,
    pub failure: Option<String>,
}

impl Person {
    /// Begins to join.
    pub fn new(target: &Target, call: &str, number: u32, sources: &[Source]) -> Self {
        let identity = Identity::generate().unwrap();
        let mut random = fastrand::Rng::with_seed(number.into());
        let local = Credentials::generate(ShardId(0), &mut |bytes| random.fill(bytes));
        let session = format!("{call}x{number}");
        let participant = Participant {
            call: call.to_owned(),
            session: session.clone(),
            sources: sources.to_vec(),
            receives: true,
            local: local.clone(),
            fingerprint: identity.fingerprint().clone(),
            seed: number.into(),
        };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            number: ClientNumber(number),
            session,
            conversation: Conversation::new(target, participant, clock::now()),
            identity,
            local,
            socket,
            client: None,
            label: None,
            channel: None,
            was_connected: false,
            has_left: false,
            sends: Vec::new(),
            numbers: HashMap::new(),
            formats: HashMap::new(),
            received: HashMap::new(),
            channel_messages: Vec::new(),
            is_ready: false,
            failure: None,
        }
    }

    /// Does all that can be done at the moment.
    pub fn turn(&mut self, now: Instant, signalling: &mut Signalling) {
        if self.conversation.next_deadline().is_some_and(|due| due <= now) {
            self.conversation.handle_timeout(now);
        }
        self.carry_wishes(now, signalling);
        self.serve_media(now);
        self.carry_wishes(now, signalling);
    }

    fn carry_wishes(&mut self, now: Instant, signalling: &mut Signalling) {
        while let Some(wish) = self.conversation.poll_wish() {
            match wish {
                Wish::OpenChannel(label) => self.label = Some(label),
                Wish::Connect(remote) => {
                    assert!(self.client.is_none(), "Connect comes once");
                    self.socket.connect(remote.addresses[0]).unwrap();
                    let params = ClientParams {
                        identity: self.identity.clone(),
                        local: self.local.clone(),
                        remote: remote.credentials,
                        fingerprint: remote.fingerprint,
                        dtls_role: remote.dtls_role,
                        seed: self.number.0.into(),
                    };
                    let mut client = Client::new(now, params);
                    client.set_remote_address(remote.addresses[0]);
                    self.client = Some(client);
                }
                Wish::Channel(bytes) => {
                    let client = self.client.as_mut().unwrap();
                    client.data.send(self.channel.unwrap(), DataKind::Binary, bytes).unwrap();
                }
                Wish::Send(stream) => self.sends.push(stream),
                Wish::Receive(format) => {
                    self.formats.insert(format.payload_type.0, format);
                }
                Wish::Ready => self.is_ready = true,
                Wish::Fail(why) => self.failure = Some(why),
                other => signalling.send(self.number, other),
            }
        }
    }

    fn serve_media(&mut self, now: Instant) {
        let Some(client) = &mut self.client else { return };
        let socket = &self.socket;
        // What is lost is repeated or, as media, missing from what the test waits for.
        let mut send = |bytes: &[u8]| drop(socket.send(bytes));
        let mut buffer = [0; 2_048];
        loop {
            match socket.recv(&mut buffer) {
                Ok(len) => client.handle_datagram(now, &mut buffer[..len], &mut send),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The server's socket is gone: its end is noticed elsewhere.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => panic!("{error}"),
            }
        }
        if let Some(label) = self.label.take_if(|_| client.is_connected()) {
            client.data.open(label, false, Reliability::Reliable);
        }
        client.serve_data(now, &mut send);
        if client.next_deadline().is_some_and(|due| due <= now) {
            client.handle_timeout(now, &mut send);
        }
        assert!(client.closed().is_none() || self.has_left, "{:?}", client.closed());
        for received in std::mem::take(&mut client.received) {
            let view = RtpView::parse(&received.packet).unwrap();
            let PayloadType(number) = view.header().payload_type;
            self.received.entry(number).or_default().push(view.payload().to_vec());
        }
        let is_connected = client.is_connected();
        let events = std::mem::take(&mut client.data.events);
        if is_connected && !std::mem::replace(&mut self.was_connected, true) {
            self.conversation.handle(now, Heard::Connected);
        }
        for event in events {
            match event {
                ChannelEvent::Opened(id, _) => {
                    self.channel = Some(id);
                    self.conversation.handle(now, Heard::ChannelOpen);
                }
                ChannelEvent::Message(_, _, bytes) => {
                    self.channel_messages.push(bytes.clone());
                    self.conversation.handle(now, Heard::Channel(bytes));
                }
                _ => {}
            }
        }
    }

    /// Ends its session; the server may say goodbye to its media from here on.
    pub fn leave(&mut self) {
        self.has_left = true;
        self.conversation.leave(clock::now());
    }

    /// Whether media can flow.
    pub fn is_connected(&self) -> bool {
        self.client.as_ref().is_some_and(Client::is_connected)
    }

    /// Sends one packet of each layer of each source; its payload says which source it is.
    pub fn send_media(&mut self) {
        let Some(client) = &mut self.client else { return };
        for stream in &self.sends {
            for (ssrc, rid) in &stream.layers {
                let next = self.numbers.entry(ssrc.0).or_insert(100);
                let index = ExtSeqNum(*next);
                *next += 1;
                let header = FixedHeader {
                    marker: true,
                    payload_type: stream.payload_type,
                    seq: index.seq(),
                    timestamp: RtpTime(index.0 as u32 * 3_000),
                    ssrc: *ssrc,
                    has_extension: rid.is_some(),
                    has_padding: false,
                };
                let mut packet = [0; 1_200];
                let mut len = write_fixed_header(&mut packet, &header).unwrap();
                if let Some(rid) = rid {
                    let mut extensions = ExtensionWriter::new(&mut packet[len..], false);
                    let ids = stream.extensions;
                    assert!(extensions.push(ids.mid.unwrap(), stream.mid.as_bytes()));
                    assert!(extensions.push(ids.rid.unwrap(), rid.as_bytes()));
                    len += extensions.finish();
                }
                let payload = payload(stream.source, rid.as_deref());
                packet[len..len + payload.len()].copy_from_slice(&payload);
                let packet = &packet[..len + payload.len()];
                client.send_rtp(index, packet, &mut |bytes| drop(self.socket.send(bytes)));
            }
        }
    }

    /// How many packets of a source came, whole and of the announced kind.
    pub fn count(&self, source: Source, rid: Option<&str>) -> usize {
        let wanted = payload(source, rid);
        let is_video = source != Source::Audio;
        let of_kind = self.formats.values().filter(|format| format.is_video == is_video);
        let lists = of_kind.filter_map(|format| self.received.get(&format.payload_type.0));
        lists.flatten().filter(|payload| **payload == wanted).count()
    }
}

fn payload(source: Source, rid: Option<&str>) -> Vec<u8> {
    let name = format!("{source:?} {rid:?}").into_bytes();
    if source == Source::Audio { name } else { [&KEY_FRAME[..], &name].concat() }
}
