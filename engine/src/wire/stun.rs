//! STUN messages: a view over a datagram, and writers for what ICE sends. Source: RFC 8489, RFC 8445 §16.1.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use super::cursor::{Reader, Writer};

/// A STUN message in a datagram, its framing and FINGERPRINT checked.
///
/// Attributes are looked up only up to MESSAGE-INTEGRITY: what follows it is not protected and is never seen, so that
/// nobody can add a USE-CANDIDATE to somebody else's check (RFC 8489 §14.5). Of an attribute that stands twice the first counts.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    message_type: u16,
    transaction_id: TransactionId,
    /// The whole datagram.
    datagram: &'a [u8],
    /// The attributes before MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT.
    attributes: &'a [u8],
    /// The value of MESSAGE-INTEGRITY.
    integrity: Option<[u8; INTEGRITY_LEN]>,
}

/// Why a datagram is not a STUN message for us. Such a datagram gets no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StunError {
    /// Shorter than the header.
    Short,
    /// The top bits are not zero, or the magic cookie is missing.
    NotStun,
    /// The length field is not a multiple of four or not the length of the datagram.
    Length,
    /// An attribute reaches past the end, or MESSAGE-INTEGRITY has the wrong length.
    Attribute,
    /// FINGERPRINT is missing or not the last attribute.
    NoFingerprint,
    /// FINGERPRINT does not fit the message.
    BadFingerprint,
}

/// What a message is within its transaction. Source: RFC 8489 §5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Wants a response.
    Request,
    /// Wants none.
    Indication,
    /// Success response.
    Success,
    /// Error response.
    Error,
}

/// Ties a response to its request: 96 bits, chosen by the requester. Source: RFC 8489 §5.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TransactionId(pub [u8; 12]);

impl<'a> Message<'a> {
    /// Reads the message that fills `datagram` exactly.
    ///
    /// # Errors
    /// One per broken rule, see [`StunError`].
    /// Source: RFC 8489 §5, §6.3, §14.7; RFC 8445 §7.1.2 for FINGERPRINT being mandatory in checks.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, StunError> {
        match Self::read(datagram)? {
            (message, true) => Ok(message),
            (_, false) => Err(StunError::NoFingerprint),
        }
    }

    /// Reads a message of a use of STUN in which FINGERPRINT may be left out: what a STUN server answers. Where it stands it is checked.
    ///
    /// # Errors
    /// As [`Message::parse`].
    /// Source: RFC 8489 §7, §12.
    pub fn parse_without_fingerprint(datagram: &'a [u8]) -> Result<Self, StunError> {
        Self::read(datagram).map(|(message, _)| message)
    }

    /// The message, and whether a right FINGERPRINT ends it.
    fn read(datagram: &'a [u8]) -> Result<(Self, bool), StunError> {
        let mut reader = Reader::new(datagram);
        let (message_type, length, cookie, transaction_id) =
            read_header(&mut reader).ok_or(StunError::Short)?;
        if message_type & 0xC000 != 0 || cookie != MAGIC_COOKIE {
            return Err(StunError::NotStun);
        }
        let body = reader.rest();
        if !length.is_multiple_of(4) || usize::from(length) != body.len() {
            return Err(StunError::Length);
        }

        let mut visible_len = None;
        let mut integrity = None;
        let mut fingerprint = None;
        let mut attributes = Attributes { reader };
        while !attributes.reader.is_empty() {
            let offset = body.len() - attributes.reader.rest().len();
            let (attribute_type, value) = attributes.next().ok_or(StunError::Attribute)?;
            match attribute_type {
                MESSAGE_INTEGRITY if visible_len.is_none() => {
                    visible_len = Some(offset);
                    integrity = Some(value.try_into().map_err(|_| StunError::Attribute)?);
                }
                MESSAGE_INTEGRITY_SHA256 if visible_len.is_none() => visible_len = Some(offset),
                FINGERPRINT => {
                    if !attributes.reader.is_empty() {
                        return Err(StunError::NoFingerprint);
                    }
                    visible_len.get_or_insert(offset);
                    let value = value.try_into().map_err(|_| StunError::NoFingerprint)?;
                    fingerprint = Some(u32::from_be_bytes(value));
                }
                _ => {}
            }
        }
        if let Some(fingerprint) = fingerprint {
            let covered =
                datagram.get(..datagram.len() - FINGERPRINT_TOTAL_LEN).unwrap_or_default();
            if fingerprint != fingerprint_of(covered) {
                return Err(StunError::BadFingerprint);
            }
        }
        let attributes = body.get(..visible_len.unwrap_or(body.len())).unwrap_or_default();
        let message = Self { message_type, transaction_id, datagram, attributes, integrity };
        Ok((message, fingerprint.is_some()))
    }

    /// Request, indication, success or error.
    pub fn class(&self) -> Class {
        match self.message_type & CLASS_MASK {
            REQUEST => Class::Request,
            INDICATION => Class::Indication,
            SUCCESS => Class::Success,
            _ => Class::Error,
        }
    }

    /// Whether the method is Binding, the only one that ICE uses.
    pub fn is_binding(&self) -> bool {
        self.message_type & !CLASS_MASK == BINDING
    }

    /// What the response repeats.
    pub fn transaction_id(&self) -> TransactionId {
        self.transaction_id
    }

    /// USERNAME, as it stands there.
    pub fn username(&self) -> Option<&'a [u8]> {
        self.attribute(USERNAME)
    }

    /// The two ufrags of USERNAME as the receiver of a request reads them: ours first, then the sender's.
    /// `None` unless there is exactly one colon. Source: RFC 8445 §7.2.2.
    pub fn username_parts(&self) -> Option<(&'a [u8], &'a [u8])> {
        let username = self.username()?;
        let colon = username.iter().position(|&b| b == b':')?;
        let (ours, theirs) = (username.get(..colon)?, username.get(colon + 1..)?);
        (!theirs.contains(&b':')).then_some((ours, theirs))
    }

    /// Whether MESSAGE-INTEGRITY is there, right or wrong.
    pub fn has_integrity(&self) -> bool {
        self.integrity.is_some()
    }

    /// Whether MESSAGE-INTEGRITY is there and was made with `key`. Takes the same time for every wrong value.
    /// Source: RFC 8489 §14.5.
    pub fn verify_integrity(&self, key: &IntegrityKey) -> bool {
        let Some(claimed) = self.integrity else { return false };
        let Some(covered) = self.datagram.get(..HEADER_LEN + self.attributes.len()) else {
            return false;
        };
        key.sign(covered).is_some_and(|signature| signature.ct_eq(&claimed).into())
    }

    /// Whether USE-CANDIDATE is there. Source: RFC 8445 §16.1.
    pub fn use_candidate(&self) -> bool {
        self.attribute(USE_CANDIDATE).is_some()
    }

    /// The tie breaker of a sender that thinks it controls. Source: RFC 8445 §16.1.
    pub fn ice_controlling(&self) -> Option<u64> {
        self.attribute(ICE_CONTROLLING)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// The tie breaker of a sender that thinks it is controlled. Source: RFC 8445 §16.1.
    pub fn ice_controlled(&self) -> Option<u64> {
        self.attribute(ICE_CONTROLLED)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// The priority of a peer-reflexive candidate that the check may reveal. Source: RFC 8445 §7.1.1.
    pub fn priority(&self) -> Option<u32> {
        self.attribute(PRIORITY)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// The requester's address as the responder saw it. Source: RFC 8489 §14.2.
    pub fn xor_mapped_address(&self) -> Option<SocketAddr> {
        let mut reader = Reader::new(self.attribute(XOR_MAPPED_ADDRESS)?);
        let _reserved = reader.u8()?;
        let family = reader.u8()?;
        let port = reader.u16()? ^ COOKIE_HIGH;
        let mask = address_mask(self.transaction_id);
        let ip = match (family, reader.rest().len()) {
            (FAMILY_IPV4, 4) => IpAddr::from((reader.u32()? ^ MAGIC_COOKIE).to_be_bytes()),
            (FAMILY_IPV6, 16) => {
                let masked = u128::from_be_bytes(reader.array()?);
                IpAddr::from((masked ^ mask).to_be_bytes())
            }
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    /// The code of ERROR-CODE, 300 to 699. Source: RFC 8489 §14.8.
    pub fn error_code(&self) -> Option<u16> {
        let mut reader = Reader::new(self.attribute(ERROR_CODE)?);
        let _reserved = reader.u16()?;
        let (class, number) = (u16::from(reader.u8()? & 0x07), u16::from(reader.u8()?));
        ((3..=6).contains(&class) && number < 100).then_some(class * 100 + number)
    }

    /// The attributes that we would have to understand and do not, each once; the first eight of them.
    /// Source: RFC 8489 §6.3.1.
    pub fn unknown_required(&self) -> UnknownAttributes {
        let mut unknown = UnknownAttributes::default();
        for (attribute_type, _) in self.attributes() {
            if attribute_type < COMPREHENSION_OPTIONAL && !UNDERSTOOD.contains(&attribute_type) {
                unknown.push(attribute_type);
            }
        }
        unknown
    }

    fn attributes(&self) -> Attributes<'a> {
        Attributes { reader: Reader::new(self.attributes) }
    }

    fn attribute(&self, wanted: u16) -> Option<&'a [u8]> {
        self.attributes().find(|&(found, _)| found == wanted).map(|(_, value)| value)
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("class", &self.class())
            .field("binding", &self.is_binding())
            .field("transaction_id", &self.transaction_id)
            .finish_non_exhaustive()
    }
}

/// Walks attributes; ends early at one that reaches past the end.
#[derive(Clone, Copy)]
struct Attributes<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let attribute_type = self.reader.u16()?;
        let len = usize::from(self.reader.u16()?);
        let value = self.reader.bytes(len)?;
        self.reader.bytes(padding_of(len))?;
        Some((attribute_type, value))
    }
}

/// A few attribute types, without allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UnknownAttributes {
    types: [u16; 8],
    len: usize,
}

impl UnknownAttributes {
    /// The types, as [`write_binding_error`] takes them.
    pub fn as_slice(&self) -> &[u16] {
        self.types.get(..self.len).unwrap_or_default()
    }

    /// Whether everything was understood.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, attribute_type: u16) {
        if self.as_slice().contains(&attribute_type) {
            return;
        }
        if let Some(slot) = self.types.get_mut(self.len) {
            *slot = attribute_type;
            self.len += 1;
        }
    }
}

/// A short-term password, keyed once and copied for each message. Source: RFC 8489 §9.1.1.
#[derive(Clone)]
pub struct IntegrityKey {
    keyed: Hmac<Sha1>,
}

impl IntegrityKey {
    /// Keys HMAC-SHA1 with `pwd`, the bytes of the ICE password.
    pub fn new(pwd: &[u8]) -> Self {
        // HMAC's own rule for keys (RFC 2104 §2), done here so that no length can be refused.
        let mut block = [0; 64];
        if let Some(head) = block.get_mut(..pwd.len()) {
            head.copy_from_slice(pwd);
        } else {
            block[..INTEGRITY_LEN].copy_from_slice(&Sha1::digest(pwd));
        }
        Self { keyed: Hmac::new(&block.into()) }
    }

    /// Signs a message whose bytes before MESSAGE-INTEGRITY are `covered`.
    ///
    /// The length in the header counts as if the message ended after MESSAGE-INTEGRITY. Source: RFC 8489 §14.5.
    fn sign(&self, covered: &[u8]) -> Option<[u8; INTEGRITY_LEN]> {
        let (message_type, rest) = covered.split_first_chunk::<2>()?;
        let (_, rest) = rest.split_first_chunk::<2>()?;
        let length = u16::try_from(covered.len() + INTEGRITY_TOTAL_LEN - HEADER_LEN).ok()?;
        let mut mac = self.keyed.clone();
        mac.update(message_type);
        mac.update(&length.to_be_bytes());
        mac.update(rest);
        Some(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for IntegrityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IntegrityKey(…)")
    }
}

/// What a connectivity check says. Source: RFC 8445 §7.1.
#[derive(Clone, Copy, Debug)]
pub struct BindingRequest<'a> {
    /// `theirs:ours`, at most 513 bytes.
    pub username: &'a [u8],
    /// Of the candidate that this check would reveal.
    pub priority: u32,
    /// Tie breaker, when we control.
    pub controlling: Option<u64>,
    /// Tie breaker, when we are controlled.
    pub controlled: Option<u64>,
    /// Nominates the pair.
    pub use_candidate: bool,
}

/// Writes a connectivity check with MESSAGE-INTEGRITY and FINGERPRINT to the front of `out`.
///
/// Returns its length; `None` when `out` is too small. Source: RFC 8445 §7.1, §7.2.2.
pub fn write_binding_request(
    out: &mut [u8],
    transaction_id: TransactionId,
    request: &BindingRequest<'_>,
    key: &IntegrityKey,
) -> Option<usize> {
    let mut message = MessageWriter::new(out, BINDING | REQUEST, transaction_id)?;
    message.attribute(USERNAME, request.username)?;
    message.attribute(PRIORITY, &request.priority.to_be_bytes())?;
    if let Some(tie_breaker) = request.controlling {
        message.attribute(ICE_CONTROLLING, &tie_breaker.to_be_bytes())?;
    }
    if let Some(tie_breaker) = request.controlled {
        message.attribute(ICE_CONTROLLED, &tie_breaker.to_be_bytes())?;
    }
    if request.use_candidate {
        message.attribute(USE_CANDIDATE, &[])?;
    }
    message.finish(Some(key))
}

/// Writes a request that asks a STUN server for the sender's address: FINGERPRINT and nothing else.
///
/// Returns its length, 28; `None` when `out` is too small. Source: RFC 8489 §12.
pub fn write_address_request(out: &mut [u8], transaction_id: TransactionId) -> Option<usize> {
    MessageWriter::new(out, BINDING | REQUEST, transaction_id)?.finish(None)
}

/// Writes the answer to a good check: XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY, FINGERPRINT.
///
/// `mapped` is where the request came from; an IPv4 address in IPv6 clothes is written as IPv4, as its owner knows it.
/// Returns the length (64 or 76 bytes); `None` when `out` is too small. Source: RFC 8489 §6.3.1.1, §14.2.
pub fn write_binding_success(
    out: &mut [u8],
    transaction_id: TransactionId,
    mapped: SocketAddr,
    key: &IntegrityKey,
) -> Option<usize> {
    let mut message = MessageWriter::new(out, BINDING | SUCCESS, transaction_id)?;
    let mut value = [0; 20];
    let mut writer = Writer::new(&mut value);
    writer.u8(0)?;
    let port = mapped.port() ^ COOKIE_HIGH;
    match mapped.ip().to_canonical() {
        IpAddr::V4(ip) => {
            writer.u8(FAMILY_IPV4)?;
            writer.u16(port)?;
            writer.u32(u32::from(ip) ^ MAGIC_COOKIE)?;
        }
        IpAddr::V6(ip) => {
            writer.u8(FAMILY_IPV6)?;
            writer.u16(port)?;
            writer.bytes(&(u128::from(ip) ^ address_mask(transaction_id)).to_be_bytes())?;
        }
    }
    message.attribute(XOR_MAPPED_ADDRESS, writer.written())?;
    message.finish(Some(key))
}

/// Writes an error response: ERROR-CODE without a reason phrase, UNKNOWN-ATTRIBUTES when `unknown` is not empty,
/// MESSAGE-INTEGRITY when `key` is given, FINGERPRINT.
///
/// Without a phrase the answer stays below the size of any check that earns it, so it amplifies nothing.
/// Returns the length; `None` when `out` is too small or `code` is not in 300 to 699. Source: RFC 8489 §14.8, §14.9.
pub fn write_binding_error(
    out: &mut [u8],
    transaction_id: TransactionId,
    code: u16,
    unknown: &[u16],
    key: Option<&IntegrityKey>,
) -> Option<usize> {
    if !(300..700).contains(&code) {
        return None;
    }
    let mut message = MessageWriter::new(out, BINDING | ERROR, transaction_id)?;
    message.attribute(ERROR_CODE, &[0, 0, (code / 100) as u8, (code % 100) as u8])?;
    if !unknown.is_empty() {
        message.begin(UNKNOWN_ATTRIBUTES, unknown.len() * 2)?;
        for &attribute_type in unknown {
            message.writer.u16(attribute_type)?;
        }
        message.writer.pad_to_word()?;
    }
    message.finish(key)
}

/// Builds a message from the front of a slice.
struct MessageWriter<'o> {
    writer: Writer<'o>,
}

impl<'o> MessageWriter<'o> {
    fn new(
        out: &'o mut [u8],
        message_type: u16,
        transaction_id: TransactionId,
    ) -> Option<MessageWriter<'o>> {
        let mut writer = Writer::new(out);
        writer.u16(message_type)?;
        writer.u16(0)?; // the length, set before each checksum
        writer.u32(MAGIC_COOKIE)?;
        writer.bytes(&transaction_id.0)?;
        Some(Self { writer })
    }

    fn begin(&mut self, attribute_type: u16, len: usize) -> Option<()> {
        self.writer.u16(attribute_type)?;
        self.writer.u16(u16::try_from(len).ok()?)
    }

    fn attribute(&mut self, attribute_type: u16, value: &[u8]) -> Option<()> {
        self.begin(attribute_type, value.len())?;
        self.writer.bytes(value)?;
        self.writer.pad_to_word()
    }

    fn finish(mut self, key: Option<&IntegrityKey>) -> Option<usize> {
        if let Some(key) = key {
            let signature = key.sign(self.writer.written())?;
            self.attribute(MESSAGE_INTEGRITY, &signature)?;
        }
        let total_len = self.writer.len() + FINGERPRINT_TOTAL_LEN;
        self.writer.patch_u16(2, u16::try_from(total_len - HEADER_LEN).ok()?)?;
        let fingerprint = fingerprint_of(self.writer.written());
        self.attribute(FINGERPRINT, &fingerprint.to_be_bytes())?;
        Some(self.writer.len())
    }
}

fn read_header(reader: &mut Reader<'_>) -> Option<(u16, u16, u32, TransactionId)> {
    Some((reader.u16()?, reader.u16()?, reader.u32()?, TransactionId(reader.array()?)))
}

/// CRC-32 of everything before FINGERPRINT, the header's length counting it. Source: RFC 8489 §14.7.
fn fingerprint_of(covered: &[u8]) -> u32 {
    crc32fast::hash(covered) ^ 0x5354_554E
}

/// What an IPv6 address is masked with. Source: RFC 8489 §14.2.
fn address_mask(transaction_id: TransactionId) -> u128 {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(&transaction_id.0);
    u128::from_be_bytes(mask)
}

fn padding_of(len: usize) -> usize {
    len.wrapping_neg() % 4
}

const HEADER_LEN: usize = 20;
const MAGIC_COOKIE: u32 = 0x2112_A442;
const COOKIE_HIGH: u16 = (MAGIC_COOKIE >> 16) as u16;

// Message type: the class is spread over bits 4 and 8. Source: RFC 8489 §5.
const CLASS_MASK: u16 = 0x0110;
const REQUEST: u16 = 0x0000;
const INDICATION: u16 = 0x0010;
const SUCCESS: u16 = 0x0100;
const ERROR: u16 = 0x0110;
const BINDING: u16 = 0x0001;

// Attribute types. Source: RFC 8489 §18.3, RFC 8445 §20.1.
const MAPPED_ADDRESS: u16 = 0x0001;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const COMPREHENSION_OPTIONAL: u16 = 0x8000;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802A;

/// Of the types below 0x8000, those that we act on or may leave aside knowingly.
const UNDERSTOOD: [u16; 9] = [
    MAPPED_ADDRESS,
    USERNAME,
    ERROR_CODE,
    UNKNOWN_ATTRIBUTES,
    REALM,
    NONCE,
    XOR_MAPPED_ADDRESS,
    PRIORITY,
    USE_CANDIDATE,
];

const INTEGRITY_LEN: usize = 20;
const INTEGRITY_TOTAL_LEN: usize = 4 + INTEGRITY_LEN;
const FINGERPRINT_TOTAL_LEN: usize = 8;

const FAMILY_IPV4: u8 = 1;
const FAMILY_IPV6: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 5769 §2.1 to §2.3. Its §2.4 shows long-term credentials, which ICE does not use.
    const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";
    const TRANSACTION: TransactionId =
        TransactionId([0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);
    const REQUEST_2_1: &str = "000100582112a442b7e7a701bc34d686fa87dfae\
        802200105354554e207465737420636c69656e74\
        002400046e0001ff\
        80290008932ff9b151263b36\
        000600096576746a3a68367659202020\
        000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2\
        80280004e57a3bcf";
    const RESPONSE_2_2: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae\
        8022000b7465737420766563746f7220\
        002000080001a147e112a643\
        000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7\
        80280004c07d4c96";
    const RESPONSE_2_3: &str = "010100482112a442b7e7a701bc34d686fa87dfae\
        8022000b7465737420766563746f7220\
        002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9\
        00080014a382954e4be67bf11784c97c8292c275bfe3ed41\
        80280004c8fb0b4c";

    fn from_hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn key() -> IntegrityKey {
        IntegrityKey::new(PASSWORD)
    }

    fn request() -> BindingRequest<'static> {
        BindingRequest {
            username: b"ours:theirs",
            priority: 0x6E00_01FF,
            controlling: Some(0x0123_4567_89AB_CDEF),
            controlled: None,
            use_candidate: true,
        }
    }

    fn written_request() -> Vec<u8> {
        let mut out = [0; 200];
        let len = write_binding_request(&mut out, TRANSACTION, &request(), &key()).unwrap();
        out[..len].to_vec()
    }

    /// A message of `attributes` as given, with a right length and FINGERPRINT.
    fn sealed(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = [0; 400];
        let mut message = MessageWriter::new(&mut out, BINDING | REQUEST, TRANSACTION).unwrap();
        for &(attribute_type, value) in attributes {
            message.attribute(attribute_type, value).unwrap();
        }
        let len = message.finish(None).unwrap();
        out[..len].to_vec()
    }

    #[test]
    fn reads_the_request_of_rfc_5769() {
        let datagram = from_hex(REQUEST_2_1);
        let message = Message::parse(&datagram).unwrap();
        assert_eq!(message.class(), Class::Request);
        assert!(message.is_binding());
        assert_eq!(message.transaction_id(), TRANSACTION);
        assert_eq!(message.username_parts(), Some((&b"evtj"[..], &b"h6vY"[..])));
        assert_eq!(message.priority(), Some(0x6e00_01ff));
        assert_eq!(message.ice_controlled(), Some(0x932f_f9b1_5126_3b36));
        assert_eq!(message.ice_controlling(), None);
        assert!(!message.use_candidate());
        assert!(message.verify_integrity(&key()));
        assert!(!message.verify_integrity(&IntegrityKey::new(b"VOkJxbRl1RmTxUk/WvJxBu")));
        assert!(message.unknown_required().is_empty());
    }

    #[test]
    fn reads_the_responses_of_rfc_5769() {
        for (hex, mapped) in [
            (RESPONSE_2_2, "192.0.2.1:32853"),
            (RESPONSE_2_3, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
        ] {
            let datagram = from_hex(hex);
            let message = Message::parse(&datagram).unwrap();
            assert_eq!(message.class(), Class::Success);
            assert_eq!(message.xor_mapped_address(), Some(mapped.parse().unwrap()));
            assert!(message.verify_integrity(&key()));
        }
    }

    #[test]
    fn an_answer_of_a_server_may_lack_the_fingerprint_but_not_have_a_wrong_one() {
        let mut out = [0; 64];
        let len = write_address_request(&mut out, TRANSACTION).unwrap();
        let request = Message::parse(&out[..len]).unwrap();
        assert!(request.class() == Class::Request && request.is_binding());
        let mut bare = Vec::from([0x01, 0x01, 0, 12]);
        bare.extend(MAGIC_COOKIE.to_be_bytes());
        bare.extend(TRANSACTION.0);
        bare.extend([0x00, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        assert_eq!(Message::parse(&bare).map(|_| ()), Err(StunError::NoFingerprint));
        let message = Message::parse_without_fingerprint(&bare).unwrap();
        assert_eq!(message.xor_mapped_address(), Some("192.0.2.1:32853".parse().unwrap()));
        let mut datagram = from_hex(RESPONSE_2_2);
        assert!(Message::parse_without_fingerprint(&datagram).is_ok());
        *datagram.last_mut().unwrap() ^= 1;
        let error = Message::parse_without_fingerprint(&datagram).map(|_| ());
        assert_eq!(error, Err(StunError::BadFingerprint));
    }

    #[test]
    fn request_round_trip() {
        let datagram = written_request();
        let message = Message::parse(&datagram).unwrap();
        assert_eq!(message.class(), Class::Request);
        assert_eq!(message.username_parts(), Some((&b"ours"[..], &b"theirs"[..])));
        assert_eq!(message.priority(), Some(0x6E00_01FF));
        assert_eq!(message.ice_controlling(), Some(0x0123_4567_89AB_CDEF));
        assert_eq!(message.ice_controlled(), None);
        assert!(message.use_candidate());
        assert!(message.verify_integrity(&key()));
    }

    #[test]
    fn success_round_trip() {
        for (mapped, len, read) in [
            ("192.0.2.1:32853", 64, "192.0.2.1:32853"),
            ("[2001:db8::7]:9", 76, "[2001:db8::7]:9"),
            ("[::ffff:192.0.2.1]:1", 64, "192.0.2.1:1"),
        ] {
            let mut out = [0; 100];
            let mapped = mapped.parse().unwrap();
            let written = write_binding_success(&mut out, TRANSACTION, mapped, &key());
            assert_eq!(written, Some(len));
            let message = Message::parse(&out[..len]).unwrap();
            assert_eq!(message.class(), Class::Success);
            assert_eq!(message.xor_mapped_address(), Some(read.parse().unwrap()));
            assert!(message.verify_integrity(&key()));
        }
    }

    #[test]
    fn error_round_trip() {
        let mut out = [0; 100];
        let unknown = [0x7FFF, 0x0003, 0x1234];
        let len = write_binding_error(&mut out, TRANSACTION, 420, &unknown, Some(&key())).unwrap();
        let message = Message::parse(&out[..len]).unwrap();
        assert_eq!(message.class(), Class::Error);
        assert_eq!(message.error_code(), Some(420));
        assert_eq!(message.attribute(UNKNOWN_ATTRIBUTES), Some(&from_hex("7fff00031234")[..]));
        assert!(message.verify_integrity(&key()));

        let len = write_binding_error(&mut out, TRANSACTION, 400, &[], None).unwrap();
        let message = Message::parse(&out[..len]).unwrap();
        assert_eq!((message.error_code(), message.has_integrity()), (Some(400), false));
        assert_eq!(len, 36);
        assert_eq!(write_binding_error(&mut out, TRANSACTION, 200, &[], None), None);
    }

    #[test]
    fn attributes_after_integrity_are_not_seen() {
        let plain = BindingRequest { use_candidate: false, ..request() };
        let mut out = [0; 300];
        let len = write_binding_request(&mut out, TRANSACTION, &plain, &key()).unwrap();
        let mut smuggled = out[..len - FINGERPRINT_TOTAL_LEN].to_vec();
        smuggled.extend([USE_CANDIDATE.to_be_bytes(), [0, 0], [0x7F, 0xFF], [0, 0]].concat());
        let length = smuggled.len() + FINGERPRINT_TOTAL_LEN - HEADER_LEN;
        smuggled[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        let fingerprint = fingerprint_of(&smuggled);
        smuggled.extend([FINGERPRINT.to_be_bytes(), [0, 4]].concat());
        smuggled.extend(fingerprint.to_be_bytes());

        let message = Message::parse(&smuggled).unwrap();
        assert!(message.verify_integrity(&key()), "what was signed is untouched");
        assert!(!message.use_candidate());
        assert!(message.unknown_required().is_empty());
    }

    #[test]
    fn attributes_after_sha256_integrity_are_not_seen() {
        let datagram = sealed(&[(MESSAGE_INTEGRITY_SHA256, &[0; 32]), (USE_CANDIDATE, &[])]);
        let message = Message::parse(&datagram).unwrap();
        assert!(!message.use_candidate());
        assert!(!message.has_integrity());
    }

    #[test]
    fn any_changed_bit_is_refused() {
        let datagram = written_request();
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Message::parse(&changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn changed_bits_under_a_right_fingerprint_break_the_integrity() {
        let datagram = written_request();
        let covered_len = datagram.len() - FINGERPRINT_TOTAL_LEN;
        for bit in 0..covered_len * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let fingerprint = fingerprint_of(&changed[..covered_len]).to_be_bytes();
            changed[covered_len + 4..].copy_from_slice(&fingerprint);
            let accepted = Message::parse(&changed).is_ok_and(|m| m.verify_integrity(&key()));
            assert!(!accepted, "bit {bit}");
        }
    }

    #[test]
    fn framing_errors_are_told_apart() {
        let good = written_request();
        assert_eq!(Message::parse(&good[..19]).unwrap_err(), StunError::Short);
        assert_eq!(Message::parse(&good[..good.len() - 4]).unwrap_err(), StunError::Length);
        let mut longer = good.clone();
        longer.extend([0; 4]);
        assert_eq!(Message::parse(&longer).unwrap_err(), StunError::Length);
        let mut no_cookie = good.clone();
        no_cookie[4] = 0;
        assert_eq!(Message::parse(&no_cookie).unwrap_err(), StunError::NotStun);
        let mut top_bits = good.clone();
        top_bits[0] |= 0x80;
        assert_eq!(Message::parse(&top_bits).unwrap_err(), StunError::NotStun);
        let mut wrong = good.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(Message::parse(&wrong).unwrap_err(), StunError::BadFingerprint);
        let short_integrity = sealed(&[(MESSAGE_INTEGRITY, &[0; 16])]);
        assert_eq!(Message::parse(&short_integrity).unwrap_err(), StunError::Attribute);
        let early_fingerprint = sealed(&[(FINGERPRINT, &[0; 4])]);
        assert_eq!(Message::parse(&early_fingerprint).unwrap_err(), StunError::NoFingerprint);

        let mut no_fingerprint = good[..good.len() - FINGERPRINT_TOTAL_LEN].to_vec();
        no_fingerprint[3] -= FINGERPRINT_TOTAL_LEN as u8;
        assert_eq!(Message::parse(&no_fingerprint).unwrap_err(), StunError::NoFingerprint);
        let mut past_the_end = good.clone();
        past_the_end[22] = 0xFF; // length of the first attribute
        assert_eq!(Message::parse(&past_the_end).unwrap_err(), StunError::Attribute);
    }

    #[test]
    fn username_needs_exactly_one_colon() {
        for (username, parts) in [
            (&b"a:b"[..], Some((&b"a"[..], &b"b"[..]))),
            (b"ab", None),
            (b"a:b:c", None),
            (b"", None),
            (b":", Some((b"", b""))),
        ] {
            let datagram = sealed(&[(USERNAME, username)]);
            assert_eq!(Message::parse(&datagram).unwrap().username_parts(), parts);
        }
    }

    #[test]
    fn unknown_required_lists_each_type_once_and_eight_at_most() {
        let datagram = sealed(&[(0x7FFF, &[1]), (0x8001, &[]), (0x7FFF, &[2]), (0x0003, &[])]);
        let unknown = Message::parse(&datagram).unwrap().unknown_required();
        assert_eq!(unknown.as_slice(), [0x7FFF, 0x0003]);

        let many: Vec<(u16, &[u8])> = (0x4000..0x4014).map(|t| (t, &[][..])).collect();
        let datagram = sealed(&many);
        let unknown = Message::parse(&datagram).unwrap().unknown_required();
        assert_eq!(unknown.as_slice().len(), 8);
    }

    #[test]
    fn first_of_two_equal_attributes_counts() {
        let datagram = sealed(&[(PRIORITY, &[0, 0, 0, 1]), (PRIORITY, &[0, 0, 0, 2])]);
        assert_eq!(Message::parse(&datagram).unwrap().priority(), Some(1));
    }

    #[test]
    fn writers_refuse_any_room_too_small() {
        let mapped = "[2001:db8::1]:5".parse().unwrap();
        let mut out = [0; 200];
        let full = written_request().len();
        for room in 0..full {
            let out = &mut out[..room];
            assert_eq!(write_binding_request(out, TRANSACTION, &request(), &key()), None);
        }
        for room in 0..76 {
            let out = &mut out[..room];
            assert_eq!(write_binding_success(out, TRANSACTION, mapped, &key()), None);
        }
        for room in 0..36 {
            assert_eq!(write_binding_error(&mut out[..room], TRANSACTION, 400, &[], None), None);
        }
    }

    #[test]
    fn passwords_of_any_length_key_as_hmac_says() {
        // A header alone: signing writes 24, the length of MESSAGE-INTEGRITY, into it.
        let covered = *b"\x00\x01\x00\x00sixteen more one";
        let signed = *b"\x00\x01\x00\x18sixteen more one";
        for len in [0, 1, 63, 64, 65, 256] {
            let password = vec![b'p'; len];
            let mut reference = Hmac::<Sha1>::new_from_slice(&password).unwrap();
            reference.update(&signed[..20]);
            let expected: [u8; 20] = reference.finalize().into_bytes().into();
            let signature = IntegrityKey::new(&password).sign(&covered[..20]);
            assert_eq!(signature, Some(expected), "length {len}");
        }
    }

    #[test]
    fn debug_of_a_key_says_nothing() {
        assert_eq!(format!("{:?}", key()), "IntegrityKey(…)");
    }
}
