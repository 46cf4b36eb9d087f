//! Session descriptions and candidates as JSON, as browsers write and read them.

use serde::{Deserialize, Serialize};

use crate::sdp::Candidate;

/// An offer or an answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Description {
    /// Which of the two.
    #[serde(rename = "type")]
    pub(super) kind: DescriptionKind,
    /// The text.
    pub(super) sdp: String,
}

/// What a description is. Others than these two are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DescriptionKind {
    /// An offer.
    Offer,
    /// An answer.
    Answer,
}

impl Description {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| format!("a description: {error}"))
    }

    /// Writes one.
    pub(super) fn write(kind: DescriptionKind, sdp: &str) -> String {
        serde_json::json!({"type": kind, "sdp": sdp}).to_string()
    }
}

/// One candidate of ours as clients dispatch on it: the candidate proper stands within.
pub(super) fn write_candidate(candidate: &Candidate, mid: &str) -> String {
    let inner = serde_json::json!({
        "candidate": candidate.to_string(),
        "sdpMid": mid,
        "sdpMLineIndex": 0,
        "usernameFragment": null,
    });
    serde_json::json!({"type": "candidate", "candidate": inner}).to_string()
}

/// Checks a candidate of a client. An ICE-lite agent has no further use for it: checks come to us.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_candidate(json: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Init {
        candidate: String,
    }
    let init: Init =
        serde_json::from_slice(json).map_err(|error| format!("a candidate: {error}"))?;
    if init.candidate.is_empty() {
        return Ok(()); // the end of candidates
    }
    crate::sdp::parse_candidate(&init.candidate).map(drop).map_err(|error| error.to_string())
}

/// The stream id of a message that begins a screen share or a camera: the value of `key`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_stream_id(json: &[u8], key: &str) -> Result<String, String> {
    let value: serde_json::Value =
        serde_json::from_slice(json).map_err(|error| format!("{key}: {error}"))?;
    match value.get(key).and_then(serde_json::Value::as_str) {
        Some(id) if !id.is_empty() && id.len() <= STREAM_ID_MAX => Ok(id.to_owned()),
        Some(id) => Err(format!("{key} has {} bytes, not 1 to {STREAM_ID_MAX}", id.len())),
        None => Err(format!("{key} is missing or no string")),
    }
}

/// The longest stream id that is kept; browsers write 36 bytes.
const STREAM_ID_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::host_candidates;

    #[test]
    fn descriptions_go_both_ways() {
        let json = Description::write(DescriptionKind::Offer, "v=0\r\n");
        let read = Description::read(json.as_bytes()).unwrap();
        assert_eq!(read, Description { kind: DescriptionKind::Offer, sdp: "v=0\r\n".to_owned() });
        for bad in ["", "7", "{}", r#"{"type":"offer"}"#, r#"{"type":"rollback","sdp":""}"#] {
            assert!(Description::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn candidates_are_nested() {
        let candidates = host_candidates(&["192.0.2.1:8443".parse().unwrap()], &[]);
        let json: serde_json::Value =
            serde_json::from_str(&write_candidate(&candidates[0], "0")).unwrap();
        assert_eq!(json["type"], "candidate");
        let inner = &json["candidate"];
        assert!(inner["candidate"].as_str().unwrap().starts_with("candidate:"));
        assert_eq!((&inner["sdpMid"], &inner["sdpMLineIndex"]), (&"0".into(), &0.into()));
        assert!(inner["usernameFragment"].is_null());
        assert!(check_candidate(inner.to_string().as_bytes()).is_ok());
        assert!(check_candidate(br#"{"candidate":""}"#).is_ok());
        for bad in ["", "{}", r#"{"candidate":"candidate:what"}"#] {
            assert!(check_candidate(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stream_id_is_a_string_of_bounded_length() {
        let key = "screenStreamID";
        let read = |json: &str| read_stream_id(json.as_bytes(), key);
        assert_eq!(read(r#"{"screenStreamID":"abc"}"#), Ok("abc".to_owned()));
        let long = format!(r#"{{"screenStreamID":"{}"}}"#, "x".repeat(257));
        for bad in ["", "{}", r#"{"screenStreamID":7}"#, r#"{"screenStreamID":""}"#, &long] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
