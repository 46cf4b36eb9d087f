//! One client: it joins over WHIP or WHEP, counts what it gets, reports on it, and leaves.

pub mod http;
pub mod media;
pub mod sdp;

use std::time::Duration;

use sluice_engine::clock::{Instant, NtpTime};
use sluice_engine::dtls::Identity;
use sluice_engine::ice::Credentials;
use sluice_engine::ids::{ExtSeqNum, ShardId, Ssrc};
use sluice_engine::testing::client::{Client, ClientParams};
use sluice_engine::wire::rtcp::rr::ReportBlock;
use sluice_engine::wire::rtcp::sr::SenderReport;
use sluice_engine::wire::rtcp::{rr, sdes, sr};
use sluice_engine::wire::rtp::RtpHeader;

use http::Api;
use media::Video;
use sdp::{Answer, Direction};

/// One client of the server.
pub struct Peer {
    /// ICE, DTLS and SRTP.
    pub client: Client,
    direction: Direction,
    /// What DELETE ends.
    resource: String,
    source: Option<Source>,
    ssrc: Ssrc,
    next_report: Instant,
    /// RTP packets that came, by their clear headers.
    pub packets: u64,
    /// Their bytes, as datagrams.
    pub bytes: u64,
}

/// The stream that a receiver gets.
#[derive(Clone, Copy, Debug)]
struct Source {
    ssrc: Ssrc,
    highest: ExtSeqNum,
}

/// How often a client reports, as libwebrtc does for video.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

impl Peer {
    /// Makes a session of the server and the client of it, which has not sent anything yet.
    ///
    /// # Errors
    /// The server refused, or its answer is not understood.
    pub fn join(
        api: &Api,
        call: &str,
        direction: Direction,
        identity: &Identity,
        seed: u64,
        now: Instant,
    ) -> Result<(Self, Answer), String> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let local = Credentials::generate(ShardId(0), &mut |bytes| rng.fill(bytes));
        let ssrc = rng.u32(1..);
        let offer = sdp::offer(direction, &local, identity.fingerprint(), ssrc);
        let protocol = if direction == Direction::Publish { "whip" } else { "whep" };
        let response = api.expect(201, "POST", &format!("/{protocol}/{call}"), &offer)?;
        let resource = response.field("location").ok_or("the answer names no resource")?.to_owned();
        let answer = sdp::read_answer(&response.body)?;
        let params = ClientParams {
            identity: identity.clone(),
            local,
            remote: answer.remote.clone(),
            fingerprint: answer.fingerprint.clone(),
            dtls_role: answer.dtls_role,
            seed: rng.u64(..),
        };
        let peer = Self {
            client: Client::new(now, params),
            direction,
            resource,
            source: None,
            ssrc: Ssrc(ssrc),
            // Reports of all clients spread over the interval.
            next_report: now + REPORT_INTERVAL.mul_f64(rng.f64()),
            packets: 0,
            bytes: 0,
        };
        Ok((peer, answer))
    }

    /// The SSRC of what the client sends.
    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// Counts a media packet by its clear header.
    pub fn count(&mut self, datagram: &[u8]) {
        let Ok(header) = RtpHeader::parse(datagram) else { return };
        self.packets += 1;
        self.bytes += datagram.len() as u64;
        let source = self.source.get_or_insert(Source {
            ssrc: header.ssrc,
            highest: ExtSeqNum(u64::from(header.seq.0)),
        });
        if source.ssrc == header.ssrc {
            source.highest = source.highest.max(ExtSeqNum::nearest(header.seq, source.highest));
        }
    }

    /// Does what is due but the media: checks, handshake, reports.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        ntp: NtpTime,
        video: Option<&Video>,
        send: &mut dyn FnMut(&[u8]),
    ) {
        if self.client.next_deadline().is_some_and(|due| due <= now) {
            self.client.handle_timeout(now, send);
        }
        if self.next_report <= now {
            self.next_report = now + REPORT_INTERVAL;
            let mut compound = [0; 256];
            let written = match (self.direction, video) {
                (Direction::Publish, Some(video)) => write_sender_report(&mut compound, ntp, video),
                _ => self.write_receiver_report(&mut compound),
            };
            if let Some(len) = written {
                self.client.send_rtcp(&compound[..len], send);
            }
        }
    }

    fn write_receiver_report(&self, out: &mut [u8]) -> Option<usize> {
        let Source { ssrc, highest } = self.source?;
        let block = ReportBlock { ssrc, highest_seq: highest.0 as u32, ..ReportBlock::default() };
        let len = rr::write(out, self.ssrc, &[block])?;
        Some(len + sdes::write_cname(&mut out[len..], self.ssrc, CNAME)?)
    }

    /// Ends the session on the server.
    ///
    /// # Errors
    /// The server did not answer, or did not know the session.
    pub fn leave(&self, api: &Api) -> Result<(), String> {
        api.expect(200, "DELETE", &self.resource, "").map(|_| ())
    }
}

const CNAME: &[u8] = b"bench";

fn write_sender_report(out: &mut [u8], ntp: NtpTime, video: &Video) -> Option<usize> {
    let report = SenderReport {
        ssrc: video.ssrc(),
        ntp,
        rtp_time: video.rtp_time(),
        packets: video.sent() as u32,
        octets: video.octets() as u32,
    };
    let len = sr::write(out, &report, &[])?;
    Some(len + sdes::write_cname(&mut out[len..], video.ssrc(), CNAME)?)
}

#[cfg(test)]
mod tests {
    use sluice_engine::dtls::DtlsRole;
    use sluice_engine::ids::{PayloadType, RtpTime, SeqNum};
    use sluice_engine::wire::rtcp::{Packet, packets};
    use sluice_engine::wire::rtp::{FixedHeader, write_fixed_header};

    use super::*;

    fn receiver() -> Peer {
        let identity = Identity::generate().unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        let local = Credentials::generate(ShardId(0), &mut |bytes| rng.fill(bytes));
        let params = ClientParams {
            fingerprint: identity.fingerprint().clone(),
            identity,
            remote: local.clone(),
            local,
            dtls_role: DtlsRole::Active,
            seed: 1,
        };
        Peer {
            client: Client::new(Instant::default(), params),
            direction: Direction::Play,
            resource: String::new(),
            source: None,
            ssrc: Ssrc(9),
            next_report: Instant::default(),
            packets: 0,
            bytes: 0,
        }
    }

    fn packet(seq: u16) -> [u8; 32] {
        let mut packet = [0; 32];
        let header = FixedHeader {
            marker: false,
            payload_type: PayloadType(96),
            seq: SeqNum(seq),
            timestamp: RtpTime(0),
            ssrc: Ssrc(7),
            has_extension: false,
            has_padding: false,
        };
        write_fixed_header(&mut packet, &header).unwrap();
        packet
    }

    #[test]
    fn a_receiver_reports_the_highest_number_with_its_cycle() {
        let mut peer = receiver();
        let mut out = [0; 256];
        assert_eq!(peer.write_receiver_report(&mut out), None, "nothing came yet");
        for seq in [65_534, 1, 65_535] {
            peer.count(&packet(seq));
        }
        peer.count(b"no packet");
        assert_eq!((peer.packets, peer.bytes), (3, 96));
        let len = peer.write_receiver_report(&mut out).unwrap();
        let first = packets(&out[..len]).next();
        let Some(Ok(Packet::ReceiverReport(report))) = first else { panic!("{first:?}") };
        let block = report.blocks().next().unwrap();
        assert_eq!((block.ssrc, block.highest_seq), (Ssrc(7), 0x1_0001));
    }
}
