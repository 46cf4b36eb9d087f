//! One stream that a client sends: paced packets that say who sent them and when.

use std::collections::VecDeque;
use std::time::Duration;

use sluice_engine::clock::{Instant, NtpTime};
use sluice_engine::ids::{ExtSeqNum, PayloadType, RtpTime, SeqNum, Ssrc};
use sluice_engine::wire::rtcp::sr::SenderReport;
use sluice_engine::wire::rtp::{FixedHeader, write_fixed_header};
use sluice_engine::wire::rtp_ext::ExtensionWriter;

use super::stamp::{self, Head, Stamp};
use crate::conversation::{Extensions, SendStream, Source};
use crate::scenario::Scenario;

/// When and in which sizes packets are sent.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Pace {
    frame: FrameCut,
    keyframe: FrameCut,
    /// Time between two frames.
    interval: Duration,
    /// Ticks of the RTP clock between two frames.
    ticks: u32,
    /// Frames from one key frame to the next; none of audio.
    keyframe_frames: Option<u64>,
}

/// The packets of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
struct FrameCut {
    /// Payload bytes of each.
    sizes: Vec<usize>,
    /// Time from one to the next.
    gap: Duration,
}

/// One stream, as it was negotiated.
pub struct Publication {
    /// Its number in stamps.
    pub stream: u32,
    pub source: Source,
    pub ssrc: Ssrc,
    payload_type: PayloadType,
    mid: String,
    rid: Option<String>,
    extensions: Extensions,
    pace: Pace,
    /// When the frame in work began or begins.
    frame_at: Instant,
    frame: u64,
    /// Packets of this frame that are sent.
    part: usize,
    sent: u64,
    octets: u64,
    /// Packets that were sent more than a millisecond after their time.
    pub late: u64,
    keyframe_wanted: bool,
    is_keyframe: bool,
    /// What can be sent again: sealed, by number. Empty and without room where nobody asks.
    history: VecDeque<(SeqNum, Vec<u8>)>,
    history_max: usize,
}

/// A packet more than this late says that the generator does not keep up.
const LATE: Duration = Duration::from_millis(1);

/// Packets that can be sent again: more than a second of a screen.
const HISTORY_PACKETS: usize = 512;

impl Pace {
    fn audio(scenario: &Scenario) -> Self {
        let audio = scenario.audio;
        let size = (audio.rate_bps / 8 / audio.packets_per_second) as usize;
        let cut = FrameCut { sizes: vec![size], gap: Duration::ZERO };
        Self {
            frame: cut.clone(),
            keyframe: cut,
            interval: Duration::from_secs(1) / audio.packets_per_second,
            ticks: 48_000 / audio.packets_per_second,
            keyframe_frames: None,
        }
    }

    fn screen(scenario: &Scenario, rate_bps: u32) -> Self {
        let screen = scenario.screen;
        let spread = Duration::from_millis(screen.spread_ms.into());
        let cut = |sizes: Vec<usize>| FrameCut { gap: spread / sizes.len() as u32, sizes };
        Self {
            frame: cut(screen.packets(rate_bps)),
            keyframe: cut(screen.keyframe_packets(rate_bps)),
            interval: Duration::from_secs(1) / screen.frame_rate,
            ticks: 90_000 / screen.frame_rate,
            keyframe_frames: Some(screen.keyframe_frames().into()),
        }
    }
}

impl Publication {
    /// The layers of a negotiated source; `number` gives the stream's number of a layer, 0 the high or only one.
    pub fn of_stream(
        scenario: &Scenario,
        negotiated: &SendStream,
        number: impl Fn(u32) -> u32,
    ) -> Vec<Self> {
        let layers = negotiated.layers.len();
        let layer = |at: usize| {
            // Layers are named from low to high.
            let from_top = (layers - 1 - at) as u32;
            let pace = match negotiated.source {
                Source::Audio => Pace::audio(scenario),
                _ if from_top > 0 => Pace::screen(scenario, scenario.screen.low_rate_bps),
                _ => Pace::screen(scenario, scenario.screen.rate_bps),
            };
            let (ssrc, rid) = negotiated.layers[at].clone();
            let is_repeated = scenario.clients.nack && negotiated.source != Source::Audio;
            Self {
                stream: number(from_top),
                source: negotiated.source,
                ssrc,
                payload_type: negotiated.payload_type,
                mid: negotiated.mid.clone(),
                rid,
                extensions: negotiated.extensions,
                pace,
                frame_at: Instant::default(),
                frame: 0,
                part: 0,
                sent: 0,
                octets: 0,
                late: 0,
                keyframe_wanted: true,
                is_keyframe: false,
                history: VecDeque::new(),
                history_max: if is_repeated { HISTORY_PACKETS } else { 0 },
            }
        };
        (0..layers).map(layer).collect()
    }

    /// Whether it is a video.
    pub fn is_video(&self) -> bool {
        self.source != Source::Audio
    }

    /// Whether its packets carry transport-wide numbers.
    pub fn is_numbered(&self) -> bool {
        self.extensions.transport_cc.is_some()
    }

    /// Packets sent, repeated ones not counted.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Payload bytes of these packets.
    pub fn bytes(&self) -> u64 {
        self.octets
    }

    /// A receiver lacks a key frame: the next frame is one.
    pub fn want_keyframe(&mut self) {
        self.keyframe_wanted = true;
    }

    /// Goes on with the next frame some part of a frame after `now`, `phase` within 0 and 1: streams must not beat in step.
    ///
    /// The RTP clock has gone on meanwhile, as a camera's does.
    pub fn resume(&mut self, now: Instant, phase: f64) {
        if self.part != 0 {
            (self.frame, self.part) = (self.frame + 1, 0);
        }
        let next = now + self.pace.interval.mul_f64(phase);
        if self.sent > 0 {
            let missed = next.since(self.frame_at).as_secs_f64() / self.pace.interval.as_secs_f64();
            self.frame += missed.round() as u64;
        }
        self.frame_at = next;
    }

    /// Goes on with the next frame by the wall clock, which shows `ntp` at `now`: streams of one frame rate are in step, on all
    /// workers.
    pub fn resume_in_step(&mut self, now: Instant, ntp: NtpTime) {
        let interval = self.pace.interval.as_nanos() as u64;
        let wall = ntp.nanos_since(NtpTime(0)).unsigned_abs();
        self.part = 0;
        // A clock that was set back takes no frame back.
        self.frame = self.frame.max(wall / interval + 1);
        self.frame_at = now + Duration::from_nanos(interval - wall % interval);
    }

    /// Whether some packets of a frame are sent and others are not.
    pub fn is_within_frame(&self) -> bool {
        self.part != 0
    }

    /// When the next packet is due.
    pub fn next_due(&self) -> Instant {
        self.frame_at + self.cut().gap * self.part as u32
    }

    /// How the frame in work is cut. Of one that has not begun only the first packet counts, which has no gap before it.
    fn cut(&self) -> &FrameCut {
        if self.is_keyframe { &self.pace.keyframe } else { &self.pace.frame }
    }

    /// Writes the next packet in the clear, stamped with the wall clock's `ntp` at `now`; returns its index and length.
    pub fn write_packet(
        &mut self,
        now: Instant,
        ntp: NtpTime,
        transport_seq: u16,
        out: &mut [u8; 1_500],
    ) -> (ExtSeqNum, usize) {
        self.late += u64::from(now.since(self.next_due()) > LATE);
        if self.part == 0 {
            let regular = self.pace.keyframe_frames.is_some_and(|n| self.frame.is_multiple_of(n));
            self.is_keyframe = std::mem::take(&mut self.keyframe_wanted) || regular;
        }
        let is_last = self.part + 1 == self.cut().sizes.len();
        let index = ExtSeqNum(self.sent);
        let extensions_at = 12;
        let extensions_len = self.write_extensions(transport_seq, &mut out[extensions_at..]);
        let header = FixedHeader {
            marker: self.is_video() && is_last,
            payload_type: self.payload_type,
            seq: index.seq(),
            timestamp: self.rtp_time(),
            ssrc: self.ssrc,
            has_extension: extensions_len > 0,
            has_padding: false,
        };
        write_fixed_header(out, &header);
        let at = extensions_at + extensions_len;
        let len = self.cut().sizes[self.part];
        let head = match self.is_video() {
            true => Head::Vp8 { starts_frame: self.part == 0, is_keyframe: self.is_keyframe },
            false => Head::Opus,
        };
        let stamp = Stamp { stream: self.stream, counter: self.sent, sent_at: ntp };
        stamp::write(&mut out[at..at + len], head, stamp);
        self.sent += 1;
        self.octets += len as u64;
        self.part += 1;
        if is_last {
            (self.frame, self.part) = (self.frame + 1, 0);
            self.frame_at = self.frame_at + self.pace.interval;
        }
        (index, at + len)
    }

    fn write_extensions(&self, transport_seq: u16, out: &mut [u8]) -> usize {
        let Extensions { mid, rid, transport_cc, audio_level } = self.extensions;
        let mut writer = ExtensionWriter::new(out, false);
        if let Some(id) = transport_cc {
            writer.push(id, &transport_seq.to_be_bytes());
        }
        if let Some(id) = mid {
            writer.push(id, self.mid.as_bytes());
        }
        if let (Some(id), Some(rid)) = (rid, &self.rid) {
            writer.push(id, rid.as_bytes());
        }
        if let Some(id) = audio_level {
            // Speech, 30 dB below the loudest. Source: RFC 6464 §3.
            writer.push(id, &[0x80 | 30]);
        }
        writer.finish()
    }

    fn rtp_time(&self) -> RtpTime {
        RtpTime((self.frame as u32).wrapping_mul(self.pace.ticks))
    }

    /// Keeps a sealed packet for who asks for it again.
    pub fn remember(&mut self, seq: SeqNum, sealed: &[u8]) {
        if self.history_max == 0 {
            return;
        }
        let mut bytes = match self.history.len() >= self.history_max {
            true => self.history.pop_front().map(|(_, bytes)| bytes).unwrap_or_default(),
            false => Vec::new(),
        };
        bytes.clear();
        bytes.extend_from_slice(sealed);
        self.history.push_back((seq, bytes));
    }

    /// The packet as it was sent: the same bytes again are the one safe way to repeat it (RFC 7714 §8.4).
    pub fn remembered(&self, seq: SeqNum) -> Option<&[u8]> {
        let (_, bytes) = self.history.iter().rev().find(|(number, _)| *number == seq)?;
        Some(bytes)
    }

    /// What its sender report says at `ntp`; nothing before the first packet.
    pub fn report(&self, ntp: NtpTime) -> Option<SenderReport> {
        (self.sent > 0).then(|| SenderReport {
            ssrc: self.ssrc,
            ntp,
            rtp_time: self.rtp_time(),
            packets: self.sent as u32,
            octets: self.octets as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use sluice_engine::wire::rtp::RtpView;
    use sluice_engine::wire::rtp_ext::elements;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_start(Duration::from_millis(millis))
    }

    fn publications(
        text: &str,
        source: Source,
        layers: &[(u32, Option<&str>)],
    ) -> Vec<Publication> {
        let calls = "name = \"x\"\n[calls]\ncalls = 1\nparticipants = 2\n";
        let scenario: Scenario = toml::from_str(&format!("{calls}{text}")).unwrap();
        let negotiated = SendStream {
            source,
            payload_type: PayloadType(96),
            layers: layers
                .iter()
                .map(|&(ssrc, rid)| (Ssrc(ssrc), rid.map(str::to_owned)))
                .collect(),
            mid: "1".to_owned(),
            extensions: Extensions {
                mid: Some(4),
                rid: Some(10),
                transport_cc: Some(3),
                audio_level: None,
            },
        };
        Publication::of_stream(&scenario, &negotiated, |layer| 40 + layer)
    }

    #[test]
    fn frames_are_cut_paced_and_marked() {
        let text =
            "[screen]\nrate_bps = 1500000\nframe_rate = 30\npacket_bytes = 1200\nspread_ms = 12";
        let mut video = publications(text, Source::Screen, &[(7, None)]).remove(0);
        video.resume(at(100), 0.0);
        let mut out = [0; 1_500];
        let mut bytes = 0;
        for part in 0..12 {
            let frame = part / 6;
            let due = video.next_due();
            assert_eq!(due.since(at(100)).as_millis() as u64, 33 * frame + 2 * (part % 6));
            let (index, len) = video.write_packet(due, NtpTime(9), part as u16, &mut out);
            let view = RtpView::parse(&out[..len]).unwrap();
            assert_eq!(index, ExtSeqNum(part));
            assert_eq!(view.header().marker, part % 6 == 5);
            assert_eq!(view.header().timestamp, RtpTime(frame as u32 * 3_000));
            assert!(matches!(view.payload().len(), 1_041 | 1_042));
            assert_eq!(stamp::begins_keyframe(view.payload()), part == 0, "one in two seconds");
            let stamp = stamp::read(view.payload()).unwrap();
            assert_eq!(stamp, Stamp { stream: 40, counter: part, sent_at: NtpTime(9) });
            bytes += view.payload().len();
        }
        assert_eq!((bytes, video.sent(), video.late), (2 * 6_250, 12, 0));
        video.write_packet(video.next_due() + Duration::from_millis(2), NtpTime(9), 0, &mut out);
        assert_eq!(video.late, 1);
        video.want_keyframe();
        video.resume(at(500), 0.5);
        assert!(video.next_due().since(at(516)) < Duration::from_millis(1), "half a frame later");
        let (_, len) = video.write_packet(video.next_due(), NtpTime(9), 0, &mut out);
        assert!(stamp::begins_keyframe(RtpView::parse(&out[..len]).unwrap().payload()));
    }

    #[test]
    fn a_key_frame_is_longer_and_takes_as_long() {
        let text = "[screen]\nrate_bps = 96_000\nframe_rate = 10\nspread_ms = 12\n\
            keyframe_times = 4\nkeyframe_s = 1";
        let mut video = publications(text, Source::Screen, &[(7, None)]).remove(0);
        video.resume(at(0), 0.0);
        let mut out = [0; 1_500];
        let mut packets = Vec::new();
        while video.frame < 11 {
            let (due, frame) = (video.next_due(), video.frame);
            let (_, len) = video.write_packet(due, NtpTime(1), 0, &mut out);
            let view = RtpView::parse(&out[..len]).unwrap();
            let millis = due.since(at(0)).as_millis() as u64;
            packets.push((frame, millis, view.payload().len(), view.header().marker));
        }
        let keyframe = |frame: u64| {
            let parts =
                [0, 2, 4, 7, 9].map(|millis| (frame, frame * 100 + millis, 960, millis == 9));
            parts.to_vec()
        };
        let others = (1..10).flat_map(|frame| {
            [(frame, frame * 100, 600, false), (frame, frame * 100 + 6, 600, true)]
        });
        let expected: Vec<_> = keyframe(0).into_iter().chain(others).chain(keyframe(10)).collect();
        assert_eq!(packets, expected);
        video.want_keyframe();
        let sent = video.sent();
        while video.frame < 12 {
            video.write_packet(video.next_due(), NtpTime(1), 0, &mut out);
        }
        assert_eq!(video.sent() - sent, 5, "somebody asked for it");
    }

    #[test]
    fn streams_in_step_begin_their_key_frames_together_whenever_they_began() {
        let text = "[screen]\nrate_bps = 96_000\nframe_rate = 10\nkeyframe_s = 1\nin_step = true";
        let began = |millis: i64| {
            let mut video = publications(text, Source::Screen, &[(7, None)]).remove(0);
            let ntp = NtpTime::from_unix(1_800_000_000, 0).offset_nanos(millis * 1_000_000);
            video.resume_in_step(at(millis as u64), ntp);
            let mut out = [0; 1_500];
            let mut next = || {
                let due = video.next_due();
                let (_, len) = video.write_packet(due, NtpTime(1), 0, &mut out);
                let view = RtpView::parse(&out[..len]).unwrap();
                let is_keyframe = stamp::begins_keyframe(view.payload());
                (is_keyframe, due, view.header().timestamp)
            };
            assert!(next().0, "nobody has seen any of it");
            std::iter::repeat_with(next).find(|(is_keyframe, ..)| *is_keyframe).unwrap()
        };
        let (_, due, timestamp) = began(10);
        for millis in [0, 55, 299] {
            let (_, other, of) = began(millis);
            let apart = due.since(other).max(other.since(due));
            assert!(apart < Duration::from_micros(1), "{apart:?} at {millis}");
            assert_eq!(of, timestamp, "one clock counts the frames");
        }
    }

    #[test]
    fn layers_are_named_from_low_to_high_and_carry_their_rid() {
        let text = "[screen]\nlow_rate_bps = 300000";
        let layers = [(7, Some("l")), (8, Some("h"))];
        let mut both = publications(text, Source::SimulcastScreen, &layers);
        assert_eq!(
            both.iter().map(|p| (p.ssrc.0, p.stream)).collect::<Vec<_>>(),
            [(7, 41), (8, 40)]
        );
        let rates: Vec<usize> = both.iter().map(|p| p.pace.frame.sizes.iter().sum()).collect();
        assert_eq!(rates, [300_000 / 8 / 30, 1_600_000 / 8 / 30]);
        let mut out = [0; 1_500];
        let (_, len) = both[0].write_packet(at(1), NtpTime(9), 0x0102, &mut out);
        let view = RtpView::parse(&out[..len]).unwrap();
        let (profile, block) = view.extension().unwrap();
        let found: Vec<_> =
            elements(profile, block).map(|(id, value)| (id, value.to_vec())).collect();
        assert_eq!(found, [(3, vec![1, 2]), (4, b"1".to_vec()), (10, b"l".to_vec())]);
    }

    #[test]
    fn audio_has_one_packet_a_frame_and_no_marker() {
        let mut audio = publications("", Source::Audio, &[(7, None)]).remove(0);
        audio.resume(at(0), 0.0);
        let mut out = [0; 1_500];
        for number in 0..3_u64 {
            assert_eq!(audio.next_due(), at(20 * number));
            let (_, len) = audio.write_packet(audio.next_due(), NtpTime(1), 0, &mut out);
            let view = RtpView::parse(&out[..len]).unwrap();
            assert_eq!((view.payload().len(), view.header().marker), (200, false));
            assert_eq!(view.header().timestamp, RtpTime(960 * number as u32));
        }
        assert_eq!(audio.report(NtpTime(5)).unwrap().octets, 600);
        audio.remember(SeqNum(1), b"x");
        assert_eq!(audio.remembered(SeqNum(1)), None, "nobody asks for audio again");
    }

    #[test]
    fn what_was_sent_is_remembered_for_a_while() {
        let mut video =
            publications("[clients]\nnack = true", Source::Screen, &[(7, None)]).remove(0);
        for seq in 0..600_u16 {
            video.remember(SeqNum(seq), &seq.to_be_bytes());
        }
        assert_eq!(video.remembered(SeqNum(599)), Some(&599_u16.to_be_bytes()[..]));
        assert_eq!(video.remembered(SeqNum(88)), Some(&88_u16.to_be_bytes()[..]));
        assert_eq!(video.remembered(SeqNum(87)), None);
    }
}
