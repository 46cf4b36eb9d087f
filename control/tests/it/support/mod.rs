//! What the tests share: the stand-in for the engine, a server over it, a WebSocket client,
//! descriptions.

mod client;
mod plane;
pub(crate) mod sdp;

pub(crate) use client::{Answer, Server, Socket};
pub(crate) use plane::FakePlane;
