//! Connectivity checks, and the routes that they give to sessions and take away.

use super::Shard;
use super::demux::{HELD, Owner};
use super::mailbox::Report;
use super::steering::Handover;
use crate::clock::Instant;
use crate::drop_reason::DropReason;
use crate::ice::shard_of_ufrag;
use crate::ids::{SessionKey, ShardId};
use crate::io::Network;
use crate::route::{PathId, Route, Transport};
use crate::session::Session;
use crate::wire::stun::{Class, Message};

impl Shard {
    /// One STUN message, from the network or from the shard that got it.
    pub(super) fn handle_stun<N: Network>(
        &mut self,
        now: Instant,
        route: Route,
        datagram: &[u8],
        via: Option<ShardId>,
        network: &mut N,
    ) {
        if let Err(reason) = self.answer_check(now, route, datagram, via, network) {
            self.drops.count(reason);
        }
    }

    fn answer_check<N: Network>(
        &mut self,
        now: Instant,
        route: Route,
        datagram: &[u8],
        via: Option<ShardId>,
        network: &mut N,
    ) -> Result<(), DropReason> {
        let message = Message::parse(datagram).map_err(|_| DropReason::BadStun)?;
        if message.class() != Class::Request || !message.is_binding() {
            return Err(DropReason::UnusedStun);
        }
        let (ufrag, _) = message.username_parts().ok_or(DropReason::UnknownUfrag)?;
        let owner = shard_of_ufrag(ufrag).ok_or(DropReason::UnknownUfrag)?;
        if owner != self.id {
            return match via {
                None => self.pass_on(owner, route, datagram, network),
                Some(_) => Err(DropReason::UnknownUfrag),
            };
        }
        let key = self.demux.by_ufrag(ufrag).ok_or(DropReason::UnknownUfrag)?;
        if self.is_taken(now, route, key) {
            return Err(DropReason::RouteTaken);
        }
        let session = self.sessions.get_mut(key).ok_or(DropReason::UnknownUfrag)?;
        self.current = Some(key);
        let mut reply = [0; STUN_REPLY_MAX];
        let outcome = session.handle_check(now, route, &message, &mut reply)?;
        self.counters.stun_checks += 1;
        if outcome.validated {
            session.add_route(route, network.open_path(route));
        }
        if session.heard_on(route).is_some() {
            // Again at every check: another session may have had the route while this one was silent.
            self.demux.claim(route, key);
        }
        let path = session.path_of(route).unwrap_or_else(|| {
            // Answered and not validated (a role conflict, an unknown attribute): the handle is for this answer alone.
            let path = network.open_path(route);
            self.closing_paths.push(path);
            path
        });
        self.egress.push(path, &reply[..outcome.reply_len]);
        let id = session.id;
        if let (Some(from), true) = (via, session.path_of(route).is_some()) {
            // Said at every check: the pointer may have been lost, or may belong to an earlier session.
            self.claim_steered(route, from);
        }
        if outcome.reconnected {
            self.report(Report::Reconnected { session: id });
        }
        self.drop_stale_routes(key);
        self.sync_ufrags(key);
        self.begin_handshake(now, key);
        Ok(())
    }

    /// Whether a route is that of another session than `key`, whose peer still checks.
    fn is_taken(&self, now: Instant, route: Route, key: SessionKey) -> bool {
        match self.demux.owner(&route) {
            Some(Owner::Session(owner)) if owner != key => {
                let heard = self.sessions.get(owner).and_then(|owner| owner.heard_on(route));
                heard.is_some_and(|heard| now.since(heard) < HELD)
            }
            Some(Owner::Shard(_)) => self.demux.is_held(now, &route),
            _ => false,
        }
    }

    /// Has `from` pass on to us what arrives on this route of ours.
    fn claim_steered(&mut self, route: Route, from: ShardId) {
        if !self.steering.send_own(from, route) {
            return;
        }
        let before = self.steered_from.insert(route, from);
        if let Some(before) = before.filter(|&before| before != from) {
            self.steering.send_disown(before, route);
        }
    }

    /// Gives a stranger's check, or the TCP connection it came on, to the shard that its ufrag names.
    fn pass_on<N: Network>(
        &mut self,
        owner: ShardId,
        route: Route,
        datagram: &[u8],
        network: &mut N,
    ) -> Result<(), DropReason> {
        let passed = match route.transport {
            // The check of a peer that is known to be the owner's keeps its session alive.
            Transport::Udp if self.demux.owner(&route) == Some(Owner::Shard(owner)) => {
                self.steering.send_datagram(owner, route, datagram)
            }
            Transport::Udp => self.steering.send_strangers(owner, route, datagram),
            Transport::Tcp(_) => {
                let mut stream = network.release_stream(route).ok_or(DropReason::UnknownRoute)?;
                // The check was taken off the connection already: put its frame back in front.
                let mut unread = (datagram.len() as u16).to_be_bytes().to_vec();
                unread.extend_from_slice(datagram);
                unread.append(&mut stream.unread);
                stream.unread = unread;
                self.steering.send_stream(owner, stream)
            }
        };
        if !passed {
            return Err(DropReason::RelayFull);
        }
        self.counters.steered_out += 1;
        Ok(())
    }

    pub(super) fn handle_handover<N: Network>(
        &mut self,
        now: Instant,
        from: ShardId,
        handover: Handover,
        network: &mut N,
    ) {
        match handover {
            Handover::Own(route) => {
                self.demux.point_to(now, route, from);
            }
            Handover::Disown(route) => self.demux.unpoint(route, from),
            // A connection that cannot be adopted is dropped, and so closed: the peer connects again.
            Handover::Stream(stream) => {
                let _ = network.adopt_stream(stream);
            }
        }
    }

    /// A TCP connection went away.
    pub(super) fn forget_route(&mut self, route: Route) {
        let Some(Owner::Session(key)) = self.demux.owner(&route) else { return };
        if let Some(session) = self.sessions.get_mut(key) {
            session.forget_route(route);
        }
        self.drop_stale_routes(key);
    }

    pub(super) fn drop_stale_routes(&mut self, key: SessionKey) {
        while let Some((route, path)) =
            self.sessions.get_mut(key).and_then(Session::take_stale_route)
        {
            self.release_route(key, route, path);
        }
    }

    pub(super) fn release_route(&mut self, key: SessionKey, route: Route, path: PathId) {
        self.demux.release(route, key);
        // Closed after the flush: this turn's datagrams may still go there.
        self.closing_paths.push(path);
        if let Some(from) = self.steered_from.remove(&route) {
            self.steering.send_disown(from, route);
        }
    }

    /// Makes the ufrag table say what the session's agent answers to.
    pub(super) fn sync_ufrags(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        while let Some(old) = session.take_retired_ufrag() {
            self.demux.remove_ufrag(&old);
        }
    }
}

/// The STUN answer that fits any request we accept.
const STUN_REPLY_MAX: usize = 256;
