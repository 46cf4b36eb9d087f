//! Whole negotiations: real peers' offers, renegotiation, hostile text, and random sequences.

mod chromium;
pub(crate) mod client;
mod hostile;
mod peers;
mod renegotiation;
mod rtcd;
mod sequences;

use sluice_engine::dtls::{Fingerprint, HashFunction};
use sluice_engine::ice::Credentials;
use sluice_engine::ids::{LegId, PayloadType, TrackId};
use sluice_engine::session::params::{LegParams, MediaKind, RemoteParams, TrackParams};

use super::codecs::{Codec, CodecName, Feedback, known_fmtp};
use super::negotiator::{Change, LocalTransport, Negotiator, RemoteTrack, Supply};
use super::policy::Policy;
use super::{NegotiationError, host_candidates};

pub(super) const CHROME_SENDRECV: &str = include_str!("../fixtures/chrome_sendrecv.sdp");
pub(super) const CHROME_SENDONLY: &str = include_str!("../fixtures/chrome_sendonly.sdp");
pub(super) const CHROME_RECVONLY: &str = include_str!("../fixtures/chrome_recvonly.sdp");
pub(super) const CHROME_SIMULCAST: &str = include_str!("../fixtures/chrome_screen_simulcast.sdp");
pub(super) const CHROME_DATA: &str = include_str!("../fixtures/chrome_datachannel.sdp");
pub(super) const CHROME_FIRST: &str = include_str!("../fixtures/chrome_renegotiation_1.sdp");
pub(super) const CHROME_STOPPED: &str =
    include_str!("../fixtures/chrome_renegotiation_2_stopped.sdp");
pub(super) const CHROME_REUSED: &str =
    include_str!("../fixtures/chrome_renegotiation_3_reused.sdp");
pub(super) const AIORTC_PUBLISH: &str = include_str!("../fixtures/aiortc_publish.sdp");
pub(super) const AIORTC_PLAY: &str = include_str!("../fixtures/aiortc_play.sdp");
/// To the offer of `renegotiation::an_answer_of_aiortc_is_taken`.
pub(super) const AIORTC_ANSWER: &str = include_str!("../fixtures/aiortc_answer.sdp");
pub(super) const FIREFOX: &str = include_str!("../fixtures/firefox_sendrecv.sdp");
pub(super) const ENCODER: &str = include_str!("../fixtures/whip_encoder.sdp");
/// One session of a client of rtcd: its data channel, then a microphone, then a screen in two layers.
pub(crate) const RTCD_DATA: &str = include_str!("../fixtures/rtcd_chrome_1_data.sdp");
pub(crate) const RTCD_MICROPHONE: &str = include_str!("../fixtures/rtcd_chrome_2_microphone.sdp");
pub(super) const RTCD_SIMULCAST: &str =
    include_str!("../fixtures/rtcd_chrome_3_screen_simulcast.sdp");
/// A data channel, and a screen twice: with all codecs, and with AV1 alone.
pub(super) const RTCD_AV1: &str = include_str!("../fixtures/rtcd_chrome_screen_av1.sdp");

pub(super) const ALL_FIXTURES: [&str; 16] = [
    CHROME_SENDRECV,
    CHROME_SENDONLY,
    CHROME_RECVONLY,
    CHROME_SIMULCAST,
    CHROME_DATA,
    CHROME_FIRST,
    CHROME_STOPPED,
    CHROME_REUSED,
    RTCD_MICROPHONE,
    RTCD_SIMULCAST,
    RTCD_AV1,
    AIORTC_PUBLISH,
    AIORTC_PLAY,
    AIORTC_ANSWER,
    FIREFOX,
    ENCODER,
];

/// A small generator with a seed (xorshift64*), good enough to vary tests.
pub(super) struct Chance(pub u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }
}

struct TestSupply {
    chance: Chance,
    last: u64,
}

impl Supply for TestSupply {
    fn track_id(&mut self) -> TrackId {
        self.last += 1;
        TrackId(self.last)
    }

    fn leg_id(&mut self) -> LegId {
        self.last += 1;
        LegId(self.last)
    }

    fn credentials(&mut self) -> Credentials {
        self.last += 1;
        credentials(&format!("srv{}", self.last))
    }

    fn random(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|b| *b = (self.chance.next() >> 40) as u8);
    }
}

pub(super) fn credentials(ufrag: &str) -> Credentials {
    Credentials { ufrag: format!("{ufrag:z<4}"), pwd: format!("{ufrag:p<24}") }
}

pub(crate) fn negotiator(policy: Policy) -> Negotiator {
    seeded_negotiator(policy, 7)
}

pub(super) fn seeded_negotiator(policy: Policy, seed: u64) -> Negotiator {
    let udp = ["192.0.2.10:8443".parse().unwrap(), "[2001:db8::10]:8443".parse().unwrap()];
    let tcp = ["192.0.2.10:8443".parse().unwrap()];
    let local = LocalTransport {
        ice: credentials("first"),
        fingerprint: Fingerprint { hash: HashFunction::Sha256, value: (0..32).collect() },
        candidates: host_candidates(&udp, &tcp),
    };
    // Track numbers of the session itself start high, so that they never meet those of tracks that tests make up.
    let supply = TestSupply { chance: Chance(seed | 1), last: 1000 };
    Negotiator::new("alice", local, policy, Box::new(supply))
}

/// A codec of a publisher with the usual feedback.
pub(super) fn codec(name: CodecName, payload_type: u8, fmtp: &str) -> Codec {
    let is_video = name.kind() == MediaKind::Video;
    Codec {
        payload_type: PayloadType(payload_type),
        name,
        clock_rate_hz: name.clock_rate_hz(),
        channels: if name == CodecName::Opus { 2 } else { 1 },
        fmtp: known_fmtp(name, fmtp),
        feedback: Feedback { nack: is_video, pli: is_video, fir: is_video, transport_cc: true },
        rtx: is_video.then_some(PayloadType(payload_type + 1)),
    }
}

pub(super) fn audio_track(track: u64) -> RemoteTrack {
    RemoteTrack {
        track: TrackId(track),
        kind: MediaKind::Audio,
        codecs: vec![codec(CodecName::Opus, 109, "minptime=10;useinbandfec=1")],
        stream: format!("session-{track}"),
        name: format!("track-{track}"),
        label: "microphone".to_owned(),
        source_stream: None,
    }
}

pub(super) fn video_track(track: u64) -> RemoteTrack {
    RemoteTrack {
        track: TrackId(track),
        kind: MediaKind::Video,
        codecs: vec![
            codec(CodecName::Vp8, 120, ""),
            codec(
                CodecName::H264,
                126,
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            ),
        ],
        stream: format!("session-{track}"),
        name: format!("track-{track}"),
        label: "camera".to_owned(),
        source_stream: None,
    }
}

/// Changes sorted by kind.
#[derive(Default, Debug)]
pub(super) struct Outcome {
    pub(super) restarts: Vec<Credentials>,
    pub(super) remotes: Vec<RemoteParams>,
    pub(super) published: Vec<(TrackParams, RemoteTrack)>,
    pub(super) unpublished: Vec<TrackId>,
    pub(super) legs: Vec<LegParams>,
    pub(super) removed: Vec<LegId>,
}

pub(super) fn outcome(changes: Vec<Change>) -> Outcome {
    let mut outcome = Outcome::default();
    for change in changes {
        match change {
            Change::RestartIce { local } => outcome.restarts.push(local),
            Change::SetRemote(remote) => outcome.remotes.push(remote),
            Change::Publish { params, track } => outcome.published.push((params, track)),
            Change::Unpublish(track) => outcome.unpublished.push(track),
            Change::AddLeg(leg) => outcome.legs.push(leg),
            Change::RemoveLeg(leg) => outcome.removed.push(leg),
        }
    }
    outcome
}

/// The lines of each m= section of a description, the session level first.
pub(super) fn sections(sdp: &str) -> Vec<Vec<&str>> {
    let mut sections = vec![Vec::new()];
    for line in sdp.split_terminator("\r\n") {
        if line.starts_with("m=") {
            sections.push(Vec::new());
        }
        sections.last_mut().unwrap().push(line);
    }
    sections
}

/// The values of an attribute in one section.
pub(super) fn attribute<'a>(section: &[&'a str], name: &str) -> Vec<&'a str> {
    let prefix = format!("a={name}:");
    section.iter().filter_map(|line| line.strip_prefix(prefix.as_str())).collect()
}

/// Asserts what holds for everything that we write.
pub(super) fn check_ours(sdp: &str) {
    let parsed = sdp_types::Session::parse(sdp.as_bytes()).expect("our text is SDP");
    assert!(parsed.has_attribute("ice-lite"), "{sdp}");
    assert!(sdp.ends_with("\r\n") && !sdp.replace("\r\n", "").contains(['\r', '\n']));
    let bundle: Vec<&str> = parsed
        .get_first_attribute_value("group")
        .flatten()
        .map(|group| group.split(' ').skip(1).collect())
        .unwrap_or_default();
    let live = parsed.medias.iter().filter(|m| m.port != 0).count();
    let mut mids = Vec::new();
    let mut ssrcs = Vec::new();
    let mut payload_types: Vec<(String, String)> = Vec::new();
    let mut extensions: Vec<(String, String)> = Vec::new();
    let mut candidates = 0;
    for media in &parsed.medias {
        if let Some(Some(mid)) = media.get_first_attribute_value("mid") {
            assert!(!mids.contains(&mid), "mid {mid} twice\n{sdp}");
            mids.push(mid);
            assert!(media.port == 0 || live == 1 || bundle.contains(&mid), "{sdp}");
        }
        if media.port == 0 {
            continue;
        }
        let is_data = media.media == "application";
        assert!(media.has_attribute("rtcp-mux") || is_data, "{sdp}");
        assert_eq!(media.has_attribute("sctp-port"), is_data, "{sdp}");
        assert!(media.has_attribute("ice-ufrag"), "{sdp}");
        assert!(media.has_attribute("fingerprint") && media.has_attribute("setup"), "{sdp}");
        candidates += media.get_attribute_values("candidate").count();
        for value in media.get_attribute_values("rtpmap").flatten() {
            let (number, name) = value.split_once(' ').unwrap();
            assert!(media.fmt.split(' ').any(|f| f == number), "{number} is not listed\n{sdp}");
            // Formats of different profiles share a name; their fmtp is compared with it.
            let fmtp = media
                .get_attribute_values("fmtp")
                .flatten()
                .find_map(|f| f.strip_prefix(&format!("{number} ")))
                .filter(|_| name.starts_with("rtx"))
                .unwrap_or_default();
            payload_types.push((number.to_owned(), format!("{name} {fmtp}")));
        }
        for value in media.get_attribute_values("extmap").flatten() {
            let (id, uri) = value.split_once(' ').unwrap();
            extensions.push((id.to_owned(), uri.to_owned()));
        }
        let mut named: Vec<u32> = media
            .get_attribute_values("ssrc")
            .flatten()
            .map(|value| value.split(' ').next().unwrap().parse().unwrap())
            .collect();
        named.dedup();
        ssrcs.extend(named);
    }
    assert_eq!(candidates, if live > 0 { 3 } else { 0 }, "{sdp}");
    check_one_meaning(&payload_types, sdp);
    check_one_meaning(&extensions, sdp);
    let named = ssrcs.len();
    ssrcs.sort_unstable();
    ssrcs.dedup();
    assert_eq!(ssrcs.len(), named, "an SSRC stands twice\n{sdp}");
}

fn check_one_meaning(bindings: &[(String, String)], sdp: &str) {
    for (number, meaning) in bindings {
        for (other, what) in bindings {
            assert!(number != other || meaning == what, "{number}: {meaning}, {what}\n{sdp}");
        }
    }
}

pub(super) fn refusal<T: std::fmt::Debug>(result: Result<T, NegotiationError>) -> String {
    let error = result.expect_err("this must be refused");
    let sentence = error.to_string();
    assert!(sentence.len() > 20, "{sentence:?} helps nobody");
    sentence
}
