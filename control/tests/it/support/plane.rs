//! A stand-in for the engine: does what it is told, and remembers it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use futures_channel::oneshot;
use sluice_control::media_plane::MediaPlane;
use sluice_engine::command_error::CommandError;
use sluice_engine::dtls::{Fingerprint, HashFunction};
use sluice_engine::ice::Credentials;
use sluice_engine::ids::{CallId, SessionId, ShardId, TrackId};
use sluice_engine::session::snapshot::SessionSnapshot;
use sluice_engine::shard::handle::{EngineFacts, Reply};
use sluice_engine::shard::mailbox::{Answer, Command, ShardSnapshot};

/// Decides what a command is refused with, if it is.
type Refusal = Box<dyn FnMut(&Command) -> Option<CommandError> + Send>;

/// The stand-in.
pub(crate) struct FakePlane {
    facts: EngineFacts,
    shards: u16,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    log: Vec<String>,
    sessions: BTreeMap<SessionId, (ShardId, CallId)>,
    tracks: HashMap<TrackId, SessionId>,
    refuse: Option<Refusal>,
    /// Shards that take commands and never answer, with the answers they owe.
    silent: Vec<ShardId>,
    owed: Vec<oneshot::Sender<Result<Answer, CommandError>>>,
    credentials: u64,
}

impl FakePlane {
    pub(crate) fn new(shards: u16) -> Arc<Self> {
        let address = |text: &str| text.parse().expect("an address");
        Arc::new(Self {
            facts: EngineFacts {
                backend: "mmsg",
                backend_reason: Some("the kernel refuses io_uring".to_owned()),
                udp: vec![address("192.0.2.7:8443"), address("127.0.0.1:8443")],
                tcp: vec![address("192.0.2.7:8443"), address("127.0.0.1:8443")],
                receive_buffer_bytes: 425_984,
                send_buffer_bytes: 425_984,
                receive_buffer_bytes_wanted: 1 << 24,
                send_buffer_bytes_wanted: 1 << 24,
                cores: (0..usize::from(shards)).collect(),
                memory_reserved_bytes: 1 << 20,
                fingerprint: Fingerprint { hash: HashFunction::Sha256, value: vec![0xab; 32] },
            },
            shards,
            state: Mutex::default(),
        })
    }

    /// What was asked, one line a command: its kind, and the session where there is one.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state.lock().expect("no test panics inside").log.clone()
    }

    /// How often a command of this kind was asked.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.log().iter().filter(|line| line.split(' ').next() == Some(kind)).count()
    }

    /// Sessions that the engine has.
    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        let state = self.state.lock().expect("no test panics inside");
        state.sessions.keys().copied().collect()
    }

    pub(crate) fn refuse(
        &self,
        refuse: impl FnMut(&Command) -> Option<CommandError> + Send + 'static,
    ) {
        self.state.lock().expect("no test panics inside").refuse = Some(Box::new(refuse));
    }

    pub(crate) fn silence(&self, shard: ShardId) {
        self.state.lock().expect("no test panics inside").silent.push(shard);
    }

    /// Puts a session into the engine that nobody asked for.
    pub(crate) fn add_stray(&self, session: SessionId) {
        let mut state = self.state.lock().expect("no test panics inside");
        state.sessions.insert(session, (ShardId(0), CallId(0)));
    }

    /// Takes a session out of the engine without a word.
    pub(crate) fn lose(&self, session: SessionId) {
        self.state.lock().expect("no test panics inside").sessions.remove(&session);
    }
}

impl State {
    fn carry_out(&mut self, shard: ShardId, command: Command) -> Result<Answer, CommandError> {
        let kind = format!("{command:?}");
        let kind = kind.split([' ', '(', '{']).next().unwrap_or("").to_owned();
        if kind != "Snapshot" {
            self.log.push(kind);
        }
        if let Some(error) = self.refuse.as_mut().and_then(|refuse| refuse(&command)) {
            return Err(error);
        }
        // A session is known to its shard alone.
        let known =
            |sessions: &BTreeMap<_, (ShardId, CallId)>, session| match sessions.get(&session) {
                Some((at, _)) if *at == shard => Ok(()),
                _ => Err(CommandError::UnknownSession(session)),
            };
        match command {
            Command::AddSession(params) => {
                if self.sessions.insert(params.session, (shard, params.call)).is_some() {
                    return Err(CommandError::Exists);
                }
            }
            Command::RemoveSession { session } => {
                known(&self.sessions, session)?;
                self.sessions.remove(&session);
                self.tracks.retain(|_, owner| *owner != session);
            }
            Command::AddTrack { session, track } => {
                known(&self.sessions, session)?;
                self.tracks.insert(track.track, session);
            }
            Command::RemoveTrack { session, track } => {
                known(&self.sessions, session)?;
                self.tracks.remove(&track).ok_or(CommandError::UnknownTrack(track))?;
            }
            Command::AddLeg { session, leg } => {
                known(&self.sessions, session)?;
                if self.shard_of(leg.track) != Some(shard) {
                    return Err(CommandError::UnknownTrack(leg.track));
                }
            }
            Command::AddRelayedLeg { session, leg, home, track } => {
                known(&self.sessions, session)?;
                assert_eq!((leg.track, home == shard), (track.track, false));
                if self.shard_of(leg.track) != Some(home) {
                    return Err(CommandError::UnknownTrack(leg.track));
                }
            }
            Command::SetRemote { session, .. }
            | Command::RestartIce { session, .. }
            | Command::SetMuted { session, .. }
            | Command::SendData { session, .. }
            | Command::RemoveLeg { session, .. } => known(&self.sessions, session)?,
            Command::Snapshot { .. } => {
                return Ok(Answer::Snapshot(Box::new(self.snapshot(shard))));
            }
        }
        Ok(Answer::Done)
    }

    fn shard_of(&self, track: TrackId) -> Option<ShardId> {
        self.sessions.get(self.tracks.get(&track)?).map(|(shard, _)| *shard)
    }

    fn snapshot(&self, shard: ShardId) -> ShardSnapshot {
        let here = self.sessions.iter().filter(|(_, (at, _))| *at == shard);
        let session_list: Vec<_> = here
            .map(|(session, (_, call))| SessionSnapshot {
                session: *session,
                call: *call,
                phase: "connected",
                transport: Some("udp"),
                profile: None,
                packets_in: 11,
                bytes_in: 1_100,
                packets_out: 22,
                bytes_out: 2_200,
                packets_lost_in: 0,
                packets_lost_out: 1,
                rtt_us: Some(1_234),
                estimate_bps: None,
            })
            .collect();
        ShardSnapshot {
            shard,
            counters: Default::default(),
            drops: Default::default(),
            tallies: Vec::new(),
            sessions: session_list.len(),
            calls: 0,
            tracks: self.tracks.len(),
            legs: 0,
            session_list,
        }
    }
}

impl MediaPlane for FakePlane {
    fn facts(&self) -> &EngineFacts {
        &self.facts
    }

    fn shards(&self) -> u16 {
        self.shards
    }

    fn least_loaded(&self) -> ShardId {
        ShardId(0)
    }

    fn load_permille(&self, _: ShardId) -> u32 {
        7
    }

    fn credentials(&self, shard: ShardId) -> Credentials {
        let mut state = self.state.lock().expect("no test panics inside");
        state.credentials += 1;
        let n = state.credentials;
        Credentials {
            ufrag: format!("s{shard}u{n:04}"),
            pwd: format!("passwordpasswordpassword{n:04}"),
        }
    }

    fn request(&self, shard: ShardId, command: Command) -> Result<Reply, CommandError> {
        let (sender, reply) = oneshot::channel();
        let mut state = self.state.lock().expect("no test panics inside");
        if state.silent.contains(&shard) {
            state.owed.push(sender);
        } else {
            let answer = state.carry_out(shard, command);
            let _ = sender.send(answer);
        }
        Ok(reply)
    }
}
