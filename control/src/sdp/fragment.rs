//! Trickled candidates and ICE restarts as SDP fragments: `application/trickle-ice-sdpfrag`. Source: RFC 8840 §9.

use std::fmt::Write as _;

use sluice_engine::ice::Credentials;

use super::candidates::{Candidate, RemoteCandidate, parse_candidate};
use super::error::NegotiationError;
use super::parse::check_ice_chars;
use super::{CANDIDATES_MAX, FRAGMENT_BYTES_MAX, SECTIONS_MAX};

/// What a fragment says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// The peer's user name fragment, which ties the fragment to one generation of candidates. Source: RFC 8838 §8.
    pub ufrag: String,
    /// The peer's password.
    pub pwd: String,
    /// Candidates; an ICE-lite agent has no use for them.
    pub candidates: Vec<RemoteCandidate>,
    /// The mids that the fragment names, in order.
    pub mids: Vec<String>,
    /// Whether `a=end-of-candidates` stands in it.
    pub end_of_candidates: bool,
}

/// Reads a fragment.
///
/// `a=ice-ufrag` and `a=ice-pwd` may stand before the m= lines or below each; the latter must be equal, as all share one transport.
///
/// # Errors
/// `BadSdp` for text that breaks the grammar or lacks `a=ice-ufrag` or `a=ice-pwd`.
/// Source: RFC 8840 §9, RFC 9725 §4.3.2.
pub fn parse_fragment(text: &str) -> Result<Fragment, NegotiationError> {
    let at = |line: usize, problem: &str| {
        NegotiationError::bad(format_args!("line {} of the fragment", line + 1), problem)
    };
    if text.len() > FRAGMENT_BYTES_MAX {
        return Err(at(0, "the fragment is longer than 64 KiB"));
    }
    let mut ufrag: Option<String> = None;
    let mut pwd: Option<String> = None;
    let mut candidates = Vec::new();
    let mut mids = Vec::new();
    let mut end_of_candidates = false;
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() {
            continue;
        }
        let Some(attribute) = line.strip_prefix("a=") else {
            // Only m= lines may stand between the attributes; they are pseudo lines without meaning.
            match line.starts_with("m=") {
                true => continue,
                false => return Err(at(number, "must start with a= or m=")),
            }
        };
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        match name {
            "ice-ufrag" => set_once(&mut ufrag, value, 4).map_err(|problem| at(number, problem))?,
            "ice-pwd" => set_once(&mut pwd, value, 22).map_err(|problem| at(number, problem))?,
            "candidate" if candidates.len() == CANDIDATES_MAX => {
                return Err(at(number, "more than 256 candidates"));
            }
            "candidate" => candidates.push(parse_candidate(attribute)?),
            "mid" if mids.len() == SECTIONS_MAX => return Err(at(number, "more than 256 mids")),
            "mid" => mids.push(value.to_owned()),
            "end-of-candidates" => end_of_candidates = true,
            _ => {}
        }
    }
    let last = text.lines().count().saturating_sub(1);
    Ok(Fragment {
        ufrag: ufrag.ok_or_else(|| at(last, "a=ice-ufrag is missing in the fragment"))?,
        pwd: pwd.ok_or_else(|| at(last, "a=ice-pwd is missing in the fragment"))?,
        candidates,
        mids,
        end_of_candidates,
    })
}

fn set_once(slot: &mut Option<String>, value: &str, len_min: usize) -> Result<(), &'static str> {
    if !check_ice_chars(value, len_min) {
        return Err("a ufrag has 4 to 256, a password 22 to 256 letters, digits, + or /");
    }
    match slot {
        Some(seen) if seen != value => {
            Err("differs from what stands before; all share one transport")
        }
        Some(_) => Ok(()),
        None => {
            *slot = Some(value.to_owned());
            Ok(())
        }
    }
}

/// Writes the fragment that answers an ICE restart; `tagged` is the media and mid of the section that carries the transport.
///
/// Source: RFC 9725 §4.3.3, RFC 8840 §9.2.
pub(super) fn write_restart(
    tagged: (&str, &str),
    ice: &Credentials,
    candidates: &[Candidate],
) -> String {
    let mut text = String::new();
    // Writing to a String does not fail. The fields of the m= line mean nothing.
    let _ = write!(
        text,
        "a=ice-lite\r\nm={} 9 RTP/AVP 0\r\na=mid:{}\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
        tagged.0, tagged.1, ice.ufrag, ice.pwd,
    );
    for candidate in candidates {
        let _ = write!(text, "a={candidate}\r\n");
    }
    text.push_str("a=end-of-candidates\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRICKLE: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        m=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
        a=candidate:3471623853 1 udp 2122194687 198.51.100.2 61765 typ host generation 0\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn a_trickled_fragment_is_read() {
        let fragment = parse_fragment(TRICKLE).unwrap();
        assert_eq!(fragment.ufrag, "EsAw");
        assert_eq!(fragment.mids, ["0"]);
        assert_eq!(fragment.candidates.len(), 2);
        assert_eq!(fragment.candidates[1].port, 61765);
        assert!(fragment.end_of_candidates);
    }

    #[test]
    fn credentials_may_stand_below_each_m_line_if_they_are_equal() {
        let moved = "m=audio 9 RTP/AVP 0\na=mid:0\na=ice-ufrag:EsAw\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\n\
            m=video 9 RTP/AVP 0\na=mid:1\na=ice-ufrag:EsAw\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\n";
        assert_eq!(parse_fragment(moved).unwrap().mids, ["0", "1"]);
        let unequal = moved.replacen("EsAw", "EsAx", 1);
        assert!(parse_fragment(&unequal).unwrap_err().to_string().contains("line 7"));
    }

    #[test]
    fn fragments_that_lack_something_are_refused() {
        for (cut, word) in [
            ("a=ice-ufrag:EsAw\r\n", "ice-ufrag"),
            ("a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n", "ice-pwd"),
        ] {
            let error = parse_fragment(&TRICKLE.replace(cut, "")).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(parse_fragment("").is_err());
        assert!(parse_fragment("hello").is_err());
        assert!(parse_fragment(&TRICKLE.replace("EsAw", "E w")).is_err());
        assert!(parse_fragment(&"a=x\n".repeat(20_000)).is_err());
    }

    #[test]
    fn no_cut_of_a_fragment_panics() {
        for end in 0..TRICKLE.len() {
            let _ = parse_fragment(&TRICKLE[..end]);
        }
    }
}
