//! The names of things, as `Copy` newtypes: no bare integer crosses a module.

use std::fmt;

/// Index of a shard, one per configured core. Bounds: below [`ShardId::MAX_SHARDS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The most shards one process can have: the shard is written into two characters of the ICE ufrag.
    pub const MAX_SHARDS: u16 = 1024;

    /// Position in a list of shards.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A call, numbered by the control plane; never used again within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// A session (one peer's connection), numbered by the control plane; never used again within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// What one session publishes as one m= section, numbered by the control plane; never used again within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TrackId(pub u64);

/// A track to one subscriber, numbered by the control plane; never used again within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LegId(pub u64);

/// In which of a shard's tallies a track is counted, numbered by the control plane. 0 for tracks that nobody tells apart.
/// Bounds: below [`TallyId::MAX_TALLIES`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TallyId(pub u16);

impl TallyId {
    /// The most tallies a shard keeps, about 200 bytes each.
    pub const MAX_TALLIES: usize = 2_048;

    /// Position in a list of tallies.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A data channel of one session: its SCTP stream. Source: RFC 8831 §6.4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChannelId(pub u16);

/// Where a shard keeps a session: slot and generation, so that a stale key misses instead of hitting a stranger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionKey {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Where a shard keeps a track, likewise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TrackKey {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Synchronisation source of an RTP stream. Source: RFC 3550 §3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ssrc(pub u32);

/// RTP payload type, 0 to 127. Source: RFC 3550 §5.1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PayloadType(pub u8);

/// RTP timestamp in units of the stream's clock rate; wraps. Source: RFC 3550 §5.1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct RtpTime(pub u32);

impl RtpTime {
    /// This time moved by `ticks`, wrapping.
    pub fn wrapping_add(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// Signed distance from `earlier` to `self` in ticks, right for distances below 2^31.
    pub fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

/// RTP sequence number as on the wire: 16 bits, wrapping. Source: RFC 3550 §5.1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SeqNum(pub u16);

/// RTP sequence number with its roll-over count: ROC × 2^16 + SEQ, the SRTP packet index. Never wraps in practice (48 bits).
/// Source: RFC 3711 §3.3.1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ExtSeqNum(pub u64);

impl ExtSeqNum {
    /// The sixteen bits that go on the wire.
    pub fn seq(self) -> SeqNum {
        SeqNum(self.0 as u16)
    }

    /// The roll-over counter.
    pub fn roc(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The extended number nearest to `reference` whose low bits are `seq`; never negative.
    ///
    /// Source: RFC 3711 §3.3.1 and appendix A (the index guess).
    pub fn nearest(seq: SeqNum, reference: Self) -> Self {
        let ahead = seq.0.wrapping_sub(reference.0 as u16) as i16;
        match reference.0.checked_add_signed(i64::from(ahead)) {
            Some(guess) => Self(guess),
            // Below zero: the packet belongs to the first cycle, ahead of the reference.
            None => Self(u64::from(seq.0)),
        }
    }
}

macro_rules! short_names {
    ($($(#[$doc:meta])* $name:ident: $is_allowed:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// Sixteen bytes is the most that a one-byte header extension carries (RFC 8285 §4.2).
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name {
            len: u8,
            bytes: [u8; 16],
        }

        impl $name {
            /// Makes it from its text; `None` when empty, longer than 16 bytes or of other characters.
            pub fn new(text: &str) -> Option<Self> {
                Self::from_bytes(text.as_bytes())
            }

            /// As `new`, from the bytes of a header extension element.
            pub fn from_bytes(text: &[u8]) -> Option<Self> {
                if text.is_empty() || text.len() > 16 || !text.iter().all($is_allowed) {
                    return None;
                }
                let mut bytes = [0; 16];
                bytes[..text.len()].copy_from_slice(text);
                Some(Self { len: text.len() as u8, bytes })
            }

            /// The bytes as they go into a header extension element.
            pub fn as_bytes(&self) -> &[u8] {
                &self.bytes[..usize::from(self.len)]
            }

            /// The text as it stands in a description.
            pub fn as_str(&self) -> &str {
                // Only ASCII gets in.
                std::str::from_utf8(self.as_bytes()).unwrap_or("")
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.as_str())
            }
        }
    )*};
}

short_names! {
    /// Media identification tag of an m= section: 1 to 16 token characters. Source: RFC 9143 §9 and §15, RFC 8866 §9.
    Mid: |b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(b);
    /// Name of a simulcast layer within its m= section: 1 to 16 letters, digits, `-` or `_`. Source: RFC 8851 §10, RFC 8852 §3.
    Rid: |b| b.is_ascii_alphanumeric() || b"-_".contains(b);
}

macro_rules! display_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

display_as_number!(
    ShardId,
    CallId,
    SessionId,
    TrackId,
    LegId,
    ChannelId,
    Ssrc,
    PayloadType,
    SeqNum,
    ExtSeqNum
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_follows_the_wrap_in_both_directions() {
        let at = |roc: u64, seq: u16| ExtSeqNum(roc << 16 | u64::from(seq));
        assert_eq!(ExtSeqNum::nearest(SeqNum(2), at(0, 65_535)), at(1, 2));
        assert_eq!(ExtSeqNum::nearest(SeqNum(65_535), at(1, 2)), at(0, 65_535));
        assert_eq!(ExtSeqNum::nearest(SeqNum(100), at(7, 90)), at(7, 100));
    }

    #[test]
    fn nearest_never_goes_below_zero() {
        assert_eq!(ExtSeqNum::nearest(SeqNum(65_535), ExtSeqNum(2)), ExtSeqNum(65_535));
    }

    #[test]
    fn mid_takes_tokens_of_one_to_sixteen_bytes() {
        assert_eq!(Mid::new("audio-0").map(|m| m.as_str().to_owned()), Some("audio-0".to_owned()));
        assert!(Mid::new("").is_none());
        assert!(Mid::new("12345678901234567").is_none());
        assert!(Mid::new("a b").is_none());
    }
}
