//! Receiver report, and the report block that sender reports carry as well. Source: RFC 3550 §6.4.1, §6.4.2.

use super::{COUNT_MASK, RECEIVER_REPORT, write_packet};
use crate::ids::Ssrc;
use crate::wire::cursor::{Reader, Writer};

/// What a receiver says of one source. Source: RFC 3550 §6.4.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: Ssrc,
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost since the start; negative when duplicates arrived. 24 bits: -8,388,608 to 8,388,607.
    pub cumulative_lost: i32,
    /// Highest sequence number that arrived, its cycles in the upper 16 bits.
    pub highest_seq: u32,
    /// Interarrival jitter in units of the stream's clock rate.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time in the last sender report; 0 when there was none.
    pub last_sr: u32,
    /// Time since that report, in 65,536ths of a second.
    pub delay_since_last_sr: u32,
}

/// A receiver report as received.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    sender: Ssrc,
    blocks: ReportBlocks<'a>,
}

impl<'a> View<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        Some(Self { sender: Ssrc(reader.u32()?), blocks: ReportBlocks::parse(count, &mut reader)? })
    }

    /// Who reports.
    pub fn sender(&self) -> Ssrc {
        self.sender
    }

    /// The report blocks; 31 at most.
    pub fn blocks(&self) -> ReportBlocks<'a> {
        self.blocks
    }
}

/// Report blocks as received.
#[derive(Clone, Copy, Debug)]
pub struct ReportBlocks<'a> {
    rest: Reader<'a>,
}

impl<'a> ReportBlocks<'a> {
    /// Cuts `count` blocks off `reader`; what follows them is a profile's extension (RFC 3550 §6.4.3) and stays there.
    pub(super) fn parse(count: u8, reader: &mut Reader<'a>) -> Option<Self> {
        let blocks = reader.bytes(usize::from(count) * BLOCK_LEN)?;
        Some(Self { rest: Reader::new(blocks) })
    }
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let rest = &mut self.rest;
        Some(ReportBlock {
            ssrc: Ssrc(rest.u32()?),
            fraction_lost: rest.u8()?,
            cumulative_lost: sign_extend_24(rest.u24()?),
            highest_seq: rest.u32()?,
            jitter: rest.u32()?,
            last_sr: rest.u32()?,
            delay_since_last_sr: rest.u32()?,
        })
    }
}

/// Writes a receiver report; `None` when it does not fit into `out` or there are more than 31 blocks.
///
/// Losses beyond 24 bits are written as the nearest number that fits. Source: RFC 3550 §6.4.2.
pub fn write(out: &mut [u8], sender: Ssrc, blocks: &[ReportBlock]) -> Option<usize> {
    write_packet(out, block_count(blocks)?, RECEIVER_REPORT, |writer| {
        writer.u32(sender.0)?;
        write_blocks(writer, blocks)
    })
}

pub(super) fn block_count(blocks: &[ReportBlock]) -> Option<u8> {
    u8::try_from(blocks.len()).ok().filter(|&count| count <= COUNT_MASK)
}

pub(super) fn write_blocks(writer: &mut Writer<'_>, blocks: &[ReportBlock]) -> Option<()> {
    for block in blocks {
        writer.u32(block.ssrc.0)?;
        writer.u8(block.fraction_lost)?;
        writer.u24(block.cumulative_lost.clamp(LOST_MIN, LOST_MAX) as u32)?;
        writer.u32(block.highest_seq)?;
        writer.u32(block.jitter)?;
        writer.u32(block.last_sr)?;
        writer.u32(block.delay_since_last_sr)?;
    }
    Some(())
}

fn sign_extend_24(value: u32) -> i32 {
    (value << 8) as i32 >> 8
}

const BLOCK_LEN: usize = 24;
const LOST_MIN: i32 = -(1 << 23);
const LOST_MAX: i32 = (1 << 23) - 1;

#[cfg(test)]
pub(super) mod tests {
    use super::super::Packet;
    use super::super::tests::{assert_needs, for_each_truncation, only_packet};
    use super::*;

    pub(in super::super) fn block(seed: u32) -> ReportBlock {
        ReportBlock {
            ssrc: Ssrc(0xA000_0000 + seed),
            fraction_lost: 200,
            cumulative_lost: -5,
            highest_seq: 0x0001_FFFE,
            jitter: 300,
            last_sr: 0x1234_5678,
            delay_since_last_sr: 65_536,
        }
    }

    fn read(bytes: &[u8]) -> (Ssrc, Vec<ReportBlock>) {
        let Packet::ReceiverReport(view) = only_packet(bytes) else { panic!("not a report") };
        (view.sender(), view.blocks().collect())
    }

    #[test]
    fn round_trip_with_any_number_of_blocks() {
        for count in 0..=31 {
            let blocks: Vec<_> = (0..count).map(block).collect();
            let mut out = [0; 1000];
            let len = write(&mut out, Ssrc(7), &blocks).unwrap();
            assert_eq!(len, 8 + 24 * blocks.len());
            assert_eq!(read(&out[..len]), (Ssrc(7), blocks));
        }
    }

    #[test]
    fn more_than_thirty_one_blocks_are_refused() {
        for count in [32, 256, 257] {
            let blocks = vec![block(0); count];
            assert_eq!(write(&mut [0; 10_000], Ssrc(7), &blocks), None);
        }
    }

    #[test]
    fn losses_keep_their_sign_and_stop_at_the_edges() {
        for (written, expected) in [
            (-1, -1),
            (LOST_MIN, LOST_MIN),
            (LOST_MAX, LOST_MAX),
            (i32::MAX, LOST_MAX),
            (i32::MIN, LOST_MIN),
        ] {
            let lost = ReportBlock { cumulative_lost: written, ..block(0) };
            let mut out = [0; 32];
            write(&mut out, Ssrc(7), &[lost]).unwrap();
            assert_eq!(read(&out).1[0].cumulative_lost, expected);
        }
    }

    #[test]
    fn block_has_the_bytes_of_the_standard() {
        let mut out = [0; 32];
        write(&mut out, Ssrc(7), &[block(1)]).unwrap();
        let expected = [
            [0x81, 201, 0, 7],
            [0, 0, 0, 7],
            [0xA0, 0, 0, 1],
            [200, 0xFF, 0xFF, 0xFB],
            [0x00, 0x01, 0xFF, 0xFE],
            [0, 0, 1, 44],
            [0x12, 0x34, 0x56, 0x78],
            [0, 1, 0, 0],
        ];
        assert_eq!(out, *expected.as_flattened());
    }

    #[test]
    fn blocks_that_are_not_all_there_are_refused() {
        let mut out = [0; 56];
        write(&mut out, Ssrc(7), &[block(0), block(1)]).unwrap();
        for_each_truncation(&out, |cut| {
            assert!(super::super::packets(cut).next().unwrap().is_err());
        });
    }

    #[test]
    fn profile_extension_is_passed_over() {
        let mut out = [0xEE; 36];
        write(&mut out, Ssrc(7), &[block(0)]).unwrap();
        out[3] += 1;
        assert_eq!(read(&out), (Ssrc(7), vec![block(0)]));
    }

    #[test]
    fn small_room_is_refused() {
        assert_needs(56, |out| write(out, Ssrc(7), &[block(0), block(1)]));
    }
}
