//! HTTP: who may ask, what is read, and which handler answers.

pub mod access;
pub mod body;
pub mod clients;
pub mod counters;
pub mod drain;
pub mod native;
pub mod operations;
pub mod pages;
pub mod plain;
pub mod profile;
pub mod rtcd_sessions;
pub mod server;
pub mod system;
pub mod tls;
pub mod tuning;
pub mod version;
pub mod whip;
pub mod ws;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};

use crate::auth::Auth;
use crate::config::Config;
use crate::error::{ApiError, Code, PROBLEM_JSON, problem_of};
use crate::host_tuning::HostTuning;
use crate::profile::Profiler;
use crate::rtcd::directory::Directory;
use crate::rtcd::hub::{Hub, HubLimits};
use crate::rtcd::metrics::RtcdMetrics;
use crate::rtcd::service::Rtcd;
use crate::rtcd::socket::{self, PluginSockets};
use crate::service::Service;
use access::Access;
use counters::HttpCounters;
use system::CpuLoad;

/// What handlers share.
#[derive(Clone)]
pub struct App {
    /// Calls and sessions.
    pub service: Arc<Service>,
    /// Who may ask.
    pub access: Access,
    /// Time for a body.
    pub body_timeout: Duration,
    /// `Link` fields of WHIP and WHEP answers, one for each STUN or TURN URL.
    pub ice_links: Arc<[HeaderValue]>,
    /// Requests by route, method and status.
    pub counters: HttpCounters,
    /// The host's settings.
    pub tuning: Arc<HostTuning>,
    /// Who may use rtcd's API.
    pub auth: Auth,
    /// Where rtcd's sessions are looked up.
    pub directory: Arc<dyn Directory>,
    /// The calls of rtcd's clients.
    pub rtcd: Rtcd,
    /// How busy the host is.
    pub cpu_load: CpuLoad,
    /// Where the process spends its time.
    pub profiler: Profiler,
}

impl App {
    /// Puts together what handlers need.
    pub fn new(service: Arc<Service>, config: &Config, tuning: HostTuning, auth: Auth) -> Self {
        let hub = Hub::new(HubLimits::default());
        let rtcd = Rtcd::new(Arc::clone(&service), hub, RtcdMetrics::default());
        Self {
            service,
            access: Access::new(config.token.clone()),
            body_timeout: config.http.body_timeout,
            ice_links: whip::ice_links(&config.ice_servers),
            counters: HttpCounters::default(),
            tuning: Arc::new(tuning),
            auth,
            directory: Arc::new(rtcd.clone()),
            rtcd,
            cpu_load: CpuLoad::default(),
            profiler: Profiler::default(),
        }
    }

    /// Every route.
    pub fn router(&self) -> Router {
        let (native, document) = native::router().split_for_parts();
        let document = Arc::new(document);
        let describe = move || {
            let document = Arc::clone(&document);
            async move { Json(document.as_ref().clone()) }
        };
        let native = native
            .route("/v1/openapi.json", axum::routing::get(describe))
            .route_layer(middleware::from_fn_with_state(self.clone(), access::guard));
        let pages = pages::router()
            .route_layer(middleware::from_fn_with_state(self.clone(), access::guard_page));
        let whip =
            whip::router().route_layer(middleware::from_fn_with_state(self.clone(), access::guard));
        // rtcd's clients expect its own answers, errors included, and nobody is kept out by address.
        let rtcd = Router::new()
            .merge(version::router())
            .merge(system::router())
            .merge(clients::router())
            .merge(rtcd_sessions::router())
            .merge(socket::router(PluginSockets {
                auth: self.auth.clone(),
                hub: Arc::clone(self.rtcd.hub()),
                inbox: Arc::new(self.rtcd.clone()),
                events: Arc::new(self.rtcd.metrics().clone()),
            }));
        Router::new()
            .merge(native)
            .merge(ws::router())
            .merge(whip)
            .merge(pages)
            .merge(operations::router())
            .merge(profile::router())
            .fallback(|| async {
                ApiError::new(Code::UnknownPath, "there is nothing at this path")
            })
            .layer(middleware::from_fn(problems_for_errors))
            .merge(rtcd)
            .layer(middleware::from_fn_with_state(self.clone(), whip::cross_origin))
            .layer(middleware::from_fn_with_state(self.clone(), counters::count))
            .with_state(self.clone())
    }
}

/// Errors that the framework answers with plain text get the form of all others; their status and
/// header fields stay.
async fn problems_for_errors(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().starts_with(PROBLEM_JSON.as_bytes()));
    if !(status.is_client_error() || status.is_server_error()) || is_problem {
        return response;
    }
    let (code, detail) = match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            (Code::MethodNotAllowed, "this path has other methods; see Allow")
        }
        StatusCode::UPGRADE_REQUIRED => (Code::BadRequest, "this path is a WebSocket"),
        _ => (Code::BadRequest, "the request cannot be understood"),
    };
    let problem = problem_of(code.as_str(), status, detail.to_owned());
    let mut answer = (status, Json(problem)).into_response();
    for (name, value) in response.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            answer.headers_mut().append(name, value.clone());
        }
    }
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    answer
}

/// The variables of the path: call, and session where there is one. Ids that cannot exist are
/// unknown like others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallPath(pub String);

/// Call and session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionPath(pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for CallPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        path.map(|p| Self(p.0)).map_err(|_| bad_path())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SessionPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = axum::extract::Path::<(String, String)>::from_request_parts(parts, state).await;
        path.map(|p| Self(p.0.0, p.0.1)).map_err(|_| bad_path())
    }
}

fn bad_path() -> ApiError {
    ApiError::new(Code::BadRequest, "the path is not percent-encoded UTF-8")
}
