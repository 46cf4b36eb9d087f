//! What a plugin and the server say to each other over the WebSocket. A message is two MessagePack values after one another: its type,
//! a str, and its payload; what follows is passed over. Source: the protocol as it is seen on the wire, `docs/rtcd_compat.md`.
//!
//! The server is strict about types, and about ids: they end up in descriptions and labels, so they are at most [`ID_BYTES_MAX`]
//! bytes without control characters or white space.

mod decode;

pub use decode::{DecodeError, Problem};

use super::directory::SessionProps;
use super::msgpack::Writer;

/// Longest WebSocket message in either direction, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Longest id in bytes. Those of the plugin have 26; the registration store ends at 64.
pub const ID_BYTES_MAX: usize = 128;

/// What a plugin says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FromPlugin {
    /// A user joins a call.
    Join(Join),
    /// A session is to end.
    Leave {
        /// The session.
        session: String,
    },
    /// Messages of a session are to go to the connection that this came over.
    Reconnect {
        /// The session.
        session: String,
    },
    /// Signalling of one session. All ids but the session's may be empty; none are to be relied on.
    Rtc(Rtc),
}

impl FromPlugin {
    /// The message's type on the wire.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Join(_) => "join",
            Self::Leave { .. } => "leave",
            Self::Reconnect { .. } => "reconnect",
            Self::Rtc(_) => "rtc",
        }
    }
}

/// Makes a session. The client is the one that the connection belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Join {
    /// The call; made when it is not there.
    pub call: String,
    /// The user.
    pub user: String,
    /// The session to make.
    pub session: String,
    /// What the user's client can do.
    pub props: SessionProps,
}

/// Signalling of one session, in either direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rtc {
    /// The client that the session belongs to.
    pub group: String,
    /// The user.
    pub user: String,
    /// The session.
    pub session: String,
    /// The call.
    pub call: String,
    /// What `data` is.
    pub kind: RtcKind,
    /// JSON text of `Ice`, `Sdp`, `ScreenOn` and `VideoOn`; empty otherwise.
    pub data: Vec<u8>,
}

/// The kinds of [`Rtc`], with their numbers on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RtcKind {
    /// An ICE candidate.
    Ice = 1,
    /// A description.
    Sdp = 2,
    /// The voice track pauses.
    Mute = 3,
    /// The voice track goes on.
    Unmute = 4,
    /// A screen is going to be shared.
    ScreenOn = 5,
    /// The screen is not shared any longer.
    ScreenOff = 6,
    /// The user speaks; said by the server only.
    VoiceOn = 7,
    /// The user is silent; said by the server only.
    VoiceOff = 8,
    /// The camera's tracks have been added.
    VideoOn = 9,
    /// The camera is off.
    VideoOff = 10,
}

impl RtcKind {
    /// The kind of this number; `None` where there is none.
    pub fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Ice,
            2 => Self::Sdp,
            3 => Self::Mute,
            4 => Self::Unmute,
            5 => Self::ScreenOn,
            6 => Self::ScreenOff,
            7 => Self::VoiceOn,
            8 => Self::VoiceOff,
            9 => Self::VideoOn,
            10 => Self::VideoOff,
            _ => return None,
        })
    }
}

/// What the server says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ToPlugin {
    /// The first message on every connection.
    Hello {
        /// The client; empty for the administrator.
        client: String,
        /// The connection.
        connection: String,
    },
    /// A candidate or a description for a user.
    Rtc(Rtc),
    /// A user began or ceased to speak.
    Vad(Rtc),
    /// A session has ended.
    Close {
        /// The session.
        session: String,
    },
}

impl ToPlugin {
    /// The message's type on the wire.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Rtc(_) => "rtc",
            Self::Vad(_) => "vad",
            Self::Close { .. } => "close",
        }
    }

    /// The message as it goes over the WebSocket.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.str(self.type_name());
        match self {
            Self::Hello { client, connection } => {
                writer.map(2);
                pair(&mut writer, "clientID", client);
                pair(&mut writer, "connID", connection);
            }
            Self::Close { session } => {
                writer.map(1);
                pair(&mut writer, "sessionID", session);
            }
            Self::Rtc(rtc) | Self::Vad(rtc) => rtc.encode(&mut writer),
        }
        writer.finish()
    }
}

impl Rtc {
    fn encode(&self, writer: &mut Writer) {
        writer.map(if self.data.is_empty() { 5 } else { 6 });
        pair(writer, "group_id", &self.group);
        pair(writer, "user_id", &self.user);
        pair(writer, "session_id", &self.session);
        pair(writer, "call_id", &self.call);
        writer.str("type");
        writer.u8(self.kind as u8);
        if !self.data.is_empty() {
            writer.str("data");
            writer.bin(&self.data);
        }
    }
}

fn pair(writer: &mut Writer, key: &str, value: &str) {
    writer.str(key);
    writer.str(value);
}

#[cfg(test)]
mod tests;
