//! Why somebody is not let in, with rtcd's texts.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::password::KEY_BYTES_MAX;
use crate::store::StoreError;

/// Why a request is not answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthError {
    /// `Authorization` is missing or cannot be read.
    InvalidHeader,
    /// Basic without a user name.
    NoName,
    /// The client is not registered, or the key is wrong.
    WrongKey,
    /// No such bearer token.
    UnknownToken,
    /// The bearer token is too old.
    ExpiredToken,
    /// Too many wrong keys, or too much to do: try again after this time.
    TooMany(Duration),
    /// The store failed; details are in the log.
    Store,
}

impl AuthError {
    /// The status that goes with it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Store => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// The header field that goes with it, if there is one.
    pub fn header(&self) -> Option<(header::HeaderName, HeaderValue)> {
        match self {
            Self::TooMany(wait) => {
                Some((header::RETRY_AFTER, HeaderValue::from(whole_seconds(*wait))))
            }
            Self::Store => None,
            _ => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Basic realm="sluice""#),
            )),
        }
    }
}

/// Rounded up: who waits that long is let in.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("authentication failed")?;
        match self {
            Self::InvalidHeader => f.write_str(": invalid auth header"),
            Self::NoName => f.write_str(": unauthorized"),
            Self::WrongKey => Ok(()),
            Self::UnknownToken => f.write_str(": token is invalid"),
            Self::ExpiredToken => f.write_str(": session is expired"),
            Self::TooMany(wait) => {
                let seconds = whole_seconds(*wait);
                write!(f, ": too many attempts, try again in {seconds} s")
            }
            Self::Store => f.write_str(": the store cannot be read"),
        }
    }
}

impl std::error::Error for AuthError {}

impl IntoResponse for AuthError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), format!("{self}\n")).into_response();
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.extend(self.header());
        response
    }
}

/// Why a client was not registered. The texts are rtcd's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RegisterError {
    /// Fewer bytes than [`super::KEY_BYTES_MIN`].
    KeyTooShort,
    /// More bytes than [`KEY_BYTES_MAX`].
    KeyTooLong,
    /// An empty id.
    NoId,
    /// The id is taken.
    Exists,
    /// Too many registrations: try again later.
    Limited(AuthError),
    /// The store refused.
    Store(StoreError),
    /// The key could not be hashed.
    Hash(String),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyTooShort => f.write_str("key not long enough"),
            Self::KeyTooLong => write!(f, "key longer than {KEY_BYTES_MAX} bytes"),
            Self::NoId => f.write_str("error: empty key"),
            Self::Exists => f.write_str("already registered"),
            Self::Limited(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Hash(error) => write!(f, "the key cannot be hashed: {error}"),
        }
    }
}

/// Why a client was not unregistered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UnregisterError {
    /// No such client.
    NotFound,
    /// The store refused.
    Store(StoreError),
}

impl fmt::Display for UnregisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("error: not found"),
            Self::Store(error) => error.fmt(f),
        }
    }
}
