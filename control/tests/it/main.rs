//! The control plane from outside: HTTP, WebSockets and the command line, with a recording stand-in
//! for the engine.

mod access;
mod calls;
mod command_line;
mod configuration;
mod documents;
mod listener;
mod openapi;
mod operations;
mod problems;
mod profile;
mod rtcd;
mod rtcd_calls;
mod rtcd_http;
mod rtcd_ws;
mod sessions;
mod support;
mod tuning;
mod websocket;
mod whip;
