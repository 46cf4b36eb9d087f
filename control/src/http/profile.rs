//! `GET /debug/profile`: where the process spends its time, for operators.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::time::Duration;

use super::App;
use super::access::Peer;
use crate::auth::AuthError;
use crate::error::{ApiError, Code};
use crate::profile::{FREQUENCY_MAX, Plan, Profile, ProfileError, SECONDS_MAX};

/// The route.
pub fn router() -> Router<App> {
    Router::new().route("/debug/profile", get(profile))
}

/// How a profile was made. The text itself has no place for it.
const FACTS: HeaderName = HeaderName::from_static("sluice-profile");

async fn profile(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    query: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    check(&app, peer, &headers).await?;
    let Ok(Query(query)) = query else {
        return Err(ApiError::new(Code::BadRequest, "the query cannot be read"));
    };
    let plan = plan_of(&query)?;
    tracing::info!(peer = %peer.ip(), seconds = plan.duration.as_secs(), frequency = plan.frequency, "recording a profile");
    let profile = app.profiler.record(plan).await?;
    let fields = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (FACTS, facts(&profile)),
    ];
    Ok((fields, profile.folded).into_response())
}

/// Lets in rtcd's admin by Basic, and whoever the native API lets in.
async fn check(app: &App, Peer(peer): Peer, headers: &HeaderMap) -> Result<(), ApiError> {
    let is_basic = headers.get(header::AUTHORIZATION).is_some_and(|value| {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next();
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"Basic"))
    });
    // Without an admin nobody is let in by Basic, and no hash is made for whoever tries.
    if !is_basic || !app.auth.has_admin() {
        return app.access.check(headers, peer);
    }
    match app.auth.authenticate(headers, Peer(peer).ip()).await {
        Ok(client) if client.is_admin => Ok(()),
        Ok(_) => Err(ApiError::new(
            Code::AdminOnly,
            "by Basic only the admin may ask, with api.security.admin_secret_key",
        )),
        Err(error) => Err(refusal(&error)),
    }
}

fn refusal(error: &AuthError) -> ApiError {
    let code = match error {
        AuthError::TooMany(_) => Code::LimitReached,
        AuthError::Store => Code::Unavailable,
        _ => Code::Unauthorized,
    };
    let mut refusal = ApiError::new(code, error.to_string());
    refusal.headers.extend(error.header());
    refusal
}

fn plan_of(query: &[(String, String)]) -> Result<Plan, ApiError> {
    let (mut seconds, mut frequency) = (None, None);
    for (name, value) in query {
        let (slot, max) = match name.as_str() {
            "seconds" => (&mut seconds, SECONDS_MAX),
            "frequency" => (&mut frequency, FREQUENCY_MAX),
            _ => {
                let detail = format!("there is no parameter {name:?}, but seconds and frequency");
                return Err(ApiError::new(Code::BadRequest, detail));
            }
        };
        let number = value.parse().ok().filter(|number| (1..=max).contains(number));
        let Some(number) = number else {
            let detail = format!("{name} is a whole number from 1 to {max}, not {value:?}");
            return Err(ApiError::new(Code::BadRequest, detail));
        };
        if slot.replace(number).is_some() {
            let detail = format!("{name} is given twice");
            return Err(ApiError::new(Code::BadRequest, detail));
        }
    }
    Ok(Plan {
        duration: Duration::from_secs(seconds.unwrap_or(10)),
        // Not a divisor of the usual rates of timers: what runs each ten milliseconds is not always met, or missed.
        frequency: frequency.unwrap_or(199),
    })
}

/// As a dictionary. Source: RFC 9651 §3.2.
fn facts(profile: &Profile) -> HeaderValue {
    let text = format!(
        "samples={}, lost={}, not-kept={}, threads={}, threads-left-out={}, kernel=?{}",
        profile.samples,
        profile.lost,
        profile.not_kept,
        profile.threads,
        profile.threads_left_out,
        u8::from(profile.with_kernel),
    );
    // Digits and the letters above are all that is in it.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

impl From<ProfileError> for ApiError {
    fn from(error: ProfileError) -> Self {
        let code = match &error {
            ProfileError::Busy => Code::ProfileRunning,
            ProfileError::Refused(_) => Code::ProfileRefused,
            ProfileError::Abandoned | ProfileError::Failed(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(query: &[(&str, &str)]) -> Result<(u64, u64), String> {
        let query: Vec<_> = query.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let plan = plan_of(&query).map_err(|error| error.detail)?;
        Ok((plan.duration.as_secs(), plan.frequency))
    }

    #[test]
    fn a_query_within_the_bounds_is_a_plan() {
        assert_eq!(plan(&[]), Ok((10, 199)));
        assert_eq!(plan(&[("seconds", "1"), ("frequency", "999")]), Ok((1, 999)));
        assert_eq!(plan(&[("seconds", "120"), ("frequency", "1")]), Ok((120, 1)));
    }

    #[test]
    fn anything_else_is_refused_with_what_is_allowed() {
        for value in ["0", "121", "-1", "1.5", "", "ten", "18446744073709551616"] {
            let error = plan(&[("seconds", value)]).unwrap_err();
            assert!(error.contains("from 1 to 120") && error.contains(value), "{error}");
        }
        let error = plan(&[("frequency", "1000")]).unwrap_err();
        assert!(error.contains("from 1 to 999"), "{error}");
        let error = plan(&[("second", "5")]).unwrap_err();
        assert!(error.contains("\"second\"") && error.contains("seconds and frequency"), "{error}");
        assert!(plan(&[("seconds", "5"), ("seconds", "6")]).unwrap_err().contains("twice"));
    }
}
