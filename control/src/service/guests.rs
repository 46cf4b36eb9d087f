//! Sessions of other interfaces on the same engine: they get their numbers and their half of the transport here, and hear the
//! engine's reports.

use std::sync::Arc;

use tokio::sync::mpsc;

use sluice_engine::ids::{CallId, SessionId, ShardId};
use sluice_engine::shard::mailbox::Report;

use super::shards::SessionSupply;
use super::{Owner, Service, locked};
use crate::media_plane::MediaPlane;
use crate::placement::Placement;
use crate::sdp::{LocalTransport, Supply};

/// Where the reports about a guest's sessions go.
pub type GuestReports = mpsc::Sender<Report>;

impl Service {
    /// A number for a new call, and where its sessions are to be.
    pub fn place_guest_call(&self) -> (CallId, Placement) {
        (self.numbers.call(), self.new_placement())
    }

    /// What a new session of a call needs: its number, our half of its transport, and where its negotiation gets further numbers.
    pub fn prepare_guest(
        &self,
        placement: &mut Placement,
    ) -> (SessionId, LocalTransport, Box<dyn Supply>) {
        let (number, shard) = self.place_session(placement);
        let plane = &self.shards.plane;
        let local = LocalTransport {
            ice: plane.credentials(shard),
            fingerprint: plane.facts().fingerprint.clone(),
            candidates: self.advertised.candidates(true),
        };
        let supply =
            SessionSupply { numbers: Arc::clone(&self.numbers), plane: Arc::clone(plane), shard };
        (number, local, Box::new(supply))
    }

    /// The engine is about to be given a session: from here on its reports are passed on.
    pub fn adopt_guest(&self, session: SessionId, reports: GuestReports) {
        locked(&self.owners).insert(session, Owner::Guest { reports, shard: None });
    }

    /// The engine has a session: from here on it is missed when `shard` does not know it.
    pub fn settle_guest(&self, session: SessionId, shard: ShardId) {
        if let Some(Owner::Guest { shard: at, .. }) = locked(&self.owners).get_mut(&session) {
            *at = Some(shard);
        }
    }

    /// A session has ended.
    pub fn release_guest(&self, session: SessionId) {
        locked(&self.owners).remove(&session);
    }

    /// Whoever took these reports is gone: so are its sessions, and the next comparison takes them out of the engine.
    pub fn release_guests(&self, of: &GuestReports) {
        let is_of = |owner: &Owner| matches!(owner, Owner::Guest { reports, .. } if reports.same_channel(of));
        locked(&self.owners).retain(|_, owner| !is_of(owner));
    }

    /// The engine.
    pub fn plane(&self) -> &Arc<dyn MediaPlane> {
        &self.shards.plane
    }
}
