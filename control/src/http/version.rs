//! `/version`: what rtcd's clients look at before they use a feature.

use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::App;
use super::plain::not_found;

/// The version of rtcd whose interface this is, with ours as build metadata. Plugins want at least
/// v1.0.0, browsers v1.1.0 for the signalling lock.
pub const COMPATIBLE_VERSION: &str = concat!("v1.2.6+sluice.", env!("CARGO_PKG_VERSION"));

/// The route.
pub fn router() -> Router<App> {
    Router::new().route("/version", get(version).fallback(not_found))
}

/// With rtcd's field names, all of them strings.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    build_date: &'static str,
    build_version: &'static str,
    build_hash: &'static str,
    go_version: &'static str,
    #[serde(rename = "goOS")]
    go_os: &'static str,
    go_arch: &'static str,
}

async fn version() -> Json<Version> {
    Json(Version {
        // Whoever builds a release sets these for the compiler.
        build_date: option_env!("SLUICE_BUILD_DATE").unwrap_or("unknown"),
        build_version: COMPATIBLE_VERSION,
        build_hash: option_env!("SLUICE_BUILD_HASH").unwrap_or("unknown"),
        go_version: "none: this is Rust",
        go_os: std::env::consts::OS,
        go_arch: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
    })
}
