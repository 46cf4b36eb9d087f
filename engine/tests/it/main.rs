#![allow(unreachable_pub, reason = "modules of one test binary")]
//! Calls through the engine: shards and full clients on a virtual clock, a module per behaviour.

mod bodies;
mod call;
mod data;
mod hostile;
mod malformed;
mod relay;
mod simulation;
mod simulcast;
mod voice;
mod world;
