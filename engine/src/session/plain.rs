//! One decrypted packet as fan-out sees it: read once, written many times.

use arrayvec::ArrayVec;

use crate::ids::{ExtSeqNum, PayloadType};
use crate::rtp::rewrite::PacketNumbers;
use crate::wire::payload::{PayloadFormat, vp8};
use crate::wire::rtp::RtpView;
use crate::wire::rtp_ext::{self, Extension, ExtensionMap};

/// A plain RTP packet of a publisher, with all that every leg needs of it.
///
/// Only what the parser understood goes on: header and extensions are written anew for each leg, so that nothing malformed in
/// them reaches a subscriber.
#[derive(Clone, Debug)]
pub struct PlainRtp<'a> {
    /// Its numbers on the publisher's wire.
    pub numbers: PacketNumbers,
    /// The simulcast layer it is of; 0 without simulcast.
    pub layer: u8,
    /// The marker bit.
    pub marker: bool,
    /// The publisher's payload type.
    pub payload_type: PayloadType,
    /// Clock rate of the payload type in Hz.
    pub clock_rate_hz: u32,
    /// The payload without padding.
    pub payload: &'a [u8],
    /// What is renumbered in the payload: of VP8 in simulcast.
    pub vp8: Option<vp8::Descriptor>,
    block: &'a [u8],
    elements: ArrayVec<Element, ELEMENTS_MAX>,
}

/// A header extension element within the block.
#[derive(Clone, Debug)]
struct Element {
    extension: Extension,
    len: u8,
    at: u16,
}

/// Header extension elements that are forwarded; a packet with more loses the last ones. None is longer than 255 bytes.
const ELEMENTS_MAX: usize = 8;

impl<'a> PlainRtp<'a> {
    /// Reads a plain packet; `extensions` are the publisher's ids. `None` when its header or padding does not fit.
    pub fn read(
        packet: &'a [u8],
        source: u32,
        index: ExtSeqNum,
        clock_rate_hz: u32,
        extensions: &ExtensionMap,
    ) -> Option<Self> {
        let view = RtpView::parse(packet).ok()?;
        let header = view.header();
        let mut plain = Self {
            numbers: PacketNumbers {
                source,
                index,
                timestamp: header.timestamp,
                picture: vp8::PictureNumbers::default(),
            },
            layer: 0,
            marker: header.marker,
            payload_type: header.payload_type,
            clock_rate_hz,
            payload: view.payload(),
            vp8: None,
            block: &[],
            elements: ArrayVec::new(),
        };
        if let Some((profile, block)) = view.extension() {
            plain.block = block;
            for (id, value) in rtp_ext::elements(profile, block) {
                let Some(extension) = extensions.extension(id).filter(|e| e.is_forwarded()) else {
                    continue;
                };
                let is_repeat = plain.elements.iter().any(|known| known.extension == extension);
                if is_repeat || !extension.admits_len(value.len()) || plain.elements.is_full() {
                    continue;
                }
                let at = value.as_ptr() as usize - block.as_ptr() as usize;
                plain.elements.push(Element { extension, len: value.len() as u8, at: at as u16 });
            }
        }
        Some(plain)
    }

    /// Reads what is renumbered in the payload, if it is VP8; the rest of a simulcast track's formats has nothing.
    pub fn read_picture(&mut self, format: PayloadFormat) {
        if format == PayloadFormat::Vp8 {
            self.vp8 = vp8::Descriptor::read(self.payload);
            self.numbers.picture = self.vp8.map_or_else(Default::default, |vp8| vp8.numbers);
        }
    }

    /// The audio level, as the extension's byte, where the publisher negotiated and sent it. Source: RFC 6464 §3.
    pub fn audio_level(&self) -> Option<u8> {
        let mut elements = self.elements();
        let (_, level) = elements.find(|&(extension, _)| extension == Extension::AudioLevel)?;
        level.first().copied()
    }

    /// The header extension elements that go from hop to hop.
    pub fn elements(&self) -> impl Iterator<Item = (Extension, &'a [u8])> + Clone {
        self.elements.iter().filter_map(|element| {
            let at = usize::from(element.at);
            Some((element.extension, self.block.get(at..at + usize::from(element.len))?))
        })
    }
}
