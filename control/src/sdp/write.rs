//! Our half as text. Source: RFC 9429 §5.2, §5.3; RFC 8866.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sluice_engine::dtls::{Fingerprint, HashFunction};
use sluice_engine::ids::Rid;
use sluice_engine::session::params::MediaKind;

use super::candidates::CandidateTransport;
use super::codecs::Codec;
use super::data_channel::{MESSAGE_BYTES_MAX, SCTP_PORT};
use super::negotiator::{LocalTransport, RemoteTrack};
use super::parse::{SectionKind, Setup};
use super::state::{Section, State};

/// What the `o=` line tells descriptions of one session apart by. Source: RFC 8866 §5.2, RFC 9429 §5.2.1.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub session_id: u64,
    pub version: u64,
}

/// Writes a description. Writing to a `String` does not fail, so results of `write!` are dropped.
///
/// Every live section carries the transport's attributes, as browsers write them and older ones want to read them; candidates stand in
/// the first live section alone, the one that BUNDLE tags.
pub(super) fn write_description(
    state: &State,
    local: &LocalTransport,
    setup: Setup,
    origin: Origin,
) -> String {
    let mut text = String::with_capacity(512 + 1024 * state.sections.len());
    let Origin { session_id, version } = origin;
    let _ = write!(text, "v=0\r\no=- {session_id} {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
    let mut live = state.sections.iter().filter(|s| !s.stopped).peekable();
    if state.bundled && live.peek().is_some() {
        text.push_str("a=group:BUNDLE");
        for mid in live.filter_map(|s| s.mid) {
            let _ = write!(text, " {}", mid.as_str());
        }
        text.push_str("\r\n");
    }
    if state.extmap_allow_mixed {
        text.push_str("a=extmap-allow-mixed\r\n");
    }
    text.push_str("a=msid-semantic: WMS *\r\na=ice-lite\r\n");

    let mut is_first = true;
    for section in &state.sections {
        if section.stopped {
            write_stopped(&mut text, section);
            continue;
        }
        write_media_line(&mut text, section, local);
        write_transport(&mut text, state, local, setup);
        match section.kind {
            SectionKind::DataChannel => write_data(&mut text),
            _ => write_media(&mut text, section),
        }
        if std::mem::take(&mut is_first) {
            for candidate in &local.candidates {
                let _ = write!(text, "a={candidate}\r\n");
            }
            text.push_str("a=end-of-candidates\r\n");
        }
    }
    text
}

fn write_stopped(text: &mut String, section: &Section) {
    let Section { media, protocol, first_format, .. } = section;
    let _ = write!(text, "m={media} 0 {protocol} {first_format}\r\nc=IN IP4 0.0.0.0\r\n");
    if let Some(mid) = section.mid {
        let _ = write!(text, "a=mid:{}\r\n", mid.as_str());
    }
    text.push_str("a=inactive\r\n");
}

fn write_media_line(text: &mut String, section: &Section, local: &LocalTransport) {
    let default = default_address(local);
    let _ = write!(text, "m={} {} {}", section.media, default.port(), section.protocol);
    if section.terms.codecs.is_empty() {
        let _ = write!(text, " {}", section.first_format);
    }
    for codec in &section.terms.codecs {
        let _ = write!(text, " {}", codec.payload_type);
        if let Some(rtx) = codec.rtx {
            let _ = write!(text, " {rtx}");
        }
    }
    let family = if default.is_ipv4() { "IP4" } else { "IP6" };
    let _ = write!(text, "\r\nc=IN {family} {}\r\n", default.ip());
    if let Some(mid) = section.mid {
        let _ = write!(text, "a=mid:{}\r\n", mid.as_str());
    }
}

/// The default candidate: the first UDP one, or the placeholder of RFC 9429 §5.2.1 when there is none.
fn default_address(local: &LocalTransport) -> SocketAddr {
    let udp = local.candidates.iter().find(|c| c.transport == CandidateTransport::Udp);
    udp.map_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9), |c| c.address)
}

fn write_transport(text: &mut String, state: &State, local: &LocalTransport, setup: Setup) {
    let setup = match setup {
        Setup::Active => "active",
        Setup::Passive => "passive",
        Setup::ActPass => "actpass",
    };
    let _ = write!(
        text,
        "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:{}\r\na=setup:{setup}\r\n",
        state.ice.ufrag,
        state.ice.pwd,
        write_fingerprint(&local.fingerprint),
    );
}

fn write_fingerprint(fingerprint: &Fingerprint) -> String {
    let mut text = match fingerprint.hash {
        HashFunction::Sha256 => "sha-256".to_owned(),
        HashFunction::Sha384 => "sha-384".to_owned(),
        HashFunction::Sha512 => "sha-512".to_owned(),
    };
    for (i, byte) in fingerprint.value.iter().enumerate() {
        let _ = write!(text, "{}{byte:02X}", if i == 0 { ' ' } else { ':' });
    }
    text
}

fn write_data(text: &mut String) {
    let _ = write!(text, "a=sctp-port:{SCTP_PORT}\r\na=max-message-size:{MESSAGE_BYTES_MAX}\r\n");
}

fn write_media(text: &mut String, section: &Section) {
    let terms = &section.terms;
    let _ = write!(text, "a={}\r\na=rtcp-mux\r\n", section.direction.as_str());
    if terms.rtcp_rsize {
        text.push_str("a=rtcp-rsize\r\n");
    }
    if terms.extmap_allow_mixed {
        text.push_str("a=extmap-allow-mixed\r\n");
    }
    for (id, extension) in &terms.extensions {
        let _ = write!(text, "a=extmap:{id} {}\r\n", extension.uri());
    }
    for codec in &terms.codecs {
        write_codec(text, codec);
    }
    write_layers(text, &terms.layers);
    let Some(leg) = &section.leg else { return };
    let RemoteTrack { stream, name, .. } = &*leg.track;
    let _ = write!(text, "a=msid:{stream} {name}\r\n");
    if let Some(rtx) = leg.rtx_ssrc {
        let _ = write!(text, "a=ssrc-group:FID {} {rtx}\r\n", leg.ssrc);
    }
    for ssrc in [Some(leg.ssrc), leg.rtx_ssrc].into_iter().flatten() {
        let _ = write!(text, "a=ssrc:{ssrc} cname:{stream}\r\n");
        let _ = write!(text, "a=ssrc:{ssrc} msid:{stream} {name}\r\n");
    }
}

/// The simulcast layers that we take, in the peer's order. Source: RFC 8853 §5.3.2.
fn write_layers(text: &mut String, layers: &[Rid]) {
    for layer in layers {
        let _ = write!(text, "a=rid:{} recv\r\n", layer.as_str());
    }
    for (i, layer) in layers.iter().enumerate() {
        let separator = if i == 0 { "a=simulcast:recv " } else { ";" };
        let _ = write!(text, "{separator}{}", layer.as_str());
    }
    if !layers.is_empty() {
        text.push_str("\r\n");
    }
}

fn write_codec(text: &mut String, codec: &Codec) {
    let payload_type = codec.payload_type;
    let _ = write!(text, "a=rtpmap:{payload_type} {}/{}", codec.name.as_str(), codec.clock_rate_hz);
    if codec.name.kind() == MediaKind::Audio && codec.channels != 1 {
        let _ = write!(text, "/{}", codec.channels);
    }
    text.push_str("\r\n");
    let feedback = codec.feedback;
    for (agreed, words) in [
        (feedback.transport_cc, "transport-cc"),
        (feedback.fir, "ccm fir"),
        (feedback.nack, "nack"),
        (feedback.pli, "nack pli"),
    ] {
        if agreed {
            let _ = write!(text, "a=rtcp-fb:{payload_type} {words}\r\n");
        }
    }
    for (i, (key, value)) in codec.fmtp.iter().enumerate() {
        let _ = match i {
            0 => write!(text, "a=fmtp:{payload_type} {key}={value}"),
            _ => write!(text, ";{key}={value}"),
        };
    }
    if !codec.fmtp.is_empty() {
        text.push_str("\r\n");
    }
    if let Some(rtx) = codec.rtx {
        let clock = codec.clock_rate_hz;
        let _ = write!(text, "a=rtpmap:{rtx} rtx/{clock}\r\na=fmtp:{rtx} apt={payload_type}\r\n");
    }
}
