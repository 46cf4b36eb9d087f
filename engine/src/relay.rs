//! What two shards say to each other about a track that is published on one and received on the other.
//!
//! The home of a track is the shard of its publisher. A shard with subscribers of it, and only then, has the track as well: fed by
//! the home, which sends each packet once, and with legs, history and clocks of its own. So the same track is a subscriber's leg on
//! one side and a publisher's stream on the other.
//!
//! Nothing here depends on both sides being in one process: tracks and calls go by number, clocks as differences, and any message
//! may be lost. Who wants a track says so again and again ([`REFRESH`]), and is forgotten when it does not ([`LEASE`]); whoever asks
//! for a track that has ended is told so each time; packets carry how often the track was unmuted. What is lost of the packets
//! themselves is lost to the subscribers of that shard: the home is not asked for retransmissions.

use std::time::Duration;

use crate::clock::{Instant, NtpTime};
use crate::ids::{CallId, ExtSeqNum, RtpTime, ShardId, TrackId};
use crate::rtp::report::SenderClock;

/// How often a shard says that it wants a track.
pub const REFRESH: Duration = Duration::from_secs(1);

/// How long a track is sent to a shard that does not say so again.
pub const LEASE: Duration = Duration::from_secs(5);

/// Bytes of a message without the packet that it may carry.
pub const HEAD_LEN: usize = 40;

/// A shard that wants a track, as its home knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The shard.
    pub to: ShardId,
    /// When it is forgotten.
    pub until: Instant,
}

/// The other side of the same, as the shard knows it that wants the track.
#[derive(Clone, Copy, Debug)]
pub struct Upstream {
    /// The track's home.
    pub home: ShardId,
    /// How often the track had been unmuted by its latest packet.
    pub resumed: Option<u32>,
    /// Layers that a key frame is to be asked of, one bit each.
    pub layers: u8,
    /// Whether the home is to be told soon that the track is wanted.
    pub is_due: bool,
}

impl Upstream {
    /// Of a track at `home` that nothing came of yet.
    pub fn new(home: ShardId) -> Self {
        Self { home, resumed: None, layers: 0, is_due: false }
    }
}

/// One message, about a track of a call.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// The call. A track of another call is not meant, whatever its number.
    pub call: CallId,
    /// The track.
    pub track: TrackId,
    /// What is said of it.
    pub word: Word,
}

/// What is said of a track.
#[derive(Clone, Copy, Debug)]
pub enum Word {
    /// From home: a plain packet, which follows the message.
    Packet(PacketHead),
    /// From home: the publisher's clock and its latest sender report of a layer.
    Clock {
        /// The layer.
        layer: u8,
        /// The publisher's clock against ours.
        clock: SenderClock,
        /// The report's time on the publisher's clock.
        ntp: NtpTime,
        /// The same moment on the track's.
        rtp: RtpTime,
    },
    /// To the home: the track is wanted, and a key frame of each layer whose bit is set.
    Want {
        /// The layers.
        layers: u8,
    },
    /// To the home: the track is no longer wanted.
    Stop,
    /// From home: there is no such track, or no longer.
    Ended,
}

/// What goes with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketHead {
    /// Which stream of the track it came on.
    pub source: u32,
    /// The simulcast layer of the stream.
    pub layer: u8,
    /// The publisher's packet index.
    pub index: ExtSeqNum,
    /// Clock rate of the payload type in Hz.
    pub clock_rate_hz: u32,
    /// How often the track had been unmuted.
    pub resumed: u32,
}

const PACKET: u8 = 1;
const CLOCK: u8 = 2;
const WANT: u8 = 3;
const STOP: u8 = 4;
const ENDED: u8 = 5;

impl Message {
    /// Writes the message. Layout, little-endian: kind 1, layer 1, nothing 2, `a` 4, call 8, track 8, `b` 8, `c` 8.
    pub fn write(&self) -> [u8; HEAD_LEN] {
        let (kind, layer, a, b, c) = match self.word {
            Word::Packet(head) => {
                let rates = u64::from(head.clock_rate_hz) << 32 | u64::from(head.resumed);
                (PACKET, head.layer, head.source, head.index.0, rates)
            }
            Word::Clock { layer, clock, ntp, rtp } => {
                let offset = clock.offset_nanos().unwrap_or_default();
                (CLOCK, layer, rtp.0, ntp.0, offset as u64)
            }
            Word::Want { layers } => (WANT, layers, 0, 0, 0),
            Word::Stop => (STOP, 0, 0, 0, 0),
            Word::Ended => (ENDED, 0, 0, 0, 0),
        };
        let mut out = [0; HEAD_LEN];
        out[0] = kind;
        out[1] = layer;
        out[4..8].copy_from_slice(&a.to_le_bytes());
        out[8..16].copy_from_slice(&self.call.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.track.0.to_le_bytes());
        out[24..32].copy_from_slice(&b.to_le_bytes());
        out[32..40].copy_from_slice(&c.to_le_bytes());
        out
    }

    /// Reads a message that came at `now`; `None` of an unknown kind.
    pub fn read(now: Instant, head: &[u8; HEAD_LEN]) -> Option<Self> {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let (layer, a, b, c) = (head[1], (number(0) >> 32) as u32, number(24), number(32));
        let word = match head[0] {
            PACKET => Word::Packet(PacketHead {
                source: a,
                layer,
                index: ExtSeqNum(b),
                clock_rate_hz: (c >> 32) as u32,
                resumed: c as u32,
            }),
            CLOCK => Word::Clock {
                layer,
                clock: SenderClock::with_offset(now, c as i64),
                ntp: NtpTime(b),
                rtp: RtpTime(a),
            },
            WANT => Word::Want { layers: layer },
            STOP => Word::Stop,
            ENDED => Word::Ended,
            _ => return None,
        };
        Some(Self { call: CallId(number(8)), track: TrackId(number(16)), word })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossed(word: Word) -> Word {
        let message = Message { call: CallId(7), track: TrackId(u64::MAX - 1), word };
        let read = Message::read(Instant::default(), &message.write()).expect("a known kind");
        assert_eq!((read.call, read.track), (message.call, message.track));
        read.word
    }

    #[test]
    fn a_packets_numbers_cross() {
        let head = PacketHead {
            source: u32::MAX,
            layer: 2,
            index: ExtSeqNum(1 << 47 | 3),
            clock_rate_hz: 90_000,
            resumed: u32::MAX - 1,
        };
        assert!(matches!(crossed(Word::Packet(head)), Word::Packet(read) if read == head));
    }

    #[test]
    fn a_clock_means_the_same_on_the_other_side() {
        for offset in [-5_000_000_000_i64, 0, 1, i64::MAX] {
            let clock = SenderClock::with_offset(Instant::default(), offset);
            let said = Word::Clock { layer: 1, clock, ntp: NtpTime(9 << 32), rtp: RtpTime(77) };
            let Word::Clock { layer, clock, ntp, rtp } = crossed(said) else {
                panic!("another word")
            };
            assert_eq!((layer, ntp, rtp), (1, NtpTime(9 << 32), RtpTime(77)));
            assert_eq!(clock.offset_nanos(), Some(offset));
        }
    }

    #[test]
    fn wishes_and_ends_cross_and_other_kinds_are_not_read() {
        assert!(matches!(crossed(Word::Want { layers: 0b101 }), Word::Want { layers: 0b101 }));
        assert!(matches!(crossed(Word::Stop), Word::Stop));
        assert!(matches!(crossed(Word::Ended), Word::Ended));
        for kind in [0, ENDED + 1, u8::MAX] {
            let mut head = [0; HEAD_LEN];
            head[0] = kind;
            assert!(Message::read(Instant::default(), &head).is_none(), "kind {kind}");
        }
    }
}
