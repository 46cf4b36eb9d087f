//! What the tests share: the stand-in for the engine, a server over it, a WebSocket client,
//! descriptions.

mod client;
mod plane;
pub(crate) mod sdp;

pub(crate) use client::{Answer, Server, Socket, listen_on_loopback};
pub(crate) use plane::FakePlane;
