//! The other end of a session: one full WebRTC client without IO. It checks, shakes hands, seals and opens real packets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Instant;
use crate::dtls::DtlsRole;
use crate::dtls::{DtlsEndpoint, Fingerprint, Identity, Output};
use crate::ice::Credentials;
use crate::ids::{ExtSeqNum, Ssrc};
use crate::session_error::SessionError;
use crate::srtp::Profile;
use crate::srtp::context::{InboundSrtp, OutboundSrtp, PacketIndex};
use crate::wire::classify::{Kind, classify};
use crate::wire::rtp::RtpHeader;
use crate::wire::stun::{
    BindingRequest, Class, IntegrityKey, Message, TransactionId, write_binding_request,
    write_binding_success,
};

use super::data::ClientChannels;

/// What a client knows before it starts: what signalling would have told it.
#[derive(Clone)]
pub struct ClientParams {
    /// The client's certificate.
    pub identity: Identity,
    /// The client's ICE credentials.
    pub local: Credentials,
    /// The server's ICE credentials.
    pub remote: Credentials,
    /// The server's certificate.
    pub fingerprint: Fingerprint,
    /// The client's side of the handshake.
    pub dtls_role: DtlsRole,
    /// Seeds transaction ids.
    pub seed: u64,
}

/// One client.
pub struct Client {
    params: ClientParams,
    key: IntegrityKey,
    username: Vec<u8>,
    remote_address: Option<SocketAddr>,
    rng: fastrand::Rng,
    tie_breaker: u64,
    dtls: Option<DtlsEndpoint>,
    dtls_deadline: Option<Instant>,
    inbound: Option<InboundSrtp>,
    outbound: Option<OutboundSrtp>,
    profile: Option<Profile>,
    streams: HashMap<Ssrc, PacketIndex>,
    next_check: Option<Instant>,
    checks_answered: u64,
    closed: Option<SessionError>,
    /// Its data channels.
    pub data: ClientChannels,
    /// Media packets that were opened, in order of arrival. Emptied by whoever reads it.
    pub received: Vec<ReceivedRtp>,
    /// RTCP compounds that were opened, likewise.
    pub received_rtcp: Vec<Vec<u8>>,
    /// Packets that could not be opened: replays and forgeries.
    pub refused: u64,
}

/// One media packet as a client got it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceivedRtp {
    /// When it came.
    pub at: Instant,
    /// Its SRTP index.
    pub index: ExtSeqNum,
    /// Header and payload, decrypted.
    pub packet: Vec<u8>,
}

/// How often an unanswered client checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// How often a connected client checks, as browsers do.
const CONSENT_INTERVAL: Duration = Duration::from_millis(2_500);

impl Client {
    /// Makes a client whose first check is due at once.
    pub fn new(now: Instant, params: ClientParams) -> Self {
        let mut rng = fastrand::Rng::with_seed(params.seed);
        Self {
            key: IntegrityKey::new(params.remote.pwd.as_bytes()),
            username: format!("{}:{}", params.remote.ufrag, params.local.ufrag).into_bytes(),
            remote_address: None,
            tie_breaker: rng.u64(..),
            rng,
            dtls: None,
            dtls_deadline: None,
            inbound: None,
            outbound: None,
            profile: None,
            streams: HashMap::new(),
            next_check: Some(now),
            checks_answered: 0,
            closed: None,
            data: ClientChannels::new(params.dtls_role == DtlsRole::Active),
            received: Vec::new(),
            received_rtcp: Vec::new(),
            refused: 0,
            params,
        }
    }

    /// Tells where the server's datagrams come from: from here on its own checks are answered. Full ICE agents make some, a lite
    /// agent makes none.
    pub fn set_remote_address(&mut self, address: SocketAddr) {
        self.remote_address = Some(address);
    }

    /// Uses other ICE credentials from here on: an ICE restart.
    pub fn restart_ice(&mut self, now: Instant, local: Credentials, remote: Credentials) {
        self.key = IntegrityKey::new(remote.pwd.as_bytes());
        self.username = format!("{}:{}", remote.ufrag, local.ufrag).into_bytes();
        self.params.local = local;
        self.params.remote = remote;
        self.next_check = Some(now);
    }

    /// Stops checking: consent will run out.
    pub fn stop_checks(&mut self) {
        self.next_check = None;
    }

    /// Whether media can flow.
    pub fn is_connected(&self) -> bool {
        self.outbound.is_some() && self.closed.is_none()
    }

    /// The SRTP profile, once connected.
    pub fn profile(&self) -> Option<Profile> {
        self.profile
    }

    /// Why the session ended, if it did.
    pub fn closed(&self) -> Option<SessionError> {
        self.closed
    }

    /// Checks that the server answered.
    pub fn checks_answered(&self) -> u64 {
        self.checks_answered
    }

    /// When [`Client::handle_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let data = self.data.next_deadline().filter(|_| self.is_connected());
        self.next_check.into_iter().chain(self.dtls_deadline).chain(data).min()
    }

    /// Does what is due; `send` takes each outgoing datagram.
    pub fn handle_timeout(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        if self.next_check.is_some_and(|due| due <= now) {
            self.send_check(send);
            let connected = self.outbound.is_some();
            let interval = if connected { CONSENT_INTERVAL } else { CHECK_INTERVAL };
            self.next_check = Some(now + interval);
        }
        if self.dtls_deadline.is_some_and(|due| due <= now)
            && let Some(dtls) = &mut self.dtls
        {
            dtls.handle_timeout(now);
            self.drive_dtls(now, send);
        }
        self.serve_data(now, send);
    }

    /// Lets the data channels do what is due, and sends what they have to say: after anything was asked of them.
    pub fn serve_data(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        if !self.is_connected() {
            return;
        }
        self.data.handle_timeout(now);
        while let Some(packet) = self.data.poll_packet(now) {
            if let Some(dtls) = &mut self.dtls {
                dtls.send_data(now, &packet);
            }
            self.drive_dtls(now, send);
        }
    }

    /// Sends any bytes as application data.
    pub fn send_application_data(
        &mut self,
        now: Instant,
        bytes: &[u8],
        send: &mut dyn FnMut(&[u8]),
    ) {
        if let Some(dtls) = &mut self.dtls {
            dtls.send_data(now, bytes);
        }
        self.drive_dtls(now, send);
    }

    fn send_check(&mut self, send: &mut dyn FnMut(&[u8])) {
        let mut id = [0; 12];
        self.rng.fill(&mut id);
        let request = BindingRequest {
            username: &self.username,
            priority: 1_853_824_767,
            controlling: Some(self.tie_breaker),
            controlled: None,
            use_candidate: true,
        };
        let mut datagram = [0; 512];
        let len = write_binding_request(&mut datagram, TransactionId(id), &request, &self.key);
        if let Some(len) = len {
            send(&datagram[..len]);
        }
    }

    /// Takes one datagram of the server; it is decrypted in place.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        datagram: &mut [u8],
        send: &mut dyn FnMut(&[u8]),
    ) {
        match classify(datagram) {
            Some(Kind::Stun) => self.handle_stun(now, datagram, send),
            Some(Kind::Dtls) => {
                if self.dtls.is_none() {
                    self.start_dtls(now, send);
                }
                if let Some(dtls) = &mut self.dtls {
                    dtls.handle_datagram(now, datagram);
                }
                self.drive_dtls(now, send);
                self.serve_data(now, send);
            }
            Some(Kind::Rtp) => self.handle_rtp(now, datagram),
            Some(Kind::Rtcp) => {
                let opened = self.inbound.as_mut().map(|srtp| srtp.open_rtcp(datagram));
                match opened {
                    Some(Ok(len)) => self.received_rtcp.push(datagram[..len].to_vec()),
                    _ => self.refused += 1,
                }
            }
            None => self.refused += 1,
        }
    }

    fn handle_stun(&mut self, now: Instant, datagram: &[u8], send: &mut dyn FnMut(&[u8])) {
        let Ok(message) = Message::parse(datagram) else { return };
        if message.class() == Class::Request {
            self.answer_check(&message, send);
        } else if message.class() == Class::Success && message.verify_integrity(&self.key) {
            self.checks_answered += 1;
            if self.dtls.is_none() {
                self.start_dtls(now, send);
            }
        }
    }

    /// Answers a check of the server. Source: RFC 8445 §7.3.
    fn answer_check(&self, message: &Message<'_>, send: &mut dyn FnMut(&[u8])) {
        let Some(address) = self.remote_address else { return };
        let key = IntegrityKey::new(self.params.local.pwd.as_bytes());
        let names_us = message.username_parts().map(|(ours, _)| ours);
        let is_check = message.is_binding()
            && names_us == Some(self.params.local.ufrag.as_bytes())
            && message.verify_integrity(&key);
        let mut datagram = [0; 128];
        if is_check
            && let Some(len) =
                write_binding_success(&mut datagram, message.transaction_id(), address, &key)
        {
            send(&datagram[..len]);
        }
    }

    fn start_dtls(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        let mut dtls = DtlsEndpoint::new(&self.params.identity, self.params.dtls_role, now);
        dtls.set_remote_fingerprints(vec![self.params.fingerprint.clone()]);
        self.dtls = Some(dtls);
        self.drive_dtls(now, send);
    }

    fn drive_dtls(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        let Some(dtls) = &mut self.dtls else { return };
        let mut datagram = [0; 2_048];
        loop {
            match dtls.poll(now, &mut datagram) {
                Output::Datagram(len) => send(&datagram[..len]),
                Output::Data(len) => self.data.handle_packet(now, &datagram[..len]),
                Output::Connected(keys) => {
                    self.profile = Some(keys.profile);
                    self.inbound = Some(InboundSrtp::new(keys.profile, &keys.remote));
                    self.outbound = Some(OutboundSrtp::new(keys.profile, &keys.local));
                }
                Output::PeerClosed => self.closed = Some(SessionError::PeerLeft),
                Output::Failed(error) => self.closed = Some(error),
                Output::Wait(deadline) => {
                    self.dtls_deadline = deadline;
                    return;
                }
            }
        }
    }

    fn handle_rtp(&mut self, now: Instant, datagram: &mut [u8]) {
        let (Some(srtp), Ok(header)) = (&mut self.inbound, RtpHeader::parse(datagram)) else {
            self.refused += 1;
            return;
        };
        let mut fresh = PacketIndex::new();
        let known = self.streams.get_mut(&header.ssrc);
        let is_new = known.is_none();
        let index = known.unwrap_or(&mut fresh);
        match srtp.open_rtp(index, datagram, header.header_len) {
            Ok(opened) => {
                let packet = datagram[..opened.len].to_vec();
                self.received.push(ReceivedRtp { at: now, index: opened.index, packet });
                if is_new {
                    self.streams.insert(header.ssrc, fresh);
                }
            }
            Err(_) => self.refused += 1,
        }
    }

    /// Seals a plain packet (header and payload) under `index` and sends it; false before the keys are there.
    pub fn send_rtp(
        &mut self,
        index: ExtSeqNum,
        plain: &[u8],
        send: &mut dyn FnMut(&[u8]),
    ) -> bool {
        let (Some(srtp), Ok(header)) = (&mut self.outbound, RtpHeader::parse(plain)) else {
            return false;
        };
        let mut packet = [0; 2_048];
        let Some(room) = packet.get_mut(..plain.len() + srtp.profile().rtp_overhead()) else {
            return false;
        };
        room[..plain.len()].copy_from_slice(plain);
        let sealed = srtp.seal_rtp(index, room, header.header_len, plain.len());
        if let Some(len) = sealed {
            send(&packet[..len]);
        }
        sealed.is_some()
    }

    /// Seals a plain RTCP compound and sends it; false before the keys are there.
    pub fn send_rtcp(&mut self, plain: &[u8], send: &mut dyn FnMut(&[u8])) -> bool {
        let Some(srtp) = &mut self.outbound else { return false };
        let mut packet = [0; 2_048];
        let Some(room) = packet.get_mut(..plain.len() + srtp.profile().rtcp_overhead()) else {
            return false;
        };
        room[..plain.len()].copy_from_slice(plain);
        let sealed = srtp.seal_rtcp(room, plain.len());
        if let Some(len) = sealed {
            send(&packet[..len]);
        }
        sealed.is_some()
    }

    /// Says goodbye over DTLS.
    pub fn close(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        if let Some(dtls) = &mut self.dtls {
            dtls.close();
        }
        self.drive_dtls(now, send);
        self.next_check = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;

    /// What the client answers to a check with this user name and password.
    fn answer(client: &mut Client, username: &str, pwd: &str) -> Option<Vec<u8>> {
        let request = BindingRequest {
            username: username.as_bytes(),
            priority: 1,
            controlling: None,
            controlled: Some(1),
            use_candidate: false,
        };
        let key = IntegrityKey::new(pwd.as_bytes());
        let mut datagram = [0; 512];
        let id = TransactionId([7; 12]);
        let len = write_binding_request(&mut datagram, id, &request, &key).unwrap();
        let mut sent = None;
        let mut send = |bytes: &[u8]| sent = Some(bytes.to_vec());
        client.handle_datagram(Instant::default(), &mut datagram[..len], &mut send);
        sent
    }

    #[test]
    fn a_check_of_the_server_is_answered_once_its_address_is_known() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut made = || Credentials::generate(ShardId(0), &mut |bytes| random.fill(bytes));
        let (local, remote) = (made(), made());
        let identity = Identity::generate().unwrap();
        let params = ClientParams {
            fingerprint: identity.fingerprint().clone(),
            identity,
            local: local.clone(),
            remote: remote.clone(),
            dtls_role: DtlsRole::Active,
            seed: 1,
        };
        let mut client = Client::new(Instant::default(), params);
        let username = format!("{}:{}", local.ufrag, remote.ufrag);
        assert_eq!(answer(&mut client, &username, &local.pwd), None);

        let address = SocketAddr::from(([192, 0, 2, 1], 8443));
        client.set_remote_address(address);
        let answered = answer(&mut client, &username, &local.pwd).unwrap();
        let message = Message::parse(&answered).unwrap();
        assert_eq!(
            (message.class(), message.xor_mapped_address()),
            (Class::Success, Some(address))
        );
        assert!(message.verify_integrity(&IntegrityKey::new(local.pwd.as_bytes())));
        assert_eq!(answer(&mut client, &username, &remote.pwd), None, "of somebody else");
        let other = format!("{}:{}", remote.ufrag, local.ufrag);
        assert_eq!(answer(&mut client, &other, &local.pwd), None, "for somebody else");
    }
}
