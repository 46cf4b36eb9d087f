//! Bodies of the fuzz targets, one per parser: each takes any bytes, walks everything the parser offers, and asserts
//! what must hold whatever the bytes are.
//!
//! `engine/fuzz` calls them with libFuzzer's inputs, `engine/tests/wire.rs` with sweeps. A body must not pass over a
//! broken promise silently: it panics, and the input is kept.

use std::net::{IpAddr, SocketAddr};

use crate::ids::{PayloadType, RtpTime, SeqNum, Ssrc};
use crate::wire::classify::{Kind, classify as kind_of};
use crate::wire::payload::PayloadFormat;
use crate::wire::payload::vp8::{Descriptor, PictureNumbers};
use crate::wire::rtcp::rr::ReportBlock;
use crate::wire::rtcp::{self, Packet};
use crate::wire::rtp::{FixedHeader, RtpHeader, RtpView, write_fixed_header};
use crate::wire::rtp_ext::{ExtensionWriter, elements, needs_two_byte};
use crate::wire::stun::{self, BindingRequest, IntegrityKey, Message, TransactionId};

mod data;
mod numbers;
mod protected;
mod shard;

pub use data::sctp;
pub use numbers::{arrivals, resends, rewriter};
pub use protected::{dtls, srtp, srtp_index};
pub use shard::shard;

/// Bytes read as a plan of what to do; zeros when they are used up.
struct Plan<'a> {
    rest: &'a [u8],
}

impl<'a> Plan<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    fn has_more(&self) -> bool {
        !self.rest.is_empty()
    }

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn u8(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    /// The next `len` bytes, fewer at the end.
    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        bytes
    }
}

/// What a parser accepts is also what the first bytes promise.
pub fn classify(data: &[u8]) {
    let kind = kind_of(data);
    if Message::parse(data).is_ok() {
        assert_eq!(kind, Some(Kind::Stun));
    }
    if RtpHeader::parse(data).is_ok() {
        assert!(matches!(kind, Some(Kind::Rtp | Kind::Rtcp)));
    }
    if data.len() >= 8 && rtcp::is_valid_compound(data) {
        let rtcp_type = (192..=223).contains(&data[1]);
        assert!(!rtcp_type || kind == Some(Kind::Rtcp));
    }
}

/// Reads a message as it came, and once more in a right frame, since no fuzzer guesses a checksum.
pub fn stun(data: &[u8]) {
    walk_stun(data);
    walk_stun(&stun_message(data));
}

fn walk_stun(datagram: &[u8]) {
    let Ok(message) = Message::parse(datagram) else { return };
    let key = IntegrityKey::new(b"a password of some length");
    assert!(!message.verify_integrity(&key) || message.has_integrity());
    if let (Some(username), Some((ours, theirs))) = (message.username(), message.username_parts()) {
        assert_eq!([ours, theirs].join(&b':'), username);
    }
    if let Some(mapped) = message.xor_mapped_address() {
        let mut out = [0; 128];
        let tid = message.transaction_id();
        let len = stun::write_binding_success(&mut out, tid, mapped, &key).expect("128 suffice");
        let written = Message::parse(&out[..len]).expect("our own message");
        let canonical = SocketAddr::new(mapped.ip().to_canonical(), mapped.port());
        assert_eq!(written.xor_mapped_address(), Some(canonical));
    }
    let unknown = message.unknown_required();
    assert!(unknown.as_slice().iter().all(|&attribute_type| attribute_type < 0x8000));
    assert_eq!(unknown.is_empty(), unknown.as_slice().is_empty());
    if let Some(code) = message.error_code() {
        assert!((300..700).contains(&code));
    }
    std::hint::black_box((message.class(), message.is_binding(), message.use_candidate()));
    std::hint::black_box((message.ice_controlling(), message.ice_controlled(), message.priority()));
}

/// Frames `data`, read as a message type and attributes, into a message with a right length and FINGERPRINT.
pub fn stun_message(data: &[u8]) -> Vec<u8> {
    let (message_type, attributes) = data.split_at(data.len().min(2));
    let attributes = &attributes[..attributes.len().min(2000) / 4 * 4];
    let mut message = vec![0; 2];
    message[..message_type.len()].copy_from_slice(message_type);
    message[0] &= 0x3F;
    message.extend(((attributes.len() + 8) as u16).to_be_bytes());
    message.extend(0x2112_A442_u32.to_be_bytes());
    message.extend([7; 12]);
    message.extend(attributes);
    let fingerprint = crc32fast::hash(&message) ^ 0x5354_554E;
    message.extend([0x80, 0x28, 0, 4]);
    message.extend(fingerprint.to_be_bytes());
    message
}

/// Reads a packet both ways; the parts must add up to the whole, and the header must write back.
pub fn rtp(data: &[u8]) {
    let header = match (RtpHeader::parse(data), RtpView::parse(data)) {
        (Err(error), view) => return assert_eq!(view.err(), Some(error)),
        (Ok(header), Err(_)) => return assert!(header.has_padding),
        (Ok(header), Ok(view)) => {
            assert_eq!(view.header(), header);
            let parts = header.header_len + view.payload().len() + view.padding_len();
            assert_eq!(parts, data.len());
            assert_eq!(view.padding_len() > 0, header.has_padding);
            assert_eq!(view.extension().is_some(), header.has_extension);
            if let Some((profile, block)) = view.extension() {
                assert!(block.len().is_multiple_of(4));
                elements(profile, block).for_each(drop);
            }
            header
        }
    };
    let fixed = FixedHeader {
        marker: header.marker,
        payload_type: header.payload_type,
        seq: header.seq,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
        has_extension: header.has_extension,
        has_padding: header.has_padding,
    };
    let mut written = [0; 12];
    assert_eq!(write_fixed_header(&mut written, &fixed), Some(12));
    written[0] |= data[0] & 0x0F; // the number of CSRC, which we never write
    assert_eq!(written, data[..12]);
}

/// Reads elements, writes them anew in a form that can carry them, and reads them again.
pub fn rtp_ext(data: &[u8]) {
    let Some((&[p0, p1], block)) = data.split_first_chunk() else { return };
    for profile in [u16::from_be_bytes([p0, p1]), 0xBEDE, 0x1000] {
        let read: Vec<(u8, &[u8])> = elements(profile, block).collect();
        let read_len: usize = read.iter().map(|(_, value)| value.len() + 1).sum();
        assert!(read_len <= block.len());

        let two_byte = read.iter().any(|&(id, value)| needs_two_byte(id, value.len()));
        let mut out = vec![0xEE; 4 + 3 * block.len() + 4];
        let mut writer = ExtensionWriter::new(&mut out, two_byte);
        for &(id, value) in &read {
            assert!(writer.push(id, value));
        }
        let len = writer.finish();
        assert_eq!(len == 0, read.is_empty());
        assert!(out[len..].iter().all(|&byte| byte == 0xEE));
        if len > 0 {
            let written_profile = u16::from_be_bytes([out[0], out[1]]);
            assert_eq!(usize::from(u16::from_be_bytes([out[2], out[3]])) * 4, len - 4);
            assert!(elements(written_profile, &out[4..len]).eq(read.iter().copied()));
        }
    }
}

/// Looks for the start of a key frame in every format; what VP8 numbers are written read the same again, and nothing else changes.
pub fn payload(data: &[u8]) {
    for format in [PayloadFormat::Vp9, PayloadFormat::H264, PayloadFormat::Av1] {
        assert!(!format.starts_keyframe(data) || data.len() > 1 || format == PayloadFormat::H264);
    }
    assert!(!PayloadFormat::Other.starts_keyframe(data));
    let Some(descriptor) = Descriptor::read(data) else {
        return assert!(!PayloadFormat::Vp8.starts_keyframe(data));
    };
    let mut written = data.to_vec();
    descriptor.renumber(&mut written, descriptor.numbers);
    assert_eq!(written, data, "its own numbers change nothing");
    let ones = PictureNumbers { id: 0x7FFF, tl0: 0xFF };
    descriptor.renumber(&mut written, ones);
    let again = Descriptor::read(&written).expect("as long as before");
    assert_eq!(again.starts_keyframe, descriptor.starts_keyframe);
    assert!(
        [0, 0x7F, 0x7FFF].contains(&again.numbers.id) && [0, 0xFF].contains(&again.numbers.tl0)
    );
    descriptor.renumber(&mut written, descriptor.numbers);
    assert_eq!(written, data, "all but the numbers is as before");
}

/// Walks a compound; what can be written must read the same again.
pub fn rtcp(data: &[u8]) {
    let mut framed = !data.is_empty();
    for packet in rtcp::packets(data) {
        match packet {
            Ok(packet) => rewrite_rtcp(packet, data.len()),
            Err(error) => framed &= error == rtcp::RtcpError::Content,
        }
    }
    assert_eq!(framed, rtcp::is_valid_compound(data));
}

fn rewrite_rtcp(packet: Packet<'_>, room: usize) {
    // What we write never takes more than what we read, but for a canonical name's padding.
    let mut out = vec![0; room + 8];
    let reread = |out: &[u8], len: Option<usize>| {
        let bytes = &out[..len.expect("fits where it came from")];
        assert!(rtcp::is_valid_compound(bytes));
        assert_eq!(rtcp::packets(bytes).count(), 1);
    };
    match packet {
        Packet::SenderReport(view) => {
            let blocks: Vec<ReportBlock> = view.blocks().collect();
            let len = rtcp::sr::write(&mut out, &view.report(), &blocks);
            reread(&out, len);
            let Some(Ok(Packet::SenderReport(again))) = rtcp::packets(&out).next() else {
                panic!("a sender report reads as something else");
            };
            assert_eq!(again.report(), view.report());
            assert!(again.blocks().eq(blocks));
        }
        Packet::ReceiverReport(view) => {
            let blocks: Vec<ReportBlock> = view.blocks().collect();
            let len = rtcp::rr::write(&mut out, view.sender(), &blocks);
            reread(&out, len);
            let Some(Ok(Packet::ReceiverReport(again))) = rtcp::packets(&out).next() else {
                panic!("a receiver report reads as something else");
            };
            assert_eq!(again.sender(), view.sender());
            assert!(again.blocks().eq(blocks));
        }
        Packet::Sdes(view) => {
            for (ssrc, cname) in view.cnames() {
                let len = rtcp::sdes::write_cname(&mut out, ssrc, cname);
                reread(&out, len);
                let Some(Ok(Packet::Sdes(again))) = rtcp::packets(&out).next() else {
                    panic!("a name reads as something else");
                };
                assert!(again.cnames().eq([(ssrc, cname)]));
            }
        }
        Packet::Bye(view) => {
            let ssrcs: Vec<Ssrc> = view.ssrcs().collect();
            let len = rtcp::bye::write(&mut out, &ssrcs);
            reread(&out, len);
        }
        Packet::Nack(view) => {
            let lost: Vec<SeqNum> = view.lost().collect();
            assert!(lost.len() <= room / 4 * 17);
            std::hint::black_box((view.sender(), view.media()));
        }
        Packet::Fir(view) => {
            assert!(view.entries().count() <= room / 8);
            std::hint::black_box(view.sender());
        }
        Packet::Remb(view) => {
            assert!(view.ssrcs().count() <= 255);
            std::hint::black_box((view.sender(), view.bitrate_bps()));
        }
        Packet::TransportCc(view) => {
            let statuses: Vec<Option<i16>> = view.statuses().map(|(_, status)| status).collect();
            assert!(statuses.len() <= usize::from(view.status_count()));
            round_trip_twcc(&statuses, view.base_seq(), view.reference_time());
        }
        Packet::Pli { .. } | Packet::Other { .. } => {}
    }
}

/// Reads `data` as all that stands behind the media source of transport-wide feedback, and as a list of statuses to write.
pub fn twcc(data: &[u8]) {
    let data = &data[..data.len().min(4000) / 4 * 4];
    let mut packet = vec![0x8F, 205];
    packet.extend(((2 + data.len() / 4) as u16).to_be_bytes());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 2]);
    packet.extend(data);
    rtcp(&packet);

    // One byte is a status: not received, a small delta or a large one; 0xFF stands for a run.
    let mut statuses = Vec::new();
    for &byte in data {
        let status = match byte & 3 {
            0 => None,
            1 | 2 => Some(i16::from(byte)),
            _ => Some(i16::from(byte as i8) * 250),
        };
        let run = if byte == 0xFF { 100 } else { 1 };
        statuses.extend(std::iter::repeat_n(status, run));
    }
    let base_seq = data.first_chunk().map_or(0, |&chunk| u16::from_be_bytes(chunk));
    round_trip_twcc(&statuses, base_seq, 0x00FF_FFFF);
}

fn round_trip_twcc(statuses: &[Option<i16>], base_seq: u16, reference_time: u32) {
    // A handful of bytes can stand for 65,535 statuses; writing all of them each time would leave no time to search.
    let statuses = &statuses[..statuses.len().min(1000)];
    let feedback = rtcp::twcc::Feedback {
        sender: Ssrc(1),
        media: Ssrc(2),
        base_seq,
        reference_time,
        feedback_count: 3,
        statuses,
    };
    let mut out = vec![0; 64 + 4 * statuses.len()];
    let Some(len) = rtcp::twcc::write(&mut out, &feedback) else {
        return assert!(statuses.is_empty());
    };
    let Some(Ok(Packet::TransportCc(view))) = rtcp::packets(&out[..len]).next() else {
        panic!("feedback reads as something else");
    };
    assert_eq!((view.base_seq(), view.reference_time()), (base_seq, reference_time));
    let seqs = (0..=u16::MAX).map(|ahead| base_seq.wrapping_add(ahead));
    assert!(view.statuses().eq(seqs.zip(statuses.iter().copied())));
}

/// Reads `data` as a plan of what to write; everything written must read as it was meant, whatever room there is.
pub fn writers(data: &[u8]) {
    let mut plan = data.iter().copied();
    let mut byte = || plan.next().unwrap_or(0);
    let room = usize::from(byte()) * 4;
    let mut out = vec![0xEE; room];

    let key = IntegrityKey::new(&data[..data.len().min(usize::from(byte()))]);
    let tid = TransactionId([byte(); 12]);
    let username = &data[..data.len().min(usize::from(byte()))];
    let request = BindingRequest {
        username,
        priority: u32::from_be_bytes([byte(), byte(), byte(), byte()]),
        controlling: (byte() & 1 != 0).then_some(u64::from(byte()) << 50),
        controlled: (byte() & 1 != 0).then_some(u64::from(byte()) << 40),
        use_candidate: byte() & 1 != 0,
    };
    if let Some(len) = stun::write_binding_request(&mut out, tid, &request, &key) {
        let message = Message::parse(&out[..len]).expect("our own request");
        assert!(message.verify_integrity(&key));
        assert_eq!(message.username(), Some(username));
        assert_eq!(message.priority(), Some(request.priority));
        assert_eq!(message.ice_controlling(), request.controlling);
        assert_eq!(message.ice_controlled(), request.controlled);
        assert_eq!(message.use_candidate(), request.use_candidate);
    } else {
        assert!(room < username.len() + 128, "room enough");
    }
    let ip = if byte() & 1 == 0 { IpAddr::from([byte(); 4]) } else { IpAddr::from([byte(); 16]) };
    let mapped = SocketAddr::new(ip, u16::from_be_bytes([byte(), byte()]));
    if let Some(len) = stun::write_binding_success(&mut out, tid, mapped, &key) {
        let message = Message::parse(&out[..len]).expect("our own response");
        assert_eq!(message.xor_mapped_address(), Some(mapped));
    }
    let (code, unknown) =
        (u16::from(byte()) * 3, vec![u16::from(byte()) << 6; usize::from(byte())]);
    if let Some(len) = stun::write_binding_error(&mut out, tid, code, &unknown, Some(&key)) {
        let message = Message::parse(&out[..len]).expect("our own error");
        assert_eq!(message.error_code(), Some(code));
    }

    let fixed = FixedHeader {
        marker: byte() & 1 != 0,
        payload_type: PayloadType(byte()),
        seq: SeqNum(u16::from(byte()) << 7),
        timestamp: RtpTime(u32::from(byte()) << 24),
        ssrc: Ssrc(u32::from(byte()) << 20),
        has_extension: false,
        has_padding: false,
    };
    if let Some(len) = write_fixed_header(&mut out, &fixed) {
        let header = RtpHeader::parse(&out[..len]).expect("our own header");
        assert_eq!((header.seq, header.marker), (fixed.seq, fixed.marker));
        assert_eq!(header.payload_type.0, fixed.payload_type.0 & 0x7F);
    }

    let mut seq = u16::from(byte()) << 8;
    let mut lost = Vec::new();
    for _ in 0..byte() {
        seq = seq.wrapping_add(u16::from(byte()).max(1));
        lost.push(SeqNum(seq));
    }
    if let Some(len) = rtcp::nack::write(&mut out, Ssrc(1), Ssrc(2), &lost) {
        let Some(Ok(Packet::Nack(view))) = rtcp::packets(&out[..len]).next() else {
            panic!("a nack reads as something else");
        };
        assert!(view.lost().eq(lost));
    } else {
        assert!(lost.is_empty() || room < 12 + 4 * lost.len(), "room enough");
    }
}
