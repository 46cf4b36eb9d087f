//! A client of Sluice's own API.
//!
//! A session is asked for with an offer of what the client sends; the call is made when it is missing, and goes with its last session. What
//! others send is offered by the server over the client's WebSocket, which only a client that receives has.
//!
//! A client that sends nothing has nothing to offer, and the server offers it nothing until somebody publishes: in a call where nobody
//! does, it is ready without ever having been told to connect.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::json;
use sluice_engine::clock::Instant;

use super::negotiation::{Added, Negotiation};
use super::{Heard, Participant, Request, Response, Target, Wish, refusal};

/// How often the call is made before the client gives up: it may go with its last session just before we are in it.
const CALLS_MADE_MAX: u32 = 5;

/// The conversation of one session.
pub struct NativeConversation {
    call: String,
    /// What the session is asked for with, JSON.
    body: String,
    receives: bool,
    negotiation: Negotiation,
    step: Step,
    calls_made: u32,
    /// Path of the session, once there is one.
    path: Option<String>,
    /// An offer that waits for the WebSocket.
    offer: Option<Offer>,
    answered: Option<u64>,
    is_ready: bool,
    has_left: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    AskingForSession,
    MakingCall,
    /// The session is there; its WebSocket, if it has one, is not.
    Opening,
    Open,
}

#[derive(Deserialize)]
struct Created {
    session: Session,
    answer: Option<Description>,
    offer: Option<Description>,
    offer_id: Option<u64>,
    ws_url: String,
}

#[derive(Deserialize)]
struct Session {
    id: String,
}

#[derive(Deserialize)]
struct Description {
    sdp: String,
}

#[derive(Deserialize)]
struct Offer {
    sdp: String,
    offer_id: u64,
}

/// What the server says over the WebSocket, as far as it matters here.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FromServer {
    Offer(Offer),
    Closed {
        reason: String,
    },
    Error {
        problem: Problem,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Problem {
    detail: Option<String>,
}

impl NativeConversation {
    /// Asks for a session.
    pub fn new(target: &Target, participant: Participant, wishes: &mut VecDeque<Wish>) -> Self {
        let mut negotiation = Negotiation::new(&participant, target.address(), false);
        let Participant { call, session, sources, receives, .. } = participant;
        let subscribe = if receives { "all" } else { "none" };
        let mut body = json!({ "name": session, "subscribe": subscribe });
        if !sources.is_empty() {
            let added: Vec<Added> = sources.into_iter().map(Added::Source).collect();
            body["offer"] = json!({ "type": "offer", "sdp": negotiation.offer(&added) });
        }
        let body = body.to_string();
        let step = Step::AskingForSession;
        let (path, offer, answered, calls_made) = (None, None, None, 0);
        let (is_ready, has_left) = (false, false);
        let made = Self {
            call,
            body,
            receives,
            negotiation,
            step,
            calls_made,
            path,
            offer,
            answered,
            is_ready,
            has_left,
        };
        made.ask(wishes);
        made
    }

    fn ask(&self, wishes: &mut VecDeque<Wish>) {
        let path = format!("/v1/calls/{}/sessions", self.call);
        wishes.push_back(post(path, self.body.clone()));
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
        match heard {
            Heard::Response(response) => self.handle_response(now, response, wishes),
            _ if self.has_left => Ok(()),
            Heard::SocketOpen => {
                self.step = Step::Open;
                match self.offer.take() {
                    Some(offer) => self.answer(now, &offer, wishes),
                    None => {
                        self.say_ready(wishes);
                        Ok(())
                    }
                }
            }
            Heard::Text(text) => self.handle_text(now, &text, wishes),
            Heard::SocketClosed(why) => Err(format!("the session's WebSocket ended: {why}")),
            Heard::Message(_) | Heard::Connected | Heard::ChannelOpen | Heard::Channel(_) => Ok(()),
        }
    }

    fn handle_response(
        &mut self,
        now: Instant,
        response: Result<Response, String>,
        wishes: &mut VecDeque<Wish>,
    ) -> Result<(), String> {
        // Answers to DELETE say nothing, and who left wants no call.
        let is_asking = self.step == Step::AskingForSession;
        if self.has_left && !(is_asking && self.path.is_none()) {
            return Ok(());
        }
        let response = response?;
        match self.step {
            Step::AskingForSession if response.status == 201 => self.begin(now, &response, wishes),
            Step::AskingForSession
                if response.status == 404 && self.calls_made < CALLS_MADE_MAX && !self.has_left =>
            {
                self.step = Step::MakingCall;
                self.calls_made += 1;
                let body = json!({ "id": self.call, "until_empty": true }).to_string();
                wishes.push_back(post("/v1/calls".to_owned(), body));
                Ok(())
            }
            Step::AskingForSession => Err(refusal("a session", &response)),
            // 409: somebody else made it first.
            Step::MakingCall if matches!(response.status, 201 | 409) => {
                self.step = Step::AskingForSession;
                self.ask(wishes);
                Ok(())
            }
            Step::MakingCall => Err(refusal("a call", &response)),
            Step::Opening | Step::Open => Ok(()),
        }
    }

    fn begin(
        &mut self,
        now: Instant,
        response: &Response,
        wishes: &mut VecDeque<Wish>,
    ) -> Result<(), String> {
        let created: Created = serde_json::from_str(&response.body)
            .map_err(|error| format!("the answer to a new session: {error}"))?;
        let path = format!("/v1/calls/{}/sessions/{}", self.call, created.session.id);
        self.path = Some(path);
        self.step = Step::Opening;
        if self.has_left {
            self.delete(wishes);
            return Ok(());
        }
        if let Some(answer) = &created.answer {
            self.negotiation.take_answer(now, &answer.sdp, wishes)?;
        }
        if let (Some(Description { sdp }), Some(offer_id)) = (created.offer, created.offer_id) {
            self.offer = Some(Offer { sdp, offer_id });
        }
        if self.receives || self.offer.is_some() || created.answer.is_none() {
            wishes.push_back(Wish::OpenSocket(created.ws_url));
        } else {
            self.say_ready(wishes);
        }
        Ok(())
    }

    fn handle_text(
        &mut self,
        now: Instant,
        text: &str,
        wishes: &mut VecDeque<Wish>,
    ) -> Result<(), String> {
        match serde_json::from_str(text).map_err(|e| format!("the server's message: {e}"))? {
            FromServer::Offer(offer) => self.answer(now, &offer, wishes),
            FromServer::Closed { reason } => {
                Err(format!("the server closed the session: {reason}"))
            }
            FromServer::Error { problem } => {
                let detail = problem.detail.unwrap_or_default();
                Err(format!("the server refused a message: {detail}"))
            }
            FromServer::Other => Ok(()),
        }
    }

    /// Answers an offer, each one once: a WebSocket that has just opened repeats what waits.
    fn answer(
        &mut self,
        now: Instant,
        offer: &Offer,
        wishes: &mut VecDeque<Wish>,
    ) -> Result<(), String> {
        if self.answered.is_some_and(|answered| offer.offer_id <= answered) {
            return Ok(());
        }
        self.answered = Some(offer.offer_id);
        let mut then = VecDeque::new();
        let sdp = self.negotiation.take_offer(now, &offer.sdp, &mut then)?;
        let answer = json!({ "type": "answer", "sdp": sdp, "offer_id": offer.offer_id });
        // Before what follows from it: the server knows whose handshake it sees.
        wishes.push_back(Wish::Text(answer.to_string()));
        wishes.append(&mut then);
        self.say_ready(wishes);
        Ok(())
    }

    fn say_ready(&mut self, wishes: &mut VecDeque<Wish>) {
        if !self.is_ready {
            self.is_ready = true;
            wishes.push_back(Wish::Ready);
        }
    }

    /// Ends the session; one that is being asked for ends when it is there.
    pub fn leave(&mut self, wishes: &mut VecDeque<Wish>) {
        if !self.has_left {
            self.has_left = true;
            self.delete(wishes);
        }
    }

    fn delete(&self, wishes: &mut VecDeque<Wish>) {
        if let Some(path) = self.path.clone() {
            wishes.push_back(Wish::Request(Request {
                method: "DELETE",
                path,
                content_type: "",
                body: String::new(),
            }));
        }
    }
}

fn post(path: String, body: String) -> Wish {
    Wish::Request(Request { method: "POST", path, content_type: "application/json", body })
}
