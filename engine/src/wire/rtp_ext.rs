//! RTP header extensions: which ones we know, and the one- and two-byte forms. Source: RFC 8285 §4.2, §4.3.

use super::cursor::Reader;

macro_rules! extensions {
    ($($(#[$doc:meta])* $name:ident => $uri:literal, $forwarded:literal;)*) => {
        /// A header extension that Sluice knows by its URI.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Extension { $($(#[$doc])* $name,)* }

        impl Extension {
            /// All known extensions.
            pub const ALL: &'static [Extension] = &[$(Extension::$name,)*];

            /// The URI as it stands in `a=extmap`.
            pub fn uri(self) -> &'static str {
                match self { $(Extension::$name => $uri,)* }
            }

            /// Whether its element goes from publisher to subscriber with another id and nothing else changed.
            /// The rest is hop by hop: written anew for each leg, or dropped.
            pub fn is_forwarded(self) -> bool {
                match self { $(Extension::$name => $forwarded,)* }
            }
        }
    };
}

extensions! {
    /// Which m= section a packet belongs to. Source: RFC 9143 §15.
    Mid => "urn:ietf:params:rtp-hdrext:sdes:mid", false;
    /// Loudness of the sender's audio. Source: RFC 6464.
    AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level", true;
    /// Transport-wide sequence number. Source: draft-holmer-rmcat-transport-wide-cc-extensions-01.
    TransportCc => "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", false;
    /// Send time of one hop, 6.18 fixed point seconds.
    AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", false;
    /// Capture time on the publisher's clock.
    AbsCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time", true;
    /// Rotation of video. Source: 3GPP TS 26.114.
    VideoOrientation => "urn:3gpp:video-orientation", true;
    /// Whether video is a screen.
    VideoContentType => "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type", true;
    /// Bounds for the receiver's playout delay.
    PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay", true;
    /// Colour space of video.
    ColorSpace => "http://www.webrtc.org/experiments/rtp-hdrext/color-space", true;
    /// AV1 dependency descriptor.
    DependencyDescriptor => "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension", true;
    /// Simulcast stream id. Source: RFC 8852.
    Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", false;
    /// Simulcast stream id of what a retransmission repairs. Source: RFC 8852.
    RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id", false;
}

impl Extension {
    /// Whether a value of `len` bytes can be one of this extension. What cannot is not passed on: receivers may trust it.
    pub fn admits_len(self, len: usize) -> bool {
        match self {
            Self::AudioLevel | Self::VideoOrientation | Self::VideoContentType => len == 1,
            Self::TransportCc => matches!(len, 2 | 4),
            Self::AbsSendTime | Self::PlayoutDelay => len == 3,
            Self::AbsCaptureTime => matches!(len, 8 | 16),
            Self::ColorSpace => matches!(len, 4 | 28),
            // Its mandatory fields alone take three bytes.
            Self::DependencyDescriptor => len >= 3,
            Self::Mid | Self::Rid | Self::RepairedRid => len > 0,
        }
    }
}

/// The ids negotiated for each known extension with one peer in one m= section.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExtensionMap {
    ids: [u8; Extension::ALL.len()], // 0: not negotiated
}

impl ExtensionMap {
    /// Binds `extension` to `id`. Ids are 1 to 14 (one-byte form) or to 255 (two-byte form); 0 and 15 unbind.
    pub fn set(&mut self, extension: Extension, id: u8) {
        self.ids[extension as usize] = if id == 15 { 0 } else { id };
    }

    /// The id of `extension`, if negotiated.
    pub fn id(&self, extension: Extension) -> Option<u8> {
        match self.ids[extension as usize] {
            0 => None,
            id => Some(id),
        }
    }

    /// The extension that `id` means here, if any.
    pub fn extension(&self, id: u8) -> Option<Extension> {
        if id == 0 {
            return None;
        }
        Extension::ALL.iter().copied().find(|&e| self.ids[e as usize] == id)
    }
}

/// Walks the elements of an extension block, `block` being its data without the four bytes in front.
///
/// Any other `profile` than the one-byte (0xBEDE) and two-byte (0x1000 to 0x100F) forms has no elements.
/// Source: RFC 8285 §4.2, §4.3.
pub fn elements(profile: u16, block: &[u8]) -> Elements<'_> {
    let form = match profile {
        PROFILE_ONE_BYTE => Form::OneByte,
        PROFILE_TWO_BYTE_MIN..=PROFILE_TWO_BYTE_MAX => Form::TwoByte,
        _ => Form::Unknown,
    };
    Elements { form, rest: Reader::new(block) }
}

/// Elements of a block: id and value. Ends at a truncated element, and where the standard says to stop.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    form: Form,
    rest: Reader<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    OneByte,
    TwoByte,
    Unknown,
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let element = self.element();
        if element.is_none() {
            self.form = Form::Unknown; // stays at the end
        }
        element
    }
}

impl<'a> Elements<'a> {
    fn element(&mut self) -> Option<(u8, &'a [u8])> {
        loop {
            let first = match self.form {
                Form::Unknown => return None,
                Form::OneByte | Form::TwoByte => self.rest.u8()?,
            };
            if first == 0 {
                continue; // padding
            }
            let (id, len) = match self.form {
                Form::OneByte => (first >> 4, usize::from(first & 0x0F) + 1),
                _ => (first, usize::from(self.rest.u8()?)),
            };
            // In the one-byte form, 15 and a zero that claims a length end the block (RFC 8285 §4.2).
            if self.form == Form::OneByte && matches!(id, 0 | 15) {
                return None;
            }
            return Some((id, self.rest.bytes(len)?));
        }
    }
}

/// Whether the one-byte form cannot carry an element of `id` with `len` bytes.
/// Source: RFC 8285 §4.2: ids 1 to 14, 1 to 16 bytes.
pub fn needs_two_byte(id: u8, len: usize) -> bool {
    !(1..=14).contains(&id) || !(1..=16).contains(&len)
}

/// Writes one extension block, its four bytes in front included. Source: RFC 8285 §4.2, §4.3.
#[derive(Debug)]
pub struct ExtensionWriter<'o> {
    out: &'o mut [u8],
    two_byte: bool,
    /// Bytes of elements behind the block header, without padding.
    data_len: usize,
}

impl<'o> ExtensionWriter<'o> {
    /// Writes to the front of `out`, in the two-byte form if so wished.
    pub fn new(out: &'o mut [u8], two_byte: bool) -> Self {
        Self { out, two_byte, data_len: 0 }
    }

    /// Appends an element. Returns `false`, and leaves the block as it was, when the form cannot carry it
    /// (see [`needs_two_byte`]; the two-byte form takes ids from 1 and up to 255 bytes) or `out` is too small.
    pub fn push(&mut self, id: u8, value: &[u8]) -> bool {
        self.try_push(id, value).is_some()
    }

    fn try_push(&mut self, id: u8, value: &[u8]) -> Option<()> {
        let len = u8::try_from(value.len()).ok()?;
        let at = BLOCK_HEADER_LEN + self.data_len;
        let head_len = if self.two_byte { 2 } else { 1 };
        let end = at + head_len + value.len();
        // Padding must fit as well, so that finish cannot fail.
        if end.next_multiple_of(4) > self.out.len().min(BLOCK_LEN_MAX) {
            return None;
        }
        let (head, body) = self.out.get_mut(at..end)?.split_at_mut_checked(head_len)?;
        match head {
            [head] if !needs_two_byte(id, value.len()) => *head = id << 4 | (len - 1),
            [head_id, head_len] if id != 0 => (*head_id, *head_len) = (id, len),
            _ => return None,
        }
        body.copy_from_slice(value);
        self.data_len = end - BLOCK_HEADER_LEN;
        Some(())
    }

    /// Bytes from the start of the block to the end of its last element.
    pub fn written(&self) -> usize {
        BLOCK_HEADER_LEN + self.data_len
    }

    /// Writes the block header and the padding; returns the length of the block, a multiple of four.
    /// Without elements it writes nothing and returns 0.
    pub fn finish(self) -> usize {
        if self.data_len == 0 {
            return 0;
        }
        let padded_len = self.data_len.next_multiple_of(4);
        let profile = if self.two_byte { PROFILE_TWO_BYTE_MIN } else { PROFILE_ONE_BYTE };
        let [p0, p1] = profile.to_be_bytes();
        let [w0, w1] = ((padded_len / 4) as u16).to_be_bytes(); // fits: push keeps BLOCK_LEN_MAX
        let block = self.out.get_mut(..BLOCK_HEADER_LEN + padded_len).unwrap_or_default();
        if let Some((head, data)) = block.split_first_chunk_mut::<BLOCK_HEADER_LEN>() {
            *head = [p0, p1, w0, w1];
            data.get_mut(self.data_len..).unwrap_or_default().fill(0);
        }
        block.len()
    }
}

const PROFILE_ONE_BYTE: u16 = 0xBEDE;
const PROFILE_TWO_BYTE_MIN: u16 = 0x1000;
/// The low four bits of the two-byte profile are the application's.
const PROFILE_TWO_BYTE_MAX: u16 = 0x100F;
const BLOCK_HEADER_LEN: usize = 4;
/// The length of a block is counted in 16 bits of words.
const BLOCK_LEN_MAX: usize = BLOCK_HEADER_LEN + 4 * 0xFFFF;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(profile: u16, block: &[u8]) -> Vec<(u8, Vec<u8>)> {
        elements(profile, block).map(|(id, value)| (id, value.to_vec())).collect()
    }

    /// What a written block says when read back.
    fn read_block(block: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let words = usize::from(u16::from_be_bytes([block[2], block[3]]));
        assert_eq!(block.len(), 4 + 4 * words);
        read(u16::from_be_bytes([block[0], block[1]]), &block[4..])
    }

    #[test]
    fn one_byte_elements_stand_between_padding() {
        let block = [0, 0x10, 0xAA, 0, 0, 0x31, 0xBB, 0xCC, 0];
        assert_eq!(read(0xBEDE, &block), [(1, vec![0xAA]), (3, vec![0xBB, 0xCC])]);
    }

    #[test]
    fn two_byte_elements_may_be_empty_and_have_any_id() {
        let block = [1, 0, 0, 15, 1, 0xAA, 255, 2, 0xBB, 0xCC, 0];
        for profile in 0x1000..=0x100F {
            assert_eq!(
                read(profile, &block),
                [(1, vec![]), (15, vec![0xAA]), (255, vec![0xBB, 0xCC])]
            );
        }
    }

    #[test]
    fn one_byte_form_stops_at_id_fifteen_and_at_a_zero_with_length() {
        assert_eq!(read(0xBEDE, &[0x10, 1, 0xF0, 2, 0x20, 3]), [(1, vec![1])]);
        assert_eq!(read(0xBEDE, &[0x10, 1, 0x01, 2, 2, 0x20, 3]), [(1, vec![1])]);
    }

    #[test]
    fn truncated_elements_stop_the_walk_for_good() {
        let mut one = elements(0xBEDE, &[0x10, 1, 0x2F, 0x30, 9]);
        assert_eq!(one.next(), Some((1, &[1][..])));
        assert_eq!(one.next(), None);
        assert_eq!(one.next(), None, "the bytes of a broken element are not read as elements");
        assert_eq!(read(0x1000, &[1, 1, 7, 2, 3, 0, 0]), [(1, vec![7])]);
        assert_eq!(read(0x1000, &[2]), []);
    }

    #[test]
    fn other_profiles_have_no_elements() {
        for profile in [0, 0x0FFF, 0x1010, 0xBEDD, 0xFFFF] {
            assert_eq!(read(profile, &[0x10, 1, 0x10, 1]), []);
        }
    }

    #[test]
    fn written_blocks_read_back() {
        for two_byte in [false, true] {
            let mut out = [0xEE; 64];
            let mut writer = ExtensionWriter::new(&mut out, two_byte);
            assert!(writer.push(1, b"0"));
            assert!(writer.push(14, &[7; 16]));
            assert!(writer.push(5, &[1, 2, 3]));
            let len = writer.finish();
            let expected = [(1, b"0".to_vec()), (14, vec![7; 16]), (5, vec![1, 2, 3])];
            assert_eq!(read_block(&out[..len]), expected);
            assert_eq!(out[len], 0xEE, "nothing behind the block is touched");
        }
    }

    #[test]
    fn block_has_the_bytes_of_the_standard() {
        let mut out = [0xEE; 12];
        let mut writer = ExtensionWriter::new(&mut out, false);
        assert!(writer.push(3, &[0xAB, 0xCD]));
        assert!(writer.push(4, &[0xEF]));
        assert_eq!(writer.finish(), 12);
        assert_eq!(out, [0xBE, 0xDE, 0, 2, 0x31, 0xAB, 0xCD, 0x40, 0xEF, 0, 0, 0]);

        let mut out = [0xEE; 8];
        let mut writer = ExtensionWriter::new(&mut out, true);
        assert!(writer.push(200, &[0xAB]));
        assert_eq!(writer.finish(), 8);
        assert_eq!(out, [0x10, 0x00, 0, 1, 200, 1, 0xAB, 0]);
    }

    #[test]
    fn elements_that_the_form_cannot_carry_are_refused() {
        let mut out = [0; 600];
        let mut one = ExtensionWriter::new(&mut out, false);
        for (id, len) in [(0, 1), (15, 1), (16, 1), (1, 0), (1, 17)] {
            assert!(needs_two_byte(id, len));
            assert!(!one.push(id, &vec![1; len]), "id {id}, {len} bytes");
        }
        assert_eq!(one.finish(), 0);
        let mut two = ExtensionWriter::new(&mut out, true);
        assert!(!two.push(0, &[1]));
        assert!(!two.push(1, &[1; 256]));
        assert!(two.push(1, &[1; 255]));
        assert!(two.push(15, &[]));
        let len = two.finish();
        assert_eq!(read_block(&out[..len]), [(1, vec![1; 255]), (15, vec![])]);
    }

    #[test]
    fn a_refused_element_leaves_the_block_as_it_was() {
        let mut out = [0; 11]; // room for the header and one word
        let mut writer = ExtensionWriter::new(&mut out, false);
        assert!(writer.push(1, &[5, 6]));
        assert!(!writer.push(2, &[7, 8]), "its padding would not fit");
        let len = writer.finish();
        assert_eq!(read_block(&out[..len]), [(1, vec![5, 6])]);
    }

    #[test]
    fn nothing_is_written_without_elements() {
        let mut out = [0xEE; 8];
        assert_eq!(ExtensionWriter::new(&mut out, true).finish(), 0);
        assert_eq!(out, [0xEE; 8]);
        let mut writer = ExtensionWriter::new(&mut [], false);
        assert!(!writer.push(1, &[1]));
        assert_eq!(writer.finish(), 0);
    }

    #[test]
    fn map_finds_both_ways_and_never_holds_fifteen() {
        let mut map = ExtensionMap::default();
        map.set(Extension::Mid, 4);
        map.set(Extension::AudioLevel, 15);
        assert_eq!(map.id(Extension::Mid), Some(4));
        assert_eq!(map.extension(4), Some(Extension::Mid));
        assert_eq!((map.id(Extension::AudioLevel), map.extension(0)), (None, None));
    }
}
