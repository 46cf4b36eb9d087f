//! For operators: metrics, health, readiness. Open to whoever reaches the port, like rtcd's.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

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

async fn show_metrics(State(app): State<App>) -> Result<Response, ApiError> {
    let plugins = app.rtcd.hub().counters();
    let text = metrics::render(&app.service, &app.counters, &app.auth, plugins)
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
