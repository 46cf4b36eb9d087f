//! The call page and its files, from the binary.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::App;

/// The routes.
pub fn router() -> Router<App> {
    let page = |media_type, text| get(move || async move { file(media_type, text) });
    Router::new()
        .route("/", page("text/html; charset=utf-8", include_str!("../pages/index.html")))
        .route("/call.js", page("text/javascript; charset=utf-8", include_str!("../pages/call.js")))
        .route("/call.css", page("text/css; charset=utf-8", include_str!("../pages/call.css")))
}

/// Scripts and connections of this origin only, and no framing: names of participants are
/// strangers' text.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     media-src 'self' blob:; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

fn file(media_type: &'static str, text: &'static str) -> Response {
    let fields: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (fields, text).into_response()
}
