//! The wire code against independent implementations, and against every length and first byte.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::net::SocketAddr;

use fastrand::Rng;
use sluice_engine::ids::{PayloadType, RtpTime, SeqNum, Ssrc};
use sluice_engine::testing::fuzz;
use sluice_engine::wire::rtcp;
use sluice_engine::wire::rtp::{FixedHeader, RtpView, write_fixed_header};
use sluice_engine::wire::rtp_ext::{ExtensionWriter, elements};
use sluice_engine::wire::stun::{self, BindingRequest, Class, IntegrityKey, TransactionId};

#[path = "wire/stun_oracle.rs"]
mod stun_oracle;

mod against_stun_types {
    use stun_types::attribute::{
        AttributeType, ErrorCode, Fingerprint, RawAttribute, Username, XorMappedAddress,
    };
    use stun_types::message::{
        BINDING, IntegrityAlgorithm, Message, MessageClass, MessageIntegrityCredentials,
        MessageType, MessageWrite, MessageWriteExt, MessageWriteVec, ShortTermCredentials,
    };
    use stun_types::prelude::AttributeStaticType;

    use super::*;

    const PRIORITY: AttributeType = AttributeType::new(0x0024);
    const USE_CANDIDATE: AttributeType = AttributeType::new(0x0025);
    const ICE_CONTROLLED: AttributeType = AttributeType::new(0x8029);
    const ICE_CONTROLLING: AttributeType = AttributeType::new(0x802A);

    /// What both sides need to know of one message.
    struct Subject {
        password: String,
        transaction_id: [u8; 12],
        username: String,
        priority: u32,
        tie_breaker: u64,
        controlling: bool,
        use_candidate: bool,
        address: SocketAddr,
    }

    impl Subject {
        fn random(random: &mut Rng) -> Self {
            let mut text = |len: usize| -> String {
                (0..len).map(|_| random.alphanumeric()).collect::<String>()
            };
            let (ours, theirs, password) = (text(4), text(8), text(24));
            let (ours_len, theirs_len) = (random.usize(1..5), random.usize(1..9));
            let port = random.u16(..);
            let address = if random.bool() {
                SocketAddr::from((random.u32(..).to_be_bytes(), port))
            } else {
                SocketAddr::from(((random.u128(..) | 1 << 127).to_be_bytes(), port))
            };
            Self {
                password,
                transaction_id: std::array::from_fn(|_| random.u8(..)),
                username: format!("{}:{}", &ours[..ours_len], &theirs[..theirs_len]),
                priority: random.u32(..),
                tie_breaker: random.u64(..),
                controlling: random.bool(),
                use_candidate: random.bool(),
                address,
            }
        }

        fn credentials(&self) -> MessageIntegrityCredentials {
            ShortTermCredentials::new(self.password.clone()).into()
        }

        fn key(&self) -> IntegrityKey {
            IntegrityKey::new(self.password.as_bytes())
        }

        fn their_transaction_id(&self) -> stun_types::message::TransactionId {
            let mut wide = [0; 16];
            wide[4..].copy_from_slice(&self.transaction_id);
            u128::from_be_bytes(wide).into()
        }

        fn builder(&self, class: MessageClass) -> MessageWriteVec {
            let message_type = MessageType::from_class_method(class, BINDING);
            Message::builder(message_type, self.their_transaction_id(), MessageWriteVec::new())
        }

        fn finish(&self, mut message: MessageWriteVec) -> Vec<u8> {
            message.add_message_integrity(&self.credentials(), IntegrityAlgorithm::Sha1).unwrap();
            message.add_fingerprint().unwrap();
            message.finish()
        }

        fn read<'a>(&self, bytes: &'a [u8], class: MessageClass) -> Message<'a> {
            let message = Message::from_bytes(bytes).unwrap();
            assert!(message.has_class(class) && message.has_method(BINDING));
            assert_eq!(message.transaction_id(), self.their_transaction_id());
            assert!(message.has_attribute(Fingerprint::TYPE));
            message.validate_integrity(&self.credentials()).unwrap();
            message
        }

        fn read_ours<'a>(&self, bytes: &'a [u8], class: Class) -> stun::Message<'a> {
            let message = stun::Message::parse(bytes).unwrap();
            assert!(message.class() == class && message.is_binding());
            assert_eq!(message.transaction_id(), TransactionId(self.transaction_id));
            assert!(message.verify_integrity(&self.key()));
            assert!(!message.verify_integrity(&IntegrityKey::new(b"another password")));
            message
        }
    }

    fn for_each_subject(mut check: impl FnMut(&Subject)) {
        let mut random = Rng::with_seed(8489);
        for _ in 0..500 {
            check(&Subject::random(&mut random));
        }
    }

    #[test]
    fn they_read_our_requests() {
        for_each_subject(|subject| {
            let request = BindingRequest {
                username: subject.username.as_bytes(),
                priority: subject.priority,
                controlling: subject.controlling.then_some(subject.tie_breaker),
                controlled: (!subject.controlling).then_some(subject.tie_breaker),
                use_candidate: subject.use_candidate,
            };
            let mut out = [0; 300];
            let tid = TransactionId(subject.transaction_id);
            let len = stun::write_binding_request(&mut out, tid, &request, &subject.key()).unwrap();
            let message = subject.read(&out[..len], MessageClass::Request);
            let username = message.attribute::<Username>().unwrap();
            assert_eq!(username.username(), subject.username);
            let value = |wanted| message.raw_attribute(wanted).map(|found| found.value.to_vec());
            assert_eq!(value(PRIORITY), Some(subject.priority.to_be_bytes().to_vec()));
            assert_eq!(value(USE_CANDIDATE).is_some(), subject.use_candidate);
            let (present, absent) = match subject.controlling {
                true => (ICE_CONTROLLING, ICE_CONTROLLED),
                false => (ICE_CONTROLLED, ICE_CONTROLLING),
            };
            assert_eq!(value(present), Some(subject.tie_breaker.to_be_bytes().to_vec()));
            assert_eq!(value(absent), None);
        });
    }

    #[test]
    fn they_read_our_responses() {
        for_each_subject(|subject| {
            let mut out = [0; 300];
            let tid = TransactionId(subject.transaction_id);
            let key = subject.key();
            let len = stun::write_binding_success(&mut out, tid, subject.address, &key).unwrap();
            let message = subject.read(&out[..len], MessageClass::Success);
            let mapped = message.attribute::<XorMappedAddress>().unwrap();
            assert_eq!(mapped.addr(subject.their_transaction_id()), subject.address);

            let code = 300 + (subject.priority % 400) as u16;
            let unknown = [0x7FFF, subject.address.port()];
            let len = stun::write_binding_error(&mut out, tid, code, &unknown, Some(&key)).unwrap();
            let message = subject.read(&out[..len], MessageClass::Error);
            assert_eq!(message.attribute::<ErrorCode>().unwrap().code(), code);
            let listed = message.attribute::<stun_types::attribute::UnknownAttributes>().unwrap();
            assert!(
                unknown.into_iter().all(|listed_type| listed.has_attribute(listed_type.into()))
            );
        });
    }

    #[test]
    fn we_read_their_requests() {
        for_each_subject(|subject| {
            let mut message = subject.builder(MessageClass::Request);
            message.add_attribute(&Username::new(&subject.username).unwrap()).unwrap();
            let priority = subject.priority.to_be_bytes();
            message.add_attribute(&RawAttribute::new(PRIORITY, &priority)).unwrap();
            let tie_breaker = subject.tie_breaker.to_be_bytes();
            let role = if subject.controlling { ICE_CONTROLLING } else { ICE_CONTROLLED };
            message.add_attribute(&RawAttribute::new(role, &tie_breaker)).unwrap();
            if subject.use_candidate {
                message.add_attribute(&RawAttribute::new(USE_CANDIDATE, &[])).unwrap();
            }
            // Chromium's own attribute: optional, so that it must not disturb.
            let network = RawAttribute::new(AttributeType::new(0xC057), &[0, 1, 0, 10]);
            message.add_attribute(&network).unwrap();
            let bytes = subject.finish(message);

            let message = subject.read_ours(&bytes, Class::Request);
            assert_eq!(message.username(), Some(subject.username.as_bytes()));
            assert_eq!(message.priority(), Some(subject.priority));
            assert_eq!(message.use_candidate(), subject.use_candidate);
            let role =
                |wanted: bool| (subject.controlling == wanted).then_some(subject.tie_breaker);
            assert_eq!(message.ice_controlling(), role(true));
            assert_eq!(message.ice_controlled(), role(false));
            assert!(message.unknown_required().is_empty());
        });
    }

    #[test]
    fn we_read_their_responses() {
        for_each_subject(|subject| {
            let mut message = subject.builder(MessageClass::Success);
            let mapped = XorMappedAddress::new(subject.address, subject.their_transaction_id());
            message.add_attribute(&mapped).unwrap();
            let bytes = subject.finish(message);
            let message = subject.read_ours(&bytes, Class::Success);
            assert_eq!(message.xor_mapped_address(), Some(subject.address));

            let code = 300 + (subject.priority % 400) as u16;
            let mut message = subject.builder(MessageClass::Error);
            message.add_attribute(&ErrorCode::new(code, "a reason").unwrap()).unwrap();
            let bytes = subject.finish(message);
            assert_eq!(subject.read_ours(&bytes, Class::Error).error_code(), Some(code));
        });
    }

    /// Attributes in any order and number, our parser and theirs must see the same of them.
    #[test]
    fn both_see_the_same_in_random_attributes() {
        let mut random = Rng::with_seed(5389);
        let types = [0x0006, 0x0008, 0x0024, 0x0025, 0x001C, 0x8029, 0x802A, 0x7FFF, 0x8022];
        let (mut accepted, mut with_integrity) = (0, 0);
        for _ in 0..20_000 {
            let mut attributes = Vec::new();
            for _ in 0..random.usize(0..8) {
                let attribute_type: u16 = types[random.usize(..types.len())];
                let right_len = match attribute_type {
                    0x0008 => 20,
                    0x0024 => 4,
                    0x0025 => 0,
                    0x001C => 32,
                    0x8029 | 0x802A => 8,
                    _ => random.u16(0..12),
                };
                let len = if random.u8(..) < 20 { random.u16(0..40) } else { right_len };
                attributes.extend(attribute_type.to_be_bytes());
                attributes.extend(len.to_be_bytes());
                attributes.extend((0..len.next_multiple_of(4)).map(|_| random.u8(b'a'..=b'z')));
            }
            let bytes = fuzz::stun_message(&[&[0, 1], &attributes[..]].concat());
            if let Some(message) = stun_oracle::compare(&bytes) {
                accepted += 1;
                with_integrity += u32::from(message.has_integrity());
                let unknown = message.unknown_required();
                assert!(matches!(unknown.as_slice(), [] | [0x7FFF]));
            }
        }
        assert!(accepted > 10_000 && with_integrity > 3000, "{accepted} {with_integrity}");
    }
}

mod against_rtp {
    use rtp::header::{Extension, Header};
    use rtp::packet::Packet;
    use webrtc_util::marshal::{Marshal, Unmarshal};

    use super::*;

    /// The other side reads two-byte blocks of the profile 0x1000 alone, takes other profiles for one element, and
    /// panics at blocks that lie about lengths; so it gets whole blocks only.
    struct Block {
        bytes: Vec<u8>,
        elements: Vec<(u8, Vec<u8>)>,
    }

    fn random_block(random: &mut Rng) -> Block {
        let two_byte = random.bool();
        let mut bytes = Vec::new();
        let mut elements = Vec::new();
        for _ in 0..random.usize(0..6) {
            bytes.extend(vec![0; random.usize(0..3)]); // padding may stand anywhere
            let (id, len) = match two_byte {
                true => (random.u8(1..), random.usize(0..30)),
                false => (random.u8(1..15), random.usize(1..17)),
            };
            match two_byte {
                true => bytes.extend([id, len as u8]),
                false => bytes.push(id << 4 | (len as u8 - 1)),
            }
            let value: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
            bytes.extend(&value);
            elements.push((id, value));
        }
        bytes.extend(vec![0; 4 * random.usize(0..2)]); // a whole word of padding is legal
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let profile: u16 = if two_byte { 0x1000 } else { 0xBEDE };
        let words = (bytes.len() / 4) as u16;
        let bytes = [&profile.to_be_bytes(), &words.to_be_bytes(), &bytes[..]].concat();
        Block { bytes, elements }
    }

    #[test]
    fn both_read_the_same_in_random_packets() {
        let mut random = Rng::with_seed(3550);
        for _ in 0..5000 {
            let csrc_count = random.u8(0..16);
            let block = random.bool().then(|| random_block(&mut random));
            let padding_len = if random.bool() { random.usize(1..256) } else { 0 };
            let fixed = FixedHeader {
                marker: random.bool(),
                payload_type: PayloadType(random.u8(0..128)),
                seq: SeqNum(random.u16(..)),
                timestamp: RtpTime(random.u32(..)),
                ssrc: Ssrc(random.u32(..)),
                has_extension: block.is_some(),
                has_padding: padding_len > 0,
            };
            let mut bytes = vec![0; 12];
            write_fixed_header(&mut bytes, &fixed).unwrap();
            bytes[0] |= csrc_count;
            bytes.extend((0..4 * csrc_count).map(|_| random.u8(..)));
            bytes.extend(block.as_ref().map_or(&[][..], |block| &block.bytes));
            let payload: Vec<u8> = (0..random.usize(0..1200)).map(|_| random.u8(..)).collect();
            bytes.extend(&payload);
            bytes.extend((0..padding_len).map(|_| random.u8(..)));
            if padding_len > 0 {
                *bytes.last_mut().unwrap() = padding_len as u8;
            }

            let theirs = Packet::unmarshal(&mut &bytes[..]).unwrap();
            let ours = RtpView::parse(&bytes).unwrap();
            let header = ours.header();
            assert_eq!(header.marker, theirs.header.marker);
            assert_eq!(header.payload_type.0, theirs.header.payload_type);
            assert_eq!(header.seq.0, theirs.header.sequence_number);
            assert_eq!(header.timestamp.0, theirs.header.timestamp);
            assert_eq!(header.ssrc.0, theirs.header.ssrc);
            assert_eq!(header.has_padding, theirs.header.padding);
            assert_eq!(theirs.header.csrc.len(), usize::from(csrc_count));
            assert_eq!(ours.payload(), &theirs.payload[..]);
            assert_eq!(ours.payload(), payload);

            assert_eq!(ours.extension().is_some(), theirs.header.extension);
            let read: Vec<(u8, Vec<u8>)> = ours
                .extension()
                .into_iter()
                .flat_map(|(profile, data)| elements(profile, data))
                .map(|(id, value)| (id, value.to_vec()))
                .collect();
            let their_elements: Vec<(u8, Vec<u8>)> =
                theirs.header.extensions.iter().map(|e| (e.id, e.payload.to_vec())).collect();
            assert_eq!(read, their_elements);
            assert_eq!(read, block.map_or(Vec::new(), |block| block.elements));
        }
    }

    #[test]
    fn we_read_what_they_write() {
        let mut random = Rng::with_seed(8285);
        for _ in 0..2000 {
            let two_byte = random.bool();
            let extensions: Vec<Extension> = (1..random.u8(2..8))
                .map(|id| Extension {
                    id,
                    payload: vec![random.u8(..); random.usize(1..17)].into(),
                })
                .collect();
            let packet = Packet {
                header: Header {
                    version: 2,
                    extension: true,
                    marker: random.bool(),
                    payload_type: random.u8(0..128),
                    sequence_number: random.u16(..),
                    timestamp: random.u32(..),
                    ssrc: random.u32(..),
                    csrc: vec![7; random.usize(0..16)],
                    padding: random.bool(),
                    extension_profile: if two_byte { 0x1000 } else { 0xBEDE },
                    extensions: extensions.clone(),
                    ..Header::default()
                },
                payload: vec![random.u8(..); random.usize(0..100)].into(),
            };
            let bytes = packet.marshal().unwrap();
            let view = RtpView::parse(&bytes).unwrap();
            assert_eq!(view.header().seq.0, packet.header.sequence_number);
            assert_eq!(view.header().ssrc.0, packet.header.ssrc);
            assert_eq!(view.header().marker, packet.header.marker);
            assert_eq!(view.payload(), &packet.payload[..]);
            let (profile, data) = view.extension().unwrap();
            assert_eq!(profile, packet.header.extension_profile);
            let expected = extensions.iter().map(|e| (e.id, &e.payload[..]));
            assert!(elements(profile, data).eq(expected));
        }
    }

    #[test]
    fn they_read_what_we_write() {
        let mut random = Rng::with_seed(4285);
        for _ in 0..2000 {
            let two_byte = random.bool();
            let mut bytes = [0; 400];
            let fixed = FixedHeader {
                marker: random.bool(),
                payload_type: PayloadType(random.u8(0..128)),
                seq: SeqNum(random.u16(..)),
                timestamp: RtpTime(random.u32(..)),
                ssrc: Ssrc(random.u32(..)),
                has_extension: true,
                has_padding: false,
            };
            let fixed_len = write_fixed_header(&mut bytes, &fixed).unwrap();
            let mut writer = ExtensionWriter::new(&mut bytes[fixed_len..], two_byte);
            let written: Vec<(u8, Vec<u8>)> = (1..random.u8(2..8))
                .map(|id| (id, vec![random.u8(..); random.usize(1..17)]))
                .collect();
            for (id, value) in &written {
                assert!(writer.push(*id, value));
            }
            let header_len = fixed_len + writer.finish();
            let theirs = Packet::unmarshal(&mut &bytes[..header_len + 5]).unwrap();
            assert_eq!(theirs.header.sequence_number, fixed.seq.0);
            assert_eq!(theirs.header.timestamp, fixed.timestamp.0);
            assert_eq!(theirs.payload.len(), 5);
            let read: Vec<(u8, Vec<u8>)> =
                theirs.header.extensions.iter().map(|e| (e.id, e.payload.to_vec())).collect();
            assert_eq!(read, written);
        }
    }
}

/// Every body takes any bytes; these sweeps need debug assertions and overflow checks to mean something.
mod sweeps {
    use super::*;

    const BODIES: [fn(&[u8]); 8] = [
        fuzz::classify,
        fuzz::stun,
        fuzz::rtp,
        fuzz::rtp_ext,
        fuzz::payload,
        fuzz::rtcp,
        fuzz::twcc,
        fuzz::writers,
    ];
    const LEN_MAX: usize = 1500;

    fn run_all(bytes: &[u8]) {
        for body in BODIES {
            body(bytes);
        }
    }

    #[test]
    fn overflow_checks_are_on() {
        let most = std::hint::black_box(u8::MAX);
        assert!(std::panic::catch_unwind(|| most + std::hint::black_box(1)).is_err());
    }

    /// Fillings by which a parser gets past its first lines.
    fn fillings() -> Vec<Vec<u8>> {
        let mut random = Rng::with_seed(1500);
        let mut fillings = vec![vec![0; LEN_MAX], vec![0xFF; LEN_MAX]];
        fillings.push((0..LEN_MAX).map(|_| random.u8(..)).collect());
        fillings.extend(plausible());
        fillings
    }

    /// Valid packets of each kind, filled up to the full length.
    fn plausible() -> Vec<Vec<u8>> {
        let key = IntegrityKey::new(b"a password of some length");
        let request = BindingRequest {
            username: &[b'u'; 400],
            priority: 1,
            controlling: Some(2),
            controlled: None,
            use_candidate: true,
        };
        let mut stun = vec![0; LEN_MAX];
        stun::write_binding_request(&mut stun, TransactionId([9; 12]), &request, &key).unwrap();

        let mut rtp = vec![0x33; LEN_MAX];
        let fixed = FixedHeader {
            marker: true,
            payload_type: PayloadType(96),
            seq: SeqNum(1),
            timestamp: RtpTime(2),
            ssrc: Ssrc(3),
            has_extension: true,
            has_padding: true,
        };
        write_fixed_header(&mut rtp, &fixed).unwrap();
        let mut writer = ExtensionWriter::new(&mut rtp[12..], false);
        assert!(writer.push(1, b"mid") && writer.push(2, &[0; 16]));
        writer.finish();

        let mut compound = vec![0; LEN_MAX];
        let mut len = 0;
        let mut append = |write: &dyn Fn(&mut [u8]) -> Option<usize>| {
            len += write(&mut compound[len..]).unwrap();
        };
        let statuses: Vec<Option<i16>> = (0..300).map(|n| (n % 4 != 0).then_some(n * 7)).collect();
        let lost: Vec<SeqNum> = (0..200).map(|n| SeqNum(n * 5)).collect();
        let block = rtcp::rr::ReportBlock {
            ssrc: Ssrc(1),
            fraction_lost: 2,
            cumulative_lost: -3,
            highest_seq: 4,
            jitter: 5,
            last_sr: 6,
            delay_since_last_sr: 7,
        };
        append(&|out| rtcp::rr::write(out, Ssrc(1), &[block; 3]));
        append(&|out| rtcp::sdes::write_cname(out, Ssrc(1), b"a name"));
        append(&|out| rtcp::nack::write(out, Ssrc(1), Ssrc(2), &lost));
        append(&|out| rtcp::pli::write(out, Ssrc(1), Ssrc(2)));
        append(&|out| rtcp::fir::write(out, Ssrc(1), Ssrc(2), 3));
        let feedback = rtcp::twcc::Feedback {
            sender: Ssrc(1),
            media: Ssrc(2),
            base_seq: 3,
            reference_time: 4,
            feedback_count: 5,
            statuses: &statuses,
        };
        append(&|out| rtcp::twcc::write(out, &feedback));
        append(&|out| rtcp::bye::write(out, &[Ssrc(1), Ssrc(2)]));
        assert!(len > 700 && rtcp::is_valid_compound(&compound[..len]));
        // VP8: all fields of the descriptor, then the first bytes of a key frame.
        let mut vp8 = vec![0x55; LEN_MAX];
        vp8[..8].copy_from_slice(&[0x90, 0xF0, 0x92, 0x34, 7, 0x20, 0x10, 2]);
        vec![stun, rtp, compound, vp8]
    }

    #[test]
    fn every_length_up_to_a_full_datagram() {
        for filling in fillings() {
            for len in 0..=LEN_MAX {
                run_all(&filling[..len]);
            }
        }
    }

    #[test]
    fn every_first_byte_at_short_lengths() {
        for mut filling in fillings() {
            for len in 1..=64 {
                for first in 0..=255 {
                    filling[0] = first;
                    run_all(&filling[..len]);
                }
            }
        }
    }

    #[test]
    fn first_bytes_at_long_lengths() {
        for mut filling in fillings() {
            for (step, len) in (65..=LEN_MAX).enumerate() {
                // Over all lengths every first byte has its turn many times.
                filling[0] = (step * 37 % 256) as u8;
                run_all(&filling[..len]);
            }
        }
    }

    #[test]
    fn every_rtcp_type_and_count_at_short_lengths() {
        for payload_type in 192..=223_u8 {
            for count in 0..32_u8 {
                for words in 0..12_u8 {
                    for fill in [0, 1, 0xFF] {
                        let mut bytes = vec![fill; 4 + 4 * usize::from(words)];
                        bytes[..4].copy_from_slice(&[0x80 | count, payload_type, 0, words]);
                        fuzz::rtcp(&bytes);
                        bytes[0] |= 0x20;
                        fuzz::rtcp(&bytes);
                        if let Some(name) = bytes.get_mut(12..16) {
                            name.copy_from_slice(b"REMB");
                            fuzz::rtcp(&bytes);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_byte_of_valid_packets_changed_to_telling_values() {
        for valid in plausible() {
            let valid = &valid[..valid.len().min(700)];
            let mut changed = valid.to_vec();
            for at in 0..valid.len() {
                for value in [0, 1, 0x7F, 0x80, 0xFF, valid[at] ^ 1] {
                    changed[at] = value;
                    for body in [fuzz::classify, fuzz::stun, fuzz::rtp, fuzz::rtcp] {
                        body(&changed);
                    }
                }
                changed[at] = valid[at];
            }
        }
    }
}
