//! A client of WHIP (RFC 9725) or of WHEP (draft-ietf-wish-whep): one request with an offer, whose answer holds everything.
//!
//! A participant that sends joins by WHIP and receives nothing, even if it `receives`: the protocols have no session that does both.
//! All others join by WHEP and get at most one audio and one video, of what is published at that moment.

use std::collections::VecDeque;
use std::time::Duration;

use sluice_engine::clock::Instant;

use super::negotiation::{Added, Negotiation};
use super::sdp::Format;
use super::{Heard, Participant, Request, Response, Target, Wish, refusal};

/// How soon a player asks again when nothing is published, and for how long.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(20);

/// The conversation of one session.
pub struct WhipConversation {
    endpoint: String,
    negotiation: Negotiation,
    offer: String,
    is_player: bool,
    step: Step,
    give_up_at: Instant,
    has_left: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Asking,
    /// Nothing is published: asks again at this time.
    Waiting(Instant),
    /// The session is there, at this path.
    Joined(String),
}

impl WhipConversation {
    /// Asks for a session.
    pub fn new(
        target: &Target,
        participant: &Participant,
        now: Instant,
        wishes: &mut VecDeque<Wish>,
    ) -> Self {
        let mut negotiation = Negotiation::new(participant, target.address(), false);
        let is_player = participant.sources.is_empty();
        let added: Vec<Added> = match is_player {
            true => [Format::Opus, Format::Vp8].map(Added::Receiving).to_vec(),
            false => participant.sources.iter().map(|&source| Added::Source(source)).collect(),
        };
        let protocol = if is_player { "whep" } else { "whip" };
        let made = Self {
            endpoint: target.endpoint(protocol, &participant.call),
            offer: negotiation.offer(&added),
            negotiation,
            is_player,
            step: Step::Asking,
            give_up_at: now + RETRY_MAX,
            has_left: false,
        };
        made.ask(wishes);
        made
    }

    fn ask(&self, wishes: &mut VecDeque<Wish>) {
        wishes.push_back(Wish::Request(Request {
            method: "POST",
            path: self.endpoint.clone(),
            content_type: "application/sdp",
            body: self.offer.clone(),
        }));
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
        let Heard::Response(response) = heard else { return Ok(()) };
        // What comes after it is the answer to DELETE.
        if self.step != Step::Asking {
            return Ok(());
        }
        let response = response?;
        match response.status {
            201 => self.begin(now, &response, wishes),
            _ if self.has_left => Ok(()),
            // The call has no tracks, or is not there before its first publisher.
            404 | 409 if self.is_player && now + RETRY <= self.give_up_at => {
                self.step = Step::Waiting(now + RETRY);
                Ok(())
            }
            404 | 409 if self.is_player => {
                Err(format!("{}, for 20 s", refusal("a player", &response)))
            }
            _ => Err(refusal(if self.is_player { "a player" } else { "a publisher" }, &response)),
        }
    }

    fn begin(
        &mut self,
        now: Instant,
        response: &Response,
        wishes: &mut VecDeque<Wish>,
    ) -> Result<(), String> {
        let location = response.location.as_deref().ok_or("the server's answer has no Location")?;
        self.step = Step::Joined(resolve(&self.endpoint, location));
        if self.has_left {
            self.delete(wishes);
            return Ok(());
        }
        self.negotiation.take_answer(now, &response.body, wishes)?;
        wishes.push_back(Wish::Ready);
        Ok(())
    }

    /// Ends the session; one that is being asked for ends when it is there.
    pub fn leave(&mut self, wishes: &mut VecDeque<Wish>) {
        if !self.has_left {
            self.has_left = true;
            self.delete(wishes);
        }
    }

    fn delete(&self, wishes: &mut VecDeque<Wish>) {
        if let Step::Joined(path) = &self.step {
            wishes.push_back(Wish::Request(Request {
                method: "DELETE",
                path: path.clone(),
                content_type: "",
                body: String::new(),
            }));
        }
    }

    /// When [`WhipConversation::handle_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.step {
            Step::Waiting(at) if !self.has_left => Some(at),
            _ => None,
        }
    }

    /// Asks again.
    pub fn handle_timeout(&mut self, now: Instant, wishes: &mut VecDeque<Wish>) {
        if self.next_deadline().is_some_and(|at| at <= now) {
            self.step = Step::Asking;
            self.ask(wishes);
        }
    }
}

/// The path that a `Location` means. Another host is not followed: the path is asked of the target. Source: RFC 3986 §5.2.
fn resolve(endpoint: &str, location: &str) -> String {
    let location = match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => location,
    };
    if location.starts_with('/') {
        return location.to_owned();
    }
    let folder = endpoint.rfind('/').map_or("", |at| &endpoint[..at]);
    format!("{folder}/{location}")
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn a_location_may_be_absolute_or_relative() {
        assert_eq!(resolve("/whip/c", "/whip/c/1"), "/whip/c/1");
        assert_eq!(resolve("/whip/c", "http://h:1/r/1?x=1"), "/r/1?x=1");
        assert_eq!(resolve("/whip/c", "http://h"), "/");
        assert_eq!(resolve("/whip/c", "1"), "/whip/1");
    }
}
