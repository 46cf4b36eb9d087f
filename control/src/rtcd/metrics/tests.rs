use super::*;
use crate::metrics::text;

fn shown(metrics: &RtcdMetrics, tallies: &[&[TrackTally]]) -> String {
    let mut registry = Registry::default();
    metrics.register(registry.sub_registry_with_prefix("rtcd"), tallies);
    let mut openmetrics = String::new();
    prometheus_client::encoding::text::encode(&mut openmetrics, &registry).unwrap();
    text::to_prometheus(&openmetrics)
}

fn assert_shown(shown: &str, lines: &[&str]) {
    for line in lines {
        assert!(shown.lines().any(|shown| shown == *line), "{line} is missing in\n{shown}");
    }
}

#[test]
fn names_types_and_labels_are_those_of_rtcd() {
    let metrics = RtcdMetrics::default();
    metrics.session_opened("g");
    metrics.session_opened("g");
    metrics.session_closed("g");
    metrics.conn_state(ConnState::Connected);
    metrics.error("g", ErrorKind::SignalingLockTimeout);
    metrics.ws_opened("c");
    metrics.ws_opened("d");
    metrics.ws_closed("d");
    metrics.ws_message("c", "join", Direction::In);
    metrics.ws_message("c", "vad", Direction::Out);
    metrics.track_added("g", Direction::In, "audio/opus");
    metrics.track_added("g", Direction::Out, "video/VP8");
    metrics.track_removed("g", Direction::Out, "video/VP8");
    assert_shown(
        &shown(&metrics, &[]),
        &[
            "# TYPE rtcd_rtc_rtp_tracks_total gauge",
            "rtcd_rtc_rtp_tracks_total{groupID=\"g\",direction=\"in\",type=\"audio/opus\"} 1",
            "rtcd_rtc_rtp_tracks_total{groupID=\"g\",direction=\"out\",type=\"video/VP8\"} 0",
            "# TYPE rtcd_rtc_sessions_total gauge",
            "rtcd_rtc_sessions_total{groupID=\"g\"} 1",
            "# TYPE rtcd_rtc_conn_states_total counter",
            "rtcd_rtc_conn_states_total{type=\"connected\"} 1",
            "rtcd_rtc_conn_states_total{type=\"failed\"} 0",
            "# TYPE rtcd_rtc_errors_total counter",
            "rtcd_rtc_errors_total{groupID=\"g\",type=\"signaling_lock_timeout\"} 1",
            "rtcd_rtc_errors_total{groupID=\"g\",type=\"ice\"} 0",
            "# TYPE rtcd_ws_connections_total gauge",
            "rtcd_ws_connections_total{clientID=\"c\"} 1",
            "rtcd_ws_connections_total{clientID=\"d\"} 0",
            "# TYPE rtcd_ws_messages_total counter",
            "rtcd_ws_messages_total{clientID=\"c\",type=\"join\",direction=\"in\"} 1",
            "rtcd_ws_messages_total{clientID=\"c\",type=\"vad\",direction=\"out\"} 1",
        ],
    );
}

/// The `le` values of a histogram's only series.
fn bounds<'a>(shown: &'a str, name: &str) -> Vec<&'a str> {
    let buckets = shown.lines().filter(|line| line.starts_with(&format!("{name}_bucket")));
    let bounds = buckets.filter_map(|line| line.split_once("le=\"")?.1.split_once('"'));
    bounds.map(|(bound, _)| bound).collect()
}

#[test]
fn histograms_have_the_buckets_of_rtcd() {
    let metrics = RtcdMetrics::default();
    let second = Duration::from_secs(1);
    metrics.connection_time("g", second);
    metrics.dc_open_time("g", second);
    metrics.lock_grab_time("g", second);
    metrics.lock_locked_time("g", second);
    metrics.client_loss_rate("g", 0.02);
    metrics.client_loss_rate("g", f64::NAN);
    metrics.client_rtt("g", 0.06);
    metrics.client_jitter("g", 0.003);
    let mut tallies = vec![TrackTally::default(); 8];
    let tally = &mut tallies[metrics.tally("g", TrackClass::Voice).index()];
    tally.packets_in = 1;
    tally.forward_times.observe(Duration::from_millis(2));
    let shown = shown(&metrics, &[&tallies]);
    let latency = ".001 .005 .0075 .01 .025 .05 .075 .1 .25 .3 .4 .5 .75 1 +Inf";
    let loss = ".001 .005 .0075 .01 .025 .05 .075 .1 .25 .5 .75 1 +Inf";
    let default = ".005 .01 .025 .05 .1 .25 .5 1 2.5 5 10 +Inf";
    for (name, expected) in [
        ("rtp_tracks_writes_time", latency),
        ("connection_time", default),
        ("dc_open_time", default),
        ("signaling_lock_grab_time", default),
        ("signaling_lock_locked_time", default),
        ("client_loss_rate", loss),
        ("client_rtt", latency),
        ("client_jitter", latency),
    ] {
        let name = format!("rtcd_rtc_{name}");
        let found = bounds(&shown, &name);
        let found: Vec<_> = found.iter().map(|b| b.strip_prefix('0').unwrap_or(b)).collect();
        assert_eq!(found, expected.split(' ').collect::<Vec<_>>(), "{name}");
        assert!(shown.contains(&format!("# TYPE {name} histogram\n")), "{name}");
        assert!(shown.contains(&format!("{name}_count{{groupID=\"g\"")), "{name}");
    }
    assert_shown(
        &shown,
        &[
            "rtcd_rtc_client_loss_rate_count{groupID=\"g\"} 1",
            "rtcd_rtc_client_rtt_bucket{le=\"0.05\",groupID=\"g\"} 0",
            "rtcd_rtc_client_rtt_bucket{le=\"0.075\",groupID=\"g\"} 1",
            "rtcd_rtc_rtp_tracks_writes_time_bucket{le=\"0.001\",groupID=\"g\",type=\"voice\"} 0",
            "rtcd_rtc_rtp_tracks_writes_time_bucket{le=\"0.005\",groupID=\"g\",type=\"voice\"} 1",
            "rtcd_rtc_rtp_tracks_writes_time_sum{groupID=\"g\",type=\"voice\"} 0.002",
        ],
    );
}

#[test]
fn tallies_of_all_shards_are_added_by_client_and_type() {
    let metrics = RtcdMetrics::default();
    let at = |group, class| metrics.tally(group, class).index();
    let (screen, camera) = (at("g", TrackClass::Screen), at("g", TrackClass::Video));
    let voice = at("h", TrackClass::Voice);
    let mut first = vec![TrackTally::default(); 16];
    first[screen] = TrackTally { packets_in: 1, bytes_in: 100, ..TrackTally::default() };
    first[camera] = TrackTally { packets_in: 2, packets_out: 4, ..TrackTally::default() };
    first[0].packets_in = 1_000;
    let mut second = vec![TrackTally::default(); camera + 1];
    second[screen] = TrackTally { packets_in: 10, bytes_out: 7, ..TrackTally::default() };
    second[screen].forward_times.observe(Duration::ZERO);
    second[camera].packets_in = 1;
    second[camera].forward_times.observe(Duration::ZERO);
    first[voice].packets_in = 5;
    let shown = shown(&metrics, &[&first, &second]);
    assert_shown(
        &shown,
        &[
            "# TYPE rtcd_rtc_rtp_packets_total counter",
            "rtcd_rtc_rtp_packets_total{groupID=\"g\",direction=\"in\",type=\"video\"} 14",
            "rtcd_rtc_rtp_packets_total{groupID=\"g\",direction=\"out\",type=\"video\"} 4",
            "rtcd_rtc_rtp_packets_total{groupID=\"h\",direction=\"in\",type=\"audio\"} 5",
            "# TYPE rtcd_rtc_rtp_bytes_total counter",
            "rtcd_rtc_rtp_bytes_total{groupID=\"g\",direction=\"in\",type=\"video\"} 100",
            "rtcd_rtc_rtp_bytes_total{groupID=\"g\",direction=\"out\",type=\"video\"} 7",
            "rtcd_rtc_rtp_tracks_writes_time_count{groupID=\"g\",type=\"screen\"} 2",
        ],
    );
    assert!(!shown.contains("1000"), "other tracks are not rtcd's");
}

#[test]
fn clients_and_types_beyond_the_bound_are_counted_together() {
    let metrics = RtcdMetrics::default();
    for n in 0..NAMES_MAX + 3 {
        metrics.session_opened(&format!("g{n}"));
    }
    metrics.session_opened("g0");
    metrics.session_closed(&format!("g{}", NAMES_MAX + 1));
    metrics.ws_message("c", "whatever", Direction::In);
    metrics.ws_message("c", "whatever else", Direction::In);
    metrics.ws_message("c", "hello", Direction::Out);
    let shown = shown(&metrics, &[]);
    assert_shown(
        &shown,
        &[
            "rtcd_rtc_sessions_total{groupID=\"g0\"} 2",
            "rtcd_rtc_sessions_total{groupID=\"g255\"} 1",
            "rtcd_rtc_sessions_total{groupID=\"other\"} 2",
            "rtcd_ws_messages_total{clientID=\"c\",type=\"unknown\",direction=\"in\"} 2",
        ],
    );
    assert!(!shown.contains("hello"), "only rtc and vad count on the way out");
    let (last, beyond) = ("g255", "g256");
    let voice = |group| metrics.tally(group, TrackClass::Voice).index();
    assert!(voice(last) < voice(beyond) && voice(beyond) == voice("yet another"));
}
