//! Transport-wide feedback: when which packets of a transport arrived.
//! Source: draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1.

use super::{FMT_TWCC, TRANSPORT_FEEDBACK, read_feedback_ssrcs, write_feedback};
use crate::ids::Ssrc;
use crate::wire::cursor::{Reader, Writer};

/// Feedback as received.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    sender: Ssrc,
    media: Ssrc,
    base_seq: u16,
    status_count: u16,
    reference_time: u32,
    feedback_count: u8,
    chunks: Reader<'a>,
    deltas: Reader<'a>,
}

impl<'a> View<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let (sender, media) = read_feedback_ssrcs(&mut reader)?;
        let base_seq = reader.u16()?;
        let status_count = reader.u16()?;
        let reference_time = reader.u24()?;
        let feedback_count = reader.u8()?;
        // The deltas start where the chunks have told the status of every packet.
        let chunks = reader;
        let mut told = 0;
        while told < u32::from(status_count) {
            told += u32::from(Chunk::new(reader.u16()?).left);
        }
        Some(Self {
            sender,
            media,
            base_seq,
            status_count,
            reference_time,
            feedback_count,
            chunks,
            deltas: reader,
        })
    }

    /// Who reports.
    pub fn sender(&self) -> Ssrc {
        self.sender
    }

    /// Any stream of the transport; it means nothing.
    pub fn media(&self) -> Ssrc {
        self.media
    }

    /// Transport-wide sequence number of the first packet told of.
    pub fn base_seq(&self) -> u16 {
        self.base_seq
    }

    /// How many packets it claims to tell of.
    pub fn status_count(&self) -> u16 {
        self.status_count
    }

    /// What the first delta counts from, in units of 64 ms on the reporter's clock; 24 bits, two's complement.
    pub fn reference_time(&self) -> u32 {
        self.reference_time
    }

    /// Grows by one with each feedback packet of the reporter; wraps.
    pub fn feedback_count(&self) -> u8 {
        self.feedback_count
    }

    /// Each packet's transport-wide sequence number, and the time since the packet that arrived before it, or since the
    /// reference time for the first, in units of 250 µs; `None` when it did not arrive.
    ///
    /// Ends after `status_count` packets, or before the first whose delta is not there. The reserved symbol 3, which has
    /// no delta, reads as not arrived.
    pub fn statuses(&self) -> Statuses<'a> {
        Statuses {
            next_seq: self.base_seq,
            left: self.status_count,
            chunk: Chunk { symbols: Symbols::Run(NOT_RECEIVED), left: 0 },
            chunks: self.chunks,
            deltas: self.deltas,
        }
    }
}

/// Statuses as received, see [`View::statuses`].
#[derive(Clone, Debug)]
pub struct Statuses<'a> {
    next_seq: u16,
    left: u16,
    chunk: Chunk,
    chunks: Reader<'a>,
    deltas: Reader<'a>,
}

impl Iterator for Statuses<'_> {
    type Item = (u16, Option<i16>);

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.left.checked_sub(1)?;
        self.left = 0; // stays so when bytes are missing
        let symbol = loop {
            match self.chunk.next_symbol() {
                Some(symbol) => break symbol,
                None => self.chunk = Chunk::new(self.chunks.u16()?),
            }
        };
        let delta = match symbol {
            SMALL_DELTA => Some(i16::from(self.deltas.u8()?)),
            LARGE_DELTA => Some(self.deltas.u16()? as i16),
            _ => None,
        };
        let seq = self.next_seq;
        self.next_seq = seq.wrapping_add(1);
        self.left = left;
        Some((seq, delta))
    }
}

/// What is left of a packet status chunk. Source: §3.1.3, §3.1.4 of the draft.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    symbols: Symbols,
    left: u16,
}

#[derive(Clone, Copy, Debug)]
enum Symbols {
    /// The same symbol for all.
    Run(u16),
    /// One bit each, the next one on top: not arrived, or arrived with a small delta.
    OneBit(u16),
    /// Two bits each, the next one on top.
    TwoBit(u16),
}

impl Chunk {
    fn new(bits: u16) -> Self {
        match bits >> 14 {
            0 | 1 => Self { symbols: Symbols::Run(bits >> 13 & 3), left: bits & RUN_MAX },
            2 => Self { symbols: Symbols::OneBit(bits << 2), left: ONE_BIT_SYMBOLS },
            _ => Self { symbols: Symbols::TwoBit(bits << 2), left: TWO_BIT_SYMBOLS },
        }
    }

    fn next_symbol(&mut self) -> Option<u16> {
        self.left = self.left.checked_sub(1)?;
        Some(match &mut self.symbols {
            Symbols::Run(symbol) => *symbol,
            Symbols::OneBit(bits) => {
                let symbol = *bits >> 15;
                *bits <<= 1;
                symbol
            }
            Symbols::TwoBit(bits) => {
                let symbol = *bits >> 14;
                *bits <<= 2;
                symbol
            }
        })
    }
}

/// Feedback to be written.
#[derive(Clone, Copy, Debug)]
pub struct Feedback<'a> {
    /// Who reports.
    pub sender: Ssrc,
    /// Any stream of the transport.
    pub media: Ssrc,
    /// Transport-wide sequence number of the first status.
    pub base_seq: u16,
    /// What the first delta counts from, in units of 64 ms; the low 24 bits are written.
    pub reference_time: u32,
    /// One more than in the last feedback; wraps.
    pub feedback_count: u8,
    /// For each packet from `base_seq` on the time since the one before that arrived, in units of 250 µs;
    /// `None` for what did not arrive.
    pub statuses: &'a [Option<i16>],
}

/// Writes feedback; `None` when it does not fit into `out` or there are no statuses or more than 65,535.
///
/// Takes 20 bytes, 2 per chunk of 7 to 8,191 statuses, and 1 per arrival (2 when its delta is not within 0 to 255), then up to
/// 3 zeros, which the header's padding bit does not announce: the packet may stand anywhere in a compound.
/// Source: §3.1 of the draft.
pub fn write(out: &mut [u8], feedback: &Feedback<'_>) -> Option<usize> {
    let count = u16::try_from(feedback.statuses.len()).ok().filter(|&count| count > 0)?;
    let kind = (FMT_TWCC, TRANSPORT_FEEDBACK);
    write_feedback(out, kind, feedback.sender, feedback.media, |writer| {
        writer.u16(feedback.base_seq)?;
        writer.u16(count)?;
        writer.u24(feedback.reference_time)?;
        writer.u8(feedback.feedback_count)?;
        let mut rest = feedback.statuses;
        while !rest.is_empty() {
            let told = write_chunk(writer, rest)?;
            rest = rest.get(told..)?;
        }
        for delta in feedback.statuses.iter().flatten() {
            match u8::try_from(*delta) {
                Ok(small) => writer.u8(small)?,
                Err(_) => writer.u16(*delta as u16)?,
            }
        }
        Some(())
    })
}

/// Writes the chunk that tells most of `statuses`; returns how many it tells.
fn write_chunk(writer: &mut Writer<'_>, statuses: &[Option<i16>]) -> Option<usize> {
    let symbols = || statuses.iter().map(symbol_of);
    let first = symbols().next()?;
    let run_len = symbols().take(usize::from(RUN_MAX)).take_while(|&s| s == first).count();
    // A vector is always whole; only at the end of the list may it tell of fewer packets than it has room for.
    let one_bit_len = statuses.len().min(usize::from(ONE_BIT_SYMBOLS));
    let two_bit_len = statuses.len().min(usize::from(TWO_BIT_SYMBOLS));
    let fits_one_bit = symbols().take(one_bit_len).all(|symbol| symbol <= SMALL_DELTA);

    if run_len >= if fits_one_bit { one_bit_len } else { two_bit_len } {
        writer.u16(first << 13 | run_len as u16)?;
        Some(run_len)
    } else if fits_one_bit {
        let bits = symbols().take(one_bit_len).fold(0, |bits, symbol| bits << 1 | symbol);
        writer.u16(0x8000 | bits << (usize::from(ONE_BIT_SYMBOLS) - one_bit_len))?;
        Some(one_bit_len)
    } else {
        let bits = symbols().take(two_bit_len).fold(0, |bits, symbol| bits << 2 | symbol);
        writer.u16(0xC000 | bits << (2 * (usize::from(TWO_BIT_SYMBOLS) - two_bit_len)))?;
        Some(two_bit_len)
    }
}

fn symbol_of(status: &Option<i16>) -> u16 {
    match status {
        None => NOT_RECEIVED,
        Some(0..=255) => SMALL_DELTA,
        Some(_) => LARGE_DELTA,
    }
}

// Packet status symbols. Source: §3.1.1 of the draft.
const NOT_RECEIVED: u16 = 0;
const SMALL_DELTA: u16 = 1;
const LARGE_DELTA: u16 = 2;

/// The longest run that one chunk tells of: 13 bits.
const RUN_MAX: u16 = 0x1FFF;
const ONE_BIT_SYMBOLS: u16 = 14;
const TWO_BIT_SYMBOLS: u16 = 7;

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_needs, for_each_truncation, only_packet};
    use super::super::{Packet, packets};
    use super::*;

    fn feedback(statuses: &[Option<i16>]) -> Feedback<'_> {
        Feedback {
            sender: Ssrc(1),
            media: Ssrc(2),
            base_seq: 0xFFF0,
            reference_time: 0x00AB_CDEF,
            feedback_count: 200,
            statuses,
        }
    }

    fn written(statuses: &[Option<i16>]) -> Vec<u8> {
        let mut out = vec![0; 200_000];
        let len = write(&mut out, &feedback(statuses)).unwrap();
        out.truncate(len);
        out
    }

    fn view(bytes: &[u8]) -> View<'_> {
        let Packet::TransportCc(view) = only_packet(bytes) else { panic!("not feedback") };
        view
    }

    fn read(bytes: &[u8]) -> Vec<Option<i16>> {
        view(bytes).statuses().map(|(_, status)| status).collect()
    }

    /// A packet of the given chunks and deltas, right in everything else.
    fn packet(status_count: u16, chunks: &[u16], deltas: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x8F, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0xFF, 0xF0];
        bytes.extend(status_count.to_be_bytes());
        bytes.extend([0, 0, 1, 0]);
        bytes.extend(chunks.iter().flat_map(|chunk| chunk.to_be_bytes()));
        bytes.extend(deltas);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let words = (bytes.len() / 4 - 1) as u16;
        bytes[2..4].copy_from_slice(&words.to_be_bytes());
        bytes
    }

    fn symbols(chunk: u16) -> Vec<u16> {
        let mut chunk = Chunk::new(chunk);
        std::iter::from_fn(|| chunk.next_symbol()).collect()
    }

    #[test]
    #[allow(clippy::unusual_byte_groupings, reason = "grouped as the fields are")]
    fn chunks_of_the_draft_read_as_it_says() {
        // §3.1.3: type 0, symbol 00, run of 0 0000 1101 1101: 221 packets not received.
        assert_eq!(symbols(0b0_00_0000011011101), [0; 221]);
        // §3.1.3: type 0, symbol 11 (reserved), run of 0 0000 0001 1000: 24 packets.
        assert_eq!(symbols(0b0_11_0000000011000), [3; 24]);
        // §3.1.4: type 1, one bit each: 1 not received, 5 received, 3 not, 3 received, 2 not.
        let one_bit = [0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0];
        assert_eq!(symbols(0b1_0_01111100011100), one_bit);
        // §3.1.4: type 1, two bits each: 1 not received, 1 reserved, 3 with small deltas, 2 not received.
        assert_eq!(symbols(0b1_1_00_11_01_01_01_00_00), [0, 3, 1, 1, 1, 0, 0]);
    }

    /// The layout of §3.1, filled in by hand.
    #[test]
    fn whole_packet_has_the_bytes_of_the_draft() {
        let mut statuses = vec![Some(4), Some(255), None, Some(256), Some(-1), Some(0), None];
        statuses.extend([None; 20]);
        let expected = [
            [0x8F, 205, 0, 7],        // V=2 P=0 FMT=15, PT=205, 7 words behind this one
            [0, 0, 0, 1],             // sender
            [0, 0, 0, 2],             // media
            [0xFF, 0xF0, 0, 27],      // base sequence number, status count
            [0xAB, 0xCD, 0xEF, 200],  // reference time, feedback count
            [0xD4, 0xA4, 0x00, 0x14], // 1 1 01 01 00 10 10 01 00; then 0 00 and a run of 20
            [4, 255, 0x01, 0x00],     // 1 ms small; 63.75 ms small; 64 ms large
            [0xFF, 0xFF, 0x00, 0x00], // -0.25 ms large; 0 small; zero padding
        ];
        let bytes = written(&statuses);
        assert_eq!(bytes, expected.as_flattened());

        let view = view(&bytes);
        assert_eq!((view.sender(), view.media()), (Ssrc(1), Ssrc(2)));
        assert_eq!((view.base_seq(), view.status_count()), (0xFFF0, 27));
        assert_eq!((view.reference_time(), view.feedback_count()), (0x00AB_CDEF, 200));
        assert_eq!(read(&bytes), statuses);
    }

    #[test]
    fn sequence_numbers_wrap() {
        let bytes = written(&[Some(1); 20]);
        let seqs: Vec<u16> = view(&bytes).statuses().map(|(seq, _)| seq).collect();
        assert_eq!((seqs[0], seqs[15], seqs[16], seqs[19]), (0xFFF0, 0xFFFF, 0, 3));
    }

    #[test]
    fn even_arrivals_take_one_chunk() {
        for (statuses, chunk) in [
            (vec![Some(10); 8191], 0x3FFF),
            (vec![Some(300); 7], 0x4007),
            (vec![None; 14], 0x000E),
            (vec![Some(0)], 0x2001),
        ] {
            let bytes = written(&statuses);
            assert_eq!(bytes[20..22], u16::to_be_bytes(chunk));
            assert_eq!(view(&bytes).chunks.rest().len() - view(&bytes).deltas.rest().len(), 2);
            assert_eq!(read(&bytes), statuses);
        }
    }

    #[test]
    fn runs_longer_than_a_chunk_go_on_in_the_next() {
        for len in [8192, 20_000, 65_535] {
            let statuses = vec![Some(1); len];
            assert_eq!(read(&written(&statuses)), statuses);
        }
    }

    #[test]
    fn scattered_losses_take_one_bit_each() {
        let statuses: Vec<_> = (0..140).map(|n| (n % 3 != 0).then_some(7)).collect();
        let bytes = written(&statuses);
        let arrivals = statuses.iter().flatten().count();
        assert_eq!(bytes.len(), (20_usize + 140 / 14 * 2 + arrivals).next_multiple_of(4));
        assert_eq!(read(&bytes), statuses);
    }

    #[test]
    fn random_statuses_round_trip() {
        let mut random = fastrand::Rng::with_seed(15);
        for _ in 0..2000 {
            let (loss, large) = (random.u8(0..100), random.u8(0..100));
            let statuses: Vec<_> = (0..random.usize(1..400))
                .map(|_| {
                    let small = random.i16(0..=255);
                    let delta = if random.u8(0..100) < large { random.i16(..) } else { small };
                    (random.u8(0..100) >= loss).then_some(delta)
                })
                .collect();
            assert_eq!(read(&written(&statuses)), statuses);
        }
    }

    #[test]
    fn deltas_at_the_edges_keep_their_value() {
        let edges = [i16::MIN, i16::MAX, -1, 0, 255, 256].map(Some);
        assert_eq!(read(&written(&edges)), edges);
    }

    #[test]
    #[allow(clippy::unusual_byte_groupings, reason = "grouped as the fields are")]
    fn reserved_symbol_reads_as_not_received_and_takes_no_delta() {
        let bytes = packet(7, &[0b1_1_01_11_01_00_00_00_00], &[5, 6]);
        let expected = [Some(5), None, Some(6), None, None, None, None];
        assert_eq!(read(&bytes), expected);
        assert_eq!(read(&packet(2, &[0x6018], &[])), [None, None]);
    }

    #[test]
    #[allow(clippy::unusual_byte_groupings, reason = "grouped as the fields are")]
    fn statuses_end_where_deltas_are_missing() {
        let run_of_large = 0x4000 | 1000;
        let bytes = packet(1000, &[run_of_large], &[0, 1, 0, 2, 0, 3]);
        assert_eq!(read(&bytes), [Some(1), Some(2), Some(3)]);

        // A large delta is missing; what did not arrive behind it has none, and is not told of all the same.
        let bytes = packet(9, &[0b1_1_10_00_00_00_00_00_00, 0x0002], &[]);
        let mut walk = view(&bytes).statuses();
        assert_eq!((walk.next(), walk.next()), (None, None));
    }

    #[test]
    fn chunks_that_do_not_tell_of_all_are_refused() {
        for (status_count, chunks) in [
            (u16::MAX, &[0x3FFF, 0x3FFF][..]), // two runs of 8,191
            (65_535, &[0x0000, 0x0000]),       // runs of nothing
            (15, &[0x8000]),
            (8, &[0xC000]),
            (1, &[]),
        ] {
            let bytes = packet(status_count, chunks, &[]);
            assert!(packets(&bytes).next().unwrap().is_err(), "{status_count} {chunks:?}");
        }
    }

    #[test]
    fn the_largest_claims_in_few_bytes_end() {
        let all = packet(u16::MAX, &[0x1FFF; 9], &[]);
        assert_eq!(read(&all), vec![None; 65_535]);
        assert_eq!(read(&packet(0, &[], &[])), []);
        assert_eq!(read(&packet(3, &[0x0000, 0x2003], &[7, 8, 9])), [7, 8, 9].map(Some));
    }

    #[test]
    fn cut_packets_never_tell_more_than_the_whole() {
        let statuses: Vec<_> = (0..200).map(|n| (n % 5 != 0).then_some(n * 3)).collect();
        let bytes = written(&statuses);
        for_each_truncation(&bytes, |cut| match packets(cut).next().unwrap() {
            Ok(Packet::TransportCc(view)) => {
                let read: Vec<_> = view.statuses().map(|(_, status)| status).collect();
                assert_eq!(read, statuses[..read.len()]);
            }
            other => assert!(other.is_err()),
        });
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let mut out = vec![0; 300_000];
        assert_eq!(write(&mut out, &feedback(&[])), None);
        assert_eq!(write(&mut out, &feedback(&vec![None; 65_536])), None);
        let most = vec![Some(-1); 65_535]; // 131,070 bytes of deltas: within the length field
        assert!(write(&mut out, &feedback(&most)).is_some());
    }

    #[test]
    fn small_room_is_refused() {
        assert_needs(28, |out| write(out, &feedback(&[Some(1), None, Some(2), Some(900)])));
    }
}
