//! `ApiError`: everything that a request can be answered with instead of success, and the one table
//! to status codes.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sluice_engine::command_error::CommandError;
use utoipa::ToSchema;

use crate::sdp::NegotiationError;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident => $code:literal, $status:ident;)*) => {
        /// What went wrong, as `type` of a problem names it.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The last part of `type`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $code,)* }
            }

            /// The status that goes with it.
            pub fn status(self) -> StatusCode {
                match self { $(Code::$name => StatusCode::$status,)* }
            }
        }
    };
}

codes! {
    /// The request cannot be read.
    BadRequest => "bad-request", BAD_REQUEST;
    /// A description breaks the grammar.
    BadSdp => "bad-sdp", BAD_REQUEST;
    /// The token is missing or wrong.
    Unauthorized => "unauthorized", UNAUTHORIZED;
    /// Without a token only loopback clients are answered.
    LoopbackOnly => "loopback-only", FORBIDDEN;
    /// The server was started without permission to change its host.
    TuningNotAllowed => "tuning-not-allowed", FORBIDDEN;
    /// Registered clients may not ask for this.
    AdminOnly => "admin-only", FORBIDDEN;
    /// No such call.
    UnknownCall => "unknown-call", NOT_FOUND;
    /// No such session.
    UnknownSession => "unknown-session", NOT_FOUND;
    /// No such path.
    UnknownPath => "unknown-path", NOT_FOUND;
    /// The path has other methods.
    MethodNotAllowed => "method-not-allowed", METHOD_NOT_ALLOWED;
    /// The client accepts no media type that we have.
    NotAcceptable => "not-acceptable", NOT_ACCEPTABLE;
    /// The body came too slowly.
    RequestTimeout => "request-timeout", REQUEST_TIMEOUT;
    /// The call's id is taken.
    CallExists => "call-exists", CONFLICT;
    /// An offer of the server waits for its answer.
    Glare => "glare", CONFLICT;
    /// A description that does not fit what was agreed before.
    OutOfStep => "out-of-step", CONFLICT;
    /// An answer, and no offer waits for one.
    NoOffer => "no-offer", CONFLICT;
    /// An answer to an offer that was replaced.
    StaleOffer => "stale-offer", CONFLICT;
    /// The process is about to end; that cannot be undone.
    Stopping => "stopping", CONFLICT;
    /// The host did not take a setting.
    TuningRefused => "tuning-refused", CONFLICT;
    /// Another profile is being recorded.
    ProfileRunning => "profile-running", CONFLICT;
    /// WHEP: the call has no tracks.
    NothingPublished => "nothing-published", CONFLICT;
    /// `If-Match` does not match.
    PreconditionFailed => "precondition-failed", PRECONDITION_FAILED;
    /// The body is longer than it may be.
    BodyTooLarge => "body-too-large", PAYLOAD_TOO_LARGE;
    /// The body is of another media type.
    UnsupportedMediaType => "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE;
    /// A well-formed description that asks for something that Sluice or this kind of session does
    /// not do.
    UnsupportedSdp => "unsupported-sdp", UNPROCESSABLE_ENTITY;
    /// `If-Match` is missing.
    PreconditionRequired => "precondition-required", PRECONDITION_REQUIRED;
    /// A configured bound.
    LimitReached => "limit-reached", TOO_MANY_REQUESTS;
    /// A bug of ours.
    Internal => "internal", INTERNAL_SERVER_ERROR;
    /// Overloaded, starting or draining.
    Unavailable => "unavailable", SERVICE_UNAVAILABLE;
    /// The kernel does not let the process look at itself.
    ProfileRefused => "profile-refused", SERVICE_UNAVAILABLE;
}

/// Why a request was refused.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// The kind.
    pub code: Code,
    /// A sentence for whoever wrote the client.
    pub detail: String,
    /// Extra header fields.
    pub headers: Vec<(header::HeaderName, HeaderValue)>,
}

/// The body of an error. Source: RFC 9457 §3.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:sluice:problem:` and a code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
}

impl ApiError {
    /// An error without extra header fields.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), headers: Vec::new() }
    }

    /// With one more header field.
    pub fn with_header(mut self, name: header::HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// As it stands in a body or a WebSocket message.
    pub fn problem(&self) -> Problem {
        problem_of(self.code.as_str(), self.code.status(), self.detail.clone())
    }
}

/// A problem with a status that has no code of ours.
pub fn problem_of(code: &str, status: StatusCode, detail: String) -> Problem {
    Problem {
        kind: format!("urn:sluice:problem:{code}"),
        title: status.canonical_reason().unwrap_or("Error").to_owned(),
        status: status.as_u16(),
        detail,
    }
}

/// The media type of errors.
pub const PROBLEM_JSON: &str = "application/problem+json";

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::to_string(&self.problem()).unwrap_or_default();
        let mut response =
            (self.code.status(), [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

impl From<NegotiationError> for ApiError {
    fn from(error: NegotiationError) -> Self {
        let code = match &error {
            NegotiationError::BadSdp { .. } => Code::BadSdp,
            NegotiationError::Unsupported { .. } | NegotiationError::NotAllowed { .. } => {
                Code::UnsupportedSdp
            }
            NegotiationError::LimitReached { .. } => Code::LimitReached,
            NegotiationError::Glare => Code::Glare,
            NegotiationError::State { .. } => Code::OutOfStep,
        };
        // It has but one limit, which an operator finds under this name.
        let limit = if code == Code::LimitReached { " (limits.tracks_per_session)" } else { "" };
        Self::new(code, format!("{error}{limit}"))
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        let code = match &error {
            CommandError::UnknownSession(_) => Code::UnknownSession,
            CommandError::LimitReached { .. } => Code::LimitReached,
            CommandError::HandshakeBegan => Code::OutOfStep,
            CommandError::MailboxFull | CommandError::ShardGone => Code::Unavailable,
            CommandError::UnknownTrack(_)
            | CommandError::UnknownChannel(_)
            | CommandError::Exists
            | CommandError::SsrcUsed => Code::Internal,
        };
        let error = Self::new(code, error.to_string());
        if code == Code::Unavailable { error.with_header(header::RETRY_AFTER, "1") } else { error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_an_error_status_and_named_once() {
        for (i, code) in Code::ALL.iter().enumerate() {
            assert!(code.status().as_u16() >= 400);
            assert!(Code::ALL[..i].iter().all(|other| other.as_str() != code.as_str()));
        }
    }
}
