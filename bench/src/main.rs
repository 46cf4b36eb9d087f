//! `sluice-bench`: a crowd of clients with a stopwatch, against a server that already runs.
//!
//! [`cli`] reads the command line. [`scenario`] says what to do, [`run`] does it with [`worker`]s, each a [`fleet`] of clients that talk to
//! the server by a [`conversation`] over [`signalling`], through an [`impair`] relay if so wished. [`probe`] looks at the server, [`machine`]
//! at the host; a [`result`] is compared ([`mod@compare`]), searched for limits ([`capacity`]), held against the [`floor`] and shown ([`reports`]).
//! Absent on purpose: starting servers, and any dependency on their code beyond the engine's packet formats.

#![allow(unreachable_pub, reason = "a program has no outside; `pub` is what a module offers")]

mod capacity;
mod cli;
mod compare;
mod conversation;
mod flame;
mod fleet;
mod floor;
mod histogram;
mod impair;
mod machine;
mod probe;
mod reports;
mod result;
mod run;
mod scenario;
mod signalling;
mod spread;
mod stop;
mod timestamp;
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
