//! When a server has something to send, to whom and in which runs: a scenario's streams, as if their packets were there by themselves.

use std::time::Duration;

use sluice_engine::egress::run_length;

use super::{HEADER_BYTES, TAG_BYTES};
use crate::scenario::{Scenario, Video};

/// One kind of stream of a scenario.
#[derive(Clone, PartialEq, Debug)]
pub struct Kind {
    pub is_video: bool,
    /// Payload bytes of the packets of a frame.
    pub sizes: Vec<usize>,
    /// Time between two frames.
    interval: Duration,
    /// Time between two packets of a frame.
    gap: Duration,
    /// How a frame can leave, the fewest runs first: packets of each run.
    cuts: Vec<Vec<usize>>,
    /// Streams of this kind in each call.
    pub in_call: u32,
}

/// A run that one stream has for each of its receivers at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Burst {
    /// Nanoseconds from the beginning.
    pub due_ns: u64,
    pub stream: u32,
    /// The first packet of the run within its frame.
    pub first: u16,
    /// Packets of the run.
    pub count: u16,
}

/// A stream: whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream {
    /// Which of the kinds.
    pub kind: usize,
    pub call: u32,
    /// The publisher's place in the call.
    pub place: u32,
}

/// Bursts of one timetable: 64 MiB.
const BURSTS_MAX: f64 = 4e6;

/// What the scenario's publishers send.
///
/// # Errors
/// Nobody sends anything to anybody, or which layer a server sends is its own choice.
pub fn kinds(scenario: &Scenario) -> Result<Vec<Kind>, String> {
    let (calls, audio, screen) = (scenario.calls, &scenario.audio, &scenario.screen);
    let mut kinds = Vec::new();
    if calls.unmuted > 0 && audio.packets_per_second > 0 {
        kinds.push(Kind {
            is_video: false,
            sizes: vec![(audio.rate_bps / 8 / audio.packets_per_second) as usize],
            interval: Duration::from_secs(1) / audio.packets_per_second,
            gap: Duration::ZERO,
            cuts: vec![vec![1]],
            in_call: calls.unmuted,
        });
    }
    if calls.screens > 0 && screen.frame_rate > 0 && screen.packet_bytes > 0 {
        if screen.low_rate_bps > 0 {
            return Err(format!("which layers of {} are sent is a server's choice", scenario.name));
        }
        if !screen.is_steady() {
            return Err(format!(
                "frames of {} are in step, or some are longer: this floor has neither",
                scenario.name
            ));
        }
        let sizes = screen.packets(screen.rate_bps);
        kinds.push(Kind {
            is_video: true,
            interval: Duration::from_secs(1) / screen.frame_rate,
            gap: Duration::from_millis(screen.spread_ms.into()) / sizes.len() as u32,
            cuts: cuts(screen, &sizes),
            sizes,
            in_call: calls.screens,
        });
    }
    if kinds.is_empty() || calls.participants < 2 {
        return Err(format!("{} sends nothing to anybody", scenario.name));
    }
    Ok(kinds)
}

/// All streams of the scenario: the first people of each call send, as everywhere.
pub fn streams(kinds: &[Kind], calls: u32) -> Vec<Stream> {
    let in_call = |call: u32| {
        let of_kind = move |(kind, of): (usize, &Kind)| {
            (0..of.in_call).map(move |place| Stream { kind, call, place })
        };
        kinds.iter().enumerate().flat_map(of_kind)
    };
    (0..calls).flat_map(in_call).collect()
}

/// Packets by the run at the least and at the most, over all kinds.
pub fn run_lengths(kinds: &[Kind]) -> (f64, f64) {
    let by = |runs: fn(&Kind) -> usize| packet_rate(kinds) / rate(kinds, runs);
    (by(|kind| kind.cuts[kind.cuts.len() - 1].len()), by(|kind| kind.cuts[0].len()))
}

/// The bursts of `length`, in their order. Streams begin at random moments within a frame, chosen by `seed`.
///
/// Frames are cut in such a way that a run has `run_of` packets in the mean, or what comes nearest to it; without, in the longest runs.
///
/// # Errors
/// There are too many.
pub fn bursts(
    kinds: &[Kind],
    streams: &[Stream],
    run_of: Option<f64>,
    length: Duration,
    seed: u64,
) -> Result<Vec<Burst>, String> {
    let frames = |kind: &Kind| length.as_secs_f64() / kind.interval.as_secs_f64();
    let longest = |kind: &Kind| kind.cuts[kind.cuts.len() - 1].len() as f64;
    let about: f64 =
        streams.iter().map(|at| frames(&kinds[at.kind]) * longest(&kinds[at.kind])).sum();
    if about > BURSTS_MAX {
        return Err(format!("a run would have {about:.0} bursts; {BURSTS_MAX:.0} are allowed"));
    }
    let runs_of_frame = run_of.map(|mean| runs_of_frame(kinds, mean));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bursts = Vec::new();
    for (stream, at) in (0..).zip(streams) {
        let kind = &kinds[at.kind];
        let mut frame_at = kind.interval.mul_f64(rng.f64());
        let mut owed = 0.0;
        while frame_at < length {
            let cut = match runs_of_frame {
                Some(runs) if kind.is_video => kind.cut(&mut owed, runs),
                _ => &kind.cuts[0],
            };
            let mut first = 0;
            for &count in cut {
                let due = frame_at + kind.gap * first as u32;
                let due_ns = due.as_nanos() as u64;
                bursts.push(Burst { due_ns, stream, first: first as u16, count: count as u16 });
                first += count;
            }
            frame_at += kind.interval;
        }
    }
    // Equal moments keep their order: those of a frame follow each other.
    bursts.sort_by_key(|burst| burst.due_ns);
    Ok(bursts)
}

impl Kind {
    /// Packets of the RTP clock between two frames.
    pub fn ticks(&self) -> u32 {
        let hz = if self.is_video { 90_000.0 } else { 48_000.0 };
        (hz * self.interval.as_secs_f64()).round() as u32
    }

    /// The cut that brings the runs so far nearest to `runs` by the frame; `owed` are those that lack.
    fn cut(&self, owed: &mut f64, runs: f64) -> &Vec<usize> {
        *owed += runs;
        let distance = |cut: &&Vec<usize>| (*owed - cut.len() as f64).abs();
        let nearest = self.cuts.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        let cut = nearest.unwrap_or(&self.cuts[0]);
        *owed -= cut.len() as f64;
        cut
    }
}

/// How a frame can leave, each number of runs once.
fn cuts(video: &Video, sizes: &[usize]) -> Vec<Vec<usize>> {
    let count = sizes.len();
    if video.spread_ms > 0 {
        // Packets that arrive one by one leave one by one: a server that waited for more would be late.
        return vec![vec![1; count]];
    }
    let mut cuts: Vec<Vec<usize>> = (1..=count).map(|parts| cut_in(sizes, parts)).collect();
    cuts.sort_by_key(Vec::len);
    cuts.dedup_by_key(|cut| cut.len());
    cuts
}

/// Runs of a frame whose packets come in so many parts of about one length.
fn cut_in(sizes: &[usize], parts: usize) -> Vec<usize> {
    let overhead = (HEADER_BYTES + TAG_BYTES) as usize;
    let mut runs = Vec::new();
    let mut left = sizes;
    for part in 0..parts {
        let longer = usize::from(part < sizes.len() % parts);
        let (mut part, rest) = left.split_at(sizes.len() / parts + longer);
        left = rest;
        while !part.is_empty() {
            let run = run_length(part.iter().map(|size| size + overhead));
            runs.push(run);
            part = &part[run..];
        }
    }
    runs
}

/// Runs that a video frame has to be cut in, that a run has `mean` packets over all kinds.
fn runs_of_frame(kinds: &[Kind], mean: f64) -> f64 {
    let (video, others): (Vec<&Kind>, Vec<&Kind>) = kinds.iter().partition(|kind| kind.is_video);
    let frames: f64 = video.iter().map(|kind| kind.frame_rate()).sum();
    let others: f64 = others.iter().map(|kind| kind.frame_rate()).sum();
    (packet_rate(kinds) / mean - others) / frames
}

/// Packets a second in a call, for one receiver.
fn packet_rate(kinds: &[Kind]) -> f64 {
    rate(kinds, |kind| kind.sizes.len())
}

fn rate(kinds: &[Kind], by_frame: fn(&Kind) -> usize) -> f64 {
    kinds.iter().map(|kind| kind.frame_rate() * by_frame(kind) as f64).sum()
}

impl Kind {
    /// Frames a second of all streams of this kind in a call.
    fn frame_rate(&self) -> f64 {
        f64::from(self.in_call) / self.interval.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn scenario(text: &str) -> Scenario {
        toml::from_str(&format!("name = 'test'\n{text}")).unwrap()
    }

    /// 2 unmuted and a screen of 6 packets a frame, the last one shorter.
    fn mixed() -> Vec<Kind> {
        let calls = "calls = { calls = 3, participants = 5, unmuted = 2, screens = 1 }";
        kinds(&scenario(&format!("{calls}\nscreen = {{ spread_ms = 0, cut = 'full_and_tail' }}")))
            .unwrap()
    }

    #[test]
    fn frames_leave_whole_at_best_and_packet_by_packet_at_worst() {
        let kinds = mixed();
        assert_eq!(kinds[1].cuts[0], [6]);
        assert_eq!(kinds[1].cuts.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(kinds[1].cuts[1], [3, 3]);
        assert_eq!(kinds[1].cuts[3], [2, 2, 1, 1]);
        // 100 packets of audio and 180 of video a second, which are 130 runs.
        let (least, most) = run_lengths(&kinds);
        assert_eq!(least, 1.0);
        assert!((most - 280.0 / 130.0).abs() < 1e-6, "{most}");
    }

    #[test]
    fn no_run_has_a_longer_packet_behind_a_shorter_one() {
        // 6,668 bytes: four times 1,111, then two of 1,112.
        let video = Video { spread_ms: 0, rate_bps: 1_600_320, ..Video::default() };
        let cuts = cuts(&video, &video.packets(video.rate_bps));
        assert_eq!(cuts[0], [4, 2]);
        assert_eq!(cuts[1], [3, 1, 2], "two parts of three, of which the second is cut");
    }

    #[test]
    fn packets_that_are_spread_have_no_other_cut() {
        let text = "calls = { calls = 1, participants = 2, screens = 1 }";
        let kinds = kinds(&scenario(text)).unwrap();
        assert_eq!(kinds[0].cuts, [vec![1; 6]]);
        let streams = streams(&kinds, 1);
        let bursts = bursts(&kinds, &streams, None, SECOND, 1).unwrap();
        assert_eq!(bursts.len(), 30 * 6);
        let gap = bursts[1].due_ns - bursts[0].due_ns;
        assert_eq!((gap, bursts[1].first, bursts[1].count), (2_000_000, 1, 1));
    }

    #[test]
    fn each_stream_has_its_rhythm_from_a_moment_of_its_own() {
        let kinds = mixed();
        let streams = streams(&kinds, 3);
        assert_eq!(streams.len(), 9);
        assert_eq!(streams[5], Stream { kind: 1, call: 1, place: 0 });
        let all = bursts(&kinds, &streams, None, SECOND, 7).unwrap();
        assert!(all.is_sorted_by_key(|burst| burst.due_ns));
        let of = |stream| all.iter().filter(move |burst| burst.stream == stream);
        let times: Vec<u64> = of(0).map(|burst| burst.due_ns).collect();
        assert_eq!(times.len(), 50);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 20_000_000));
        assert_eq!(of(5).count(), 30);
        assert!(of(5).all(|burst| (burst.first, burst.count) == (0, 6)));
        let first = |stream| of(stream).next().unwrap().due_ns;
        assert!(first(0) != first(1) && first(0) < 20_000_000 && first(5) < 33_333_334);
        assert_eq!(all, bursts(&kinds, &streams, None, SECOND, 7).unwrap());
        assert_ne!(all, bursts(&kinds, &streams, None, SECOND, 8).unwrap());
    }

    #[test]
    fn runs_have_the_mean_length_that_is_asked_for() {
        let kinds = mixed();
        let streams = streams(&kinds, 3);
        for mean in [1.0, 1.3, 1.7, 2.0, 280.0 / 130.0] {
            let bursts = bursts(&kinds, &streams, Some(mean), 10 * SECOND, 1).unwrap();
            let packets: u32 = bursts.iter().map(|burst| u32::from(burst.count)).sum();
            assert_eq!(packets, 3 * 2_800);
            let found = f64::from(packets) / bursts.len() as f64;
            assert!((found - mean).abs() < 0.005, "{found} for {mean}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let refusal = |text: &str| kinds(&scenario(text)).unwrap_err();
        let silent = "calls = { calls = 1, participants = 9 }";
        assert!(refusal(silent).contains("nothing to anybody"));
        let alone = "calls = { calls = 9, participants = 1, unmuted = 1 }";
        assert!(refusal(alone).contains("nothing to anybody"));
        let layers = "calls = { calls = 1, participants = 2, screens = 1 }\nscreen = { low_rate_bps = 300000 }";
        assert!(refusal(layers).contains("layers"));
        for key in ["keyframe_times = 2", "in_step = true"] {
            let text = format!(
                "calls = {{ calls = 1, participants = 2, screens = 1 }}\nscreen = {{ {key} }}"
            );
            assert!(refusal(&text).contains("neither"), "{key}");
        }
        let kinds = mixed();
        let streams = streams(&kinds, 10_000);
        let refusal = bursts(&kinds, &streams, None, 10 * SECOND, 1).unwrap_err();
        assert!(refusal.contains("4000000"), "{refusal}");
    }
}
