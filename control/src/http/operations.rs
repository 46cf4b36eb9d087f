//! For operators: metrics, health, readiness, version. Open to whoever reaches the port, like
//! rtcd's.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::App;
use crate::error::{ApiError, Code};
use crate::metrics;

/// The routes.
pub fn router() -> Router<App> {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .route("/version", get(version))
}

async fn show_metrics(State(app): State<App>) -> Result<Response, ApiError> {
    let text = metrics::render(&app.service, &app.counters)
        .await
        .map_err(|_| ApiError::new(Code::Internal, "the metrics could not be written"))?;
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(media_type))], text).into_response())
}

async fn readiness(State(app): State<App>) -> Result<&'static str, ApiError> {
    match app.service.is_ready().await {
        true => Ok("ready\n"),
        false if app.service.is_draining() => {
            Err(ApiError::new(Code::Unavailable, "the server is shutting down"))
        }
        false => Err(ApiError::new(Code::Unavailable, "a shard does not answer within a second")),
    }
}

/// With rtcd's field names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    build_version: &'static str,
    build_date: &'static str,
    build_hash: &'static str,
    go_version: &'static str,
    #[serde(rename = "goOS")]
    go_os: &'static str,
    go_arch: &'static str,
}

async fn version() -> (StatusCode, Json<Version>) {
    let version = Version {
        build_version: concat!("v", env!("CARGO_PKG_VERSION")),
        build_date: "",
        build_hash: "",
        go_version: "",
        go_os: std::env::consts::OS,
        go_arch: std::env::consts::ARCH,
    };
    (StatusCode::OK, Json(version))
}
