//! The native API under `/v1`: parse, act, answer. `docs/api.md` describes it for people.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::FromThisHost;
use super::body::JsonBody;
use super::drain::{DrainView, NodeState};
use super::tuning::TuningSummary;
use super::{App, CallPath, SessionPath};
use crate::error::{ApiError, Code, Problem};
use crate::sdp::{SDP_BYTES_MAX, parse_candidate};
use crate::service::NewSession;
use crate::service::views::{CallView, Event, SessionKind, SessionView, TrackView};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluice",
        description = "Calls, sessions and tracks of a WebRTC forwarding server."
    ),
    components(schemas(Problem, Event))
)]
struct Document;

/// Every route of the API but the description itself and the WebSocket, each with its
/// documentation.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(create_call, list_calls))
        .routes(routes!(show_call, delete_call))
        .routes(routes!(list_tracks))
        .routes(routes!(create_session, list_sessions))
        .routes(routes!(show_session, delete_session))
        .routes(routes!(offer))
        .routes(routes!(answer))
        .routes(routes!(candidates))
        .routes(routes!(ice_restart))
        .routes(routes!(node))
        .merge(super::drain::router())
        .merge(super::tuning::router())
}

/// A new call.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct NewCall {
    /// 1 to 64 characters of `A-Z a-z 0-9 . _ ~ -`; without it the server picks one.
    pub id: Option<String>,
    /// Whether the call goes with its last session. Without it the call lives until it is deleted.
    #[serde(default)]
    pub until_empty: bool,
}

/// All calls.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CallList {
    /// By id.
    pub calls: Vec<CallView>,
}

/// All tracks of a call.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TrackList {
    /// In the order in which their sessions joined.
    pub tracks: Vec<TrackView>,
}

/// All sessions of a call.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionList {
    /// In the order in which they joined.
    pub sessions: Vec<SessionView>,
}

/// `offer` or `answer`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DescriptionType {
    /// An offer.
    Offer,
    /// An answer.
    Answer,
}

/// A session description, as `RTCSessionDescription` in a browser.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Description {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: DescriptionType,
    /// Its text, at most 512 KiB.
    pub sdp: String,
}

impl Description {
    fn expect(self, kind: DescriptionType) -> Result<String, ApiError> {
        if self.kind != kind {
            let detail = format!("the description should be of type {kind:?}").to_lowercase();
            return Err(ApiError::new(Code::BadRequest, detail));
        }
        check_sdp_length(&self.sdp)?;
        Ok(self.sdp)
    }
}

/// Refuses a description that is longer than one may be.
pub(super) fn check_sdp_length(sdp: &str) -> Result<(), ApiError> {
    if sdp.len() > SDP_BYTES_MAX {
        let detail = format!("the description is longer than {SDP_BYTES_MAX} bytes");
        return Err(ApiError::new(Code::BodyTooLarge, detail));
    }
    Ok(())
}

/// What a session is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Subscribe {
    /// Every track of the others.
    #[default]
    All,
    /// Nothing.
    None,
}

/// A new session.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NewSessionBody {
    /// What the others see; at most 128 characters, no control characters.
    pub name: Option<String>,
    /// What it is sent.
    pub subscribe: Subscribe,
    /// The client's offer; without it the server makes one.
    pub offer: Option<Description>,
}

/// A session that was made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CreatedSessionBody {
    /// The session.
    pub session: SessionView,
    /// To the client's offer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Description>,
    /// The server's, when the client made none and there is something to offer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<Description>,
    /// Names the server's offer in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer_id: Option<u64>,
    /// The session's WebSocket, with the ticket that opens it.
    pub ws_url: String,
}

/// A client's offer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OfferBody {
    /// Of type `offer`.
    pub offer: Description,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AnswerBody {
    /// Of type `answer`.
    pub answer: Description,
    /// The offer that is answered; left out where the server is the one that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer_id: Option<u64>,
}

/// The server's offer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ServerOfferBody {
    /// Of type `offer`.
    pub offer: Description,
    /// Names it in the answer.
    pub offer_id: u64,
}

/// A candidate, as `RTCIceCandidate.toJSON()` in a browser.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateBody {
    /// `candidate:…`; empty at the end.
    pub candidate: String,
    /// The m= section.
    pub sdp_mid: Option<String>,
    /// Its position.
    pub sdp_m_line_index: Option<u16>,
    /// The generation.
    pub username_fragment: Option<String>,
}

impl CandidateBody {
    /// Checks the candidate; there is nothing to do with it, since an ICE-lite agent learns of its
    /// peer by the peer's checks.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        let text = self.candidate.trim();
        if !text.is_empty() {
            parse_candidate(text)?;
        }
        Ok(())
    }
}

/// The server.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Sluice's version.
    pub version: String,
    /// Whether new sessions are let in.
    pub state: NodeState,
    /// The drain, when one is under way.
    pub drain: Option<DrainView>,
    /// How datagrams reach the kernel: `uring` or `mmsg`.
    pub backend: String,
    /// Why it is not `uring`, when `auto` did not take it.
    pub backend_reason: Option<String>,
    /// UDP addresses for media.
    pub udp: Vec<String>,
    /// TCP addresses for media.
    pub tcp: Vec<String>,
    /// Receive buffer that the kernel granted, bytes.
    pub receive_buffer_bytes: usize,
    /// Send buffer likewise.
    pub send_buffer_bytes: usize,
    /// Receive buffer that was asked for, bytes.
    pub receive_buffer_bytes_wanted: usize,
    /// Send buffer likewise.
    pub send_buffer_bytes_wanted: usize,
    /// Memory that the shards set aside at start, bytes.
    pub memory_reserved_bytes: usize,
    /// Calls.
    pub calls: usize,
    /// Sessions.
    pub sessions: usize,
    /// Tracks, of the shards that answered.
    pub tracks: usize,
    /// Each shard.
    pub shards: Vec<NodeShard>,
    /// The core of each shard; empty where shards are not pinned.
    pub cores: Vec<usize>,
    /// How the settings of the host stand; in full at `/v1/node/tuning`.
    pub tuning: TuningSummary,
}

/// A shard. Its numbers are null when it does not answer within a second.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeShard {
    /// Its number.
    pub shard: u16,
    /// Share of time that it was busy lately, in thousandths.
    pub load_permille: u32,
    /// Calls on it.
    pub calls: Option<usize>,
    /// Sessions on it.
    pub sessions: Option<usize>,
    /// Tracks published on it.
    pub tracks: Option<usize>,
    /// Tracks times their subscribers.
    pub legs: Option<usize>,
}

const NATIVE: &[SessionKind] = &[SessionKind::Native];
const ALL_KINDS: &[SessionKind] = &[SessionKind::Native, SessionKind::Whip, SessionKind::Whep];

/// Makes a call.
#[utoipa::path(
    post,
    path = "/v1/calls",
    request_body = NewCall,
    responses(
        (status = 201, body = CallView),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn create_call(
    State(app): State<App>,
    JsonBody(new): JsonBody<NewCall>,
) -> Result<(StatusCode, HeaderMap, Json<CallView>), ApiError> {
    let call = app.service.create_call(new.id, !new.until_empty)?;
    Ok((StatusCode::CREATED, location(&format!("/v1/calls/{}", call.id)), Json(call)))
}

/// Lists the calls.
#[utoipa::path(
    get,
    path = "/v1/calls",
    responses(
        (status = 200, body = CallList),
    ),
)]
async fn list_calls(State(app): State<App>) -> Json<CallList> {
    Json(CallList { calls: app.service.calls().await })
}

/// Shows a call.
#[utoipa::path(
    get,
    path = "/v1/calls/{call}",
    params(("call" = String, Path)),
    responses(
        (status = 200, body = CallView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn show_call(
    State(app): State<App>,
    CallPath(call): CallPath,
) -> Result<Json<CallView>, ApiError> {
    app.service.call_view(&call).await.map(Json)
}

/// Ends a call and its sessions.
#[utoipa::path(
    delete,
    path = "/v1/calls/{call}",
    params(("call" = String, Path)),
    responses(
        (status = 204),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn delete_call(
    State(app): State<App>,
    CallPath(call): CallPath,
) -> Result<StatusCode, ApiError> {
    app.service.delete_call(&call).await.map(|()| StatusCode::NO_CONTENT)
}

/// Lists the tracks of a call.
#[utoipa::path(
    get,
    path = "/v1/calls/{call}/tracks",
    params(("call" = String, Path)),
    responses(
        (status = 200, body = TrackList),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn list_tracks(
    State(app): State<App>,
    CallPath(call): CallPath,
) -> Result<Json<TrackList>, ApiError> {
    app.service.tracks(&call).await.map(|tracks| Json(TrackList { tracks }))
}

/// Adds a session to a call.
#[utoipa::path(
    post,
    path = "/v1/calls/{call}/sessions",
    params(("call" = String, Path)),
    request_body = NewSessionBody,
    responses(
        (status = 201, body = CreatedSessionBody),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn create_session(
    State(app): State<App>,
    CallPath(call): CallPath,
    FromThisHost(from_this_host): FromThisHost,
    JsonBody(body): JsonBody<NewSessionBody>,
) -> Result<(StatusCode, HeaderMap, Json<CreatedSessionBody>), ApiError> {
    if let Some(name) = &body.name {
        check_name(name)?;
    }
    let offer = body.offer.map(|offer| offer.expect(DescriptionType::Offer)).transpose()?;
    let new = NewSession {
        kind: SessionKind::Native,
        name: body.name,
        subscribe: body.subscribe == Subscribe::All,
        offer,
        from_this_host,
    };
    let created = app.service.create_session(&call, new).await?;
    let url = format!("/v1/calls/{call}/sessions/{}", created.session.id);
    let (offer_id, offer) = created.offer.unzip();
    let body = CreatedSessionBody {
        ws_url: format!("{url}/ws?ticket={}", created.ticket),
        session: created.session,
        answer: created.answer.map(|sdp| Description { kind: DescriptionType::Answer, sdp }),
        offer: offer.map(|sdp| Description { kind: DescriptionType::Offer, sdp }),
        offer_id,
    };
    Ok((StatusCode::CREATED, location(&url), Json(body)))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if name.chars().count() > 128 || name.chars().any(char::is_control) {
        let detail = "a name is at most 128 characters without control characters";
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    Ok(())
}

/// Lists the sessions of a call.
#[utoipa::path(
    get,
    path = "/v1/calls/{call}/sessions",
    params(("call" = String, Path)),
    responses(
        (status = 200, body = SessionList),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn list_sessions(
    State(app): State<App>,
    CallPath(call): CallPath,
) -> Result<Json<SessionList>, ApiError> {
    app.service.sessions(&call).await.map(|sessions| Json(SessionList { sessions }))
}

/// Shows a session.
#[utoipa::path(
    get,
    path = "/v1/calls/{call}/sessions/{session}",
    params(("call" = String, Path), ("session" = String, Path)),
    responses(
        (status = 200, body = SessionView),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn show_session(
    State(app): State<App>,
    SessionPath(call, session): SessionPath,
) -> Result<Json<SessionView>, ApiError> {
    app.service.session_view(&call, &session).await.map(Json)
}

/// Ends a session.
#[utoipa::path(
    delete,
    path = "/v1/calls/{call}/sessions/{session}",
    params(("call" = String, Path), ("session" = String, Path)),
    responses(
        (status = 204),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn delete_session(
    State(app): State<App>,
    SessionPath(call, session): SessionPath,
) -> Result<StatusCode, ApiError> {
    app.service.delete_session(&call, &session, ALL_KINDS).await.map(|()| StatusCode::NO_CONTENT)
}

/// Takes a client's offer: it renegotiates.
#[utoipa::path(
    post,
    path = "/v1/calls/{call}/sessions/{session}/offer",
    params(("call" = String, Path), ("session" = String, Path)),
    request_body = OfferBody,
    responses(
        (status = 200, body = AnswerBody),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn offer(
    State(app): State<App>,
    SessionPath(call, session): SessionPath,
    JsonBody(body): JsonBody<OfferBody>,
) -> Result<Json<AnswerBody>, ApiError> {
    let sdp = body.offer.expect(DescriptionType::Offer)?;
    let member = app.service.member(&call, &session, NATIVE).await?;
    let sdp = app.service.handle_offer(member, sdp, None).await?;
    let answer = Description { kind: DescriptionType::Answer, sdp };
    Ok(Json(AnswerBody { answer, offer_id: None }))
}

/// Takes the answer to an offer of the server.
#[utoipa::path(
    post,
    path = "/v1/calls/{call}/sessions/{session}/answer",
    params(("call" = String, Path), ("session" = String, Path)),
    request_body = AnswerBody,
    responses(
        (status = 204),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn answer(
    State(app): State<App>,
    SessionPath(call, session): SessionPath,
    JsonBody(body): JsonBody<AnswerBody>,
) -> Result<StatusCode, ApiError> {
    let sdp = body.answer.expect(DescriptionType::Answer)?;
    let Some(offer_id) = body.offer_id else {
        return Err(ApiError::new(Code::BadRequest, "offer_id is missing"));
    };
    let member = app.service.member(&call, &session, NATIVE).await?;
    app.service.handle_answer(member, sdp, offer_id).await.map(|()| StatusCode::NO_CONTENT)
}

/// Takes a candidate of the client.
#[utoipa::path(
    post,
    path = "/v1/calls/{call}/sessions/{session}/candidates",
    params(("call" = String, Path), ("session" = String, Path)),
    request_body = CandidateBody,
    responses(
        (status = 204),
        (status = 400, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn candidates(
    State(app): State<App>,
    SessionPath(call, session): SessionPath,
    JsonBody(body): JsonBody<CandidateBody>,
) -> Result<StatusCode, ApiError> {
    app.service.member(&call, &session, NATIVE).await?;
    body.check()?;
    Ok(StatusCode::NO_CONTENT)
}

/// Nothing to say.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Empty {}

/// Restarts ICE from the server's side.
#[utoipa::path(
    post,
    path = "/v1/calls/{call}/sessions/{session}/ice-restart",
    params(("call" = String, Path), ("session" = String, Path)),
    request_body = Empty,
    responses(
        (status = 200, body = ServerOfferBody),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn ice_restart(
    State(app): State<App>,
    SessionPath(call, session): SessionPath,
    JsonBody(Empty {}): JsonBody<Empty>,
) -> Result<Json<ServerOfferBody>, ApiError> {
    let member = app.service.member(&call, &session, NATIVE).await?;
    let (offer_id, sdp) = app.service.restart_ice(member).await?;
    let offer = Description { kind: DescriptionType::Offer, sdp };
    Ok(Json(ServerOfferBody { offer, offer_id }))
}

/// Shows the server and its load.
#[utoipa::path(
    get,
    path = "/v1/node",
    responses(
        (status = 200, body = Node),
    ),
)]
async fn node(State(app): State<App>) -> Json<Node> {
    let facts = app.service.facts();
    let (calls, sessions) = app.service.totals();
    let states = app.service.shard_states().await;
    let texts = |list: &[std::net::SocketAddr]| list.iter().map(ToString::to_string).collect();
    Json(Node {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: NodeState::of(&app.service),
        drain: DrainView::of(&app.service),
        backend: facts.backend.to_owned(),
        backend_reason: facts.backend_reason.clone(),
        udp: texts(&facts.udp),
        tcp: texts(&facts.tcp),
        receive_buffer_bytes: facts.receive_buffer_bytes,
        send_buffer_bytes: facts.send_buffer_bytes,
        receive_buffer_bytes_wanted: facts.receive_buffer_bytes_wanted,
        send_buffer_bytes_wanted: facts.send_buffer_bytes_wanted,
        memory_reserved_bytes: facts.memory_reserved_bytes,
        calls,
        sessions,
        tracks: states.iter().filter_map(|(_, _, s)| Some(s.as_ref()?.tracks)).sum(),
        shards: states
            .iter()
            .map(|(shard, load_permille, snapshot)| NodeShard {
                shard: shard.0,
                load_permille: *load_permille,
                calls: snapshot.as_ref().map(|s| s.calls),
                sessions: snapshot.as_ref().map(|s| s.sessions),
                tracks: snapshot.as_ref().map(|s| s.tracks),
                legs: snapshot.as_ref().map(|s| s.legs),
            })
            .collect(),
        cores: facts.cores.clone(),
        tuning: TuningSummary::of(&app.tuning),
    })
}

/// `Location` of a resource. The paths are made of unreserved characters only.
pub(super) fn location(path: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = path.parse() {
        headers.insert(header::LOCATION, value);
    }
    headers
}
