//! ICE-lite: credentials and the agent. Source: RFC 8445.

pub mod agent;
mod credentials;

pub use agent::{Checked, Expired, IceEvent, IceLiteAgent};
pub use credentials::shard_of_ufrag;

/// User name fragment and password of one side. Source: RFC 8445 §5.3, RFC 8839 §5.4.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// 4 to 256 ice-chars.
    pub ufrag: String,
    /// 22 to 256 ice-chars.
    pub pwd: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials {{ ufrag: {:?}, pwd: … }}", self.ufrag)
    }
}
