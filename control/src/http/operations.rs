//! For operators: metrics, health, readiness. Open to whoever reaches the port, like rtcd's.

use std::io::Write;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::App;
use crate::error::{ApiError, Code};
use crate::metrics;

/// The routes.
pub fn router() -> Router<App> {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
}

async fn show_metrics(State(app): State<App>, request: HeaderMap) -> Result<Response, ApiError> {
    let failed = |_| ApiError::new(Code::Internal, "the metrics could not be written");
    let text =
        metrics::render(&app.service, &app.counters, &app.auth, &app.rtcd, &app.tuning).await;
    let text = text.map_err(failed)?;
    let fields = [
        (header::CONTENT_TYPE, HeaderValue::from_static(metrics::text::MEDIA_TYPE)),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ];
    if !accepts_gzip(&request) {
        return Ok((fields, text).into_response());
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
    let compressed = written.map_err(|_| failed(std::fmt::Error))?;
    let encoding = [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
    Ok((fields, encoding, compressed).into_response())
}

/// Whether a client said that it takes gzip, with any weight but zero. Source: RFC 9110 §12.5.3.
fn accepts_gzip(request: &HeaderMap) -> bool {
    let values = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| {
        let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        coding.trim().eq_ignore_ascii_case("gzip") && weight.parse::<f32>().is_ok_and(|q| q > 0.0)
    })
}

async fn readiness(State(app): State<App>) -> Result<&'static str, ApiError> {
    match app.service.is_ready().await {
        true => Ok("ready\n"),
        false if app.service.is_draining() => Err(ApiError::new(
            Code::Unavailable,
            "the server takes no new sessions: it is draining",
        )),
        false => Err(ApiError::new(Code::Unavailable, "a shard does not answer within a second")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_accepted_as_the_client_weighs_it() {
        let cases = [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip; q=1.0, *;q=0", true),
            ("gzip;q=0", false),
            ("gzip;q=much", false),
            ("identity", false),
            ("xgzip", false),
            ("", false),
        ];
        for (value, expected) in cases {
            let mut request = HeaderMap::new();
            request.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(accepts_gzip(&request), expected, "{value:?}");
        }
    }
}
