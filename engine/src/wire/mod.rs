//! Bytes in, views out; no state.

pub mod classify;
mod cursor;
pub mod payload;
pub mod rtcp;
pub mod rtp;
pub mod rtp_ext;
pub mod stun;
