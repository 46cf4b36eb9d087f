//! One peer's connection: ICE-lite agent, DTLS endpoint, SRTP contexts, what it publishes and what it gets. No IO, no clock.
//!
//! Methods by class: `handle_*` something arrived or came due; `send_*` something goes to the peer; the rest are the control
//! plane's wishes and getters. Order of life: [`Session::new`], checks until a route is validated, the handshake, media, the end.
//! What goes out is written to the `Egress` passed in. Invariants: nothing but STUN leaves towards, or is read from, a route that the ICE agent has not
//! validated; nothing at all leaves without consent.

use crate::clock::Instant;
use crate::command_error::CommandError;
use crate::drop_reason::{DropCounters, DropReason};
use crate::dtls::{DtlsEndpoint, Identity, Output};
use crate::egress::Egress;
use crate::ice::Credentials;
use crate::ice::agent::{IceEvent, IceLiteAgent};
use crate::ids::{CallId, SessionId, Ssrc};
use crate::route::{PathId, Route};
use crate::session_error::SessionError;
use crate::srtp::KeyingMaterial;
use crate::srtp::context::{InboundSrtp, OutboundSrtp};
use crate::wire::stun::Message;

pub mod blocks;
pub mod data;
pub mod feedback;
pub mod inbound;
pub mod outbound;
pub mod params;
mod phase;
pub mod plain;
mod reports;
pub mod snapshot;
mod timers;

use inbound::{Received, Receiver};
use outbound::{Group, Sender, Written};
use params::{RemoteParams, SessionParams};
use phase::Phase;
pub use timers::{Due, Surroundings, Timeouts};

/// One peer's connection.
///
/// Its fields stand in memory as they stand here: what every packet to the peer needs comes first.
#[repr(C)]
pub struct Session {
    phase: Phase,
    /// The handle of the route that media takes: the nominated one, before nomination the first that was validated.
    path: Option<PathId>,
    stats: Stats,
    /// What it gets.
    pub sender: Sender,
    /// Its number.
    pub id: SessionId,
    /// Its call.
    pub call: CallId,
    timers: timers::Timers,
    ice: IceLiteAgent,
    /// The ufrags under which the shard knows us.
    ufrags: Vec<String>,
    remote: Option<RemoteParams>,
    /// Validated routes and the handles to send on them.
    routes: Vec<(Route, PathId)>,
    /// What it publishes.
    pub receiver: Receiver,
    /// The SSRC we report under. Source: RFC 3550 §6.4.
    ssrc: Ssrc,
    cname: String,
    /// Its data channels, if it may have any.
    data: data::Data,
    /// What the shard spends on its handshake.
    pub handshake_share: HandshakeShare,
}

/// How much of the shard's time for handshakes a session has had, so that none takes that of others.
#[derive(Clone, Copy, Default)]
pub struct HandshakeShare {
    /// The turn in which it was last served.
    pub turn: u64,
    /// Datagrams handled in that turn as they came.
    pub handled: u8,
    /// Datagrams that wait.
    pub waiting: u8,
}

#[derive(Default)]
struct Stats {
    packets_in: u64,
    bytes_in: u64,
    packets_out: u64,
    bytes_out: u64,
}

/// What a datagram of the handshake led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Handshake {
    /// Nothing that others need to know.
    Running,
    /// Keys are there.
    Connected,
    /// The session is over.
    Ended(SessionError),
}

/// What a check led to.
pub struct CheckOutcome {
    /// Bytes of the answer.
    pub reply_len: usize,
    /// The route was validated by this check: open a path and pass it to [`Session::add_route`].
    pub validated: bool,
    /// Consent is back.
    pub reconnected: bool,
}

impl Session {
    /// Bytes at the front of a session that sending takes.
    pub const HOT_BYTES: usize = std::mem::offset_of!(Self, id);

    /// Makes a session that waits for checks.
    pub fn new(
        now: Instant,
        params: SessionParams,
        timeouts: &Timeouts,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let remote_ice = params.remote.as_ref().map(|remote| remote.ice.clone());
        let mut timers = timers::Timers::new(timeouts);
        if params.remote.is_some() {
            timers.expect_peer(now);
        }
        Self {
            id: params.session,
            call: params.call,
            phase: Phase::Checking,
            ufrags: vec![params.local_ice.ufrag.clone()],
            ice: IceLiteAgent::new(params.local_ice, remote_ice, timeouts.consent),
            remote: params.remote,
            routes: Vec::new(),
            path: None,
            receiver: Receiver::new(),
            sender: Sender::new(),
            ssrc: Ssrc(rng.u32(1..)),
            cname: params.cname,
            timers,
            stats: Stats::default(),
            data: data::Data::new(params.data_channels),
            handshake_share: HandshakeShare::default(),
        }
    }

    /// Takes the peer's half: the answer to our offer, or its new ICE credentials.
    ///
    /// # Errors
    /// `HandshakeBegan` when fingerprints or DTLS role differ from those that the handshake runs with.
    pub fn set_remote(&mut self, now: Instant, remote: RemoteParams) -> Result<(), CommandError> {
        if let (Some(old), false) = (&self.remote, matches!(self.phase, Phase::Checking))
            && (old.fingerprints != remote.fingerprints || old.dtls_role != remote.dtls_role)
        {
            return Err(CommandError::HandshakeBegan);
        }
        if self.remote.is_none() {
            self.timers.expect_peer(now);
        }
        self.ice.set_remote(remote.ice.clone());
        self.remote = Some(remote);
        Ok(())
    }

    /// The ufrags under which the shard knows the session, retired ones included.
    pub fn ufrags(&self) -> &[String] {
        &self.ufrags
    }

    /// Gives the session new ICE credentials of ours. Source: RFC 8445 §9.
    pub fn restart_ice(&mut self, local: Credentials) {
        self.ufrags.push(local.ufrag.clone());
        self.ice.restart(local);
    }

    /// Takes out one ufrag that the agent no longer answers to.
    pub fn take_retired_ufrag(&mut self) -> Option<String> {
        let ice = &self.ice;
        let retired = |ufrag: &String| !ice.local_ufrags().any(|current| current == ufrag);
        let at = self.ufrags.iter().position(retired)?;
        Some(self.ufrags.swap_remove(at))
    }

    /// Answers one check that came on `route`.
    ///
    /// # Errors
    /// Why it is not answered.
    pub fn handle_check(
        &mut self,
        now: Instant,
        route: Route,
        message: &Message<'_>,
        reply: &mut [u8],
    ) -> Result<CheckOutcome, DropReason> {
        let checked = self.ice.handle_check(now, route, message, reply)?;
        let validated = self.ice.is_valid(route) && self.path_of(route).is_none();
        if !validated && matches!(checked.event, Some(IceEvent::Selected(_))) {
            self.choose_path();
        }
        let mut reconnected = false;
        if let Phase::Connected { lost, .. } = &mut self.phase
            && lost.is_some()
            && self.ice.has_consent(now)
        {
            *lost = None;
            reconnected = true;
            self.consent_is_back(now);
        }
        Ok(CheckOutcome { reply_len: checked.reply_len, validated, reconnected })
    }

    /// Notes the handle of a route that a check just validated.
    pub fn add_route(&mut self, route: Route, path: PathId) {
        self.routes.push((route, path));
        self.choose_path();
    }

    /// Media takes the route that the ICE agent names.
    fn choose_path(&mut self) {
        self.path = self.ice.handshake_route().and_then(|route| self.path_of(route));
    }

    /// Takes out the routes that the ICE agent no longer holds valid, to be closed.
    pub fn take_stale_route(&mut self) -> Option<(Route, PathId)> {
        let at = self.routes.iter().position(|&(route, _)| !self.ice.is_valid(route))?;
        let (route, path) = self.routes.swap_remove(at);
        if self.path == Some(path) {
            self.choose_path();
        }
        Some((route, path))
    }

    /// Takes out any route: the session ends.
    pub fn take_route(&mut self) -> Option<(Route, PathId)> {
        self.path = None;
        self.routes.pop()
    }

    /// When the latest check came on a validated route.
    pub fn heard_on(&self, route: Route) -> Option<Instant> {
        self.ice.heard_on(route)
    }

    /// A TCP connection went away.
    pub fn forget_route(&mut self, route: Route) {
        self.ice.forget_route(route);
    }

    /// The handle of a validated route.
    pub fn path_of(&self, route: Route) -> Option<PathId> {
        self.routes.iter().find(|&&(known, _)| known == route).map(|&(_, path)| path)
    }

    /// Starts the handshake as soon as there is a route and the peer's half is known.
    pub fn start_handshake(
        &mut self,
        now: Instant,
        identity: &Identity,
        egress: &mut Egress,
    ) -> Handshake {
        let (Phase::Checking, Some(remote), Some(_)) = (&self.phase, &self.remote, self.path)
        else {
            return Handshake::Running;
        };
        let mut dtls = DtlsEndpoint::new(identity, remote.dtls_role, now);
        dtls.set_remote_fingerprints(remote.fingerprints.clone());
        self.phase = Phase::Handshaking(Box::new(dtls));
        self.drive_handshake(now, egress)
    }

    /// Takes one DTLS datagram of a validated route.
    pub fn handle_dtls(&mut self, now: Instant, datagram: &[u8], egress: &mut Egress) -> Handshake {
        let Some(dtls) = self.phase.dtls_mut() else { return Handshake::Running };
        dtls.handle_datagram(now, datagram);
        self.drive_handshake(now, egress)
    }

    /// Whether a DTLS datagram has an endpoint to go to.
    pub fn takes_dtls(&self) -> bool {
        !matches!(self.phase, Phase::Checking)
    }

    fn drive_handshake(&mut self, now: Instant, egress: &mut Egress) -> Handshake {
        let mut outcome = Handshake::Running;
        let mut datagram = [0; DTLS_DATAGRAM_MAX];
        loop {
            let Some(dtls) = self.phase.dtls_mut() else { return outcome };
            match dtls.poll(now, &mut datagram) {
                Output::Datagram(len) => {
                    if let Some(path) = self.path.filter(|_| self.ice.has_consent(now)) {
                        egress.push(path, &datagram[..len]);
                    }
                }
                Output::Data(len) => self.take_data(now, &datagram[..len]),
                Output::Connected(keys) => {
                    self.install_keys(now, &keys);
                    outcome = Handshake::Connected;
                }
                Output::PeerClosed => return Handshake::Ended(SessionError::PeerLeft),
                Output::Failed(error) => return Handshake::Ended(error),
                Output::Wait(deadline) => {
                    self.timers.set(timers::Timer::Dtls, deadline);
                    return outcome;
                }
            }
        }
    }

    fn install_keys(&mut self, now: Instant, keys: &KeyingMaterial) {
        let Phase::Handshaking(dtls) = std::mem::replace(&mut self.phase, Phase::Checking) else {
            return;
        };
        self.receiver.srtp = Some(InboundSrtp::new(keys.profile, &keys.remote));
        self.sender.srtp = Some(OutboundSrtp::new(keys.profile, &keys.local));
        self.phase = Phase::Connected { dtls, profile: keys.profile, lost: None };
        self.timers.set(timers::Timer::Connect, None);
        // The SSRC is random enough to spread the reports of many sessions.
        self.timers.start_reports(now, self.ssrc.0);
    }

    /// Whether media flows.
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected { lost: None, .. })
    }

    /// The SRTP profile, once connected.
    pub fn profile(&self) -> Option<crate::srtp::Profile> {
        match &self.phase {
            Phase::Connected { profile, .. } => Some(*profile),
            _ => None,
        }
    }

    /// Opens one SRTP packet of a validated route in place.
    ///
    /// # Errors
    /// Why it is not to be forwarded.
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        datagram: &mut [u8],
    ) -> Result<Received, DropReason> {
        let received = self.receiver.receive(now, datagram)?;
        self.stats.packets_in += 1;
        self.stats.bytes_in += received.plain.len() as u64;
        self.timers.media_arrived(&self.receiver);
        Ok(received)
    }

    /// Writes the packets of `group` for the leg at position `leg`; returns what was written. What the peer does not get is counted
    /// in `drops`.
    pub fn send_media(
        &mut self,
        leg: u32,
        group: &mut Group<'_>,
        egress: &mut Egress,
        drops: &mut DropCounters,
    ) -> Written {
        let path = match self.media_path() {
            Ok(path) => path,
            Err(reason) => {
                drops.add(reason, group.packets.len() as u64);
                return Written::default();
            }
        };
        let written = self.sender.send(leg, group, path, egress, drops);
        self.stats.packets_out += written.packets;
        self.stats.bytes_out += written.bytes;
        written
    }

    /// Sends the packet of `group` again on the leg at position `leg`; returns the bytes of RTP.
    ///
    /// # Errors
    /// Why it is not resent.
    pub fn resend_media(
        &mut self,
        leg: u32,
        group: &mut Group<'_>,
        egress: &mut Egress,
    ) -> Result<usize, DropReason> {
        let path = self.media_path()?;
        let bytes = self.sender.resend(leg, group, self.timers.rtt(), path, egress)?;
        self.stats.packets_out += 1;
        self.stats.bytes_out += bytes as u64;
        Ok(bytes)
    }

    fn media_path(&self) -> Result<PathId, DropReason> {
        if !self.is_connected() {
            return Err(DropReason::NotConnected);
        }
        self.path.ok_or(DropReason::NotConnected)
    }

    /// Says goodbye: BYE for all our SSRCs and DTLS close_notify. The session is to be removed after it.
    pub fn send_goodbye(&mut self, now: Instant, egress: &mut Egress) {
        if self.is_connected() {
            self.send_bye(egress);
        }
        self.abort_data(now, egress);
        if let Some(dtls) = self.phase.dtls_mut() {
            dtls.close();
            self.drive_handshake(now, egress);
        }
    }
}

/// Room for one DTLS datagram that we send.
const DTLS_DATAGRAM_MAX: usize = 2_048;
