//! What the server says of itself, and who else may ask it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::address::Reach;
use super::api::{Api, ApiError, ServerUrl};
use super::finding::Finding;
use super::report::told;
use crate::http::drain::NodeState;
use crate::http::native::Node;

/// Time for one question of [`judge_openness`].
const OPENNESS_LIMIT: Duration = Duration::from_secs(2);

/// Addresses at which [`judge_openness`] asks.
const OPENNESS_ADDRESSES_MAX: usize = 4;

/// Judges the server's own account; `api` is how it was asked.
pub(super) fn judge(node: &Node, api: &Api) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ours = env!("CARGO_PKG_VERSION");
    if node.version != ours {
        let found = format!("The server is version {}, this program {ours}.", told(&node.version));
        findings.push(
            Finding::warning("version", found).fix("use the server's own program to examine it"),
        );
    }
    if node.state == NodeState::Draining {
        let left = node.drain.as_ref().map_or(0, |drain| drain.sessions_left);
        let found = format!("The server is draining; {left} sessions are left.");
        let finding = Finding::warning("drain", found).means("New calls and sessions are refused.");
        findings.push(match node.drain.as_ref().is_some_and(|drain| drain.cause == "signal") {
            true => finding.fix("it ends afterwards: start it again"),
            false => finding.fix(end_drain(api)),
        });
    }
    findings.push(match &node.backend_reason {
        None => Finding::ok("backend", format!("The back-end is {}.", told(&node.backend))),
        Some(reason) => not_uring(&node.backend, reason),
    });
    findings.push(judge_buffers(node));
    findings.extend(judge_tuning(node));
    findings
}

fn end_drain(api: &Api) -> String {
    let token = match api.token {
        Some(_) => "-H \"Authorization: Bearer $SLUICE_API_TOKEN\" ",
        None => "",
    };
    format!("curl -X DELETE {token}{}/v1/node/drain", api.url)
}

/// The reason says what to do after its semicolon.
pub(super) fn not_uring(backend: &str, reason: &str) -> Finding {
    let (what, hint) = reason.split_once("; ").unwrap_or((reason, ""));
    let (backend, what, hint) = (told(backend), told(what), told(hint));
    let finding = Finding::warning("backend", format!("The back-end is {backend}: {what}."))
        .means("All works, and a packet costs more CPU than with io_uring.");
    match hint.as_str() {
        "" => finding.fix("set engine.backend = \"mmsg\" to settle for it"),
        hint => finding.fix(hint),
    }
}

fn judge_buffers(node: &Node) -> Finding {
    let (receive, send) = (node.receive_buffer_bytes, node.send_buffer_bytes);
    let wanted = (node.receive_buffer_bytes_wanted, node.send_buffer_bytes_wanted);
    let found = format!("Socket buffers hold {receive} (receive) and {send} (send) bytes.");
    if receive >= wanted.0 && send >= wanted.1 {
        return Finding::ok("buffers", found);
    }
    let found =
        format!("{found} {} and {} are wanted, and the kernel grants no more.", wanted.0, wanted.1);
    Finding::warning("buffers", found)
        .means("Bursts are dropped while the server is busy: frames arrive late or broken.")
        .fix(format!(
            "`sudo sluice-tune apply`, or `sysctl -w net.core.rmem_max={} net.core.wmem_max={}`, then restart \
             the server",
            wanted.0, wanted.1
        ))
}

/// Nothing when the server does not look at its host.
fn judge_tuning(node: &Node) -> Option<Finding> {
    match (node.tuning.mode.as_str(), node.tuning.wrong) {
        ("off", _) => None,
        (_, wrong) => Some(tuning(wrong, &told(&node.tuning.load))),
    }
}

/// By how many settings of the host are wrong for a load.
pub(super) fn tuning(wrong: usize, load: &str) -> Finding {
    if wrong == 0 {
        return Finding::ok(
            "tuning",
            format!("The host's settings carry the expected load, {load}."),
        );
    }
    let settings = if wrong == 1 { "setting is" } else { "settings are" };
    let found = format!("{wrong} of the host's {settings} wrong for the expected load, {load}.");
    Finding::warning("tuning", found)
        .means("Packets, calls or the start are lost under that load.")
        .fix("`sluice-tune check` names them, `sudo sluice-tune apply` mends them")
}

/// Asks the API without a token at the host's other addresses, as a stranger would.
pub(super) async fn judge_openness(url: &ServerUrl, node: &Node) -> Option<Finding> {
    if url.tls {
        return Some(Finding::ok("api", "The API is served over TLS."));
    }
    let mut ips: Vec<IpAddr> = Vec::new();
    for address in node.udp.iter().chain(&node.tcp) {
        let ip = address.parse::<SocketAddr>().ok()?.ip();
        if Reach::of(ip) != Reach::Loopback && !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    ips.truncate(OPENNESS_ADDRESSES_MAX);
    let mut open_with_token = None;
    let mut closed_to_others = None;
    for ip in ips {
        let url = ServerUrl { tls: false, host: ip.to_string(), port: url.port };
        let stranger = Api { url: url.clone(), token: None, limit: OPENNESS_LIMIT };
        match stranger.ask("GET", "/v1/node", None).await {
            Ok(_) => {
                return Some(
                    Finding::failure("api", format!("{url} answers without a token."))
                        .means("Whoever reaches the port can make and end calls.")
                        .fix("set a token: SLUICE_API_TOKEN in the environment of the server"),
                );
            }
            Err(ApiError::Denied(401, _)) => open_with_token = Some(url),
            Err(ApiError::Denied(..)) => closed_to_others = Some(url),
            Err(_) => {}
        }
    }
    Some(match (open_with_token, closed_to_others) {
        (Some(url), _) => in_the_clear(&format!("{url} takes the token over plain HTTP.")),
        (None, Some(url)) => Finding::ok(
            "api",
            format!("{url} is open to other hosts, and answers the native API to this host alone."),
        )
        .means("/metrics, the call page and the API for Mattermost are there for all who reach the port."),
        (None, None) => Finding::ok("api", "The API is reached from this host alone."),
    })
}

/// A token goes over the network as it is.
pub(super) fn in_the_clear(found: &str) -> Finding {
    Finding::warning("api", found)
        .means("Whoever is on the way can read the token and use it.")
        .fix(
            "serve HTTPS (api.http.tls.enable, api.http.tls.cert_file, api.http.tls.cert_key), or let the API \
             listen on loopback behind a proxy that does: api.http.listen_address = \"127.0.0.1:8045\"",
        )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use crate::config::Secret;
    use serde_json::json;

    const WANTED: usize = 1 << 24;

    fn node(changes: serde_json::Value) -> Node {
        let mut node = json!({
            "version": env!("CARGO_PKG_VERSION"), "state": "running", "drain": null,
            "backend": "uring", "backend_reason": null, "udp": [], "tcp": [],
            "receive_buffer_bytes": WANTED, "send_buffer_bytes": WANTED,
            "receive_buffer_bytes_wanted": WANTED, "send_buffer_bytes_wanted": WANTED,
            "memory_reserved_bytes": 0, "calls": 0, "sessions": 0, "tracks": 0, "shards": [],
            "cores": [],
            "tuning": {"mode": "check", "load": "1x1000", "wrong": 0, "better": 3, "unknown": 1}
        });
        for (field, value) in changes.as_object().expect("an object") {
            node[field] = value.clone();
        }
        serde_json::from_value(node).expect("a node")
    }

    fn api(token: Option<&str>) -> Api {
        let url = ServerUrl::parse("https://media.example.org").expect("a URL");
        let token = token.map(|token| Secret(token.to_owned()));
        Api { url, token, limit: OPENNESS_LIMIT }
    }

    fn finding(changes: serde_json::Value, subject: &str) -> Option<Finding> {
        judge(&node(changes), &api(None)).into_iter().find(|finding| finding.subject == subject)
    }

    #[test]
    fn a_server_with_all_it_wants_is_well() {
        assert!(judge(&node(json!({})), &api(None)).iter().all(|f| f.verdict == Verdict::Ok));
    }

    #[test]
    fn small_buffers_are_told_with_the_command() {
        let small = finding(json!({"receive_buffer_bytes": 212_992}), "buffers").expect("told");
        assert_eq!(small.verdict, Verdict::Warning);
        assert!(small.fix.is_some_and(|fix| fix.contains("net.core.rmem_max=16777216")));
    }

    #[test]
    fn wrong_settings_of_the_host_are_told_unless_the_server_does_not_look() {
        let tuning = |mode: &str, wrong: usize| {
            let tuning =
                json!({"mode": mode, "load": "1x1000", "wrong": wrong, "better": 0, "unknown": 0});
            finding(json!({"tuning": tuning}), "tuning")
        };
        let told = tuning("check", 2).expect("told");
        assert_eq!(told.verdict, Verdict::Warning);
        assert_eq!(told.found, "2 of the host's settings are wrong for the expected load, 1x1000.");
        assert_eq!(tuning("apply", 0).expect("told").verdict, Verdict::Ok);
        assert_eq!(tuning("off", 0), None);
    }

    #[test]
    fn the_reason_against_io_uring_is_split_into_what_and_fix() {
        let reason =
            "io_uring does not work here: refused; sysctl kernel.io_uring_disabled=0 allows it";
        let told = finding(json!({"backend": "mmsg", "backend_reason": reason}), "backend");
        let told = told.expect("told");
        assert_eq!(told.found, "The back-end is mmsg: io_uring does not work here: refused.");
        assert_eq!(told.fix.as_deref(), Some("sysctl kernel.io_uring_disabled=0 allows it"));
        let chosen = finding(json!({"backend": "mmsg"}), "backend").expect("told");
        assert_eq!(chosen.verdict, Verdict::Ok, "the operator wanted it");
    }

    #[test]
    fn draining_and_another_version_are_warnings() {
        let drain = json!({"cause": "api", "since_unix_s": 1, "sessions_left": 12});
        let told = finding(json!({"state": "draining", "drain": drain}), "drain").expect("told");
        assert!(told.found.contains("12") && told.verdict == Verdict::Warning);
        let end = "https://media.example.org:443/v1/node/drain";
        assert_eq!(told.fix, Some(format!("curl -X DELETE {end}")));
        let with_token = end_drain(&api(Some("secret")));
        assert!(with_token.contains("Authorization: Bearer") && !with_token.contains("secret"));
        assert!(finding(json!({"version": "9.9.9"}), "version").is_some());
    }
}
