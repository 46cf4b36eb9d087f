//! Sender report. Source: RFC 3550 §6.4.1.

use super::rr::{ReportBlock, ReportBlocks, block_count, write_blocks};
use super::{SENDER_REPORT, write_packet};
use crate::clock::NtpTime;
use crate::ids::{RtpTime, Ssrc};
use crate::wire::cursor::Reader;

/// What a sender says of its stream. Source: RFC 3550 §6.4.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SenderReport {
    /// The stream.
    pub ssrc: Ssrc,
    /// When this report was made.
    pub ntp: NtpTime,
    /// The same moment on the stream's clock.
    pub rtp_time: RtpTime,
    /// Packets sent since the start; wraps.
    pub packets: u32,
    /// Payload bytes sent since the start, without headers and padding; wraps.
    pub octets: u32,
}

/// A sender report as received.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    report: SenderReport,
    blocks: ReportBlocks<'a>,
}

impl<'a> View<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let report = SenderReport {
            ssrc: Ssrc(reader.u32()?),
            ntp: NtpTime(reader.u64()?),
            rtp_time: RtpTime(reader.u32()?),
            packets: reader.u32()?,
            octets: reader.u32()?,
        };
        Some(Self { report, blocks: ReportBlocks::parse(count, &mut reader)? })
    }

    /// All that the sender says of its own stream.
    pub fn report(&self) -> SenderReport {
        self.report
    }

    /// The stream, which is also who reports.
    pub fn ssrc(&self) -> Ssrc {
        self.report.ssrc
    }

    /// When the report was made, on the sender's clock.
    pub fn ntp(&self) -> NtpTime {
        self.report.ntp
    }

    /// The same moment on the stream's clock.
    pub fn rtp_time(&self) -> RtpTime {
        self.report.rtp_time
    }

    /// Packets sent since the start; wraps.
    pub fn packets(&self) -> u32 {
        self.report.packets
    }

    /// Payload bytes sent since the start; wraps.
    pub fn octets(&self) -> u32 {
        self.report.octets
    }

    /// What the sender received itself; 31 blocks at most.
    pub fn blocks(&self) -> ReportBlocks<'a> {
        self.blocks
    }
}

/// Writes a sender report; `None` when it does not fit into `out` or there are more than 31 blocks.
/// Source: RFC 3550 §6.4.1.
pub fn write(out: &mut [u8], report: &SenderReport, blocks: &[ReportBlock]) -> Option<usize> {
    write_packet(out, block_count(blocks)?, SENDER_REPORT, |writer| {
        writer.u32(report.ssrc.0)?;
        writer.u64(report.ntp.0)?;
        writer.u32(report.rtp_time.0)?;
        writer.u32(report.packets)?;
        writer.u32(report.octets)?;
        write_blocks(writer, blocks)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Packet;
    use super::super::rr::tests::block;
    use super::super::tests::{assert_needs, for_each_truncation, only_packet};
    use super::*;

    const REPORT: SenderReport = SenderReport {
        ssrc: Ssrc(0x0102_0304),
        ntp: NtpTime(0xE000_0001_8000_0002),
        rtp_time: RtpTime(0x0A0B_0C0D),
        packets: 1000,
        octets: u32::MAX,
    };

    #[test]
    fn round_trip_with_any_number_of_blocks() {
        for count in 0..=31 {
            let blocks: Vec<_> = (0..count).map(block).collect();
            let mut out = [0; 1000];
            let len = write(&mut out, &REPORT, &blocks).unwrap();
            let Packet::SenderReport(view) = only_packet(&out[..len]) else {
                panic!("not a report")
            };
            assert_eq!(view.report(), REPORT);
            assert_eq!((view.ssrc(), view.ntp()), (REPORT.ssrc, REPORT.ntp));
            assert_eq!(view.rtp_time(), REPORT.rtp_time);
            assert_eq!((view.packets(), view.octets()), (REPORT.packets, REPORT.octets));
            assert_eq!(view.blocks().collect::<Vec<_>>(), blocks);
        }
        assert_eq!(write(&mut [0; 2000], &REPORT, &[block(0); 32]), None);
    }

    #[test]
    fn report_has_the_bytes_of_the_standard() {
        let mut out = [0; 28];
        write(&mut out, &REPORT, &[]).unwrap();
        let expected = [
            [0x80, 200, 0, 6],
            [1, 2, 3, 4],
            [0xE0, 0, 0, 1],
            [0x80, 0, 0, 2],
            [0x0A, 0x0B, 0x0C, 0x0D],
            [0, 0, 3, 232],
            [0xFF; 4],
        ];
        assert_eq!(out, *expected.as_flattened());
    }

    #[test]
    fn reports_that_are_not_all_there_are_refused() {
        let mut out = [0; 52];
        write(&mut out, &REPORT, &[block(0)]).unwrap();
        for_each_truncation(&out, |cut| {
            assert!(super::super::packets(cut).next().unwrap().is_err());
        });
    }

    #[test]
    fn small_room_is_refused() {
        assert_needs(52, |out| write(out, &REPORT, &[block(0)]));
    }
}
