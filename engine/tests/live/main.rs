//! Whole calls through a running engine: real threads, real sockets on loopback, both back-ends, one shard and two.

#![allow(unreachable_pub, reason = "one test binary")]

mod cases;
mod driver;
