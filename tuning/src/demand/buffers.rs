//! Buffers of a shard's sockets.

use super::Sized;
use super::sizing::{group, power_of_two, sized};
use super::traffic::Traffic;

/// What comes to a shard's socket while the shard does not look at it.
pub(super) fn receive_buffer_least(traffic: &Traffic, cores: u128) -> Sized {
    let stalled = |packets: u128| packets * STALL_MS / 1_000;
    let small = stalled(traffic.audio_in + traffic.feedback_in()) + JOIN_SMALL * traffic.sessions;
    let large = stalled(traffic.video_in) + JOIN_LARGE * traffic.sessions;
    let what = "comes to a shard in 0.2 s and in a join storm (6 datagrams a session)";
    buffer_least(small.div_ceil(cores), large.div_ceil(cores), what)
}

/// What a shard sends at once.
pub(super) fn send_buffer_least(traffic: &Traffic, cores: u128) -> Sized {
    let small = (traffic.audio_out / FRAMES).div_ceil(cores);
    let large = (traffic.video_out / FRAMES).div_ceil(cores);
    buffer_least(small, large, "leaves a shard in the time of a frame (1/30 s)")
}

/// A buffer that holds so many datagrams.
fn buffer_least(small: u128, large: u128, what: &str) -> Sized {
    let bytes = (small * SMALL_BOOKED + large * LARGE_BOOKED).div_ceil(2);
    let formula = format!(
        "({} small datagrams × {SMALL_BOOKED} bytes + {} large × {}) / 2, for what {what}; bytes are those that the kernel books, \
         halved, since it doubles what is set",
        group(small),
        group(large),
        group(LARGE_BOOKED),
    );
    sized(bytes.min(BUFFER_MAX.into()), formula)
}

/// The power of two from `least` up, at least the published advice and what the server asks for.
pub(super) fn buffer(least: &Sized, asked: Option<u64>) -> Sized {
    let mut value = power_of_two(least.value.into()).clamp(BUFFER_MIN, BUFFER_MAX);
    let mut what = match value {
        BUFFER_MIN => "16 MiB, the published advice; the load alone needs",
        _ => "the power of two, at most 1 GiB, from what the load needs up,",
    };
    if let Some(asked) = asked.map(|asked| asked.min(BUFFER_MAX)).filter(|&asked| asked > value) {
        value = asked;
        what = "engine.socket_buffer_bytes; the load alone needs";
    }
    sized(value.into(), format!("{what} {}", least.formula))
}

// What the kernel books for a datagram in a socket's buffer: the memory it lies in, not its length.
const SMALL_BOOKED: u128 = 768;
const LARGE_BOOKED: u128 = 2_304;
/// Milliseconds for which a shard may not look at its socket: another thread has its core, or it handles a join storm.
const STALL_MS: u128 = 200;
/// Datagrams that everybody sends when all join at once: checks, and flights of the handshake.
const JOIN_SMALL: u128 = 4;
const JOIN_LARGE: u128 = 2;
/// The published advice, and below nothing is gained: it is only a bound.
const BUFFER_MIN: u64 = 16 << 20;
/// The most that the kernel takes, since it doubles it into 31 bits.
const BUFFER_MAX: u64 = 1 << 30;
/// Frames each second; the packets of one leave at once.
const FRAMES: u128 = 30;
