//! Bytes of a plugin → a typed message.

use std::fmt;

use super::super::directory::SessionProps;
use super::super::msgpack::{FormatError, Reader, Token};
use super::{FromPlugin, ID_BYTES_MAX, Join, Rtc, RtcKind};

/// Longest type that is kept for an error: known ones have at most nine bytes, and nobody learns more from a longer one.
const TYPE_BYTES_MAX: usize = 32;

/// Why a message was not understood, and what type it said it has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecodeError {
    type_name: Option<String>,
    problem: Problem,
}

/// What is wrong with a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// It is not MessagePack.
    Format(FormatError),
    /// It does not begin with its type.
    NoType,
    /// Plugins say nothing of this type.
    UnexpectedType,
    /// The payload has another form than this type's.
    Payload {
        /// What would be right.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// A field has another form.
    Field {
        /// The field.
        field: &'static str,
        /// What would be right.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// A field that is needed is not there or empty.
    Missing(&'static str),
    /// A field is no id: too long, or with characters that ids do not have.
    NoId(&'static str),
    /// There is no such kind of `rtc` message for a plugin to send.
    UnknownKind(u64),
}

impl DecodeError {
    /// The type that the message said it has, if it was readable; at most 32 bytes, otherwise of the sender's choosing.
    pub fn type_name(&self) -> Option<&str> {
        self.type_name.as_deref()
    }

    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.type_name {
            Some(name) => write!(f, "a message of type \"{}\": ", name.escape_debug())?,
            None => f.write_str("a message without a readable type: ")?,
        }
        match &self.problem {
            Problem::Format(error) => write!(f, "{error}"),
            Problem::NoType => {
                write!(f, "it must begin with its type, a str of at most {TYPE_BYTES_MAX} bytes")
            }
            Problem::UnexpectedType => {
                f.write_str("a plugin sends join, leave, reconnect and rtc only")
            }
            Problem::Payload { expected, found } => {
                write!(f, "the payload must be {expected}, not {found}")
            }
            Problem::Field { field, expected, found } => {
                write!(f, "{field} must be {expected}, not {found}")
            }
            Problem::Missing(field) => write!(f, "{field} is missing or empty"),
            Problem::NoId(field) => write!(
                f,
                "{field} is no id: UTF-8 text of at most {ID_BYTES_MAX} bytes without control characters and white space"
            ),
            Problem::UnknownKind(number) => {
                write!(f, "type {number} is not one that a plugin sends: 1 to 6, 9 or 10")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<FormatError> for Problem {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

impl FromPlugin {
    /// Reads one WebSocket message. Keys come in any order, the last of equal ones holds, unknown ones are passed over.
    ///
    /// # Errors
    /// A [`DecodeError`] that says what is wrong; nothing of such a message is to be acted on.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let type_name = match reader.token() {
            Ok(Token::Str(name)) if name.len() <= TYPE_BYTES_MAX => std::str::from_utf8(name).ok(),
            Ok(_) => None,
            Err(error) => return Err(DecodeError { type_name: None, problem: error.into() }),
        };
        let decoded = match type_name {
            None => Err(Problem::NoType),
            Some("join") => join(&mut reader).map(Self::Join),
            Some("leave") => session_of(&mut reader).map(|session| Self::Leave { session }),
            Some("reconnect") => session_of(&mut reader).map(|session| Self::Reconnect { session }),
            Some("rtc") => rtc(&mut reader).map(Self::Rtc),
            Some(_) => Err(Problem::UnexpectedType),
        };
        decoded.map_err(|problem| DecodeError { type_name: type_name.map(str::to_owned), problem })
    }
}

/// A map with values of any type, of which some are needed.
fn join(reader: &mut Reader<'_>) -> Result<Join, Problem> {
    let pairs = map(reader)?;
    let (mut call, mut user, mut session) = (None, None, None);
    let mut props = SessionProps::default();
    for _ in 0..pairs {
        match key(reader)? {
            b"callID" => call = strict_id("callID", reader.token()?)?,
            b"userID" => user = strict_id("userID", reader.token()?)?,
            b"sessionID" => session = strict_id("sessionID", reader.token()?)?,
            b"channelID" => props.channel = strict_id("channelID", reader.token()?)?,
            b"av1Support" => props.av1_support = flag("av1Support", reader.token()?)?,
            b"dcSignaling" => props.dc_signaling = flag("dcSignaling", reader.token()?)?,
            _ => reader.skip()?,
        }
    }
    Ok(Join {
        call: needed("callID", call)?,
        user: needed("userID", user)?,
        session: needed("sessionID", session)?,
        props,
    })
}

/// A map of text to text, of which the session's id is needed.
fn session_of(reader: &mut Reader<'_>) -> Result<String, Problem> {
    let pairs = map(reader)?;
    let mut session = None;
    for _ in 0..pairs {
        let is_session = key(reader)? == b"sessionID";
        match reader.token()? {
            value @ Token::Str(_) if is_session => session = strict_id("sessionID", value)?,
            Token::Str(_) => {}
            other => {
                let field = if is_session { "sessionID" } else { "every value" };
                return Err(Problem::Field { field, expected: "a str", found: other.name() });
            }
        }
    }
    needed("sessionID", session)
}

/// A struct: a map of its fields, or an array of all six in order.
fn rtc(reader: &mut Reader<'_>) -> Result<Rtc, Problem> {
    let mut fields = RtcFields::default();
    match reader.token()? {
        Token::Nil => {}
        Token::Map(pairs) => {
            for _ in 0..pairs {
                match key(reader)? {
                    b"group_id" => fields.group = loose_id("group_id", reader.token()?)?,
                    b"user_id" => fields.user = loose_id("user_id", reader.token()?)?,
                    b"session_id" => fields.session = loose_id("session_id", reader.token()?)?,
                    b"call_id" => fields.call = loose_id("call_id", reader.token()?)?,
                    b"type" => fields.kind = kind_number(reader.token()?)?,
                    b"data" => fields.data = data(reader.token()?)?,
                    _ => reader.skip()?,
                }
            }
        }
        Token::Array(6) => {
            fields.group = loose_id("group_id", reader.token()?)?;
            fields.user = loose_id("user_id", reader.token()?)?;
            fields.session = loose_id("session_id", reader.token()?)?;
            fields.call = loose_id("call_id", reader.token()?)?;
            fields.kind = kind_number(reader.token()?)?;
            fields.data = data(reader.token()?)?;
        }
        other => {
            let expected = "a map of fields or an array of all six";
            return Err(Problem::Payload { expected, found: other.name() });
        }
    }
    fields.check()
}

/// Fields of [`Rtc`] as they came; absent and nil ones are empty.
#[derive(Default)]
struct RtcFields<'a> {
    group: String,
    user: String,
    session: String,
    call: String,
    kind: u64,
    data: &'a [u8],
}

impl RtcFields<'_> {
    fn check(self) -> Result<Rtc, Problem> {
        if self.session.is_empty() {
            return Err(Problem::Missing("session_id"));
        }
        let kind = match RtcKind::from_number(self.kind) {
            None | Some(RtcKind::VoiceOn | RtcKind::VoiceOff) => {
                return Err(Problem::UnknownKind(self.kind));
            }
            Some(kind) => kind,
        };
        let Self { group, user, session, call, data, .. } = self;
        Ok(Rtc { group, user, session, call, kind, data: data.to_vec() })
    }
}

/// How many pairs; nil has none.
fn map(reader: &mut Reader<'_>) -> Result<u32, Problem> {
    match reader.token()? {
        Token::Map(pairs) => Ok(pairs),
        Token::Nil => Ok(0),
        other => Err(Problem::Payload { expected: "a map", found: other.name() }),
    }
}

fn key<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Problem> {
    match reader.token()? {
        Token::Str(key) => Ok(key),
        other => Err(Problem::Field { field: "every key", expected: "a str", found: other.name() }),
    }
}

/// An id in a map of any values: a str; nil is none.
fn strict_id(field: &'static str, value: Token<'_>) -> Result<Option<String>, Problem> {
    match value {
        Token::Str(text) => id(field, text).map(Some),
        Token::Nil => Ok(None),
        other => Err(Problem::Field { field, expected: "a str", found: other.name() }),
    }
}

/// An id in a struct: a str or a bin; nil is empty.
fn loose_id(field: &'static str, value: Token<'_>) -> Result<String, Problem> {
    match value {
        Token::Str(text) | Token::Bin(text) => id(field, text),
        Token::Nil => Ok(String::new()),
        other => Err(Problem::Field { field, expected: "a str", found: other.name() }),
    }
}

fn id(field: &'static str, text: &[u8]) -> Result<String, Problem> {
    std::str::from_utf8(text)
        .ok()
        .filter(|text| text.len() <= ID_BYTES_MAX)
        .filter(|text| !text.contains(|c: char| c.is_control() || c.is_whitespace()))
        .map(str::to_owned)
        .ok_or(Problem::NoId(field))
}

fn needed(field: &'static str, id: Option<String>) -> Result<String, Problem> {
    id.filter(|id| !id.is_empty()).ok_or(Problem::Missing(field))
}

fn flag(field: &'static str, value: Token<'_>) -> Result<Option<bool>, Problem> {
    match value {
        Token::Bool(flag) => Ok(Some(flag)),
        Token::Nil => Ok(None),
        other => Err(Problem::Field { field, expected: "a bool", found: other.name() }),
    }
}

fn kind_number(value: Token<'_>) -> Result<u64, Problem> {
    match value {
        Token::Unsigned(number) => Ok(number),
        Token::Nil => Ok(0),
        other => Err(Problem::Field {
            field: "type",
            expected: "an integer of zero or more",
            found: other.name(),
        }),
    }
}

fn data(value: Token<'_>) -> Result<&[u8], Problem> {
    match value {
        Token::Bin(bytes) | Token::Str(bytes) => Ok(bytes),
        Token::Nil => Ok(&[]),
        other => Err(Problem::Field { field: "data", expected: "a bin", found: other.name() }),
    }
}
