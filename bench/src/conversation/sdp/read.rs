//! Reads a description of the server: as much of it as a client needs.

use std::net::{IpAddr, SocketAddr};

use sluice_engine::dtls::Fingerprint;
use sluice_engine::ice::Credentials;
use sluice_engine::ids::PayloadType;

use super::{Extension, Format};

/// A description, cut into its parts.
#[derive(Debug)]
pub struct Description<'a> {
    session: Vec<&'a str>,
    pub sections: Vec<SectionText<'a>>,
}

/// One m= section.
#[derive(Debug)]
pub struct SectionText<'a> {
    /// The m= line without `m=`.
    line: &'a str,
    /// Lines of `a=`, without it.
    attributes: Vec<&'a str>,
}

/// A candidate that we can send to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub address: SocketAddr,
    pub priority: u32,
}

/// What `a=setup` says of the other side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setup {
    Active,
    Passive,
    Either,
}

/// The most sections of a description that is read.
const SECTIONS_MAX: usize = 4_096;

impl<'a> Description<'a> {
    /// Cuts a description into its parts.
    ///
    /// # Errors
    /// It is no description, or has more than 4,096 sections.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        if !text.starts_with("v=0") {
            return Err("it does not begin with v=0".to_owned());
        }
        let mut description = Self { session: Vec::new(), sections: Vec::new() };
        for line in text.lines() {
            if let Some(line) = line.strip_prefix("m=") {
                if description.sections.len() == SECTIONS_MAX {
                    return Err(format!("it has more than {SECTIONS_MAX} m= sections"));
                }
                description.sections.push(SectionText { line, attributes: Vec::new() });
            } else if let Some(attribute) = line.strip_prefix("a=") {
                match description.sections.last_mut() {
                    Some(section) => section.attributes.push(attribute),
                    None => description.session.push(attribute),
                }
            }
        }
        Ok(description)
    }

    /// Value of an attribute that holds for the whole transport: of the first section that is used, or of the session.
    fn transport(&self, name: &str) -> Result<&'a str, String> {
        let used = self.sections.iter().filter(|section| !section.is_rejected());
        let mut lists = used.map(|section| &section.attributes).chain([&self.session]);
        lists
            .find_map(|attributes| value(attributes, name))
            .ok_or_else(|| format!("it has no a={name}"))
    }

    /// The other side's ICE credentials.
    ///
    /// # Errors
    /// Missing or malformed.
    pub fn credentials(&self) -> Result<Credentials, String> {
        Credentials::new(self.transport("ice-ufrag")?, self.transport("ice-pwd")?)
            .ok_or_else(|| "its ICE credentials are malformed".to_owned())
    }

    /// Its certificate.
    ///
    /// # Errors
    /// Missing, malformed, or of a hash that is too weak.
    pub fn fingerprint(&self) -> Result<Fingerprint, String> {
        self.transport("fingerprint")?.parse().map_err(|error| format!("{error}"))
    }

    /// Its side of the handshake.
    ///
    /// # Errors
    /// Missing or unknown.
    pub fn setup(&self) -> Result<Setup, String> {
        match self.transport("setup")? {
            "active" => Ok(Setup::Active),
            "passive" => Ok(Setup::Passive),
            "actpass" => Ok(Setup::Either),
            other => Err(format!("it has a=setup:{other}")),
        }
    }

    /// Its candidates that we can use, each once.
    pub fn candidates(&self) -> Vec<Candidate> {
        let sections = self.sections.iter().map(|section| &section.attributes);
        let mut found: Vec<Candidate> = Vec::new();
        for attribute in sections.chain([&self.session]).flatten() {
            if let Some(candidate) = read_candidate(attribute)
                && !found.iter().any(|known| known.address == candidate.address)
            {
                found.push(candidate);
            }
        }
        found
    }
}

impl<'a> SectionText<'a> {
    /// The section's name; sections without one are known by their place.
    pub fn mid(&self) -> Option<&'a str> {
        value(&self.attributes, "mid")
    }

    /// Whether nothing goes over it: port 0, unless its transport is that of another section. Source: RFC 9143 §6.
    pub fn is_rejected(&self) -> bool {
        self.line.split(' ').nth(1) == Some("0") && !self.attributes.contains(&"bundle-only")
    }

    /// Its m= line with port 0, behind `m=`.
    pub fn rejection(&self) -> String {
        let mut words = self.line.split(' ');
        let media = words.next().unwrap_or("audio");
        let rest: Vec<&str> = words.skip(1).collect();
        format!("{media} 0 {}", rest.join(" "))
    }

    /// Whether it is for data channels. Source: RFC 8841 §4.
    pub fn is_data(&self) -> bool {
        self.line.starts_with("application ") && self.line.ends_with(" webrtc-datachannel")
    }

    /// The first payload type of a codec that we know. Source: RFC 8866 §6.6.
    pub fn format(&self) -> Option<(Format, PayloadType)> {
        let (kind, _) = self.line.split_once(' ')?;
        let format = [Format::Opus, Format::Vp8].into_iter().find(|f| f.kind() == kind)?;
        let of_codec = |number: &&str| {
            let maps = values(&self.attributes, "rtpmap");
            let mut maps = maps.filter_map(|map| map.split_once(' '));
            maps.any(|(of, name)| of == *number && name.eq_ignore_ascii_case(format.name()))
        };
        let number = self.line.split(' ').skip(3).find(of_codec)?.parse().ok()?;
        (number < 128).then_some((format, PayloadType(number)))
    }

    /// Header extensions that we know, with their ids. Source: RFC 8285 §5.
    pub fn extensions(&self) -> Vec<(u8, Extension)> {
        let mut known = Vec::new();
        for map in values(&self.attributes, "extmap") {
            let mut words = map.split_whitespace();
            let id = words.next().and_then(|word| word.split('/').next()?.parse().ok());
            let uri = words.next();
            let extension = Extension::ALL.into_iter().find(|e| Some(e.uri()) == uri);
            // Ids above 14 need headers of the two-byte form, which are not written here.
            if let (Some(id @ 1..=14), Some(extension)) = (id, extension) {
                known.push((id, extension));
            }
        }
        known
    }

    /// Feedback for a payload type that we know. Source: RFC 4585 §4.2.
    pub fn feedback(&self, format: Format, number: PayloadType) -> Vec<&'static str> {
        let number = number.0.to_string();
        let is_there = |wanted: &&&'static str| {
            let lines = values(&self.attributes, "rtcp-fb");
            let mut lines = lines.filter_map(|line| line.split_once(' '));
            lines.any(|(of, name)| (of == "*" || of == number) && name.trim_end() == **wanted)
        };
        format.feedback().iter().filter(is_there).copied().collect()
    }

    /// Whether the other side sends. Source: RFC 8866 §6.7.
    pub fn sends(&self) -> bool {
        !self.attributes.iter().any(|a| matches!(*a, "recvonly" | "inactive"))
    }

    /// Whether the other side receives.
    pub fn receives(&self) -> bool {
        !self.attributes.iter().any(|a| matches!(*a, "sendonly" | "inactive"))
    }

    /// Whether all layers of a simulcast are taken. Source: RFC 8853 §5.1.
    pub fn takes_layers(&self, wanted: &[Option<&'static str>]) -> bool {
        let Some(list) = value(&self.attributes, "simulcast").and_then(|s| s.strip_prefix("recv "))
        else {
            return false;
        };
        let list = list.split(' ').next().unwrap_or_default();
        let taken: Vec<&str> =
            list.split([';', ',']).map(|rid| rid.trim_start_matches('~')).collect();
        wanted.iter().flatten().all(|rid| taken.contains(rid))
    }
}

/// Reads `candidate:…`; `None` for what is not UDP or has no address. Source: RFC 8839 §5.1.
pub fn read_candidate(text: &str) -> Option<Candidate> {
    let mut words = text.strip_prefix("candidate:")?.split_whitespace().skip(1);
    let (component, transport) = (words.next()?, words.next()?);
    let priority = words.next()?.parse().ok()?;
    let address = words.next()?.parse::<IpAddr>().ok()?;
    let port = words.next()?.parse().ok().filter(|&port| port != 0)?;
    let is_usable = component == "1" && transport.eq_ignore_ascii_case("udp");
    is_usable.then(|| Candidate { address: SocketAddr::new(address, port), priority })
}

fn value<'a>(attributes: &[&'a str], name: &str) -> Option<&'a str> {
    values(attributes, name).next()
}

fn values<'a>(attributes: &[&'a str], name: &str) -> impl Iterator<Item = &'a str> {
    attributes.iter().filter_map(move |line| line.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
        a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
        m=audio 0 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:dead\r\na=mid:0\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 45 97 96\r\na=mid:1\r\na=setup:actpass\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
        a=rtpmap:45 AV1/90000\r\na=rtpmap:97 rtx/90000\r\na=rtpmap:96 vp8/90000\r\n\
        a=rtcp-fb:96 nack\r\na=rtcp-fb:* nack pli\r\na=rtcp-fb:45 ccm fir\r\n\
        a=extmap:7/sendonly urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
        a=extmap:15 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=extmap:2 urn:other\r\n\
        a=simulcast:recv l;~h\r\na=sendonly\r\n\
        a=candidate:1 1 udp 10 192.0.2.1 8443 typ host\r\na=candidate:1 2 udp 10 192.0.2.1 8444 typ host\r\n\
        a=candidate:1 1 tcp 9 192.0.2.1 8443 typ host tcptype passive\r\n\
        a=candidate:1 1 UDP 8 2001:db8::1 8443 typ host\r\na=candidate:1 1 udp 8 x.local 8443 typ host\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n";

    #[test]
    fn the_transport_is_that_of_the_first_section_in_use() {
        let description = Description::parse(OFFER).unwrap();
        assert_eq!(description.credentials().unwrap().ufrag, "abcd");
        assert_eq!(description.setup(), Ok(Setup::Either));
        assert_eq!(description.fingerprint().unwrap().value.len(), 32);
        let addresses: Vec<String> =
            description.candidates().iter().map(|c| c.address.to_string()).collect();
        assert_eq!(addresses, ["192.0.2.1:8443", "[2001:db8::1]:8443"]);
    }

    #[test]
    fn of_a_section_what_we_know_is_read() {
        let description = Description::parse(OFFER).unwrap();
        let [audio, video, data] = &description.sections[..] else { panic!() };
        assert!(audio.is_rejected() && !video.is_rejected());
        assert_eq!(audio.rejection(), "audio 0 UDP/TLS/RTP/SAVPF 111");
        assert_eq!(audio.format(), None, "no rtpmap");
        assert_eq!(video.format(), Some((Format::Vp8, PayloadType(96))));
        assert_eq!(video.feedback(Format::Vp8, PayloadType(96)), ["nack", "nack pli"]);
        assert_eq!(video.extensions(), [(7, Extension::Mid)]);
        assert!(video.sends() && !video.receives());
        assert!(video.takes_layers(&[Some("l"), Some("h")]) && !video.takes_layers(&[Some("m")]));
        assert!(data.is_data() && !data.takes_layers(&[]));
    }

    #[test]
    fn what_is_missing_is_named() {
        for name in ["ice-ufrag", "ice-pwd", "fingerprint", "setup"] {
            let without = OFFER.replace(&format!("a={name}"), "a=x");
            let description = Description::parse(&without).unwrap();
            let errors = [
                description.credentials().err(),
                description.fingerprint().err(),
                description.setup().err(),
            ];
            assert!(errors.iter().flatten().any(|e| e.contains(name)), "{name}: {errors:?}");
        }
        assert!(Description::parse("").is_err());
    }

    #[test]
    fn candidates_that_are_none_are_passed_over() {
        for text in [
            "",
            "candidate:",
            "candidate:1 1 udp x 192.0.2.1 1 typ host",
            "candidate:1 1 udp 1 192.0.2.1 0",
        ] {
            assert_eq!(read_candidate(text), None, "{text}");
        }
    }
}
