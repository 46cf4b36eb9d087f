//! `POST` and `DELETE` of `/v1/node/drain`: prepares a node for maintenance, and takes that back. The process
//! ends by a signal only.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use crate::error::{ApiError, Problem};
use crate::service::{Drain, DrainCause, Service};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(begin_drain, end_drain))
}

/// Whether new sessions are let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// They are.
    Running,
    /// They are refused; running calls go on.
    Draining,
}

impl NodeState {
    pub(super) fn of(service: &Service) -> Self {
        if service.is_draining() { Self::Draining } else { Self::Running }
    }
}

/// A drain that is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct DrainView {
    /// `api`, or `signal` when the process ends afterwards.
    pub cause: String,
    /// Since when, seconds of Unix time.
    pub since_unix_s: u64,
    /// Sessions that it waits for.
    pub sessions_left: usize,
}

impl DrainView {
    pub(super) fn of(service: &Service) -> Option<Self> {
        service.drain().map(|drain| Self::new(drain, service))
    }

    fn new(drain: Drain, service: &Service) -> Self {
        let cause = match drain.cause {
            DrainCause::Api => "api",
            DrainCause::Signal => "signal",
        };
        Self {
            cause: cause.to_owned(),
            since_unix_s: drain.since_unix_s,
            sessions_left: service.sessions_left(),
        }
    }
}

/// Refuses new calls and sessions; running calls go on, and so does the process.
#[utoipa::path(
    post,
    path = "/v1/node/drain",
    responses(
        (status = 200, body = DrainView),
    ),
)]
async fn begin_drain(State(app): State<App>) -> Json<DrainView> {
    let view = DrainView::new(app.service.begin_drain(DrainCause::Api), &app.service);
    tracing::info!(sessions_left = view.sessions_left, "draining: the API asked for it");
    Json(view)
}

/// Lets new calls and sessions in again.
#[utoipa::path(
    delete,
    path = "/v1/node/drain",
    responses(
        (status = 204),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn end_drain(State(app): State<App>) -> Result<StatusCode, ApiError> {
    app.service.end_drain()?;
    tracing::info!("the drain was taken back");
    Ok(StatusCode::NO_CONTENT)
}
