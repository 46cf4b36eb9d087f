//! Plain-text answers as rtcd gives them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A line of text with a status.
pub fn plain(status: StatusCode, text: &str) -> Response {
    let mut response = (status, format!("{text}\n")).into_response();
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// What rtcd answers to a wrong method on a path of its own, instead of 405.
pub async fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "404 page not found")
}
