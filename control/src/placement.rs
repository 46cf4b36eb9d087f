//! Which shard a session of a call goes to, and what a command for it is there.
//!
//! A call begins on one shard, its home. Small calls stay there: forwarding then touches the memory of one core, and no packet
//! crosses. Once the home has its share of a call's sessions, further ones go to the shard that has the fewest of them. A session
//! stays where it is for life, as its ICE credentials name the shard.

use std::collections::HashMap;
use std::sync::Arc;

use sluice_engine::ids::{SessionId, ShardId, TrackId};
use sluice_engine::session::params::TrackParams;
use sluice_engine::shard::mailbox::Command;

/// Where the sessions of a call are, and what they publish there.
#[derive(Debug)]
pub struct Placement {
    home: ShardId,
    sessions_per_shard: usize,
    sessions: HashMap<SessionId, ShardId>,
    tracks: HashMap<TrackId, Published>,
}

#[derive(Debug)]
struct Published {
    by: SessionId,
    shard: ShardId,
    params: Arc<TrackParams>,
}

impl Placement {
    /// Of a call without sessions, whose first `sessions_per_shard` go to `home`; all do when that is 0.
    pub fn new(home: ShardId, sessions_per_shard: usize) -> Self {
        Self { home, sessions_per_shard, sessions: HashMap::new(), tracks: HashMap::new() }
    }

    /// The shard of the call's first sessions.
    pub fn home(&self) -> ShardId {
        self.home
    }

    /// The shard of a session.
    pub fn shard_of(&self, session: SessionId) -> Option<ShardId> {
        self.sessions.get(&session).copied()
    }

    /// Finds a shard for a new session. There are `shards` of them; `load` tells how busy one is.
    pub fn place(
        &mut self,
        session: SessionId,
        shards: u16,
        load: impl Fn(ShardId) -> u32,
    ) -> ShardId {
        let mut present = vec![0; usize::from(shards)];
        for shard in self.sessions.values() {
            if let Some(count) = present.get_mut(shard.index()) {
                *count += 1;
            }
        }
        let shard = choose(self.home, self.sessions_per_shard, &present, load);
        self.sessions.insert(session, shard);
        shard
    }

    /// A session has left, and what it published with it.
    pub fn left(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.tracks.retain(|_, published| published.by != session);
    }

    /// Takes note of a command for one of the sessions, and tells which shard is to get it, and as what: a leg of a track that is
    /// published elsewhere is one of a relayed track.
    pub fn route(&mut self, command: Command) -> (ShardId, Command) {
        let session = match &command {
            Command::AddSession(params) => params.session,
            Command::SetRemote { session, .. }
            | Command::RestartIce { session, .. }
            | Command::RemoveSession { session }
            | Command::AddTrack { session, .. }
            | Command::RemoveTrack { session, .. }
            | Command::AddLeg { session, .. }
            | Command::AddRelayedLeg { session, .. }
            | Command::RemoveLeg { session, .. }
            | Command::SetMuted { session, .. }
            | Command::SendData { session, .. } => *session,
            Command::Snapshot { .. } => return (self.home, command),
        };
        // One that has left is unknown to every shard.
        let shard = self.shard_of(session).unwrap_or(self.home);
        let command = match command {
            Command::AddTrack { session, track } => {
                let params = Arc::new((*track).clone());
                self.tracks.insert(track.track, Published { by: session, shard, params });
                Command::AddTrack { session, track }
            }
            Command::RemoveTrack { session, track } => {
                self.tracks.remove(&track);
                Command::RemoveTrack { session, track }
            }
            Command::AddLeg { session, leg } => match self.tracks.get(&leg.track) {
                Some(published) if published.shard != shard => Command::AddRelayedLeg {
                    session,
                    leg,
                    home: published.shard,
                    track: Arc::clone(&published.params),
                },
                _ => Command::AddLeg { session, leg },
            },
            other => other,
        };
        (shard, command)
    }
}

/// The shard for one more session of a call that has `present` on each. Loads are compared in steps of five per cent, so that noise
/// decides nothing; where all else is equal it is the home, then the first.
fn choose(
    home: ShardId,
    sessions_per_shard: usize,
    present: &[usize],
    load: impl Fn(ShardId) -> u32,
) -> ShardId {
    let at_home = present.get(home.index()).copied().unwrap_or_default();
    if sessions_per_shard == 0 || at_home < sessions_per_shard {
        return home;
    }
    let shards = (0..).map(ShardId).zip(present);
    let fewest = shards.min_by_key(|&(shard, &count)| (count, load(shard) / 50, shard != home));
    fewest.map_or(home, |(shard, _)| shard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_engine::ids::{LegId, Mid, Ssrc, TallyId};
    use sluice_engine::session::params::{LegParams, MediaKind};

    const HOME: ShardId = ShardId(1);

    fn idle(_: ShardId) -> u32 {
        0
    }

    /// How many of `sessions` joiners each of `shards` gets.
    fn spread(per_shard: usize, shards: u16, sessions: u64) -> Vec<usize> {
        let mut placement = Placement::new(HOME, per_shard);
        let mut counts = vec![0; usize::from(shards)];
        for session in 0..sessions {
            counts[placement.place(SessionId(session), shards, idle).index()] += 1;
        }
        counts
    }

    #[test]
    fn small_calls_stay_at_home_and_large_ones_come_out_even() {
        assert_eq!(spread(64, 4, 64), [0, 64, 0, 0]);
        assert_eq!(spread(64, 4, 65), [1, 64, 0, 0]);
        assert_eq!(spread(64, 4, 192), [43, 64, 43, 42]);
        assert_eq!(spread(64, 4, 1_001), [250, 251, 250, 250]);
        assert_eq!(spread(1, 3, 10), [3, 4, 3]);
    }

    #[test]
    fn nought_never_spreads_and_one_shard_has_all() {
        assert_eq!(spread(0, 4, 1_000), [0, 1_000, 0, 0]);
        let mut placement = Placement::new(ShardId(0), 10);
        assert!((0..100).all(|n| placement.place(SessionId(n), 1, idle) == ShardId(0)));
    }

    #[test]
    fn load_decides_among_equals_in_steps() {
        let load = |shard: ShardId| [120, 0, 90, 60][shard.index()];
        assert_eq!(choose(HOME, 5, &[2, 5, 2, 2], load), ShardId(2), "60 and 90 are one step");
        assert_eq!(choose(HOME, 5, &[2, 5, 2, 1], load), ShardId(3), "fewest sessions first");
        assert_eq!(choose(HOME, 5, &[5, 5, 5, 5], idle), HOME);
    }

    #[test]
    fn a_place_at_home_that_is_free_again_is_taken_first() {
        let mut placement = Placement::new(HOME, 2);
        let shards: Vec<_> = (0..4).map(|n| placement.place(SessionId(n), 2, idle)).collect();
        assert_eq!(shards, [HOME, HOME, ShardId(0), ShardId(0)]);
        placement.left(SessionId(0));
        assert_eq!(placement.place(SessionId(9), 2, idle), HOME);
    }

    fn track(of: SessionId, track: u64) -> Command {
        let params = TrackParams {
            track: TrackId(track),
            mid: Mid::new("0").expect("a mid"),
            kind: MediaKind::Audio,
            codecs: Vec::new(),
            ssrcs: Vec::new(),
            rtx_ssrcs: Vec::new(),
            extensions: Default::default(),
            layers: Vec::new(),
            voice_activity: false,
            tally: TallyId::default(),
        };
        Command::AddTrack { session: of, track: Box::new(params) }
    }

    fn leg(of: SessionId, track: u64) -> Command {
        let params = LegParams {
            leg: LegId(1),
            track: TrackId(track),
            mid: Mid::new("0").expect("a mid"),
            ssrc: Ssrc(1),
            rtx_ssrc: None,
            payload_types: Vec::new(),
            extensions: Default::default(),
            cname: String::new(),
        };
        Command::AddLeg { session: of, leg: Box::new(params) }
    }

    #[test]
    fn commands_go_to_their_sessions_shard_and_legs_of_other_shards_tracks_are_relayed() {
        let mut placement = Placement::new(HOME, 1);
        let (near, far) = (SessionId(1), SessionId(2));
        assert_eq!(placement.place(near, 2, idle), HOME);
        assert_eq!(placement.place(far, 2, idle), ShardId(0));
        assert!(matches!(placement.route(track(near, 7)), (HOME, Command::AddTrack { .. })));
        let relayed = placement.route(leg(far, 7));
        let (ShardId(0), Command::AddRelayedLeg { home: HOME, track: params, .. }) = relayed else {
            panic!("not relayed: {relayed:?}")
        };
        assert_eq!(params.track, TrackId(7));
        assert!(matches!(placement.route(leg(near, 7)), (HOME, Command::AddLeg { .. })));
        let removal = Command::RemoveTrack { session: near, track: TrackId(7) };
        assert_eq!(placement.route(removal).0, HOME);
        // Of what has gone, the shard itself says so.
        assert!(matches!(placement.route(leg(far, 7)), (ShardId(0), Command::AddLeg { .. })));
        placement.route(track(near, 8));
        placement.left(near);
        assert!(matches!(placement.route(leg(far, 8)), (ShardId(0), Command::AddLeg { .. })));
    }
}
