//! A scenario's packets as shapes: what a server could send at best that forwards frames as they come.

use std::collections::{BTreeMap, BTreeSet};

use sluice_engine::egress::run_length;

use super::{Device, FloorPlan, Shape};
use crate::result::{FloorMix, FloorPoint, RunResult};
use crate::scenario::{Scenario, Video};
use crate::spread::Spread;

/// Destinations at most; beyond, a packet costs hardly more.
const PEERS_MAX: u32 = 1_000;
const REPEATS: u32 = 5;
const SECONDS: f64 = 0.3;

/// What to measure for one scenario, on all devices.
pub fn plan_for(scenario: &Scenario) -> FloorPlan {
    plan_for_all(std::slice::from_ref(scenario))
}

/// What to measure for several scenarios at once: each shape that any of them has, once.
pub fn plan_for_all(scenarios: &[Scenario]) -> FloorPlan {
    let shapes = scenarios.iter().flat_map(|scenario| rates(scenario).into_keys());
    let people = scenarios.iter().map(|scenario| scenario.calls.people()).max().unwrap_or(0);
    FloorPlan {
        shapes: shapes.collect::<BTreeSet<_>>().into_iter().collect(),
        peers: people.clamp(1, PEERS_MAX),
        devices: Device::ALL.to_vec(),
        repeats: REPEATS,
        seconds: SECONDS,
        core: None,
    }
}

/// The mean over a scenario's packets out, of `points` on `device`; `multiple` is left to who knows the server's figure.
///
/// `None` when the scenario sends nothing, frames that are in step or of two lengths, or a shape that it sends was not measured.
pub fn mix(scenario: &Scenario, points: &[FloorPoint], device: &str) -> Option<FloorMix> {
    if scenario.screen.low_rate_bps > 0 {
        // Which layers a server sends is its choice: there is no one mix.
        return None;
    }
    if scenario.calls.screens > 0 && !scenario.screen.is_steady() {
        // In a burst packets come together and leave in longer runs than their spread tells.
        return None;
    }
    let rates = rates(scenario);
    let total: f64 = rates.values().sum();
    let mut found = FloorMix::default();
    for (shape, rate) in rates {
        let matching = points.iter().filter(|point| {
            let measured = Shape { payload_bytes: point.payload_bytes, run: point.run };
            point.device == device && measured == shape
        });
        let point = middle(matching)?;
        let share = rate / total;
        found.us_per_packet_out += share * point.ns_per_packet / 1_000.0;
        found.points.push(point);
        found.shares.push(share);
    }
    (!found.points.is_empty()).then_some(found)
}

/// One point of several measurements of the same: the median of their medians, with the least and the most of all.
fn middle<'a>(points: impl Iterator<Item = &'a FloorPoint>) -> Option<FloorPoint> {
    let points: Vec<_> = points.collect();
    let of = |value: fn(&FloorPoint) -> f64| Spread::of(points.iter().map(|point| value(point)));
    Some(FloorPoint {
        ns_per_packet: of(|point| point.ns_per_packet)?.median,
        ns_least: of(|point| point.ns_least)?.least,
        ns_most: of(|point| point.ns_most)?.most,
        ns_sealing: of(|point| point.ns_sealing)?.median,
        ..(*points.first()?).clone()
    })
}

/// Packets a second of each shape, of one call and for one receiver: all calls and receivers have the same mix.
fn rates(scenario: &Scenario) -> BTreeMap<Shape, f64> {
    let mut rates = BTreeMap::new();
    let calls = scenario.calls;
    if calls.participants < 2 {
        return rates;
    }
    let audio = scenario.audio;
    if calls.unmuted > 0 && audio.packets_per_second > 0 {
        let payload_bytes = audio.rate_bps / 8 / audio.packets_per_second;
        let rate = f64::from(calls.unmuted * audio.packets_per_second);
        *rates.entry(Shape { payload_bytes, run: 1 }).or_insert(0.0) += rate;
    }
    if calls.screens > 0 && scenario.screen.frame_rate > 0 && scenario.screen.packet_bytes > 0 {
        let frames = f64::from(calls.screens * scenario.screen.frame_rate);
        for shape in frame_shapes(&scenario.screen) {
            *rates.entry(shape).or_insert(0.0) += frames * f64::from(shape.run);
        }
    }
    rates
}

/// A frame of the high layer as runs. A run with a shorter last packet counts as one of equal packets with as many bytes.
fn frame_shapes(video: &Video) -> Vec<Shape> {
    let sizes = video.packets(video.rate_bps);
    let single = Shape { payload_bytes: 0, run: 1 };
    let overhead = single.packet_bytes() as usize;
    let mut shapes = Vec::new();
    let mut left = sizes.as_slice();
    while !left.is_empty() {
        // Packets that arrive one by one leave one by one: a server that waited for more would be late.
        let run = match video.spread_ms {
            0 => run_length(left.iter().map(|size| size + overhead)),
            _ => 1,
        };
        let (head, tail) = left.split_at(run);
        let bytes: usize = head.iter().sum();
        let payload_bytes = (bytes as f64 / run as f64).round() as u32;
        shapes.push(Shape { payload_bytes, run: run as u32 });
        left = tail;
    }
    shapes
}

/// Gives a run the floor of its scenario, if these points have it all.
pub fn hold_against(run: &mut RunResult, points: &[FloorPoint], device: &str) {
    let Some(mut floor) = run.scenario.as_ref().and_then(|scenario| mix(scenario, points, device))
    else {
        return;
    };
    floor.multiple = run.server.us_per_packet_out.map(|cost| cost / floor.us_per_packet_out);
    run.floor = Some(floor);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Cut;

    fn scenario(text: &str) -> Scenario {
        toml::from_str(&format!("name = 'test'\n{text}")).unwrap()
    }

    fn shape(payload_bytes: u32, run: u32) -> Shape {
        Shape { payload_bytes, run }
    }

    #[test]
    fn packets_that_arrive_one_by_one_leave_one_by_one() {
        let spread = Video::default();
        assert_eq!(frame_shapes(&spread), [shape(1_111, 1); 6]);
    }

    #[test]
    fn a_frame_with_a_tail_is_one_run() {
        let video = Video { spread_ms: 0, cut: Cut::FullAndTail, ..Video::default() };
        // 6,666 bytes: five times 1,180, and 766.
        assert_eq!(frame_shapes(&video), [shape(1_111, 6)]);
    }

    #[test]
    fn a_longer_packet_begins_a_run_of_its_own() {
        // 6,668 bytes: four times 1,111, then two of 1,112.
        let video = Video { spread_ms: 0, rate_bps: 1_600_320, ..Video::default() };
        assert_eq!(frame_shapes(&video), [shape(1_111, 4), shape(1_112, 2)]);
    }

    #[test]
    fn a_burst_has_no_mix() {
        let of = |screen: &str| {
            let calls = "calls = { calls = 1, participants = 3, screens = 1 }";
            scenario(&format!("{calls}\nscreen = {{ {screen} }}"))
        };
        let point = FloorPoint {
            device: "loopback".to_owned(),
            payload_bytes: 1_111,
            run: 1,
            ns_per_packet: 1_000.0,
            ..FloorPoint::default()
        };
        let mix = |screen: &str| mix(&of(screen), std::slice::from_ref(&point), "loopback");
        assert_eq!(mix("keyframe_s = 1").unwrap().us_per_packet_out, 1.0);
        assert_eq!(mix("keyframe_times = 2"), None);
        assert_eq!(mix("in_step = true"), None);
    }

    #[test]
    fn large_frames_are_cut_where_a_send_is_full() {
        let rate_bps = 30 * 8 * 1_180 * 100;
        let video = Video { spread_ms: 0, rate_bps, ..Video::default() };
        let shapes = frame_shapes(&video);
        assert_eq!(shapes.iter().map(|shape| shape.run).sum::<u32>(), 100);
        let plan = FloorPlan { shapes, ..plan_for_all(&[]) };
        assert_eq!(plan.check(), Ok(()));
    }

    #[test]
    fn several_scenarios_share_their_shapes() {
        let calls = "calls = { calls = 2, participants = 10, unmuted = 2, screens = 1 }";
        let spread = scenario(calls);
        let whole = scenario(&format!("{calls}\nscreen = {{ spread_ms = 0 }}"));
        assert_eq!(plan_for(&spread).shapes, [shape(200, 1), shape(1_111, 1)]);
        let plan = plan_for_all(&[spread.clone(), whole, spread]);
        assert_eq!(plan.shapes, [shape(200, 1), shape(1_111, 1), shape(1_111, 6)]);
        assert_eq!(plan.peers, 20);
        assert_eq!(plan.check(), Ok(()));
    }

    #[test]
    fn who_is_alone_or_silent_gives_nothing_to_measure() {
        let silent = scenario("calls = { calls = 1, participants = 9 }");
        let alone = scenario("calls = { calls = 9, participants = 1, unmuted = 1 }");
        assert!(plan_for_all(&[silent.clone(), alone]).shapes.is_empty());
        assert_eq!(mix(&silent, &[], "sink"), None);
    }

    #[test]
    fn the_mix_weighs_points_by_packets() {
        let scenario =
            scenario("calls = { calls = 3, participants = 5, unmuted = 2, screens = 1 }");
        let point = |device: &str, payload_bytes, ns_per_packet| FloorPoint {
            device: device.to_owned(),
            payload_bytes,
            run: 1,
            ns_per_packet,
            ..FloorPoint::default()
        };
        let mut points =
            vec![point("veth", 200, 9e9), point("sink", 200, 2_000.0), point("veth", 1_111, 9e9)];
        assert_eq!(mix(&scenario, &points, "sink"), None, "a shape is missing");
        points.push(point("sink", 1_111, 3_000.0));
        let found = mix(&scenario, &points, "sink").unwrap();
        // 100 packets a second of audio beside 180 of video.
        assert_eq!(found.points, [points[1].clone(), points[3].clone()]);
        assert!((found.shares[0] - 100.0 / 280.0).abs() < 1e-12, "{:?}", found.shares);
        assert!((found.shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let expected = (100.0 * 2.0 + 180.0 * 3.0) / 280.0;
        assert!((found.us_per_packet_out - expected).abs() < 1e-9, "{}", found.us_per_packet_out);
        assert_eq!(found.multiple, None);
    }
}
