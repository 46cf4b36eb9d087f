//! Text → typed description. Source: RFC 8866, with RFC 8839, 8122, 8842, 9143, 8285, 5576, 4585 and 4588 for the attributes.

use std::fmt;

use sdp_types::{Attribute, Media, Session};
use sluice_engine::dtls::{Fingerprint, HashFunction};
use sluice_engine::ice::Credentials;
use sluice_engine::ids::{Mid, PayloadType, Rid, Ssrc};
use sluice_engine::session::params::MediaKind;
use sluice_engine::wire::rtp_ext::Extension;

use super::candidates::{is_ice_char, parse_candidate};
use super::codecs::{Codec, CodecName, Feedback, known_fmtp};
use super::data_channel::SctpAttributes;
use super::error::NegotiationError;
use super::simulcast::read_layers;
use super::{CANDIDATES_MAX, CODECS_MAX, SDP_BYTES_MAX, SDP_LINES_MAX, SECTIONS_MAX, SSRCS_MAX};

/// A description of a peer: what of it we understand.
#[derive(Clone, Debug)]
pub(super) struct Description {
    /// `a=extmap-allow-mixed` for the whole session.
    pub extmap_allow_mixed: bool,
    /// The mids of the first BUNDLE group, in its order; `None` without a group.
    pub bundle: Option<Vec<String>>,
    /// All m= sections in order.
    pub sections: Vec<MediaSection>,
}

/// One m= section of a peer. Session-level attributes that apply to it are merged in.
#[derive(Clone, Debug)]
pub(super) struct MediaSection {
    pub place: Place,
    pub kind: SectionKind,
    /// The word after `m=`.
    pub media: String,
    pub protocol: String,
    /// The first format, for writing a rejected section.
    pub first_format: String,
    /// False for port 0 without `a=bundle-only`: stopped or rejected.
    pub is_live: bool,
    pub mid: Option<Mid>,
    pub direction: Direction,
    pub rtcp_mux: bool,
    pub rtcp_rsize: bool,
    pub extmap_allow_mixed: bool,
    pub ice: Option<Credentials>,
    /// Of the hash functions that we accept.
    pub fingerprints: Vec<Fingerprint>,
    pub setup: Option<Setup>,
    /// Codecs that pass through, in order.
    pub codecs: Vec<Codec>,
    /// Every payload type that the section binds, whatever to.
    pub payload_types: Vec<PayloadType>,
    /// Every header extension that the section binds; `None` for those we do not know or that go one way only.
    pub extensions: Vec<(u8, Option<Extension>)>,
    /// SSRCs that are not retransmissions.
    pub ssrcs: Vec<Ssrc>,
    /// SSRCs of retransmissions.
    pub rtx_ssrcs: Vec<Ssrc>,
    /// The first word of `a=msid`: the stream that the track belongs to.
    pub stream: Option<String>,
    /// The second word of `a=msid`: the peer's name for the track.
    pub label: Option<String>,
    /// The simulcast layers that the peer would send, in its order.
    pub layers: Vec<Rid>,
    /// Of a section of data channels.
    pub sctp: Option<SctpAttributes>,
}

/// What an m= section is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SectionKind {
    Media(MediaKind),
    /// Source: RFC 8841 §4.
    DataChannel,
    /// Always rejected.
    Other,
}

/// A direction, from the describing side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Direction {
    pub send: bool,
    pub recv: bool,
}

/// `a=setup`. Source: RFC 8842 §5, RFC 4145 §4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Setup {
    Active,
    Passive,
    ActPass,
}

/// Where in a description something stands, for errors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    index: usize,
    mid: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m= section {}", self.index + 1)?;
        match &self.mid {
            Some(mid) => write!(f, " (mid {mid:?})"),
            None => Ok(()),
        }
    }
}

impl Direction {
    pub(super) const INACTIVE: Self = Self { send: false, recv: false };

    pub(super) fn as_str(self) -> &'static str {
        match (self.send, self.recv) {
            (true, true) => "sendrecv",
            (true, false) => "sendonly",
            (false, true) => "recvonly",
            (false, false) => "inactive",
        }
    }

    fn of_attributes(attributes: &[Attribute]) -> Option<Self> {
        attributes.iter().find_map(|a| match a.attribute.as_str() {
            "sendrecv" => Some(Self { send: true, recv: true }),
            "sendonly" => Some(Self { send: true, recv: false }),
            "recvonly" => Some(Self { send: false, recv: true }),
            "inactive" => Some(Self::INACTIVE),
            _ => None,
        })
    }
}

impl Description {
    /// Forgets codecs that are not among `taken`; their payload types stay known as bound.
    pub(super) fn keep_codecs(&mut self, taken: &[CodecName]) {
        for section in &mut self.sections {
            section.codecs.retain(|codec| taken.contains(&codec.name));
        }
    }
}

/// Reads a description.
///
/// # Errors
/// `BadSdp` for broken grammar, values out of bounds, and mids, payload types or extension ids that stand twice;
/// `Unsupported` for more m= sections than we take.
pub(super) fn parse_description(text: &str) -> Result<Description, NegotiationError> {
    let session = tokenise(text)?;
    if session.medias.is_empty() {
        return Err(NegotiationError::bad("the session", "there is no m= section"));
    }
    if session.medias.len() > SECTIONS_MAX {
        let problem = format!("more than {SECTIONS_MAX} m= sections");
        return Err(NegotiationError::unsupported("the session", problem));
    }
    let shared = Shared::read(&session)?;
    let mut sections: Vec<MediaSection> = Vec::with_capacity(session.medias.len());
    let mut candidates_left = CANDIDATES_MAX;
    for (index, media) in session.medias.iter().enumerate() {
        let section = read_section(index, media, &shared, &mut candidates_left)?;
        let twice = section.mid.is_some_and(|mid| sections.iter().any(|s| s.mid == Some(mid)));
        if twice {
            return Err(NegotiationError::bad(
                &section.place,
                "another m= section has the same a=mid; each needs its own",
            ));
        }
        sections.push(section);
    }
    Ok(Description {
        extmap_allow_mixed: session.has_attribute("extmap-allow-mixed"),
        bundle: read_bundle(&session),
        sections,
    })
}

/// The text as lines and fields.
pub(super) fn tokenise(text: &str) -> Result<Session, NegotiationError> {
    if text.len() > SDP_BYTES_MAX {
        let problem = format!("longer than {SDP_BYTES_MAX} bytes");
        return Err(NegotiationError::bad("the session", problem));
    }
    if text.bytes().filter(|&b| b == b'\n').count() > SDP_LINES_MAX {
        let problem = format!("more than {SDP_LINES_MAX} lines");
        return Err(NegotiationError::bad("the session", problem));
    }
    Session::parse(text.as_bytes())
        .map_err(|error| NegotiationError::bad("the grammar (RFC 8866)", error))
}

/// What session-level attributes say for all m= sections.
struct Shared {
    ice: IceAttributes,
    fingerprints: Vec<Fingerprint>,
    setup: Option<Setup>,
    direction: Option<Direction>,
}

impl Shared {
    fn read(session: &Session) -> Result<Self, NegotiationError> {
        let place = "the session level";
        Ok(Self {
            ice: IceAttributes::read(place, &session.attributes)?,
            fingerprints: read_fingerprints(place, &session.attributes)?,
            setup: read_setup(place, &session.attributes)?,
            direction: Direction::of_attributes(&session.attributes),
        })
    }
}

fn read_bundle(session: &Session) -> Option<Vec<String>> {
    session.get_attribute_values("group").flatten().find_map(|group| {
        let mut words = group.split_ascii_whitespace();
        (words.next() == Some("BUNDLE"))
            .then(|| words.take(SECTIONS_MAX).map(str::to_owned).collect())
    })
}

fn read_section(
    index: usize,
    media: &Media,
    shared: &Shared,
    candidates_left: &mut usize,
) -> Result<MediaSection, NegotiationError> {
    let mut place = Place { index, mid: None };
    let mid = read_mid(&place, media)?;
    place.mid = mid.map(|mid| mid.as_str().to_owned());

    let kind = match media.media.as_str() {
        "audio" => SectionKind::Media(MediaKind::Audio),
        "video" => SectionKind::Media(MediaKind::Video),
        "application" if media.proto.ends_with("DTLS/SCTP") => SectionKind::DataChannel,
        _ => SectionKind::Other,
    };
    let is_token = |text: &str| {
        !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_graphic())
    };
    let first_format = media.fmt.split_ascii_whitespace().next().unwrap_or("");
    if !is_token(&media.media) || !is_token(&media.proto) || !is_token(first_format) {
        let problem = "m= needs a media type, a port, a protocol and at least one format";
        return Err(NegotiationError::bad(&place, problem));
    }
    let attributes = &media.attributes;
    let is_live = media.port != 0 || media.has_attribute("bundle-only");
    let mut section = MediaSection {
        kind,
        media: media.media.clone(),
        protocol: media.proto.clone(),
        first_format: first_format.to_owned(),
        is_live,
        mid,
        direction: Direction::of_attributes(attributes)
            .or(shared.direction)
            .unwrap_or(Direction { send: true, recv: true }),
        rtcp_mux: media.has_attribute("rtcp-mux"),
        rtcp_rsize: media.has_attribute("rtcp-rsize"),
        extmap_allow_mixed: media.has_attribute("extmap-allow-mixed"),
        ice: None,
        fingerprints: Vec::new(),
        setup: None,
        codecs: Vec::new(),
        payload_types: Vec::new(),
        extensions: Vec::new(),
        ssrcs: Vec::new(),
        rtx_ssrcs: Vec::new(),
        stream: None,
        label: None,
        layers: Vec::new(),
        sctp: None,
        place,
    };
    if !is_live {
        // What a stopped section says besides its place is void.
        return Ok(section);
    }
    let place = &section.place;
    section.ice = IceAttributes::read(place, attributes)?.or(&shared.ice).complete(place)?;
    section.fingerprints = match read_fingerprints(place, attributes)? {
        own if own.is_empty() => shared.fingerprints.clone(),
        own => own,
    };
    section.setup = read_setup(place, attributes)?.or(shared.setup);
    for value in values(attributes, "candidate") {
        if *candidates_left == 0 {
            let problem = format!("the description has more than {CANDIDATES_MAX} candidates");
            return Err(NegotiationError::bad(place, problem));
        }
        *candidates_left -= 1;
        parse_candidate(value)?;
    }
    if kind == SectionKind::DataChannel {
        section.sctp = Some(SctpAttributes::read(attributes));
    }
    if let SectionKind::Media(kind) = kind {
        let formats = Formats::read(place, media)?;
        section.codecs = formats.codecs(place, kind)?;
        section.payload_types = formats.payload_types;
        section.extensions = read_extensions(place, attributes)?;
        (section.ssrcs, section.rtx_ssrcs) = read_ssrcs(place, attributes)?;
        (section.stream, section.label) = read_msid(attributes);
        if kind == MediaKind::Video {
            section.layers = read_layers(attributes);
        }
    }
    Ok(section)
}

pub(super) fn values<'a>(
    attributes: &'a [Attribute],
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    attributes.iter().filter(move |a| a.attribute == name).filter_map(|a| a.value.as_deref())
}

fn read_mid(place: &Place, media: &Media) -> Result<Option<Mid>, NegotiationError> {
    let mut mids = media.get_attribute_values("mid");
    let Some(mid) = mids.next() else { return Ok(None) };
    if mids.next().is_some() {
        return Err(NegotiationError::bad(place, "a=mid stands twice"));
    }
    match mid.and_then(|text| Mid::new(text.trim())) {
        Some(mid) => Ok(Some(mid)),
        None => Err(NegotiationError::bad(
            place,
            "a=mid must be 1 to 16 letters, digits or token characters (RFC 9143 §9)",
        )),
    }
}

/// `a=ice-ufrag` and `a=ice-pwd`, which may stand at different levels.
#[derive(Default)]
struct IceAttributes {
    ufrag: Option<String>,
    pwd: Option<String>,
}

impl IceAttributes {
    fn read(place: impl fmt::Display, attributes: &[Attribute]) -> Result<Self, NegotiationError> {
        let read = |name: &str, min: usize| match values(attributes, name).next() {
            None => Ok(None),
            Some(text) => match check_ice_chars(text, min) {
                true => Ok(Some(text.to_owned())),
                false => Err(NegotiationError::bad(
                    &place,
                    format!(
                        "a={name} must be {min} to 256 letters, digits, + or / (RFC 8839 §5.4)"
                    ),
                )),
            },
        };
        Ok(Self { ufrag: read("ice-ufrag", 4)?, pwd: read("ice-pwd", 22)? })
    }

    fn or(self, shared: &Self) -> Self {
        Self {
            ufrag: self.ufrag.or_else(|| shared.ufrag.clone()),
            pwd: self.pwd.or_else(|| shared.pwd.clone()),
        }
    }

    fn complete(self, place: &Place) -> Result<Option<Credentials>, NegotiationError> {
        match (self.ufrag, self.pwd) {
            (Some(ufrag), Some(pwd)) => Ok(Some(Credentials { ufrag, pwd })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(NegotiationError::bad(place, "a=ice-ufrag without a=ice-pwd")),
            (None, Some(_)) => Err(NegotiationError::bad(place, "a=ice-pwd without a=ice-ufrag")),
        }
    }
}

/// Whether `text` is a ufrag or pwd of at least `min` characters. Source: RFC 8839 §5.4.
pub(super) fn check_ice_chars(text: &str, min: usize) -> bool {
    // Some stacks write base64url, which the grammar does not have; it does no harm.
    (min..=256).contains(&text.len()) && text.bytes().all(|b| is_ice_char(b) || b"-_=".contains(&b))
}

fn read_fingerprints(
    place: impl fmt::Display,
    attributes: &[Attribute],
) -> Result<Vec<Fingerprint>, NegotiationError> {
    let mut fingerprints = Vec::new();
    let mut weak = false;
    for value in values(attributes, "fingerprint") {
        let bad = || {
            NegotiationError::bad(
                &place,
                "a=fingerprint must be a hash function and its bytes in hexadecimal with colons (RFC 8122 §5)",
            )
        };
        let (hash, digits) = value.trim().split_once(' ').ok_or_else(bad)?;
        let (hash, len) = match hash.to_ascii_lowercase().as_str() {
            "sha-256" => (HashFunction::Sha256, 32),
            "sha-384" => (HashFunction::Sha384, 48),
            "sha-512" => (HashFunction::Sha512, 64),
            _ => {
                weak = true;
                continue;
            }
        };
        let mut value = Vec::with_capacity(len);
        for pair in digits.trim().split(':') {
            let is_hex = pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
            if !is_hex || value.len() == len {
                return Err(bad());
            }
            value.push(u8::from_str_radix(pair, 16).map_err(|_| bad())?);
        }
        if value.len() != len {
            return Err(bad());
        }
        let fingerprint = Fingerprint { hash, value };
        if !fingerprints.contains(&fingerprint) && fingerprints.len() < FINGERPRINTS_MAX {
            fingerprints.push(fingerprint);
        }
    }
    if fingerprints.is_empty() && weak {
        return Err(NegotiationError::unsupported(
            place,
            "a=fingerprint must use sha-256, sha-384 or sha-512",
        ));
    }
    Ok(fingerprints)
}

fn read_setup(
    place: impl fmt::Display,
    attributes: &[Attribute],
) -> Result<Option<Setup>, NegotiationError> {
    match values(attributes, "setup").next().map(str::trim) {
        None => Ok(None),
        Some("active") => Ok(Some(Setup::Active)),
        Some("passive") => Ok(Some(Setup::Passive)),
        Some("actpass") => Ok(Some(Setup::ActPass)),
        Some(_) => Err(NegotiationError::bad(place, "a=setup must be actpass, active or passive")),
    }
}

/// What an m= line's payload types mean.
struct Formats {
    payload_types: Vec<PayloadType>,
    table: Vec<Format>,
}

/// What is said of one payload type.
#[derive(Default, Clone)]
struct Format {
    listed: bool,
    rtpmap: Option<(String, u32, u8)>,
    fmtp: String,
    feedback: Feedback,
}

impl Formats {
    fn read(place: &Place, media: &Media) -> Result<Self, NegotiationError> {
        let mut formats = Self { payload_types: Vec::new(), table: vec![Format::default(); 128] };
        for text in media.fmt.split_ascii_whitespace() {
            let payload_type = read_payload_type(place, text)?;
            let format = formats.of(payload_type);
            if std::mem::replace(&mut format.listed, true) {
                let problem = format!("payload type {payload_type} stands twice in m=");
                return Err(NegotiationError::bad(place, problem));
            }
            formats.payload_types.push(payload_type);
        }
        for value in values(&media.attributes, "rtpmap") {
            formats.read_rtpmap(place, value)?;
        }
        for value in values(&media.attributes, "fmtp") {
            let Some((payload_type, parameters)) = value.split_once(' ') else { continue };
            let format = formats.of(read_payload_type(place, payload_type)?);
            if !format.fmtp.is_empty() {
                format.fmtp.push(';');
            }
            format.fmtp.push_str(parameters);
        }
        for value in values(&media.attributes, "rtcp-fb") {
            formats.read_feedback(place, value)?;
        }
        Ok(formats)
    }

    fn of(&mut self, payload_type: PayloadType) -> &mut Format {
        // `read_payload_type` has checked that it is below 128.
        &mut self.table[usize::from(payload_type.0 & 0x7f)]
    }

    fn read_rtpmap(&mut self, place: &Place, value: &str) -> Result<(), NegotiationError> {
        let bad = || {
            let problem = "a=rtpmap must be a payload type and name/clock or name/clock/channels";
            NegotiationError::bad(place, problem)
        };
        let (payload_type, encoding) = value.trim().split_once(' ').ok_or_else(bad)?;
        let payload_type = read_payload_type(place, payload_type)?;
        let mut parts = encoding.trim().split('/');
        let (Some(name), Some(clock)) = (parts.next(), parts.next()) else { return Err(bad()) };
        let clock_rate_hz = clock.parse().map_err(|_| bad())?;
        let channels = match parts.next() {
            Some(channels) => channels.parse().map_err(|_| bad())?,
            None => 1,
        };
        let rtpmap = &mut self.of(payload_type).rtpmap;
        if rtpmap.is_some() {
            let problem = format!("payload type {payload_type} has two a=rtpmap");
            return Err(NegotiationError::bad(place, problem));
        }
        *rtpmap = Some((name.to_owned(), clock_rate_hz, channels));
        Ok(())
    }

    fn read_feedback(&mut self, place: &Place, value: &str) -> Result<(), NegotiationError> {
        let mut words = value.split_ascii_whitespace();
        let Some(target) = words.next() else { return Ok(()) };
        let set = |feedback: &mut Feedback, kind: (Option<&str>, Option<&str>)| match kind {
            (Some("nack"), None) => feedback.nack = true,
            (Some("nack"), Some("pli")) => feedback.pli = true,
            (Some("ccm"), Some("fir")) => feedback.fir = true,
            (Some("transport-cc"), _) => feedback.transport_cc = true,
            _ => {}
        };
        let kind = (words.next(), words.next());
        if target == "*" {
            self.table.iter_mut().for_each(|format| set(&mut format.feedback, kind));
        } else {
            set(&mut self.of(read_payload_type(place, target)?).feedback, kind);
        }
        Ok(())
    }

    /// The codecs of `kind` that pass through, with their retransmission formats.
    fn codecs(&self, place: &Place, kind: MediaKind) -> Result<Vec<Codec>, NegotiationError> {
        let mut codecs: Vec<Codec> = Vec::new();
        let mut rtx: Vec<(PayloadType, PayloadType, u32)> = Vec::new();
        for &payload_type in &self.payload_types {
            // RFC 5761 §4: with RTCP on the same port these look like RTCP.
            if (64..96).contains(&payload_type.0) {
                continue;
            }
            let format = &self.table[usize::from(payload_type.0 & 0x7f)];
            let (name, clock_rate_hz, channels) = match &format.rtpmap {
                Some((encoding, clock, _)) if encoding.eq_ignore_ascii_case("rtx") => {
                    rtx.push((payload_type, read_apt(place, payload_type, &format.fmtp)?, *clock));
                    continue;
                }
                Some((encoding, clock, channels)) => {
                    (CodecName::of_rtpmap(encoding, *clock, *channels), *clock, *channels)
                }
                None => (CodecName::of_static_payload_type(payload_type), 8_000, 1),
            };
            let Some(name) = name.filter(|name| name.kind() == kind) else { continue };
            let codec = Codec {
                payload_type,
                name,
                clock_rate_hz,
                channels,
                fmtp: known_fmtp(name, &format.fmtp),
                feedback: format.feedback,
                rtx: None,
            };
            if codec.key().is_some() && codecs.len() < CODECS_MAX {
                codecs.push(codec);
            }
        }
        for (payload_type, apt, clock_rate_hz) in rtx {
            let original = codecs
                .iter_mut()
                .find(|c| c.payload_type == apt && c.clock_rate_hz == clock_rate_hz);
            if let Some(original) = original.filter(|original| original.rtx.is_none()) {
                original.rtx = Some(payload_type);
            }
        }
        Ok(codecs)
    }
}

fn read_payload_type(place: &Place, text: &str) -> Result<PayloadType, NegotiationError> {
    match text.parse() {
        Ok(number @ 0..=127) => Ok(PayloadType(number)),
        _ => {
            let text: String = text.chars().take(16).collect();
            let problem = format!("{text:?} is not a payload type from 0 to 127");
            Err(NegotiationError::bad(place, problem))
        }
    }
}

/// The payload type that a retransmission format repairs. Source: RFC 4588 §8.1.
fn read_apt(
    place: &Place,
    payload_type: PayloadType,
    fmtp: &str,
) -> Result<PayloadType, NegotiationError> {
    let apt = fmtp.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case("apt").then(|| value.trim())
    });
    match apt {
        Some(apt) => read_payload_type(place, apt),
        None => {
            let problem = format!("rtx under payload type {payload_type} needs a=fmtp with apt=");
            Err(NegotiationError::bad(place, problem))
        }
    }
}

/// The header extensions. Ids above 255 only reserve a choice for the answerer (RFC 8285 §6) and are passed over, as is 15.
fn read_extensions(
    place: &Place,
    attributes: &[Attribute],
) -> Result<Vec<(u8, Option<Extension>)>, NegotiationError> {
    let mut extensions: Vec<(u8, Option<Extension>)> = Vec::new();
    for value in values(attributes, "extmap") {
        let bad = |problem: &str| NegotiationError::bad(place, format!("a=extmap {problem}"));
        let mut words = value.split_ascii_whitespace();
        let (Some(entry), Some(uri)) = (words.next(), words.next()) else {
            return Err(bad("must be an id and a URI"));
        };
        let (id, direction) = match entry.split_once('/') {
            Some((id, direction)) => (id, Some(direction)),
            None => (entry, None),
        };
        let id: u16 = id.parse().map_err(|_| bad("must start with an id from 1 to 255"))?;
        let Ok(id @ (1..=14 | 16..=255)) = u8::try_from(id) else {
            if id == 0 {
                return Err(bad("must not use id 0 (RFC 8285 §4.2)"));
            }
            continue;
        };
        if extensions.iter().any(|&(seen, _)| seen == id) {
            return Err(bad(&format!("uses id {id} twice")));
        }
        let both_ways = matches!(direction, None | Some("sendrecv"));
        let known = Extension::ALL.iter().copied().find(|e| both_ways && e.uri() == uri);
        let known = known.filter(|&e| !extensions.iter().any(|&(_, seen)| seen == Some(e)));
        extensions.push((id, known));
    }
    Ok(extensions)
}

/// SSRCs and SSRCs of retransmissions. Source: RFC 5576 §4.1, §4.2; RFC 4588 §8.3.
fn read_ssrcs(
    place: &Place,
    attributes: &[Attribute],
) -> Result<(Vec<Ssrc>, Vec<Ssrc>), NegotiationError> {
    let number = |text: &str| -> Result<Ssrc, NegotiationError> {
        text.parse().map(Ssrc).map_err(|_| {
            NegotiationError::bad(place, "an SSRC must be a decimal number of 32 bits")
        })
    };
    let mut rtx_ssrcs: Vec<Ssrc> = Vec::new();
    for value in values(attributes, "ssrc-group") {
        let mut words = value.split_ascii_whitespace();
        if words.next() != Some("FID") {
            continue;
        }
        let (Some(_), Some(rtx)) = (words.next(), words.next()) else { continue };
        let rtx = number(rtx)?;
        if !rtx_ssrcs.contains(&rtx) {
            rtx_ssrcs.push(rtx);
        }
        if rtx_ssrcs.len() > SSRCS_MAX {
            break;
        }
    }
    let mut ssrcs: Vec<Ssrc> = Vec::new();
    for value in values(attributes, "ssrc") {
        let ssrc = number(value.split_ascii_whitespace().next().unwrap_or(""))?;
        if !ssrcs.contains(&ssrc) && !rtx_ssrcs.contains(&ssrc) {
            ssrcs.push(ssrc);
        }
        if ssrcs.len() + rtx_ssrcs.len() > SSRCS_MAX {
            let problem = format!("more than {SSRCS_MAX} SSRCs in one m= section");
            return Err(NegotiationError::bad(place, problem));
        }
    }
    Ok((ssrcs, rtx_ssrcs))
}

/// The publisher's names for its stream and its track, each a token of at most 64 characters. Source: RFC 8830 §2.
fn read_msid(attributes: &[Attribute]) -> (Option<String>, Option<String>) {
    let mut words = values(attributes, "msid").next().unwrap_or("").split_ascii_whitespace();
    let is_token = |word: &&str| word.len() <= 64 && word.bytes().all(is_msid_char);
    let stream = words.next().filter(is_token).filter(|&word| word != "-");
    let label = words.next().filter(is_token);
    (stream.map(str::to_owned), label.map(str::to_owned))
}

/// Characters of a stream id or track id that need no quoting anywhere. Source: RFC 8830 §2 with RFC 4566's token.
pub(super) fn is_msid_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.+{}".contains(&byte)
}

/// aiortc names one certificate by three hashes; nobody has more certificates than two.
const FINGERPRINTS_MAX: usize = 8;
