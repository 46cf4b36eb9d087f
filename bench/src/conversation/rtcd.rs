//! A client of rtcd's API, as the plugin of Mattermost Calls and a browser are one together.
//!
//! The first offer has a data channel and nothing else. Once the channel is open, a client that sends takes the lock, offers its
//! sections, and gives the lock back with the answer. The server offers what others send. A participant of this API is sent everything:
//! whether it `receives` makes no difference.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_engine::clock::Instant;

use super::negotiation::{Added, Negotiation};
use super::rtcd_message::{self as message, RtcType};
use super::sdp::read::read_candidate;
use super::{Heard, Participant, Source, Target, Wish, rtcd_channel as channel};

/// What clients call their data channel.
const CHANNEL: &str = "calls-dc";
/// How often clients ping, unless told otherwise.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How soon a refused lock is asked for again, and for how long: as rtcd's own client.
const LOCK_RETRY: Duration = Duration::from_millis(100);
const LOCK_MAX: Duration = Duration::from_secs(5);
/// How long an offer may wait for its answer before it is made again: the server has no ear for it while it makes one itself.
const OFFER_RETRY: Duration = Duration::from_secs(5);
/// How soon an offer is made again that gave way to one of the server.
const GLARE_RETRY: Duration = Duration::from_millis(100);
/// How often an offer is made in all.
const OFFERS_MAX: u32 = 4;

/// The conversation of one session.
pub struct RtcdConversation {
    session: String,
    sources: Vec<Source>,
    negotiation: Negotiation,
    publication: Publication,
    is_channel_open: bool,
    ping_interval: Duration,
    ping_at: Option<Instant>,
    is_muted: bool,
    has_left: bool,
}

/// How far the client's own media is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Publication {
    /// Nobody knows of it.
    Unknown,
    /// The lock is asked for, again at `ask_at`.
    Locking { ask_at: Option<Instant>, until: Instant },
    /// It is offered, again at `again_at`.
    Offering { again_at: Instant, offers: u32 },
    /// The server takes it, or there is none.
    Done,
}

/// A description as browsers write it in JSON.
#[derive(Serialize, Deserialize)]
struct DescriptionJson {
    #[serde(rename = "type")]
    kind: String,
    sdp: String,
}

/// A candidate, itself or wrapped, as rtcd sends it.
#[derive(Deserialize)]
#[serde(untagged)]
enum CandidateJson {
    Wrapped { candidate: CandidateLine },
    Bare(CandidateLine),
}

#[derive(Deserialize)]
struct CandidateLine {
    candidate: String,
}

/// How a description travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Socket,
    Channel,
}

impl RtcdConversation {
    /// Joins, and offers the data channel.
    pub fn new(target: &Target, participant: Participant, wishes: &mut VecDeque<Wish>) -> Self {
        let participant = Participant { receives: true, ..participant };
        let mut negotiation = Negotiation::new(&participant, target.address(), true);
        let Participant { call, session, sources, .. } = participant;
        wishes.push_back(Wish::Message(message::join(&call, &session, &session, &call)));
        let offer = describe("offer", negotiation.offer(&[Added::Data]));
        wishes.push_back(Wish::Message(message::rtc(&session, RtcType::Sdp, &offer)));
        wishes.push_back(Wish::OpenChannel(CHANNEL));
        Self {
            session,
            sources,
            negotiation,
            publication: Publication::Unknown,
            is_channel_open: false,
            ping_interval: PING_INTERVAL,
            ping_at: None,
            is_muted: false,
            has_left: false,
        }
    }

    /// Sets how often the client pings over the channel; zero is never.
    pub fn set_ping_interval(&mut self, now: Instant, interval: Duration) {
        self.ping_interval = interval;
        let pings = self.is_channel_open && !interval.is_zero();
        self.ping_at = pings.then(|| now + interval);
    }

    /// Takes what was heard.
    ///
    /// # Errors
    /// The client cannot go on.
    pub fn handle(
        &mut self,
        now: Instant,
        heard: Heard,
        wishes: &mut VecDeque<Wish>,
    ) -> Result<(), String> {
        if self.has_left {
            return Ok(());
        }
        match heard {
            Heard::Message(bytes) => match message::decode(&bytes) {
                Some((_, message::FromServer::Ice(json))) => {
                    let Some(candidate) = read_candidate_json(&json) else { return Ok(()) };
                    self.negotiation.add_candidate(now, candidate, wishes)
                }
                Some((_, message::FromServer::Sdp(json))) => {
                    self.handle_description(now, &json, Way::Socket, wishes)
                }
                Some((_, message::FromServer::Close)) => {
                    Err("the server closed the session".to_owned())
                }
                Some((_, message::FromServer::Other)) | None => Ok(()),
            },
            Heard::Channel(bytes) => match channel::decode(&bytes) {
                Some(channel::FromServer::Sdp(json)) => {
                    self.handle_description(now, &json, Way::Channel, wishes)
                }
                Some(channel::FromServer::Lock(is_ours)) => {
                    self.handle_lock(now, is_ours, wishes);
                    Ok(())
                }
                Some(channel::FromServer::Other) | None => Ok(()),
            },
            Heard::ChannelOpen => {
                self.begin_publication(now, wishes);
                Ok(())
            }
            Heard::SocketClosed(why) => Err(format!("the connection to the server ended: {why}")),
            Heard::Response(_) | Heard::SocketOpen | Heard::Text(_) | Heard::Connected => Ok(()),
        }
    }

    fn begin_publication(&mut self, now: Instant, wishes: &mut VecDeque<Wish>) {
        if self.is_channel_open {
            return;
        }
        self.is_channel_open = true;
        self.set_ping_interval(now, self.ping_interval);
        if self.sources.is_empty() {
            self.publication = Publication::Done;
            wishes.push_back(Wish::Ready);
        } else {
            self.publication = Publication::Locking { ask_at: None, until: now + LOCK_MAX };
            wishes.push_back(Wish::Channel(channel::lock()));
        }
    }

    fn handle_lock(&mut self, now: Instant, is_ours: bool, wishes: &mut VecDeque<Wish>) {
        match self.publication {
            Publication::Locking { until, .. } if !is_ours => {
                let ask_at = Some(now + LOCK_RETRY);
                self.publication = Publication::Locking { ask_at, until };
            }
            Publication::Locking { .. } => {
                if let Some(screen) = self.sources.iter().find(|source| **source != Source::Audio) {
                    let stream = screen.stream_id(&self.session);
                    let json = serde_json::json!({ "screenStreamID": stream }).to_string();
                    self.say(RtcType::ScreenOn, json.as_bytes(), wishes);
                }
                self.offer(now, 1, wishes);
            }
            // Granted to somebody who does not wait for it any more.
            _ if is_ours && !matches!(self.publication, Publication::Offering { .. }) => {
                wishes.push_back(Wish::Channel(channel::unlock()));
            }
            _ => {}
        }
    }

    fn offer(&mut self, now: Instant, offers: u32, wishes: &mut VecDeque<Wish>) {
        let added: Vec<Added> = self.sources.iter().map(|&source| Added::Source(source)).collect();
        let text = match self.negotiation.offer_again() {
            Some(text) => text,
            None => self.negotiation.offer(&added),
        };
        self.say(RtcType::Sdp, &describe("offer", text), wishes);
        self.publication = Publication::Offering { again_at: now + OFFER_RETRY, offers };
    }

    fn handle_description(
        &mut self,
        now: Instant,
        json: &[u8],
        way: Way,
        wishes: &mut VecDeque<Wish>,
    ) -> Result<(), String> {
        let DescriptionJson { kind, sdp } = serde_json::from_slice(json)
            .map_err(|error| format!("the server's description is no JSON: {error}"))?;
        match kind.as_str() {
            // An offer that was made twice may be answered twice.
            "answer" if !self.negotiation.is_offering() => Ok(()),
            "answer" => {
                self.negotiation.take_answer(now, &sdp, wishes)?;
                self.end_publication(wishes);
                Ok(())
            }
            "offer" => {
                let answer = self.negotiation.take_offer(now, &sdp, wishes)?;
                let answer = describe("answer", answer);
                match way {
                    Way::Socket => self.say(RtcType::Sdp, &answer, wishes),
                    Way::Channel => wishes.push_back(Wish::Channel(channel::sdp(&answer))),
                }
                if let Publication::Offering { again_at, .. } = &mut self.publication {
                    *again_at = now + GLARE_RETRY;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end_publication(&mut self, wishes: &mut VecDeque<Wish>) {
        if !matches!(self.publication, Publication::Offering { .. }) {
            return;
        }
        self.publication = Publication::Done;
        wishes.push_back(Wish::Channel(channel::unlock()));
        self.say_muted(wishes);
        wishes.push_back(Wish::Ready);
    }

    /// Mutes or unmutes.
    pub fn set_muted(&mut self, is_muted: bool, wishes: &mut VecDeque<Wish>) {
        self.is_muted = is_muted;
        if self.publication == Publication::Done && !self.has_left {
            self.say_muted(wishes);
        }
    }

    fn say_muted(&self, wishes: &mut VecDeque<Wish>) {
        if self.sources.contains(&Source::Audio) {
            let about = if self.is_muted { RtcType::Mute } else { RtcType::Unmute };
            self.say(about, &[], wishes);
        }
    }

    fn say(&self, about: RtcType, data: &[u8], wishes: &mut VecDeque<Wish>) {
        wishes.push_back(Wish::Message(message::rtc(&self.session, about, data)));
    }

    /// Ends the session.
    pub fn leave(&mut self, wishes: &mut VecDeque<Wish>) {
        if !self.has_left {
            self.has_left = true;
            wishes.push_back(Wish::Message(message::leave(&self.session)));
        }
    }

    /// When [`RtcdConversation::handle_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.has_left {
            return None;
        }
        let publication = match self.publication {
            Publication::Locking { ask_at, until } => {
                Some(ask_at.map_or(until, |at| at.min(until)))
            }
            Publication::Offering { again_at, .. } => Some(again_at),
            Publication::Unknown | Publication::Done => None,
        };
        let others = [self.ping_at, self.negotiation.next_deadline()];
        publication.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Does what is due.
    ///
    /// # Errors
    /// The server granted no lock or answered no offer.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        wishes: &mut VecDeque<Wish>,
    ) -> Result<(), String> {
        if self.has_left {
            return Ok(());
        }
        if self.ping_at.is_some_and(|at| at <= now) {
            wishes.push_back(Wish::Channel(channel::ping()));
            self.ping_at = Some(now + self.ping_interval);
        }
        match self.publication {
            Publication::Locking { until, .. } if until <= now => {
                return Err("the server did not grant its lock within 5 s".to_owned());
            }
            Publication::Locking { ask_at: Some(at), until } if at <= now => {
                self.publication = Publication::Locking { ask_at: None, until };
                wishes.push_back(Wish::Channel(channel::lock()));
            }
            Publication::Offering { again_at, offers } if again_at <= now => {
                if offers == OFFERS_MAX {
                    return Err(format!("the server answered none of {OFFERS_MAX} offers"));
                }
                self.offer(now, offers + 1, wishes);
            }
            _ => {}
        }
        self.negotiation.handle_timeout(now, wishes)
    }
}

fn describe(kind: &str, sdp: String) -> Vec<u8> {
    let description = DescriptionJson { kind: kind.to_owned(), sdp };
    serde_json::to_vec(&description).expect("two strings are JSON")
}

fn read_candidate_json(json: &[u8]) -> Option<super::sdp::read::Candidate> {
    let (CandidateJson::Wrapped { candidate } | CandidateJson::Bare(candidate)) =
        serde_json::from_slice(json).ok()?;
    read_candidate(&candidate.candidate)
}
