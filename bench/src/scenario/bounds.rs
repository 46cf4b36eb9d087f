//! The bounds that every scenario keeps, so that no run lasts for days or floods a machine.

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::fleet::stamp;
use crate::impair;

use super::{Audio, Calls, Churn, Clients, Expect, Join, Mute, Published, Scenario, Time, Video};

impl Scenario {
    /// Checks every bound: names, counts, rates, times, and the load they make together.
    /// # Errors
    /// Names the key, its value and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        check_text("about", &self.about, 0)?;
        self.calls.check()?;
        self.audio.check()?;
        self.screen.check()?;
        self.join.check()?;
        self.time.check()?;
        self.clients.check()?;
        if let Some(mute) = &self.mute {
            mute.check(self.calls)?;
        }
        if let Some(churn) = &self.churn {
            churn.check(self.calls)?;
        }
        if let Some(impair) = &self.impair {
            impair::check(impair).map_err(|why| format!("impair.{why}"))?;
        }
        if let Some(expect) = &self.expect {
            expect.check(self)?;
        }
        if let Some(published) = &self.published {
            published.check()?;
        }
        for (way, packets) in [
            ("the server would send", self.packets_out_per_second()),
            ("the clients would send", self.packets_in_per_second()),
        ] {
            if packets > PACKETS_PER_SECOND_MAX {
                return Err(format!(
                    "{way} {packets:.0} packets a second; allowed is up to {PACKETS_PER_SECOND_MAX:.0}: \
                    fewer calls, participants or senders make fewer"
                ));
            }
        }
        Ok(())
    }
}

impl Calls {
    fn check(self) -> Result<(), String> {
        bound("calls.calls", self.calls, 1..=COUNT_MAX)?;
        bound("calls.participants", self.participants, 1..=COUNT_MAX)?;
        if self.people() > PEOPLE_MAX {
            return Err(format!(
                "`calls.calls` by `calls.participants` is {}; allowed is up to {PEOPLE_MAX}",
                self.people()
            ));
        }
        bound("calls.unmuted", self.unmuted, 0..=self.participants)?;
        bound("calls.screens", self.screens, 0..=self.participants)
    }
}

impl Audio {
    fn check(self) -> Result<(), String> {
        bound("audio.packets_per_second", self.packets_per_second, 1..=1_000)?;
        let payload = (self.rate_bps / 8 / self.packets_per_second) as usize;
        if PAYLOAD_BYTES.contains(&payload) {
            return Ok(());
        }
        Err(format!(
            "`audio.rate_bps` is {}, which makes payloads of {payload} bytes at {} packets a second; \
            allowed is {} to {} bytes",
            self.rate_bps,
            self.packets_per_second,
            PAYLOAD_BYTES.start(),
            PAYLOAD_BYTES.end()
        ))
    }
}

impl Video {
    fn check(self) -> Result<(), String> {
        bound("screen.rate_bps", self.rate_bps, 10_000..=100_000_000)?;
        bound("screen.frame_rate", self.frame_rate, 1..=120)?;
        let sizes = *PAYLOAD_BYTES.start() as u16..=*PAYLOAD_BYTES.end() as u16;
        bound("screen.packet_bytes", self.packet_bytes, sizes)?;
        bound("screen.spread_ms", self.spread_ms, 0..=1_000 / self.frame_rate)
            .map_err(|e| format!("{e}, the time from frame to frame"))?;
        bound("screen.keyframe_times", self.keyframe_times, 1..=100)?;
        bound("screen.keyframe_s", self.keyframe_s, 1..=60)?;
        self.check_frames("screen.rate_bps", self.rate_bps)?;
        if self.low_rate_bps == 0 {
            return Ok(());
        }
        if self.low_rate_bps >= self.rate_bps {
            return Err(format!(
                "`screen.low_rate_bps` is {}; allowed is 0, or less than `screen.rate_bps`, which is {}",
                self.low_rate_bps, self.rate_bps
            ));
        }
        self.check_frames("screen.low_rate_bps", self.low_rate_bps)
    }

    fn check_frames(self, key: &str, rate_bps: u32) -> Result<(), String> {
        let about =
            format!("`{key}` is {rate_bps}, which makes at {} frames a second", self.frame_rate);
        check_packets(&about, &self.packets(rate_bps))?;
        let times = self.keyframe_times;
        let about = format!("{about} and with `screen.keyframe_times` of {times}");
        check_packets(&about, &self.keyframe_packets(rate_bps))
    }
}

/// Whether a frame of these packets can be sent; `about` says how it comes to be.
fn check_packets(about: &str, packets: &[usize]) -> Result<(), String> {
    if packets.len() > FRAME_PACKETS_MAX {
        return Err(format!(
            "{about} frames of {}; allowed are up to {FRAME_PACKETS_MAX}",
            packets_of(packets.len())
        ));
    }
    match packets.iter().find(|size| !PAYLOAD_BYTES.contains(size)) {
        None => Ok(()),
        Some(size) => Err(format!(
            "{about} a packet of {size} bytes in each frame of {}; allowed is {} to {} bytes: \
            another rate, `screen.packet_bytes` or `screen.cut` helps",
            packets_of(packets.len()),
            PAYLOAD_BYTES.start(),
            PAYLOAD_BYTES.end()
        )),
    }
}

impl Join {
    fn check(self) -> Result<(), String> {
        bound("join.ramp_s", self.ramp_s, RAMP_S)?;
        bound("join.at_once_max", self.at_once_max, 1..=1_000)?;
        bound("join.timeout_s", self.timeout_s, 1.0..=120.0)
    }
}

impl Time {
    fn check(self) -> Result<(), String> {
        bound("time.warmup_s", self.warmup_s, 0.0..=600.0)?;
        bound("time.measure_s", self.measure_s, 1.0..=3_600.0)
    }
}

impl Clients {
    fn check(self) -> Result<(), String> {
        bound("clients.report_s", self.report_s, 0.1..=60.0)?;
        zero_or("clients.ping_s", self.ping_s, 0.1..=60.0)
    }
}

impl Mute {
    fn check(self, calls: Calls) -> Result<(), String> {
        if calls.unmuted == 0 {
            return Err("`mute` has nobody to mute: `calls.unmuted` is 0".to_owned());
        }
        bound("mute.every_s", self.every_s, 0.1..=600.0)
    }
}

impl Churn {
    fn check(self, calls: Calls) -> Result<(), String> {
        let most = f64::from(calls.people());
        bound("churn.per_second", self.per_second, CHURN_PER_SECOND_MIN..=most)
            .map_err(|e| format!("{e}, the people of all calls"))
    }
}

impl Expect {
    fn check(self, scenario: &Scenario) -> Result<(), String> {
        if !scenario.has_media() {
            return Err("`expect` has nothing to expect: nobody sends anything".to_owned());
        }
        bound("expect.loss_max", self.loss_max, 0.0..=1.0)
    }
}

impl Published {
    fn check(&self) -> Result<(), String> {
        check_text("published.source", &self.source, 1)?;
        check_text("published.instance", &self.instance, 1)?;
        bound("published.vcpus", self.vcpus, 1..=4_096)?;
        bound("published.cpu_percent", self.cpu_percent, 0.0..=100.0)?;
        bound("published.memory_gb", self.memory_gb, 0.0..=100_000.0)?;
        bound("published.in_mbps", self.in_mbps, 0.0..=10_000_000.0)?;
        bound("published.out_mbps", self.out_mbps, 0.0..=10_000_000.0)
    }
}

/// Whether a value is within its bounds; not a number never is.
fn bound<T: PartialOrd + Display>(
    key: &str,
    value: T,
    allowed: RangeInclusive<T>,
) -> Result<(), String> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(format!("`{key}` is {value}; allowed is {} to {}", allowed.start(), allowed.end()))
}

/// Likewise, where zero turns something off.
fn zero_or<T: PartialOrd + Display + Default>(
    key: &str,
    value: T,
    allowed: RangeInclusive<T>,
) -> Result<(), String> {
    if value == T::default() || allowed.contains(&value) {
        return Ok(());
    }
    Err(format!("`{key}` is {value}; allowed is 0, or {} to {}", allowed.start(), allowed.end()))
}

fn check_name(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=64).contains(&name.len()) && name.chars().all(is_allowed) {
        return Ok(());
    }
    Err(format!("`name` is {name:?}; allowed are 1 to 64 letters, digits, `-` and `_`"))
}

/// Texts end up in reports: one line, and not a long one.
fn check_text(key: &str, text: &str, least: usize) -> Result<(), String> {
    let length = text.chars().count();
    if (least..=500).contains(&length) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!("`{key}` has {length} characters; allowed is one line of {least} to 500"))
}

/// A count of packets, for people.
fn packets_of(count: usize) -> String {
    if count == 1 { "1 packet".to_owned() } else { format!("{count} packets") }
}

/// Packets a second that a scenario may make all clients send, or a server.
pub const PACKETS_PER_SECOND_MAX: f64 = 5_000_000.0;

/// Participants of all calls.
pub(super) const PEOPLE_MAX: u32 = 20_000;

/// Calls, and participants of each.
pub const COUNT_MAX: u32 = 10_000;

/// Seconds over which participants may come.
pub(super) const RAMP_S: RangeInclusive<f64> = 0.0..=600.0;

/// Participants that may leave each second: at the least one in 100 s.
pub(super) const CHURN_PER_SECOND_MIN: f64 = 0.01;

/// Payload bytes of a packet: a stamp must find room, and header, tag and the longest extensions must fit beside it into a datagram.
const PAYLOAD_BYTES: RangeInclusive<usize> = stamp::PAYLOAD_BYTES_MIN..=1_200;

/// Packets of one frame: what a sender may have to send at once.
const FRAME_PACKETS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::super::Cut;
    use super::*;

    const LEAST: &str = "name = \"x\"\n[calls]\ncalls = 2\nparticipants = 3\n";

    /// The error of a scenario with a few more lines.
    fn refusal(lines: &str) -> String {
        Scenario::parse(&format!("{LEAST}{lines}")).unwrap_err()
    }

    #[test]
    fn each_value_out_of_bounds_is_named_with_what_is_allowed() {
        for (lines, key, allowed) in [
            ("unmuted = 4", "calls.unmuted` is 4", "0 to 3"),
            ("screens = 4", "calls.screens` is 4", "0 to 3"),
            ("[audio]\npackets_per_second = 0", "audio.packets_per_second` is 0", "1 to 1000"),
            ("[audio]\nrate_bps = 10000", "payloads of 25 bytes", "48 to 1200 bytes"),
            ("[audio]\nrate_bps = 4_000_000", "payloads of 10000 bytes", "48 to 1200 bytes"),
            ("[screen]\nrate_bps = 0", "screen.rate_bps` is 0", "10000 to 100000000"),
            ("[screen]\nframe_rate = 0", "screen.frame_rate` is 0", "1 to 120"),
            ("[screen]\npacket_bytes = 1201", "screen.packet_bytes` is 1201", "48 to 1200"),
            ("[screen]\nspread_ms = 34", "screen.spread_ms` is 34", "0 to 33"),
            ("[screen]\nlow_rate_bps = 1_600_000", "screen.low_rate_bps` is 1600000", "less than"),
            ("[screen]\nlow_rate_bps = 10_000", "a packet of 41 bytes", "48 to 1200"),
            ("[screen]\nrate_bps = 90_000_000\nframe_rate = 1", "9534 packets", "up to 1000"),
            ("[screen]\nkeyframe_times = 0", "screen.keyframe_times` is 0", "1 to 100"),
            ("[screen]\nkeyframe_s = 0", "screen.keyframe_s` is 0", "1 to 60"),
            (
                "[screen]\nrate_bps = 10_000_000\nkeyframe_times = 100",
                "`screen.keyframe_times` of 100 frames of 3532 packets",
                "up to 1000",
            ),
            ("[expect]\nloss_max = 0.0", "expect", "nobody sends"),
            ("unmuted = 1\n[expect]\nloss_max = 1.5", "expect.loss_max` is 1.5", "0 to 1"),
            ("[join]\nramp_s = 601.0", "join.ramp_s` is 601", "0 to 600"),
            ("[join]\nramp_s = nan", "join.ramp_s` is NaN", "0 to 600"),
            ("[join]\nat_once_max = 0", "join.at_once_max` is 0", "1 to 1000"),
            ("[join]\ntimeout_s = inf", "join.timeout_s` is inf", "1 to 120"),
            ("[time]\nwarmup_s = -1.0", "time.warmup_s` is -1", "0 to 600"),
            ("[time]\nmeasure_s = 0.5", "time.measure_s` is 0.5", "1 to 3600"),
            ("[time]\nmeasure_s = nan", "time.measure_s` is NaN", "1 to 3600"),
            ("[clients]\nreport_s = 0.0", "clients.report_s` is 0", "0.1 to 60"),
            ("[clients]\nping_s = 0.01", "clients.ping_s` is 0.01", "0, or 0.1 to 60"),
            ("[mute]\nevery_s = 1.0", "mute", "calls.unmuted"),
            ("unmuted = 1\n[mute]\nevery_s = 0.0", "mute.every_s` is 0", "0.1 to 600"),
            ("[churn]\nper_second = 6.5", "churn.per_second` is 6.5", "0.01 to 6"),
            ("[impair]\nloss = nan", "impair.loss is NaN", "0 to 1"),
            ("[impair]\nburst_loss = 0.91", "impair.burst_loss is 0.91", "0 to 0.9"),
            ("[impair]\nburst_loss = 0.1", "impair.burst_length is 0", "1 to 10000"),
            ("[impair]\ndelay_ms = -1.0", "impair.delay_ms is -1", "0 to 10000"),
            ("[impair]\njitter_ms = inf", "impair.jitter_ms is inf", "0 to 10000"),
            ("[impair]\nreorder = 2.0", "impair.reorder is 2", "0 to 1"),
            ("[impair]\nduplicate = 2.0", "impair.duplicate is 2", "0 to 1"),
            ("[impair]\nrate_bps = 9", "impair.rate_bps is 9", "1000 to 100000000000"),
            ("[impair]\nrebind_s = nan", "impair.rebind_s is NaN", "0.1 to 3600"),
        ] {
            let refusal = refusal(lines);
            assert!(refusal.contains(key) && refusal.contains(allowed), "{lines}: {refusal}");
        }
    }

    #[test]
    fn names_texts_and_counts_are_bounded() {
        for name in ["", "a b", "ü", &"x".repeat(65)] {
            let text = format!("name = \"{name}\"\n[calls]\ncalls = 1\nparticipants = 1\n");
            assert!(Scenario::parse(&text).unwrap_err().contains("1 to 64 letters"), "{name}");
        }
        let good = Scenario::parse(LEAST).unwrap();
        let two_lines = Scenario { about: "one\ntwo".to_owned(), ..good.clone() };
        assert!(two_lines.check().unwrap_err().contains("`about`"));
        for (calls, participants, word) in [
            (0, 3, "`calls.calls` is 0"),
            (10_001, 1, "`calls.calls` is 10001"),
            (u32::MAX, u32::MAX, "`calls.calls` is"),
            (1, 0, "`calls.participants` is 0"),
            (10_000, 3, "allowed is up to 20000"),
        ] {
            let calls = Calls { calls, participants, ..good.calls };
            let refusal = Scenario { calls, ..good.clone() }.check().unwrap_err();
            assert!(refusal.contains(word), "{refusal}");
        }
    }

    #[test]
    fn the_load_of_all_is_bounded_both_ways() {
        let good = Scenario::parse(LEAST).unwrap();
        let much = Calls { calls: 1, participants: 10_000, unmuted: 11, screens: 0 };
        let refusal = Scenario { calls: much, ..good.clone() }.check().unwrap_err();
        assert!(refusal.contains("the server would send 5499450 packets"), "{refusal}");
        let alone = Calls { calls: 10_000, participants: 1, unmuted: 1, screens: 1 };
        let audio = Audio { rate_bps: 800_000, packets_per_second: 1_000 };
        let refusal = Scenario { calls: alone, audio, ..good }.check().unwrap_err();
        assert!(refusal.contains("the clients would send 11800000 packets"), "{refusal}");
    }

    #[test]
    fn a_tail_too_short_for_a_stamp_is_refused_and_an_equal_cut_of_it_is_not() {
        let good = Scenario::parse(LEAST).unwrap();
        let frame_bytes = 5 * 1_180 + 10;
        let tail = Video { rate_bps: frame_bytes * 8 * 30, cut: Cut::FullAndTail, ..good.screen };
        let refusal = Scenario { screen: tail, ..good.clone() }.check().unwrap_err();
        assert!(refusal.contains("a packet of 10 bytes in each frame of 6 packets"), "{refusal}");
        let equal = Video { cut: Cut::Equal, ..tail };
        Scenario { screen: equal, ..good }.check().unwrap();
    }
}
