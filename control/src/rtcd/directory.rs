//! What is told of sessions to whoever asks by HTTP.

use serde::Serialize;

/// What a session joined with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SessionConfig {
    /// The client (a Mattermost installation) that it belongs to.
    #[serde(rename = "GroupID")]
    pub group: String,
    /// Its call.
    #[serde(rename = "CallID")]
    pub call: String,
    /// Its user.
    #[serde(rename = "UserID")]
    pub user: String,
    /// Itself.
    #[serde(rename = "SessionID")]
    pub session: String,
    /// What the client said it can do.
    pub props: SessionProps,
}

/// What a client said that it can do; `None` where it said nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionProps {
    /// The channel of the call.
    #[serde(rename = "channelID")]
    pub channel: Option<String>,
    /// Whether it sends and takes AV1.
    pub av1_support: Option<bool>,
    /// Whether descriptions of the server go over the data channel.
    pub dc_signaling: Option<bool>,
}

/// Why a session cannot be told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LookupError {
    /// The client has no call at all.
    UnknownGroup,
    /// The client has no such call.
    UnknownCall,
    /// The call has no such session.
    UnknownSession,
}

/// Where sessions are looked up.
pub trait Directory: Send + Sync + 'static {
    /// All sessions of a client's call.
    ///
    /// # Errors
    /// `UnknownGroup`, `UnknownCall`.
    fn sessions(&self, group: &str, call: &str) -> Result<Vec<SessionConfig>, LookupError>;

    /// One session.
    ///
    /// # Errors
    /// Every [`LookupError`].
    fn session(&self, group: &str, call: &str, session: &str)
    -> Result<SessionConfig, LookupError>;
}
