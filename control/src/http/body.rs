//! Reads bodies: bounded in length and time, of the right media type.

use std::pin::Pin;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use super::App;
use crate::error::{ApiError, Code};

/// The longest JSON body or message, bytes: room for the longest description with its line ends
/// escaped.
pub const JSON_BYTES_MAX: usize = 1024 * 1024;

/// A JSON body. An empty body counts as `{}`.
#[derive(Clone, Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body, JSON_BYTES_MAX, app).await?;
        let bytes = if bytes.trim_ascii().is_empty() {
            b"{}".to_vec()
        } else {
            expect_media_type(&parts.headers, "application/json")?;
            bytes
        };
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            ApiError::new(
                Code::BadRequest,
                format!("the body is not what is expected here: {error}"),
            )
        })
    }
}

/// Reads a body of text of at most `bytes_max` bytes.
///
/// # Errors
/// `UnsupportedMediaType`, `BodyTooLarge`, `RequestTimeout`, `BadRequest` when it is no UTF-8.
pub async fn text(
    request: Request,
    media_type: &str,
    bytes_max: usize,
    app: &App,
) -> Result<String, ApiError> {
    let (parts, body) = request.into_parts();
    expect_media_type(&parts.headers, media_type)?;
    let bytes = read(&parts.headers, body, bytes_max, app).await?;
    String::from_utf8(bytes).map_err(|_| ApiError::new(Code::BadRequest, "the body is not UTF-8"))
}

/// Refuses a body of another media type. Parameters of the type are ignored.
///
/// # Errors
/// `UnsupportedMediaType`.
pub fn expect_media_type(headers: &HeaderMap, wanted: &str) -> Result<(), ApiError> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(ApiError::new(Code::UnsupportedMediaType, format!("the body should be {wanted}")))
}

/// Reads a body of at most `bytes_max` bytes.
///
/// # Errors
/// `BodyTooLarge`, `RequestTimeout`, `BadRequest` when it broke off.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    app: &App,
) -> Result<Vec<u8>, ApiError> {
    let too_large =
        || ApiError::new(Code::BodyTooLarge, format!("the body is longer than {bytes_max} bytes"));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > bytes_max as u64) {
        return Err(too_large());
    }
    let collect = async {
        let mut body = body;
        let mut bytes = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            let frame = frame.map_err(|_| ApiError::new(Code::BadRequest, "the body broke off"))?;
            if let Ok(data) = frame.into_data() {
                if bytes.len() + data.len() > bytes_max {
                    return Err(too_large());
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(bytes)
    };
    match tokio::time::timeout(app.body_timeout, collect).await {
        Ok(bytes) => bytes,
        Err(_) => Err(ApiError::new(Code::RequestTimeout, "the body came too slowly")
            .with_header(header::CONNECTION, "close")),
    }
}
