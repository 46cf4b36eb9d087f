//! Writes our descriptions. Source: RFC 8866, RFC 8829 §5.2, §5.3.

use std::fmt::Write;

use sluice_engine::dtls::Fingerprint;
use sluice_engine::ice::Credentials;

use super::{Content, Media, Section};

/// What stands in all our descriptions.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Names our streams.
    pub session: &'a str,
    /// Of the o= line; the version grows with each description.
    pub origin: u64,
    pub version: u64,
    pub local: &'a Credentials,
    pub fingerprint: &'a Fingerprint,
    /// `actpass`, `active` or `passive`.
    pub setup: &'static str,
}

/// Writes a description of these sections.
pub fn write(frame: &Frame<'_>, sections: &[Section]) -> String {
    let Frame { origin, version, .. } = frame;
    let mut out = format!("v=0\r\no=- {origin} {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
    let bundled = sections.iter().filter(|s| !matches!(s.content, Content::Rejected(_)));
    let mids: Vec<&str> = bundled.map(|section| section.mid.as_str()).collect();
    line(&mut out, format_args!("a=group:BUNDLE {}", mids.join(" ")));
    line(&mut out, format_args!("a=msid-semantic: WMS *"));
    for section in sections {
        write_section(&mut out, frame, section);
    }
    out
}

fn write_section(out: &mut String, frame: &Frame<'_>, section: &Section) {
    const ADDRESS: &str = "c=IN IP4 0.0.0.0";
    match &section.content {
        Content::Rejected(m) => {
            line(out, format_args!("m={m}\r\n{ADDRESS}\r\na=mid:{}\r\na=inactive", section.mid));
        }
        Content::Data => {
            line(
                out,
                format_args!("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{ADDRESS}"),
            );
            write_transport(out, frame, &section.mid);
            line(out, format_args!("a=sctp-port:5000\r\na=max-message-size:262144"));
        }
        Content::Media(media) => {
            let (kind, number) = (media.format.kind(), media.payload_type.0);
            line(out, format_args!("m={kind} 9 UDP/TLS/RTP/SAVPF {number}\r\n{ADDRESS}"));
            write_transport(out, frame, &section.mid);
            write_media(out, frame, media);
        }
    }
}

fn write_transport(out: &mut String, frame: &Frame<'_>, mid: &str) {
    let Frame { local: Credentials { ufrag, pwd }, fingerprint, setup, .. } = frame;
    line(out, format_args!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=ice-options:trickle"));
    line(out, format_args!("a=fingerprint:{fingerprint}\r\na=setup:{setup}\r\na=mid:{mid}"));
}

fn write_media(out: &mut String, frame: &Frame<'_>, media: &Media) {
    for (id, extension) in &media.extensions {
        line(out, format_args!("a=extmap:{id} {}", extension.uri()));
    }
    line(out, format_args!("a={}\r\na=rtcp-mux\r\na=rtcp-rsize", media.direction()));
    let number = media.payload_type.0;
    line(out, format_args!("a=rtpmap:{number} {}", media.format.name()));
    for feedback in &media.feedback {
        line(out, format_args!("a=rtcp-fb:{number} {feedback}"));
    }
    if let Some(parameters) = media.format.parameters() {
        line(out, format_args!("a=fmtp:{number} {parameters}"));
    }
    let Some(sending) = &media.sends else { return };
    let stream = sending.source.stream_id(frame.session);
    let msid = format!("{stream} {stream}-track");
    line(out, format_args!("a=msid:{msid}"));
    let rids: Vec<&str> = sending.layers.iter().filter_map(|(_, rid)| *rid).collect();
    if rids.is_empty() {
        for (ssrc, _) in &sending.layers {
            line(out, format_args!("a=ssrc:{} cname:{}", ssrc.0, frame.session));
            line(out, format_args!("a=ssrc:{} msid:{msid}", ssrc.0));
        }
    } else {
        // Layers are told apart by their RIDs alone, as in Chrome's offers. Source: RFC 8853 §5.5.
        for rid in &rids {
            line(out, format_args!("a=rid:{rid} send"));
        }
        line(out, format_args!("a=simulcast:send {}", rids.join(";")));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(format_args!("{text}\r\n")).expect("a String takes every character");
}

#[cfg(test)]
mod tests {
    use sluice_engine::dtls::HashFunction;
    use sluice_engine::ids::Ssrc;

    use super::super::read::{Description, Setup};
    use super::super::{Format, Sending};
    use super::*;
    use crate::conversation::Source;

    fn written(sections: &[Section]) -> String {
        let local = Credentials::new("ours", "abcdefghijklmnopqrstuv").unwrap();
        let fingerprint = Fingerprint::of_certificate(HashFunction::Sha256, b"certificate");
        let (local, fingerprint) = (&local, &fingerprint);
        let frame =
            Frame { session: "s1", origin: 7, version: 2, local, fingerprint, setup: "actpass" };
        write(&frame, sections)
    }

    fn media(mid: &str, media: Media) -> Section {
        Section { mid: mid.to_owned(), content: Content::Media(media) }
    }

    fn sending(source: Source) -> Media {
        let layers = source.rids().iter().zip(1..).map(|(&rid, n)| (Ssrc(n), rid)).collect();
        Media::sending(Sending { source, layers })
    }

    #[test]
    fn what_is_written_can_be_read() {
        let rejected = "video 0 UDP/TLS/RTP/SAVPF 45".to_owned();
        let text = written(&[
            Section { mid: "0".into(), content: Content::Data },
            media("1", sending(Source::Audio)),
            Section { mid: "2".into(), content: Content::Rejected(rejected.clone()) },
            media("3", Media::receiving(Format::Vp8)),
        ]);
        let read = Description::parse(&text).unwrap();
        assert_eq!(read.credentials().unwrap().ufrag, "ours");
        assert_eq!(read.setup(), Ok(Setup::Either));
        let [data, audio, gone, video] = &read.sections[..] else { panic!("{text}") };
        assert!(data.is_data() && data.mid() == Some("0"));
        assert!(gone.is_rejected() && gone.rejection() == rejected);
        let (format, number) = audio.format().unwrap();
        assert_eq!((format, number), (Format::Opus, Format::Opus.payload_type()));
        assert_eq!(audio.extensions(), Format::Opus.extensions());
        assert!(audio.sends() && !audio.receives() && !video.sends() && video.receives());
        assert_eq!(video.feedback(Format::Vp8, Format::Vp8.payload_type()), Format::Vp8.feedback());
        assert!(text.contains("a=group:BUNDLE 0 1 3\r\n"), "{text}");
        assert!(
            text.contains("a=ssrc:1 cname:s1\r\n") && text.contains("a=msid:s1-voice "),
            "{text}"
        );
    }

    #[test]
    fn simulcast_is_told_apart_by_rids() {
        let text = written(&[media("0", sending(Source::SimulcastScreen))]);
        assert!(
            text.contains("a=rid:l send\r\na=rid:h send\r\na=simulcast:send l;h\r\n"),
            "{text}"
        );
        assert!(!text.contains("a=ssrc:"), "{text}");
        assert!(text.lines().all(|line| line.as_bytes()[1] == b'='), "{text}");
    }
}
