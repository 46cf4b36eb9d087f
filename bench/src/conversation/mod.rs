//! What a client and the server say to each other before and beside media: offers, answers, mutes. No IO, no clock.
//!
//! A [`Conversation`] is told what was heard and says what it wishes. Wishes for the signalling server go to [`crate::signalling`],
//! the others to the client's media side.

mod addresses;
mod native;
mod negotiation;
mod rtcd;
mod rtcd_channel;
pub mod rtcd_message;
mod sdp;
pub mod target;
#[cfg(test)]
mod tests;
mod whip;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_engine::clock::Instant;
use sluice_engine::dtls::{DtlsRole, Fingerprint};
use sluice_engine::ice::Credentials;
use sluice_engine::ids::{PayloadType, Ssrc};

use native::NativeConversation;
use rtcd::RtcdConversation;
use whip::WhipConversation;

/// Which server, and how to join it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Target {
    pub api: TargetApi,
    /// `http://HOST:PORT`, with a path for WHIP where the server has one; see [`Target::parse`].
    pub url: String,
    /// Bearer token of the native API and of WHIP.
    pub token: Option<String>,
    /// Registration with rtcd's API.
    pub account: Option<Account>,
}

/// The APIs by which clients can join.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetApi {
    /// rtcd's: one WebSocket for all clients of a worker, data channels, offers of both sides.
    Rtcd,
    /// Sluice's own: HTTP, and a WebSocket for each client that receives.
    Sluice,
    /// WHIP for who sends, WHEP for who receives.
    Whip,
}

impl TargetApi {
    /// How it is named on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rtcd => "rtcd",
            Self::Sluice => "sluice",
            Self::Whip => "whip",
        }
    }
}

/// A client of rtcd: what a Mattermost installation is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Account {
    pub client: String,
    pub key: String,
}

/// What a participant can send.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Audio,
    Screen,
    /// The screen in two layers, `l` and `h`.
    SimulcastScreen,
}

/// Who takes part: what the conversation needs to know of the client before it begins.
#[derive(Clone, Debug)]
pub struct Participant {
    /// The call's id: letters, digits and `-`.
    pub call: String,
    /// Its own id, unique in the run: letters and digits.
    pub session: String,
    /// What it sends.
    pub sources: Vec<Source>,
    /// Whether it receives what the others send.
    pub receives: bool,
    /// Its ICE credentials.
    pub local: Credentials,
    /// Its certificate.
    pub fingerprint: Fingerprint,
    /// Seeds SSRCs.
    pub seed: u64,
}

/// What the conversation wishes.
#[derive(Debug)]
pub enum Wish {
    /// For signalling: an HTTP request; its answer is [`Heard::Response`].
    Request(Request),
    /// For signalling: a binary message on the worker's WebSocket (rtcd's API).
    Message(Vec<u8>),
    /// For signalling: a WebSocket of the client's own at this path (native API); then [`Heard::SocketOpen`].
    OpenSocket(String),
    /// For signalling: a text message on the client's own WebSocket.
    Text(String),
    /// For the media side: open a data channel of this label once there is an association; then [`Heard::ChannelOpen`].
    OpenChannel(&'static str),
    /// For the media side: a binary message on the data channel.
    Channel(Vec<u8>),
    /// For the media side: ICE and DTLS can begin. Comes once.
    Connect(Remote),
    /// For the media side: the server takes this source from now on.
    Send(SendStream),
    /// For the media side: packets with this payload type are of this kind. Comes again when something of it changes.
    Receive(ReceiveFormat),
    /// For the media side: all that was needed to take part has been negotiated.
    Ready,
    /// The client cannot go on; why, for people.
    Fail(String),
}

/// An HTTP request. The URL is the target's with `path` in place of its path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    pub method: &'static str,
    /// With the leading `/`.
    pub path: String,
    /// `application/json`, `application/sdp`, or empty without a body.
    pub content_type: &'static str,
    pub body: String,
}

/// What was heard.
#[derive(Debug)]
pub enum Heard {
    /// The answer to the client's request, requests in order; `Err` when there was none.
    Response(Result<Response, String>),
    /// A message for this client on the worker's WebSocket, whole as it came (rtcd's API).
    Message(Vec<u8>),
    /// The client's own WebSocket is open.
    SocketOpen,
    /// A message on it.
    Text(String),
    /// The client's own WebSocket, or the worker's, has ended; why.
    SocketClosed(String),
    /// DTLS is done.
    Connected,
    /// The data channel is open.
    ChannelOpen,
    /// A message on the data channel.
    Channel(Vec<u8>),
}

/// An answer of the server's HTTP API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    pub status: u16,
    /// The field `Location`.
    pub location: Option<String>,
    pub body: String,
}

/// Where the server is, as its description says.
#[derive(Clone, Debug)]
pub struct Remote {
    pub credentials: Credentials,
    pub fingerprint: Fingerprint,
    /// Our side of the handshake.
    pub dtls_role: DtlsRole,
    /// Its UDP addresses, in the order of preference.
    pub addresses: Vec<SocketAddr>,
}

/// A source as it was negotiated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendStream {
    pub source: Source,
    pub payload_type: PayloadType,
    /// One, or low and high with their RIDs.
    pub layers: Vec<(Ssrc, Option<String>)>,
    pub mid: String,
    pub extensions: Extensions,
}

/// Ids of header extensions; `None` where it was not agreed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extensions {
    pub mid: Option<u8>,
    pub rid: Option<u8>,
    pub transport_cc: Option<u8>,
    pub audio_level: Option<u8>,
}

/// What packets of one payload type are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceiveFormat {
    pub payload_type: PayloadType,
    pub is_video: bool,
    /// Id of the transport-wide sequence number, where it was agreed.
    pub transport_cc: Option<u8>,
    /// Whether NACK was agreed.
    pub nack: bool,
}

/// One client's side of the signalling: one state machine for each API.
pub struct Conversation {
    way: Way,
    wishes: VecDeque<Wish>,
    has_failed: bool,
}

enum Way {
    Rtcd(Box<RtcdConversation>),
    Native(Box<NativeConversation>),
    Whip(Box<WhipConversation>),
}

impl Conversation {
    /// Begins: the first wishes are there at once.
    pub fn new(target: &Target, participant: Participant, now: Instant) -> Self {
        let mut wishes = VecDeque::new();
        let way = match target.api {
            TargetApi::Rtcd => {
                Way::Rtcd(Box::new(RtcdConversation::new(target, participant, &mut wishes)))
            }
            TargetApi::Sluice => {
                Way::Native(Box::new(NativeConversation::new(target, participant, &mut wishes)))
            }
            TargetApi::Whip => {
                Way::Whip(Box::new(WhipConversation::new(target, &participant, now, &mut wishes)))
            }
        };
        Self { way, wishes, has_failed: false }
    }

    /// Sets how often the client pings over its data channel, where the API has one. Zero is never; without this it is every second.
    pub fn set_ping_interval(&mut self, now: Instant, interval: Duration) {
        if let Way::Rtcd(rtcd) = &mut self.way {
            rtcd.set_ping_interval(now, interval);
        }
    }

    /// Takes what was heard.
    pub fn handle(&mut self, now: Instant, heard: Heard) {
        if self.has_failed {
            return;
        }
        let wishes = &mut self.wishes;
        let handled = match &mut self.way {
            Way::Rtcd(rtcd) => rtcd.handle(now, heard, wishes),
            Way::Native(native) => native.handle(now, heard, wishes),
            Way::Whip(whip) => whip.handle(now, heard, wishes),
        };
        self.check(handled);
    }

    /// Mutes or unmutes all audio: says so to the server, where it wants to know. The media side stops by itself.
    pub fn set_muted(&mut self, _now: Instant, muted: bool) {
        if let Way::Rtcd(rtcd) = &mut self.way
            && !self.has_failed
        {
            rtcd.set_muted(muted, &mut self.wishes);
        }
    }

    /// Ends the session on the server, also one of a client that could not go on.
    pub fn leave(&mut self, _now: Instant) {
        match &mut self.way {
            Way::Rtcd(rtcd) => rtcd.leave(&mut self.wishes),
            Way::Native(native) => native.leave(&mut self.wishes),
            Way::Whip(whip) => whip.leave(&mut self.wishes),
        }
    }

    /// When [`Conversation::handle_timeout`] has something to do: pings, repeated offers.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.way {
            _ if self.has_failed => None,
            Way::Rtcd(rtcd) => rtcd.next_deadline(),
            Way::Native(_) => None,
            Way::Whip(whip) => whip.next_deadline(),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.has_failed {
            return;
        }
        let handled = match &mut self.way {
            Way::Rtcd(rtcd) => rtcd.handle_timeout(now, &mut self.wishes),
            Way::Native(_) => Ok(()),
            Way::Whip(whip) => {
                whip.handle_timeout(now, &mut self.wishes);
                Ok(())
            }
        };
        self.check(handled);
    }

    /// The next wish, in order.
    pub fn poll_wish(&mut self) -> Option<Wish> {
        self.wishes.pop_front()
    }

    fn check(&mut self, handled: Result<(), String>) {
        if let Err(why) = handled {
            self.has_failed = true;
            self.wishes.push_back(Wish::Fail(why));
        }
    }
}

/// What a refusal says to people: its status, and the detail of a problem (RFC 9457) or the beginning of the text.
fn refusal(wanted: &str, response: &Response) -> String {
    let problem = serde_json::from_str::<serde_json::Value>(&response.body).unwrap_or_default();
    let detail = problem.get("detail").and_then(|detail| detail.as_str()).unwrap_or(&response.body);
    let detail: String = detail.trim().chars().take(200).collect();
    format!("the server refused {wanted} with status {}: {detail}", response.status)
}
