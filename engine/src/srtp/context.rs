//! Opening and sealing of packets: packet index, replay list, layout. Source: RFC 3711 §3.3, §3.4; RFC 7714 §8, §9.

use super::aes_cm::{self, AesCm};
use super::aes_gcm::AesGcm;
use super::kdf::{self, Purpose};
use super::{MasterKey, Profile, SrtpError};
use crate::ids::{ExtSeqNum, SeqNum, Ssrc};

/// Bytes of the word that SRTCP adds: E flag and index.
pub(super) const RTCP_WORD_LEN: usize = 4;
/// Bytes of an RTP header without CSRCs and extension.
const RTP_HEADER_LEN: usize = 12;
/// Bytes of an RTCP packet that stay in clear: the first header and the sender's SSRC.
const RTCP_CLEAR_LEN: usize = 8;
/// The E flag: the packet is encrypted.
const RTCP_ENCRYPTED: u32 = 1 << 31;
/// One above the last index that a key may protect. Source: RFC 3711 §9.2.
const RTP_INDEX_END: u64 = 1 << 48;
/// Words of the RTP replay list. 1024 packets: retransmission and 100 ms of reordering at 2000 packets a second need more
/// than 200, and an authentic packet must never be refused.
const RTP_WINDOW_WORDS: usize = 16;
/// Words of an SRTCP replay list: 256 packets, several seconds of the densest feedback.
const RTCP_WINDOW_WORDS: usize = 4;
/// Senders whose SRTCP indices are remembered. The least recently heard makes room for one more.
const RTCP_SOURCES_MAX: usize = 32;

/// Which indices were seen: the highest, and one bit for each of the `64 * WORDS` up to it. Source: RFC 3711 §3.3.2.
#[derive(Clone, Debug)]
pub struct ReplayWindow<const WORDS: usize> {
    /// One above the highest index that was seen; zero when none was.
    end: u64,
    /// Bit `index % (64 * WORDS)` is set when that index was seen.
    seen: [u64; WORDS],
}

impl<const WORDS: usize> ReplayWindow<WORDS> {
    const SIZE: u64 = 64 * WORDS as u64;

    /// A window that has seen nothing.
    pub const fn new() -> Self {
        Self { end: 0, seen: [0; WORDS] }
    }

    /// The highest index that was seen.
    pub fn highest(&self) -> Option<u64> {
        self.end.checked_sub(1)
    }

    /// Whether `index` may still come: it is above the window, or inside and was not seen.
    pub fn admits(&self, index: u64) -> bool {
        if index >= self.end {
            return true;
        }
        let (word, bit) = Self::place(index);
        self.end - index <= Self::SIZE && self.seen[word] & bit == 0
    }

    /// Notes that `index` was seen; the window moves up to it when it is the highest.
    pub fn note(&mut self, index: u64) {
        if index >= self.end {
            let skipped = index - self.end;
            if skipped >= Self::SIZE {
                self.seen = [0; WORDS];
            } else {
                // The places of the indices that come in were those of indices that go out.
                for fresh in self.end..index {
                    let (word, bit) = Self::place(fresh);
                    self.seen[word] &= !bit;
                }
            }
            self.end = index + 1;
        } else if self.end - index > Self::SIZE {
            return;
        }
        let (word, bit) = Self::place(index);
        self.seen[word] |= bit;
    }

    fn place(index: u64) -> (usize, u64) {
        let place = index % Self::SIZE;
        ((place / 64) as usize, 1 << (place % 64))
    }
}

impl<const WORDS: usize> Default for ReplayWindow<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

/// The receive state of one SSRC: highest index and replay list of 1024 packets.
///
/// The owner of a stream keeps it; a packet of an unknown SSRC is tried with a fresh one that is kept only when it opens.
#[derive(Clone, Debug, Default)]
pub struct PacketIndex {
    window: ReplayWindow<RTP_WINDOW_WORDS>,
}

impl PacketIndex {
    /// The state before the first packet: the roll-over counter is zero. Source: RFC 3711 §3.3.1.
    pub const fn new() -> Self {
        Self { window: ReplayWindow::new() }
    }

    /// The highest index that was received and authenticated.
    pub fn highest(&self) -> Option<ExtSeqNum> {
        self.window.highest().map(ExtSeqNum)
    }

    /// The index that a packet with this sequence number probably has.
    ///
    /// The first packet is taken to be in cycle zero. So a sender that starts right below 65536 and whose packets before the
    /// wrap are all lost is not understood; senders start in the lower half for that reason.
    /// Source: RFC 3711 §3.3.1 and appendix A.
    fn guess(&self, seq: SeqNum) -> ExtSeqNum {
        let Some(highest) = self.highest() else { return ExtSeqNum(u64::from(seq.0)) };
        // At a distance of exactly half the range the appendix stays in the cycle.
        if seq.0 ^ highest.seq().0 == 0x8000 {
            return ExtSeqNum(highest.0 ^ 0x8000);
        }
        ExtSeqNum::nearest(seq, highest)
    }
}

/// A packet that was authentic: its index, and where its plain bytes end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The extended sequence number.
    pub index: ExtSeqNum,
    /// Header and payload, bytes.
    pub len: usize,
}

/// The session keys of one direction.
enum Keys {
    /// Boxed: two key schedules and two HMAC states take more than a kilobyte.
    Cm(Box<Pair<AesCm>>),
    Gcm(Pair<AesGcm>),
}

struct Pair<K> {
    rtp: K,
    rtcp: K,
}

impl Keys {
    fn derive(profile: Profile, master: &MasterKey) -> Self {
        assert!(master.profile == profile, "a master key is used with the profile it was made for");
        match profile {
            Profile::Aes128CmHmacSha1_80 => Self::Cm(Box::new(Pair {
                rtp: kdf::aes_cm(master, Purpose::Rtp),
                rtcp: kdf::aes_cm(master, Purpose::Rtcp),
            })),
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => Self::Gcm(Pair {
                rtp: kdf::aes_gcm(master, Purpose::Rtp),
                rtcp: kdf::aes_gcm(master, Purpose::Rtcp),
            }),
        }
    }
}

/// Opens what the peer protected. No call allocates but the one that meets another sender of RTCP.
pub struct InboundSrtp {
    profile: Profile,
    keys: Keys,
    rtcp_sources: RtcpSources,
}

impl InboundSrtp {
    /// Derives the session keys from the peer's master key.
    ///
    /// # Panics
    /// When `master` was made for another profile.
    pub fn new(profile: Profile, master: &MasterKey) -> Self {
        Self { profile, keys: Keys::derive(profile, master), rtcp_sources: RtcpSources::new() }
    }

    /// Decrypts one SRTP packet in place.
    ///
    /// `packet` is header, payload and tag as received; `header_len` covers CSRCs and header extension. `state` is that of the
    /// packet's SSRC. On error the bytes are undefined and must be dropped; `state` moves only when the tag is right.
    /// # Errors
    /// `Replayed` when the index was seen or is too old, `BadTag` when authentication fails, `Short` below header and tag,
    /// `Exhausted` when the index would pass 2^48.
    /// Source: RFC 3711 §3.3, RFC 7714 §8.
    pub fn open_rtp(
        &mut self,
        state: &mut PacketIndex,
        packet: &mut [u8],
        header_len: usize,
    ) -> Result<Opened, SrtpError> {
        let len = packet.len().checked_sub(self.profile.rtp_overhead()).ok_or(SrtpError::Short)?;
        if header_len < RTP_HEADER_LEN || header_len > len {
            return Err(SrtpError::Short);
        }
        let (seq, ssrc) = rtp_names(packet);
        let index = state.guess(seq);
        if index.0 >= RTP_INDEX_END {
            return Err(SrtpError::Exhausted);
        }
        if !state.window.admits(index.0) {
            return Err(SrtpError::Replayed);
        }
        let authentic = match &self.keys {
            Keys::Gcm(Pair { rtp, .. }) => {
                let (header, data) = packet.split_at_mut(header_len);
                rtp.open(rtp.rtp_iv(ssrc, index.0), header, data)
            }
            Keys::Cm(pair) => {
                let rtp = &pair.rtp;
                let (plain, tag) = packet.split_at_mut(len);
                let authentic = verify_cm(rtp, plain, &index.roc().to_be_bytes(), tag);
                if authentic {
                    rtp.apply(ssrc, index.0, &mut plain[header_len..]);
                }
                authentic
            }
        };
        if !authentic {
            return Err(SrtpError::BadTag);
        }
        state.window.note(index.0);
        Ok(Opened { index, len })
    }

    /// Decrypts one SRTCP packet in place and returns the length of the plain compound packet.
    ///
    /// `packet` is as received: in the counter-mode profile the word with E flag and index comes before the tag, in GCM after
    /// it. A packet that is authenticated but not encrypted is accepted. On error the bytes are undefined and must be dropped;
    /// the sender's replay list moves only when the tag is right.
    /// # Errors
    /// `Replayed`, `BadTag` and `Short` as for RTP.
    /// Source: RFC 3711 §3.4, RFC 7714 §9.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let len = packet.len().checked_sub(self.profile.rtcp_overhead()).ok_or(SrtpError::Short)?;
        if len < RTCP_CLEAR_LEN {
            return Err(SrtpError::Short);
        }
        let word_at = match &self.keys {
            Keys::Cm(_) => len,
            Keys::Gcm(_) => packet.len() - RTCP_WORD_LEN,
        };
        let word = four_bytes(packet, word_at);
        let (index, encrypted) = (word & !RTCP_ENCRYPTED, word & RTCP_ENCRYPTED != 0);
        let ssrc = four_bytes(packet, 4).to_be_bytes();
        let source = Ssrc(u32::from_be_bytes(ssrc));
        if !self.rtcp_sources.admits(source, index) {
            return Err(SrtpError::Replayed);
        }
        let authentic = match &self.keys {
            Keys::Gcm(Pair { rtcp, .. }) => {
                let iv = rtcp.rtcp_iv(ssrc, index);
                if encrypted {
                    let associated = rtcp_associated(packet, word);
                    rtcp.open(iv, &associated, &mut packet[RTCP_CLEAR_LEN..word_at])
                } else {
                    // All is associated data, the word after the packet included: it changes places with the tag.
                    packet[len..].rotate_right(RTCP_WORD_LEN);
                    let (associated, tag) = packet.split_at_mut(len + RTCP_WORD_LEN);
                    rtcp.open(iv, associated, tag)
                }
            }
            Keys::Cm(pair) => {
                let rtcp = &pair.rtcp;
                let (bytes, tag) = packet.split_at_mut(len + RTCP_WORD_LEN);
                let authentic = verify_cm(rtcp, bytes, &[], tag);
                if authentic && encrypted {
                    rtcp.apply(ssrc, u64::from(index), &mut bytes[RTCP_CLEAR_LEN..len]);
                }
                authentic
            }
        };
        if !authentic {
            return Err(SrtpError::BadTag);
        }
        self.rtcp_sources.note(source, index);
        Ok(len)
    }
}

/// Protects what we send. No call allocates.
///
/// The caller gives every (SSRC, index) to it once at most: a second packet under the same numbers would give the key away.
/// Source: RFC 7714 §8.4.
pub struct OutboundSrtp {
    profile: Profile,
    keys: Keys,
    /// The next SRTCP index. One counter serves all our SSRCs, so that none can meet another's.
    rtcp_index: u32,
}

impl OutboundSrtp {
    /// Derives the session keys from our master key.
    ///
    /// # Panics
    /// When `master` was made for another profile.
    pub fn new(profile: Profile, master: &MasterKey) -> Self {
        Self { profile, keys: Keys::derive(profile, master), rtcp_index: 0 }
    }

    /// The profile whose overhead packets need room for.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Encrypts one RTP packet in place and returns its protected length.
    ///
    /// `packet` is header and payload, `len` bytes together, then at least [`Profile::rtp_overhead`] bytes of room; `header_len`
    /// covers CSRCs and header extension. The low bits of `index` are the sequence number in the header. `None`, with the packet
    /// unchanged, when a length does not fit or the index would pass 2^48. Source: RFC 3711 §3.3, RFC 7714 §8.
    pub fn seal_rtp(
        &mut self,
        index: ExtSeqNum,
        packet: &mut [u8],
        header_len: usize,
        len: usize,
    ) -> Option<usize> {
        let end = len.checked_add(self.profile.rtp_overhead())?;
        if header_len < RTP_HEADER_LEN || header_len > len || end > packet.len() {
            return None;
        }
        if index.0 >= RTP_INDEX_END {
            return None;
        }
        let (seq, ssrc) = rtp_names(packet);
        debug_assert!(seq == index.seq(), "the index belongs to the packet");
        let (plain, room) = packet[..end].split_at_mut(len);
        match &self.keys {
            Keys::Gcm(Pair { rtp, .. }) => {
                let (header, payload) = plain.split_at_mut(header_len);
                let tag = rtp.seal(rtp.rtp_iv(ssrc, index.0), header, payload)?;
                room.copy_from_slice(&tag);
            }
            Keys::Cm(pair) => {
                let rtp = &pair.rtp;
                rtp.apply(ssrc, index.0, &mut plain[header_len..]);
                room.copy_from_slice(&rtp.tag(plain, &index.roc().to_be_bytes()));
            }
        }
        Some(end)
    }

    /// Encrypts one compound RTCP packet in place and returns its protected length.
    ///
    /// `packet` is `len` plain bytes, then at least [`Profile::rtcp_overhead`] bytes of room. `None` when a length does not fit, or
    /// when the 31 bits of the index are used up: it never starts again. Source: RFC 3711 §3.4, §9.2; RFC 7714 §9.
    pub fn seal_rtcp(&mut self, packet: &mut [u8], len: usize) -> Option<usize> {
        let end = len.checked_add(self.profile.rtcp_overhead())?;
        if len < RTCP_CLEAR_LEN || end > packet.len() || self.rtcp_index >= RTCP_ENCRYPTED {
            return None;
        }
        let index = self.rtcp_index;
        self.rtcp_index += 1;
        let word = index | RTCP_ENCRYPTED;
        let ssrc = four_bytes(packet, 4).to_be_bytes();
        let associated = rtcp_associated(packet, word);
        let (plain, room) = packet[..end].split_at_mut(len);
        match &self.keys {
            Keys::Gcm(Pair { rtcp, .. }) => {
                let data = &mut plain[RTCP_CLEAR_LEN..];
                let tag = rtcp.seal(rtcp.rtcp_iv(ssrc, index), &associated, data)?;
                room[..tag.len()].copy_from_slice(&tag);
                room[tag.len()..].copy_from_slice(&word.to_be_bytes());
            }
            Keys::Cm(pair) => {
                let rtcp = &pair.rtcp;
                rtcp.apply(ssrc, u64::from(index), &mut plain[RTCP_CLEAR_LEN..]);
                room[..RTCP_WORD_LEN].copy_from_slice(&word.to_be_bytes());
                let (bytes, room) = packet[..end].split_at_mut(len + RTCP_WORD_LEN);
                room.copy_from_slice(&rtcp.tag(bytes, &[]));
            }
        }
        Some(end)
    }
}

/// Replay lists of SRTCP, one for each sender's SSRC: peers count their SRTCP indices per SSRC.
struct RtcpSources {
    sources: Vec<RtcpSource>,
    /// Counts authentic packets, to find the least recently heard sender.
    clock: u64,
}

struct RtcpSource {
    ssrc: Ssrc,
    heard: u64,
    window: ReplayWindow<RTCP_WINDOW_WORDS>,
}

impl RtcpSources {
    fn new() -> Self {
        Self { sources: Vec::new(), clock: 0 }
    }

    fn admits(&self, ssrc: Ssrc, index: u32) -> bool {
        let source = self.sources.iter().find(|source| source.ssrc == ssrc);
        source.is_none_or(|source| source.window.admits(u64::from(index)))
    }

    /// Notes an authentic packet. Only the peer itself can push out a sender, and only by more senders of its own.
    fn note(&mut self, ssrc: Ssrc, index: u32) {
        self.clock += 1;
        let heard = self.clock;
        if let Some(source) = self.sources.iter_mut().find(|source| source.ssrc == ssrc) {
            source.heard = heard;
            source.window.note(u64::from(index));
            return;
        }
        if self.sources.len() == RTCP_SOURCES_MAX {
            let oldest = (0..RTCP_SOURCES_MAX).min_by_key(|&at| self.sources[at].heard);
            self.sources.swap_remove(oldest.unwrap_or(0));
        }
        let mut window = ReplayWindow::new();
        window.note(u64::from(index));
        // Most peers have one or two; doubling would take room for four.
        self.sources.reserve_exact(1);
        self.sources.push(RtcpSource { ssrc, heard, window });
    }
}

/// Sequence number and SSRC of a packet of at least twelve bytes.
fn rtp_names(packet: &[u8]) -> (SeqNum, [u8; 4]) {
    (SeqNum(u16::from_be_bytes([packet[2], packet[3]])), four_bytes(packet, 8).to_be_bytes())
}

/// The number in the four bytes at `at`, which the caller knows to be there.
fn four_bytes(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

/// Associated data of an encrypted SRTCP packet under GCM: the clear header and the word. Source: RFC 7714 §9.2.
fn rtcp_associated(packet: &[u8], word: u32) -> [u8; RTCP_CLEAR_LEN + RTCP_WORD_LEN] {
    let mut associated = [0; RTCP_CLEAR_LEN + RTCP_WORD_LEN];
    associated[..RTCP_CLEAR_LEN].copy_from_slice(&packet[..RTCP_CLEAR_LEN]);
    associated[RTCP_CLEAR_LEN..].copy_from_slice(&word.to_be_bytes());
    associated
}

fn verify_cm(keys: &AesCm, bytes: &[u8], trailer: &[u8], tag: &[u8]) -> bool {
    <&[u8; aes_cm::TAG_LEN]>::try_from(tag).is_ok_and(|tag| keys.verify(bytes, trailer, tag))
}

#[cfg(test)]
mod tests;
