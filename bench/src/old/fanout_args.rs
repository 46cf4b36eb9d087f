//! What a run does: arguments with their bounds, and the plan made of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, value_parser};

/// The server under test. It already runs; nothing here starts or stops it.
#[derive(Args, Clone, Debug)]
pub struct Server {
    /// Its HTTP API, on a loopback address: media is sent and received on loopback alone.
    #[arg(long, default_value = "http://127.0.0.1:8045")]
    pub target: String,
    /// Its process, for CPU time and memory.
    #[arg(long, value_parser = value_parser!(u32).range(1..))]
    pub pid: u32,
    /// Bearer token of its API.
    #[arg(long)]
    pub token: Option<String>,
    /// The call to publish in; it must have nobody else in it.
    #[arg(long, default_value = "bench")]
    pub call: String,
    /// Also writes the result to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Names this configuration of the server in the result. `report` puts runs with one label together.
    #[arg(long, default_value = "")]
    pub label: String,
    /// Seeds identifiers, credentials and the choice of verified packets.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// One publisher with one video, many receivers.
#[derive(Args, Clone, Debug)]
pub struct Fanout {
    #[command(flatten)]
    pub server: Server,
    /// Receivers.
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u16).range(1..=10_000))]
    pub receivers: u16,
    /// Rate of the video: payload bits a second, headers excluded.
    #[arg(long, default_value_t = 1_500_000, value_parser = value_parser!(u32).range(10_000..=200_000_000))]
    pub rate_bps: u32,
    /// Frames a second. All have the same size, key frames too.
    #[arg(long, default_value_t = 30, value_parser = value_parser!(u32).range(1..=240))]
    pub frame_rate: u32,
    /// The largest payload of a packet. A frame is cut into as few packets as fit, equal in size but for a byte.
    #[arg(long, default_value_t = 1_200, value_parser = value_parser!(u16).range(100..=1_200))]
    pub packet_bytes: u16,
    /// Milliseconds over which the packets of a frame are sent; 0 sends them at once.
    #[arg(long, default_value_t = 12, value_parser = value_parser!(u32).range(0..=1_000))]
    pub spread_ms: u32,
    /// Seconds of the measurement.
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Seconds of media before the measurement.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(0..=600))]
    pub warmup: u32,
    /// Share of received packets that are decrypted and checked: 0, or 0.001 to 1.
    #[arg(long, default_value_t = 0.01)]
    pub verify: f64,
}

/// Connected sessions without media.
#[derive(Args, Clone, Debug)]
pub struct Idle {
    #[command(flatten)]
    pub server: Server,
    /// Sessions, besides one publisher that sends nothing.
    #[arg(long, default_value_t = 500, value_parser = value_parser!(u16).range(1..=10_000))]
    pub sessions: u16,
    /// Seconds of the measurement.
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
}

/// How frames are cut and timed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VideoPlan {
    /// Bytes of a frame: payloads of its packets.
    pub frame_bytes: u32,
    /// Packets of a frame.
    pub packets: u32,
    /// Time between two frames.
    pub interval: Duration,
    /// Time between two packets of a frame.
    pub gap: Duration,
    /// Ticks of the 90 kHz clock between two frames.
    pub ticks: u32,
    /// Frames from one key frame to the next.
    pub keyframe_frames: u64,
}

/// The least payload: what a stamp needs.
const PAYLOAD_BYTES_MIN: u32 = 48;

/// Received packets a second over all receivers that one thread could never take.
const PACKETS_PER_SECOND_MAX: u64 = 5_000_000;

impl Fanout {
    /// Cuts the frames.
    ///
    /// # Errors
    /// Values that fit their own ranges but not each other.
    pub fn video(&self) -> Result<VideoPlan, String> {
        // Fewer, and a receiver could go half a round of sequence numbers without one: it would lose count.
        if self.verify != 0.0 && !(0.001..=1.0).contains(&self.verify) {
            return Err(format!("--verify {} is neither 0 nor 0.001 to 1", self.verify));
        }
        let frame_bytes = self.rate_bps / 8 / self.frame_rate;
        let packets = frame_bytes.div_ceil(u32::from(self.packet_bytes)).max(1);
        if frame_bytes / packets < PAYLOAD_BYTES_MIN {
            return Err(format!(
                "{} bit/s at {} frames/s leaves {} bytes for a packet; at least {PAYLOAD_BYTES_MIN} are needed",
                self.rate_bps,
                self.frame_rate,
                frame_bytes / packets
            ));
        }
        let interval = Duration::from_secs(1) / self.frame_rate;
        let spread = Duration::from_millis(u64::from(self.spread_ms));
        if spread > interval {
            return Err(format!("--spread-ms {} is longer than a frame", self.spread_ms));
        }
        let rate = u64::from(packets) * u64::from(self.frame_rate) * u64::from(self.receivers);
        if rate > PACKETS_PER_SECOND_MAX {
            return Err(format!("{rate} packets/s are more than {PACKETS_PER_SECOND_MAX}"));
        }
        Ok(VideoPlan {
            frame_bytes,
            packets,
            interval,
            gap: spread / packets,
            ticks: 90_000 / self.frame_rate,
            keyframe_frames: u64::from(self.frame_rate) * 2,
        })
    }
}

impl Server {
    /// The address behind `--target`.
    ///
    /// # Errors
    /// No plain HTTP, no address, or not on loopback.
    pub fn address(&self) -> Result<SocketAddr, String> {
        let target = &self.target;
        let rest = target
            .strip_prefix("http://")
            .ok_or_else(|| format!("--target {target} does not begin with http://"))?;
        let authority = rest.trim_end_matches('/').replace("localhost", "127.0.0.1");
        let address = authority
            .parse::<SocketAddr>()
            .map_err(|_| format!("--target {target} is not http://ADDRESS:PORT"))?;
        if !address.ip().is_loopback() {
            return Err(format!("--target {target} is not on loopback"));
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        fanout: Fanout,
    }

    fn fanout(arguments: &[&str]) -> Fanout {
        let line = ["bench", "--pid", "1"].iter().chain(arguments);
        Line::try_parse_from(line).unwrap_or_else(|e| panic!("{e}")).fanout
    }

    #[test]
    fn the_default_is_six_packets_a_frame() {
        let plan = fanout(&[]).video().unwrap();
        assert_eq!((plan.frame_bytes, plan.packets, plan.ticks), (6_250, 6, 3_000));
        assert_eq!(plan.gap, Duration::from_millis(2));
    }

    #[test]
    fn what_cannot_work_together_is_refused() {
        let too_small = ["--rate-bps", "10000", "--frame-rate", "240"];
        assert!(fanout(&too_small).video().unwrap_err().contains("bytes for a packet"));
        assert!(fanout(&["--spread-ms", "40"]).video().unwrap_err().contains("longer"));
        for share in ["1.5", "0.0001", "NaN"] {
            assert!(fanout(&["--verify", share]).video().unwrap_err().contains("verify"));
        }
        assert!(fanout(&["--verify", "0"]).video().is_ok());
        let many = ["--receivers", "10000", "--rate-bps", "200000000"];
        assert!(fanout(&many).video().unwrap_err().contains("packets/s"));
    }

    #[test]
    fn the_target_is_plain_http_on_loopback() {
        let address = |target: &str| fanout(&["--target", target]).server.address();
        assert_eq!(address("http://localhost:80/").unwrap().to_string(), "127.0.0.1:80");
        for bad in ["https://127.0.0.1:80", "http://192.0.2.1:80", "http://127.0.0.1"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
