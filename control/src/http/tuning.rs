//! `/v1/node/tuning`: the host's settings, what they should be, and the two ways between.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sluice_engine::clock;
use sluice_tuning::finding::{Finding, Verdict};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use crate::config::TuneMode;
use crate::error::{ApiError, Code, Problem};
use crate::host_tuning::{Calls, Done, HostTuning, Refusal};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(apply)).routes(routes!(restore))
}

/// How the host's settings stand, counted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct TuningSummary {
    /// `check`, `apply` or `off`.
    pub mode: String,
    /// The load that all is sized for.
    pub load: String,
    /// Settings that cost packets, calls or the start under that load.
    pub wrong: usize,
    /// Settings that could be better.
    pub better: usize,
    /// Settings that could not be read.
    pub unknown: usize,
}

impl TuningSummary {
    /// Of the last look.
    pub(super) fn of(tuning: &HostTuning) -> Self {
        let last = tuning.last();
        let count = |verdict| last.as_ref().map_or(0, |look| look.count(verdict));
        Self {
            mode: mode_name(tuning.mode()).to_owned(),
            load: tuning.goal().load.to_string(),
            wrong: count(Verdict::Wrong),
            better: count(Verdict::Better),
            unknown: count(Verdict::Unknown),
        }
    }
}

fn mode_name(mode: TuneMode) -> &'static str {
    match mode {
        TuneMode::Off => "off",
        TuneMode::Check => "check",
        TuneMode::Apply => "apply",
    }
}

/// The host's settings.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TuningView {
    /// All in numbers.
    pub summary: TuningSummary,
    /// Every setting that was looked at; none when the mode is `off`.
    pub settings: Vec<SettingView>,
}

/// One setting.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SettingView {
    /// Its name; that of sysctl(8) where it is one.
    pub key: String,
    /// Which of several: an interface, a CPU.
    pub subject: Option<String>,
    /// What is there; null when it could not be read.
    pub found: Option<String>,
    /// What should be there; null when nothing is wanted.
    pub wanted: Option<String>,
    /// How the wanted value came about.
    pub formula: Option<String>,
    /// `good`, `note`, `unknown`, `better` or `wrong`.
    pub verdict: String,
    /// What it does to a media server.
    pub why: String,
    /// Where that is written.
    pub source: String,
    /// What happens when it is left.
    pub effect: String,
    /// Commands that mend it, in order.
    pub commands: Vec<String>,
    /// What to do where no command does it.
    pub remedy: Option<String>,
}

impl From<&Finding> for SettingView {
    fn from(finding: &Finding) -> Self {
        Self {
            key: finding.setting.key.to_owned(),
            subject: finding.subject.clone(),
            found: finding.found.clone(),
            wanted: finding.wanted.clone(),
            formula: finding.formula.clone(),
            verdict: finding.verdict.name().to_owned(),
            why: finding.setting.why.to_owned(),
            source: finding.setting.source.to_owned(),
            effect: finding.setting.effect.to_owned(),
            commands: finding.changes.iter().map(|change| change.command()).collect(),
            remedy: finding.remedy.clone(),
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TuningDone {
    /// One line for each change, as a command; none when there was nothing to do.
    pub done: Vec<String>,
    /// What was left, and why.
    pub left: Vec<String>,
    /// The settings afterwards.
    pub tuning: TuningView,
}

impl TuningDone {
    fn of(Done { done, left }: Done, tuning: &HostTuning) -> Self {
        Self { done, left, tuning: view(tuning) }
    }
}

/// Looks at the host's settings anew.
#[utoipa::path(
    get,
    path = "/v1/node/tuning",
    responses(
        (status = 200, body = TuningView),
    ),
)]
async fn show(State(app): State<App>) -> Result<Json<TuningView>, ApiError> {
    let asked = clock::now();
    aside(&app, move |tuning| {
        tuning.look_for(asked);
        Ok(Json(view(tuning)))
    })
    .await
}

/// Changes what is wrong or could be better, but while calls run for what takes a card off the network for a moment. Only for a
/// server that was started with `--tune apply` and with a token.
#[utoipa::path(
    post,
    path = "/v1/node/tuning/apply",
    responses(
        (status = 200, body = TuningDone),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn apply(State(app): State<App>) -> Result<Json<TuningDone>, ApiError> {
    may_change(&app)?;
    let calls = if app.service.sessions_left() == 0 { Calls::None } else { Calls::Run };
    aside(&app, move |tuning| {
        let applied = tuning.apply(calls).map_err(refused)?;
        tracing::info!(changes = applied.done.len(), "the host was tuned: the API asked for it");
        Ok(Json(TuningDone::of(applied, tuning)))
    })
    .await
}

/// Puts back what was there before the first change. Only for a server that was started with `--tune apply` and with a token.
#[utoipa::path(
    post,
    path = "/v1/node/tuning/restore",
    responses(
        (status = 200, body = TuningDone),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn restore(State(app): State<App>) -> Result<Json<TuningDone>, ApiError> {
    may_change(&app)?;
    aside(&app, |tuning| {
        let restored = tuning.restore().map_err(refused)?;
        tracing::info!(
            changes = restored.done.len(),
            "the host was put back: the API asked for it"
        );
        Ok(Json(TuningDone::of(restored, tuning)))
    })
    .await
}

fn view(tuning: &HostTuning) -> TuningView {
    let last = tuning.last();
    let findings = last.iter().flat_map(|look| &look.report.findings);
    TuningView {
        summary: TuningSummary::of(tuning),
        settings: findings.map(SettingView::from).collect(),
    }
}

fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::NotAllowed => ApiError::new(
            Code::TuningNotAllowed,
            "the server was not started with `--tune apply`: run sluice-tune on its host instead",
        ),
        Refusal::Failed(reason) => ApiError::new(Code::TuningRefused, reason),
    }
}

/// Without a token everybody who has an account on this host could change it.
fn may_change(app: &App) -> Result<(), ApiError> {
    match app.access.has_token() {
        true => Ok(()),
        false => Err(ApiError::new(
            Code::TuningNotAllowed,
            "the host is changed for the holder of a token alone: set SLUICE_API_TOKEN, or run sluice-tune",
        )),
    }
}

/// Reading and writing the host's settings blocks, and is done away from the requests, one at a time.
async fn aside<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&HostTuning) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let tuning = Arc::clone(&app.tuning);
    let _turn = tuning.turn().await;
    let tuning = Arc::clone(&app.tuning);
    let result = tokio::task::spawn_blocking(move || work(&tuning)).await;
    result.map_err(|_| ApiError::new(Code::Internal, "looking at the host failed"))?
}
